# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The PSF of a visit against noise-free truth, Piff and other readers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import galsim
import numpy as np
import piff
import pytest

from lsst.images import Box
from lsst.images.psfs import PiffWrapper
from lsst.meas.finalize.afw import read_exposure_catalog, write_exposure_catalog
from lsst.meas.finalize.catalogs import ExposureCatalog, ExposureRecord, Schema
from lsst.meas.finalize.focal_plane import (
    DetectorFrame,
    FieldBasis,
    Scores,
    StarPlaces,
    fit_fields,
    nearest_orientation,
)
from lsst.meas.finalize.psf import PiffPsf
from lsst.meas.finalize.psf._piff_setup import Coordinates, make_piff_stars
from lsst.meas.finalize.psf._shapes import kernel_shapes
from lsst.meas.finalize.psf._weights import sky_variance
from lsst.meas.finalize.psf.hierarchical import (
    HierarchicalOptions,
    TooFewStarsError,
    VisitPsfModel,
    VisitStars,
    export_order,
    export_piff,
    fit_visit,
    from_focal,
    to_focal,
)
from lsst.meas.finalize.psf.hierarchical._basis import make_basis, smooth
from lsst.meas.finalize.psf.hierarchical._fit import _confirmed, _distances, _interpolant, _mean
from lsst.meas.finalize.psf.hierarchical._scores import Shifter
from lsst.meas.finalize.simulate.focal_plane import (
    FocalPlanePsf,
    FocalPlaneSimulation,
    FocalPlaneStars,
    simulate_stars,
)

_SCALE = 0.2


@dataclass
class _Fitted:
    psf: FocalPlanePsf
    parts: list[FocalPlaneStars]
    stars: VisitStars
    model: VisitPsfModel


def _frame(simulation: FocalPlaneSimulation, detector: int) -> DetectorFrame:
    jacobian = simulation.rotation(detector) * simulation.pixel_size
    offset = simulation.focal_position(detector, [0.0], [0.0])[0]
    last = simulation.size - 1.0
    return DetectorFrame(
        (0.0, last, 0.0, last),
        (offset[0], offset[1]),
        tuple(map(tuple, jacobian)),
        tuple(map(tuple, nearest_orientation(jacobian).tolist())),
    )


def _join(simulation: FocalPlaneSimulation, parts: list[FocalPlaneStars]) -> VisitStars:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(p, name) for p in parts])

    good = ~joined("bad")
    return VisitStars(
        [_frame(simulation, d) for d in range(simulation.n_detectors)],
        np.repeat(np.arange(len(parts)), [len(p.x) for p in parts]),
        joined("x_measured"),
        joined("y_measured"),
        joined("x0"),
        joined("y0"),
        joined("image"),
        good,
        sky_variance(joined("image"), joined("variance"), good),
        1.0,
    )


@pytest.fixture(scope="module")
def fitted() -> _Fitted:
    """Fit a visit with few stars per detector, 5 % of them galaxies."""
    simulation = FocalPlaneSimulation(seed=7, n_stars=16, n_reserved=0, galaxy_fraction=0.05)
    psf = FocalPlanePsf(simulation)
    parts = [simulate_stars(psf, d) for d in range(simulation.n_detectors)]
    # One detector has a single star, another none.
    parts[3] = parts[3].take(slice(0, 1))
    parts[8] = parts[8].take(slice(0, 0))
    stars = _join(simulation, parts)
    return _Fitted(psf, parts, stars, fit_visit(stars))


def _shape_errors(fitted: _Fitted, detector: int) -> np.ndarray:
    """Return relative errors in size and those in ellipticity [N, 3]."""
    x, y = (c.ravel() for c in np.meshgrid(np.linspace(100, 3900, 4), np.linspace(100, 3900, 4)))
    images = fitted.psf.images(detector, x, y), fitted.model.draw(detector, x, y)
    truth, model = (kernel_shapes(i) for i in images)
    size = [s[:, 0] + s[:, 1] for s in (model, truth)]
    e1 = (model[:, 0] - model[:, 1]) / size[0] - (truth[:, 0] - truth[:, 1]) / size[1]
    e2 = 2 * model[:, 2] / size[0] - 2 * truth[:, 2] / size[1]
    return np.stack([size[0] / size[1] - 1, e1, e2], axis=1)


def test_frames_turn_and_mirror() -> None:
    """All eight symmetries of a square are told apart, and undone."""
    image = np.arange(9.0).reshape(3, 3)
    found = set()
    for matrix in ([[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]):
        for mirror in ([[1, 0], [0, 1]], [[-1, 0], [0, 1]]):
            jacobian = np.array(mirror) @ matrix @ [[0.01, 0.0002], [-0.0003, 0.01]]
            orientation = nearest_orientation(jacobian)
            np.testing.assert_array_equal(orientation, np.array(mirror) @ matrix)
            turned = to_focal(image, orientation)
            found.add(turned.tobytes())
            np.testing.assert_array_equal(from_focal(turned, orientation), image)
            # The pixel at offset (1, 0) goes where the matrix sends it.
            x, y = orientation @ [1, 0]
            assert turned[1 + y, 1 + x] == image[1, 2]
    assert len(found) == 8
    with pytest.raises(ValueError, match="no Jacobian"):
        nearest_orientation(np.zeros((2, 2)))


def test_basis_spans_small_changes() -> None:
    """Changes of size, shape and coma are sums of the vectors, all centred."""
    profile = galsim.Kolmogorov(fwhm=0.7).shear(g1=0.01)
    draw = {"nx": 25, "ny": 25, "scale": _SCALE}
    basis = make_basis(smooth(profile.drawImage(**draw).array.astype(float)), 4)
    np.testing.assert_allclose(basis.vectors.sum(axis=(1, 2)), 0.0, atol=1e-12)
    y, x = np.indices((25, 25)) - 12
    for axis in (x, y):
        np.testing.assert_allclose((basis.mean * basis.vectors * axis).sum(axis=(1, 2)), 0.0, atol=1e-12)
    changed = galsim.Convolve(profile.dilate(1.02).shear(g1=0.01, g2=-0.02), galsim.Gaussian(sigma=0.06))
    change = changed.drawImage(**draw).array / changed.drawImage(**draw).array.sum() - basis.mean
    matrix = basis.vectors.reshape(len(basis.vectors), -1).T
    left = change.ravel() - matrix @ np.linalg.lstsq(matrix, change.ravel(), rcond=None)[0]
    assert np.linalg.norm(left) < 0.03 * np.linalg.norm(change)


def test_model_is_near_truth_everywhere(fitted: _Fitted) -> None:
    """Detectors with one or no star are predicted from the others."""
    errors = {d: np.sqrt((_shape_errors(fitted, d) ** 2).mean(axis=0)) for d in range(21)}
    usual = np.median([errors[d] for d in range(21) if d not in (3, 8)], axis=0)
    assert usual[0] < 0.04
    assert usual[1:].max() < 0.02
    for detector in (3, 8):
        assert (errors[detector] < 4.0 * usual).all()


def test_heights_are_an_option(fitted: _Fitted) -> None:
    """They have polynomials of their own degree, and change the fields."""
    assert fitted.model.fields.basis.detector_order == 7
    x, y = [300.0, 3000.0], [2000.0, 1000.0]
    values = [fitted.model.fields.values(2, x, y)]
    for options in ({"height_starts": 0}, {"height_order": 6, "height_starts": 1}):
        model = fit_visit(fitted.stars, HierarchicalOptions(prior_iterations=2, **options))
        assert model.fields.basis.detector_order == options.get("height_order", 5)
        values.append(model.fields.values(2, x, y))
    assert (np.abs(values[1] - values[2])[:, :3] > 1e-6).all()
    np.testing.assert_allclose(values[1][:, 3:], values[2][:, 3:], atol=1e-12)


def test_galaxies_are_not_used(fitted: _Fitted) -> None:
    """Most small galaxies are rejected, hardly any star is."""
    galaxy = np.concatenate([p.is_galaxy for p in fitted.parts])
    assert galaxy.sum() >= 8
    assert fitted.model.used[galaxy].mean() < 0.4
    assert fitted.model.used[~galaxy].mean() > 0.95


def test_outliers_are_judged_by_the_others() -> None:
    """The distance of a star is that from a fit without it, wherever it is."""
    rng = np.random.default_rng(11)
    frames = [_frame(FocalPlaneSimulation(), d) for d in (0, 1, 2, 5)]
    x, y = rng.uniform(0.0, 3999.0, (2, 60))
    # One is in an empty corner, one in the middle.
    x[y < 1500.0] = np.maximum(x[y < 1500.0], 1500.0)
    x[:2], y[:2] = [60.0, 2000.0], [80.0, 2000.0]
    places = StarPlaces(frames, np.arange(60) // 15, x, y)
    noise = np.full(60, 0.01)
    values = 0.05 * np.sin(x / 2000.0 + places.detector) + rng.normal(0.0, noise)
    values[:2] += 0.1
    scores = Scores(noise[:, np.newaxis, np.newaxis] ** -2, (values / noise**2)[:, np.newaxis])
    basis = FieldBasis(tuple(frames), 3, 3)
    everything = np.ones(60, dtype=bool)
    inside = _distances(fit_fields(scores, places, everything, basis, 1), scores, places, everything)
    for star in (0, 1):
        others = np.arange(60) != star
        outside = _distances(fit_fields(scores, places, others, basis, 1), scores, places, others)
        assert inside[star] == pytest.approx(outside[star], rel=0.1)
        assert inside[star] > 2.0


def test_detector_out_of_focus_keeps_its_stars(fitted: _Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bright stars far from the mean are used, but no blends."""
    monkeypatch.setitem(fitted.psf.optics.focus_shift, 2, 20.0)
    parts = [*fitted.parts[:2], simulate_stars(fitted.psf, 2), *fitted.parts[3:6]]
    stars = _join(fitted.psf.simulation, parts)
    mine = np.flatnonzero(stars.detector == 2)
    single = mine[~parts[2].is_galaxy]
    single = single[np.argsort(parts[2].flux[~parts[2].is_galaxy])]
    single, blends = single[:-2], single[-2:]
    # Neighbors that no direction of change describes.
    stars.image[blends, 16:20, 16:20] += 0.02 * stars.image[blends].sum(axis=(1, 2))[:, None, None]
    shifter = Shifter(_interpolant("Lanczos(11)"), stars.size)
    near_mean = _mean(stars, shifter, HierarchicalOptions())[2]
    assert np.count_nonzero(~near_mean[single]) >= 2
    used = fit_visit(stars, HierarchicalOptions(height_starts=0)).used
    assert not used[blends].any()
    assert used[single].mean() > 0.9


def test_unusual_stars_need_a_majority() -> None:
    """Stars are taken back where more than half agree with the field."""
    detector = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    unusual = np.array([True, True, True, True, True, False, False, False])
    near = np.array([True, True, False, True, False, True, True, True])
    np.testing.assert_array_equal(_confirmed(detector, unusual, near), [True] * 3 + [False] * 5)


def test_errors_are_larger_where_there_are_no_stars(fitted: _Fitted) -> None:
    """The error of a detector without stars is that of the prediction."""
    with_stars, without = (fitted.model.psf_error(d, [2000.0], [2000.0])[0] for d in (2, 8))
    assert with_stars.shape == (25, 25)
    assert np.linalg.norm(without) > 1.2 * np.linalg.norm(with_stars)


def test_errors_are_right_on_average(fitted: _Fitted) -> None:
    """Pixels are off by what is quoted, over all detectors."""
    x, y = (c.ravel() for c in np.meshgrid(np.linspace(100, 3900, 4), np.linspace(100, 3900, 4)))
    power = np.zeros(2)
    for d in range(21):
        truth = fitted.psf.images(d, x, y)
        truth /= truth.sum(axis=(1, 2), keepdims=True)
        power += [
            ((fitted.model.draw(d, x, y) - truth) ** 2).sum(),
            (fitted.model.psf_error(d, x, y) ** 2).sum(),
        ]
    assert np.sqrt(power[0] / power[1]) == pytest.approx(1.0, abs=0.22)


def test_errors_are_those_of_the_coefficients(fitted: _Fitted) -> None:
    """They hold the scatter of stars, in axes of the detector's pixels."""
    x, y = np.array([300.0, 2000.0]), np.array([3500.0, 1500.0])
    offset = np.indices((25, 25))[::-1].reshape(2, -1) - 12
    turns = set()
    for d, frame in enumerate(fitted.stars.frames):
        variances = fitted.model.fields.variances(d, x, y) + fitted.model.fields.prior.star
        expected = np.sqrt(np.einsum("nk,kyx->nyx", variances, fitted.model.basis.vectors**2))
        column, row = np.array(frame.orientation) @ offset + 12
        turned = expected[:, row, column].reshape(-1, 25, 25)
        np.testing.assert_allclose(fitted.model.psf_error(d, x, y), turned, rtol=1e-10)
        turns.add(frame.orientation)
    assert len(turns) > 1


def test_mean_is_centred(fitted: _Fitted) -> None:
    """PSFs then have no centroid in the sense of Piff."""
    square, axis = fitted.model.basis.mean**2, np.arange(25) - 12
    for i in (0, 1):
        assert abs(square.sum(axis=i) @ axis) < 1e-5 * square.sum()


def test_export_holds_the_stars(fitted: _Fitted) -> None:
    """Positions, fluxes and rejections are those of the fit."""
    detector = next(d for d, p in enumerate(fitted.parts) if p.is_galaxy.any())
    part, psf = fitted.parts[detector], _export(fitted, detector)
    used = fitted.model.used[fitted.stars.detector == detector]
    assert not used.all()
    assert [not s.is_flagged for s in psf.stars] == used.tolist()
    assert psf.nremoved == np.count_nonzero(~used)
    for i in np.flatnonzero(used & ~part.is_galaxy):
        star = psf.stars[i]
        assert star.image_pos.x + star.fit.center[0] / _SCALE == pytest.approx(part.x[i], abs=0.2)
        assert star.image_pos.y + star.fit.center[1] / _SCALE == pytest.approx(part.y[i], abs=0.2)
        assert star.fit.flux == pytest.approx(part.flux[i], rel=0.1)
        # Piff draws it where it is.
        residual = (star.image.array - psf.drawStar(star).image.array) ** 2 * star.weight.array
        assert residual.sum() < 1.6 * np.count_nonzero(star.weight.array)


def _export(fitted: _Fitted, detector: int) -> piff.SimplePSF:
    part = fitted.parts[detector]
    wcs = galsim.PixelScale(_SCALE)
    from lsst.meas.finalize.catalogs import StampSet

    stamps = StampSet(part.image, part.variance, part.bad.astype(np.uint32), part.x0, part.y0, {})
    n = len(part.x)
    stars = make_piff_stars(
        stamps,
        (~part.bad).astype(float) / 900.0,
        part.x_measured,
        part.y_measured,
        np.arange(n),
        np.zeros(n),
        np.full(n, "g-i"),
        Coordinates(wcs, None, ("x", "y"), _SCALE),
    )
    for star in stars:
        # Piff writes no text.
        del star.data.properties["colorType"]
    config = {
        "type": "Simple",
        "model": {"type": "PixelGrid", "scale": float(np.nextafter(_SCALE, 0)), "size": 25},
        "interp": {"type": "BasisPolynomial", "order": 2, "keys": ["x", "y"], "solver": "scipy"},
        "outliers": {"type": "Chisq", "nsigma": 4.0, "max_remove": 0.05},
    }
    rows = np.flatnonzero(fitted.stars.detector == detector)
    return export_piff(fitted.model, detector, stars, fitted.model.used[rows], rows, config, {0: wcs})


@pytest.mark.parametrize("detector", [0, 3, 8])
def test_export_is_plain_piff(fitted: _Fitted, detector: int, tmp_path: Path) -> None:
    """Piff, lsst.images and a stored catalogue draw what the model says."""
    psf = _export(fitted, detector)
    assert type(psf) is piff.SimplePSF
    x, y = np.array([50.0, 1500.0, 3900.0]), np.array([3900.0, 700.0, 60.0])
    model = fitted.model.draw(detector, x, y)
    error = fitted.model.psf_error(detector, x, y)
    psf.write(str(tmp_path / "psf.piff"))
    read = piff.PSF.read(str(tmp_path / "psf.piff"))
    box = Box.factory[0:4000, 0:4000]
    ours, lsst_images = PiffPsf(psf, box, 25), PiffWrapper(psf, box, 25)
    batch = ours.draw_kernel_images(x, y)
    catalog = ExposureCatalog(Schema.exposure_minimal())
    catalog.append(ExposureRecord({"id": detector}, ours))
    write_exposure_catalog(catalog, tmp_path / "catalog.fits")
    stored = read_exposure_catalog(tmp_path / "catalog.fits")[0].psf
    for i in range(3):
        drawn = [p.draw(x[i], y[i], stamp_size=25, center=True).array for p in (psf, read)]
        np.testing.assert_array_equal(drawn[0], drawn[1])
        expected = drawn[0] / drawn[0].sum()
        for other in (lsst_images, stored):
            image = other.compute_kernel_image(x=x[i], y=y[i]).array
            np.testing.assert_allclose(image, expected, rtol=0.0, atol=1e-10)
        np.testing.assert_allclose(batch[i], expected, rtol=0.0, atol=1e-10)
    difference = batch - model
    assert np.sqrt((difference**2).mean()) < 0.2 * np.sqrt((error**2).mean())
    assert not [s for s in psf.stars if s.is_reserve]


def test_export_loses_less_than_a_tenth_of_the_error(fitted: _Fitted) -> None:
    """Stored polynomials are near the fields anywhere on each detector."""
    from lsst.meas.finalize.psf.hierarchical._export import _pixel_polynomials

    model = fitted.model
    vectors = model.basis.vectors.reshape(len(model.basis.vectors), -1)
    x, y = np.random.default_rng(1).uniform(0.0, 3999.0, (2, 200))
    orders = [export_order(model, d) for d in range(21)]
    for detector, order in enumerate(orders):
        coefficients = _pixel_polynomials(model, detector, order)
        stored = np.stack(
            [np.polynomial.polynomial.polyval2d(x, y, c) for c in coefficients.T.swapaxes(1, 2)]
        )
        lost = (stored.T - model.fields.values(detector, x, y)) @ vectors
        own = model.fields.variances(detector, x, y) @ (vectors**2).sum(axis=1)
        assert (lost**2).sum(axis=1).mean() < 0.1**2 * own.mean()
    assert min(orders) < 5


def test_export_of_full_order_is_exact(fitted: _Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the orders of the fields nothing is lost, but to rounding."""
    from lsst.meas.finalize.psf.hierarchical import _export as module

    assert export_order(fitted.model, 5) < 7
    monkeypatch.setattr(module, "_TOLERANCE", 0.0)
    assert export_order(fitted.model, 5) == 7
    x, y = np.array([0.0, 3999.0, 2222.0]), np.array([3999.0, 10.0, 1111.0])
    batch = PiffPsf(_export(fitted, 5), Box.factory[0:4000, 0:4000], 25).draw_kernel_images(x, y)
    np.testing.assert_allclose(batch, fitted.model.draw(5, x, y), atol=1e-9)


def test_export_of_the_largest_orders_is_exact(fitted: _Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough positions are fitted for every order that can be set."""
    from lsst.meas.finalize.psf.hierarchical import _export as module

    monkeypatch.setattr(module, "_TOLERANCE", 0.0)
    fine = _Fitted(
        fitted.psf,
        fitted.parts,
        fitted.stars,
        fit_visit(fitted.stars, HierarchicalOptions(2, 12, 8, 2, height_starts=0)),
    )
    rng = np.random.default_rng(2)
    # Structure of the highest degree, which a fit may find little of.
    fine.model.fields.focal += rng.normal(0.0, 1e-3, fine.model.fields.focal.shape)
    x, y = np.array([0.0, 3999.0, 2222.0]), np.array([3999.0, 10.0, 1111.0])
    batch = PiffPsf(_export(fine, 5), Box.factory[0:4000, 0:4000], 25).draw_kernel_images(x, y)
    np.testing.assert_allclose(batch, fine.model.draw(5, x, y), atol=1e-9)


def test_stars_with_few_pixels_are_the_option(fitted: _Fitted) -> None:
    """Stars with a third of their pixels are used if that is allowed."""
    stars = replace(fitted.stars, good=fitted.stars.good.copy())
    y, x = np.indices((25, 25)) - 12
    stars.good[:20] &= np.hypot(x, y) < 8.2
    used = [
        fit_visit(stars, HierarchicalOptions(min_unmasked=least, height_starts=0)).used
        for least in (0.5, 0.3)
    ]
    assert not used[0][:20].any()
    assert used[1][:20].mean() > 0.7


def test_bad_input_is_refused(fitted: _Fitted) -> None:
    """Too few stars, and options out of range, give one clear error."""
    few = [p.take(slice(0, 1)) for p in fitted.parts]
    with pytest.raises(TooFewStarsError, match="at least 30"):
        fit_visit(_join(fitted.psf.simulation, few))
    with pytest.raises(ValueError, match="derivative_order"):
        HierarchicalOptions(derivative_order=1)
    with pytest.raises(ValueError, match="interpolant"):
        fit_visit(fitted.stars, HierarchicalOptions(interpolant="Spline(3)"))
