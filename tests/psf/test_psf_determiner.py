# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import galsim
import numpy as np
import piff
import pytest

from lsst.images import VisitImage
from lsst.meas.finalize.catalogs import PsfCandidates
from lsst.meas.finalize.psf import (
    PiffPsf,
    PiffPsfDeterminerConfig,
    PiffPsfDeterminerTask,
    PiffTooFewGoodStarsError,
    PsfFit,
    PsfUnsolvableError,
)
from lsst.meas.finalize.psf._piff_setup import minimum_stars, model_scale, pixel_scale
from lsst.pipe.base import TaskMetadata

type MakeField = Callable[..., tuple[VisitImage, PsfCandidates]]


def _task(**options: Any) -> PiffPsfDeterminerTask:
    """Make a determiner of small and quickly fitted models."""
    config = PiffPsfDeterminerConfig()
    settings = {
        "stampSize": 13,
        "modelSize": 13,
        "spatialOrder": 1,
        "interpolant": "Lanczos(3)",
        "fitter": "structured",
        **options,
    }
    for name, value in settings.items():
        setattr(config, name, value)
    config.validate()
    return PiffPsfDeterminerTask(config=config)


def _check_truth(result: PsfFit) -> None:
    """Compare with the width of the simulated stars."""
    assert isinstance(result.psf, PiffPsf)
    x = np.array([120.0, 160.0, 210.0])
    shapes = result.psf.compute_shapes(x, np.full(3, 260.0))
    sigma = 1.8 + 0.001 * (x - 100)
    # Noise of a dozen stars with S/N ~ 100.
    np.testing.assert_allclose(np.sqrt(shapes[:, 0]), sigma, rtol=0.02)
    np.testing.assert_allclose(np.sqrt(shapes[:, 1]), sigma, rtol=0.02)


@pytest.mark.parametrize("fitter", ["piff", "structured"])
def test_fit(make_field: MakeField, fitter: str) -> None:
    """The PSF is that of the stars, and what happened is recorded."""
    exposure, candidates = make_field()
    metadata = TaskMetadata()
    result = _task(fitter=fitter).determine_psf(exposure, candidates, metadata)
    _check_truth(result)
    assert result.used.shape == (16,)
    assert result.used.sum() >= 13
    assert result.psf.bounds == exposure.bbox
    assert metadata["numAvailStars"] == 16
    assert metadata["numGoodStars"] == result.used.sum()
    assert metadata["spatialFitChi2"] > 0
    position = result.psf.average_position
    assert (metadata["avgX"], metadata["avgY"]) == pytest.approx(position)
    assert metadata["avgX"] == pytest.approx(candidates.x[result.used].mean())
    star = result.psf.piff_psf.stars[0]
    for owner, names in ((star.data, ("image", "weight", "orig_weight")), (star.fit, ("params", "A", "b"))):
        assert not any(hasattr(owner, name) and name in owner.__dict__ for name in names)
    assert star.data.properties["starId"] == candidates.id[0]


def test_fitters_agree(make_field: MakeField) -> None:
    """The structured solver makes Piff's PSF."""
    exposure, candidates = make_field(3)
    x, y = candidates.x, candidates.y
    images = [
        _task(fitter=name).determine_psf(exposure, candidates).psf.draw_star_images(x, y)[0]
        for name in ("piff", "structured")
    ]
    # Both stop at the same iteration; solutions differ by conditioning.
    np.testing.assert_allclose(images[1], images[0], rtol=0, atol=1e-8 * images[0].max())


@pytest.mark.parametrize("name", ["galsim.Cubic", "galsim.Linear", "galsim.Quintic", "galsim.Lanczos(2)"])
def test_other_interpolants(make_field: MakeField, name: str) -> None:
    """Interpolants chosen by their bare names work, in both fitters."""
    exposure, candidates = make_field()
    results = [
        _task(fitter=fitter, interpolant=name).determine_psf(exposure, candidates)
        for fitter in ("piff", "structured")
    ]
    # Linear interpolation widens stars, so the fitted model is narrower.
    if name != "galsim.Linear":
        _check_truth(results[0])
    images = [result.psf.draw_star_images(candidates.x, candidates.y)[0] for result in results]
    np.testing.assert_allclose(images[1], images[0], rtol=0, atol=1e-8 * images[0].max())
    np.testing.assert_array_equal(results[1].used, results[0].used)


@pytest.mark.parametrize("name", ["galsim.Nearest", "galsim.Delta", "Lanczos(0)"])
def test_interpolants_piff_cannot_fit(make_field: MakeField, name: str) -> None:
    """Interpolants without a usable kernel give Piff's error."""
    exposure, candidates = make_field(2)
    errors = []
    for fitter in ("piff", "structured"):
        with pytest.raises((RuntimeError, ValueError)) as raised:
            _task(fitter=fitter, interpolant=name).determine_psf(exposure, candidates)
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


def test_same_as_piff_by_hand(make_field: MakeField) -> None:
    """A model built with Piff's own interface is the same."""
    exposure, candidates = make_field(3)
    result = _task(piffPixelGridFitCenter=False, fitter="piff").determine_psf(exposure, candidates)
    scale = pixel_scale(exposure)
    stars = []
    for x, y in zip(candidates.x, candidates.y, strict=True):
        x0, y0 = int(np.floor(x + 0.5)) - 6, int(np.floor(y + 0.5)) - 6
        box = np.s_[y0 - 200 : y0 - 187, x0 - 100 : x0 - 87]
        image, variance = exposure.image.array[box], exposure.variance.array[box]
        sky = np.polyfit(image.astype(float).ravel(), variance.astype(float).ravel(), 1)[1]
        power = (image.astype(float) ** 2).sum() / sky
        weight = np.full(image.shape, min(1.0, (200.0 * np.sqrt(power) / (power - 169)) ** 2) / sky)
        data = piff.StarData(
            galsim.Image(image.astype(float), xmin=x0, ymin=y0, wcs=galsim.PixelScale(scale)),
            galsim.PositionD(x, y),
            weight=galsim.Image(weight, xmin=x0, ymin=y0, wcs=galsim.PixelScale(scale)),
        )
        stars.append(piff.Star(data, None))
    psf = piff.SimplePSF(
        piff.PixelGrid(model_scale(scale, 1.0, 13, 13), 13, interp=galsim.Lanczos(3), centered=False),
        piff.BasisPolynomial(1, keys=("x", "y")),
        outliers=[piff.outliers.ChisqOutliers(nsigma=4.0, max_remove=0.05)],
        max_iter=15,
    )
    psf.set_context({0: galsim.PixelScale(scale)})
    psf.fit(stars, logger=None)
    expected = psf.draw(150.3, 240.7, stamp_size=13).array
    expected /= expected.sum()
    drawn = result.psf.draw_star_images([150.3], [240.7])[0][0]
    # Weights agree to float32 rounding of I².
    np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-6 * expected.max())


def test_sky_coordinates(make_field: MakeField) -> None:
    """A fit in sky coordinates finds the same PSF."""
    exposure, candidates = make_field()
    result = _task(useCoordinates="sky", stampSize=19).determine_psf(exposure, candidates)
    assert result.psf.piff_psf.interp_property_names == ["u", "v"]
    _check_truth(result)
    drawn = result.psf.compute_stellar_image(x=140.2, y=250.9).array
    expected = result.psf.piff_psf.draw(140.2, 250.9, stamp_size=19).array
    np.testing.assert_allclose(drawn, expected / expected.sum(), rtol=0, atol=1e-12)


def test_field_coordinates_need_a_detector(make_field: MakeField) -> None:
    """Without a camera geometry there are no field angles."""
    exposure, candidates = make_field(2)
    with pytest.raises(ValueError, match="no detector"):
        _task(useCoordinates="field").determine_psf(exposure, candidates)


def test_color(make_field: MakeField) -> None:
    """Colour becomes a polynomial variable; unknown ones are the mean."""
    colors = np.linspace(0.0, 1.5, 16)
    colors[3] = np.nan
    exposure, candidates = make_field(color=colors, color_type=np.where(np.isnan(colors), "", "g-i"))
    result = _task(useColor=True, color={"r": "g-i"}).determine_psf(exposure, candidates)
    properties = [star.data.properties for star in result.psf.piff_psf.stars]
    assert properties[3]["colorValue"] == pytest.approx(np.nanmean(colors))
    assert result.psf.color_type == "g-i"
    assert result.psf.is_chromatic
    _check_truth(result)


def test_mixed_colors(make_field: MakeField) -> None:
    """Colours of different types can't be fitted together."""
    types = np.array(["g-i", "r-z"] * 8)
    exposure, candidates = make_field(color=np.ones(16), color_type=types)
    with pytest.raises(ValueError, match=r"different types: \['g-i', 'r-z'\]"):
        _task(useColor=True).determine_psf(exposure, candidates)


@pytest.mark.parametrize(
    ("colors", "order", "expected", "message"),
    [
        (np.full(16, np.nan), 1, 0, "using 0 for all of them"),
        (np.full(16, np.nan), 0, 0, "using 0 for all of them"),
        (np.full(16, 0.7), 1, 0, "1 different colors; fitting with order 0 instead of 1"),
        (np.where(np.arange(16) == 5, 0.7, np.nan), 2, 0, "1 different colors; fitting with order 0"),
        (0.7 + 1e-9 * np.arange(16), 1, 0, "1 different colors"),
        (np.tile([0.3, 0.9], 8), 2, 1, "2 different colors; fitting with order 1 instead of 2"),
        (np.tile([0.3, 0.9], 8), 1, 1, ""),
    ],
)
def test_colors_without_spread(
    colors: np.ndarray,
    order: int,
    expected: int,
    message: str,
    make_field: MakeField,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the colours can't constrain isn't fitted, with a warning."""
    types = np.where(np.isnan(colors), "", "g-i")
    exposure, candidates = make_field(color=colors, color_type=types)
    with caplog.at_level(logging.WARNING):
        result = _task(useColor=True, colorOrder=order).determine_psf(exposure, candidates)
    assert message in caplog.text
    assert bool(caplog.text) == bool(message)
    assert result.psf.piff_psf.interp._orders == [1, 1, expected]
    assert result.psf.average_color == pytest.approx(np.nanmean(colors) if np.isfinite(colors).any() else 0.0)
    _check_truth(result)


def test_spatial_order_per_band(make_field: MakeField) -> None:
    """The order of the band wins."""
    exposure, candidates = make_field(3)
    task = _task(spatialOrderPerBand={"r": 0, "i": 4})
    assert task.determine_psf(exposure, candidates).psf.piff_psf.interp.q.shape[1] == 1
    with pytest.raises(PiffTooFewGoodStarsError):
        task.determine_psf(exposure, candidates, band="i")
    assert task.determine_psf(exposure, candidates, band="y").psf.piff_psf.interp.q.shape[1] == 3


def test_yaml(make_field: MakeField) -> None:
    """A YAML text replaces Piff's configuration."""
    exposure, candidates = make_field(3)
    model = "{type: Gaussian, fastfit: True, include_pixel: False}"
    text = f"{{type: Simple, model: {model}, interp: {{type: Mean}}}}"
    result = _task(piffPsfConfigYaml=text).determine_psf(exposure, candidates)
    assert type(result.psf.piff_psf.model) is piff.Gaussian
    shapes = result.psf.compute_shapes([150.0], [250.0])
    assert np.sqrt(shapes[0, 0]) == pytest.approx(1.85, rel=0.02)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "YAML mapping, not list"),
        ("{a: ", "not valid"),
        ("interp: BasisPolynomial", "interp in piffPsfConfigYaml must be a mapping, not str"),
        ("interp:", "interp in piffPsfConfigYaml must be a mapping, not NoneType"),
        ("interp: {type: BasisPolynomial, order: two}", "interp.order in piffPsfConfigYaml .* 'two'"),
        ("interp: {type: BasisPolynomial, order: []}", "interp.order in piffPsfConfigYaml"),
        ("interp: {type: BasisPolynomial, order: -1}", "interp.order in piffPsfConfigYaml"),
    ],
)
def test_bad_yaml(make_field: MakeField, text: str, message: str) -> None:
    """Text that doesn't describe a model is refused."""
    exposure, candidates = make_field(2)
    with pytest.raises(ValueError, match=message):
        _task(piffPsfConfigYaml=text).determine_psf(exposure, candidates)


@pytest.mark.parametrize("kind", ["Sum", "Convolve"])
def test_composite_yaml(make_field: MakeField, kind: str) -> None:
    """Models of several components are fitted and drawn by Piff."""
    exposure, candidates = make_field(3)
    component = "{model: {type: Gaussian, include_pixel: False}, interp: {type: Mean}}"
    text = f"{{type: {kind}, components: [{component}, {component}], max_iter: 2}}"
    result = _task(piffPsfConfigYaml=text).determine_psf(exposure, candidates)
    assert type(result.psf.piff_psf).__name__ == f"{kind}PSF"
    shapes = result.psf.compute_shapes([150.0], [250.0])
    assert np.sqrt(shapes[0, 0]) == pytest.approx(1.85, rel=0.05)


def test_yaml_loses_all_stars(make_field: MakeField) -> None:
    """A model that needs no minimum of stars isn't made of none."""
    exposure, candidates = make_field(2)
    model = "{type: Gaussian, fastfit: True, include_pixel: False}"
    outliers = "{type: Chisq, thresh: 1.e-3}"
    text = f"{{model: {model}, interp: {{type: Mean}}, outliers: {outliers}, max_iter: 1}}"
    with pytest.raises(PiffTooFewGoodStarsError, match="0 good stars, but at least 1"):
        _task(piffPsfConfigYaml=text).determine_psf(exposure, candidates)


def test_too_few_stars(make_field: MakeField) -> None:
    """Fewer stars than polynomial terms, or none, is an error with numbers."""
    exposure, candidates = make_field(2)
    with pytest.raises(PiffTooFewGoodStarsError, match="4 good stars, but at least 6") as info:
        _task(spatialOrder=2).determine_psf(exposure, candidates)
    assert info.value.metadata == {"num_good_stars": 4, "minimum_dof": 6, "poly_ndim": 2}
    nobody = candidates.take(np.zeros(0, dtype=np.int64))
    for zeroth in (True, False):
        with pytest.raises(PiffTooFewGoodStarsError, match="0 good stars"):
            _task(zerothOrderInterpNotEnoughStars=zeroth).determine_psf(exposure, nobody)


@pytest.mark.parametrize("fitter", ["piff", "structured"])
@pytest.mark.parametrize(("number", "size"), [(1, 13), (2, 13), (5, 13), (5, 19)])
def test_constant_fallback(make_field: MakeField, number: int, size: int, fitter: str) -> None:
    """If allowed, a constant PSF is fitted to too few stars, and converges."""
    exposure, candidates = make_field(3)
    candidates = candidates.take(np.arange(number))
    options = {"spatialOrder": 2, "zerothOrderInterpNotEnoughStars": True, "fitter": fitter}
    result = _task(stampSize=size, modelSize=size, **options).determine_psf(exposure, candidates)
    psf = result.psf.piff_psf
    assert psf.interp.q.shape[1] == 1
    assert psf.niter > 1
    assert abs(psf.last_delta_chisq) < psf.chisq_thresh * psf.dof
    assert result.used.any()
    images = result.psf.draw_kernel_images([120.0, 160.0], [220.0, 250.0])
    np.testing.assert_allclose(images[0], images[1], rtol=0, atol=1e-14)
    sigma = 1.8 + 0.001 * (np.median(candidates.x[result.used]) - 100)
    shapes = result.psf.compute_shapes([150.0], [250.0])[0]
    np.testing.assert_allclose(np.sqrt(shapes[:2]), sigma, rtol=0.03)


def test_single_step_fallback(make_field: MakeField, caplog: pytest.LogCaptureFixture) -> None:
    """Upstream's single linear step is an option."""
    exposure, candidates = make_field(2)
    options = {"spatialOrder": 2, "zerothOrderInterpNotEnoughStars": True}
    steps = []
    for single in (True, False):
        task = _task(zerothOrderInterpSingleStep=single, **options)
        steps.append(task.determine_psf(exposure, candidates).psf.piff_psf.niter)
    assert steps[0] == 1
    assert steps[1] > 1
    # Enough stars aren't affected.
    task = _task(zerothOrderInterpSingleStep=True, spatialOrder=0)
    assert task.determine_psf(exposure, candidates).psf.piff_psf.niter > 1


def test_no_convergence(make_field: MakeField, caplog: pytest.LogCaptureFixture) -> None:
    """A fit that stops before it has converged says so."""
    exposure, candidates = make_field(3)
    model = "{type: PixelGrid, scale: 0.2, size: 9, interp: Lanczos(3)}"
    interp = "{type: BasisPolynomial, order: 0, keys: [x, y]}"
    text = f"{{model: {model}, interp: {interp}, chisq_thresh: 1.e-9, max_iter: 2}}"
    with caplog.at_level(logging.WARNING):
        _task(piffPsfConfigYaml=text).determine_psf(exposure, candidates)
    assert "did not converge" in caplog.text
    assert "in the last of 2 iterations" in caplog.text


def test_few_stars_in_place(make_field: MakeField, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many stars as terms at full size never reach Piff's dense solver."""

    def solve(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("Piff's dense solver was called")

    monkeypatch.setattr(piff.BasisPolynomial, "solve", solve)
    exposure, candidates = make_field(3, width=25)
    # No star is rejected for what rounding leaves of chi-square.
    options = {"stampSize": 25, "modelSize": 25, "outlierNSigma": 50.0, "interpolant": "Lanczos(11)"}
    some = candidates.take(np.arange(6))
    result = _task(spatialOrder=2, **options).determine_psf(exposure, some)
    assert result.used.all()
    sizes = np.sqrt(result.psf.compute_shapes(some.x, some.y)[:, 0])
    np.testing.assert_allclose(sizes, 1.8 + 0.001 * (some.x - 100), rtol=0.03)


@pytest.mark.parametrize("fitter", ["piff", "structured"])
def test_fallback_after_rejection(make_field: MakeField, fitter: str) -> None:
    """Stars lost during the fit lead to a new, constant model."""
    exposure, candidates = make_field(2)
    # No flux at all: Piff flags these two in its first iteration.
    exposure.image.array[:32] = 0.0
    with pytest.raises(PiffTooFewGoodStarsError, match="2 good stars, but at least 3"):
        _task(fitter=fitter).determine_psf(exposure, candidates)
    task = _task(zerothOrderInterpNotEnoughStars=True, fitter=fitter)
    result = task.determine_psf(exposure, candidates)
    assert result.psf.piff_psf.interp.q.shape[1] == 1
    assert result.used.tolist() == [False, False, True, True]


@pytest.mark.parametrize(("limit", "expected"), [(0.5, 0.5), (1.0, 1), (3.0, 3)])
def test_number_of_outliers(make_field: MakeField, limit: float, expected: float) -> None:
    """Limits of one and more are numbers of stars, integers for Piff."""
    exposure, candidates = make_field(3)
    task = _task(outlierMaxRemove=limit, outlierNSigma=0.5, fitter="piff")
    outliers = task.determine_psf(exposure, candidates).psf.piff_psf.outliers[0]
    assert outliers.max_remove == expected
    assert isinstance(outliers.max_remove, type(expected))


def test_masked_stars(make_field: MakeField) -> None:
    """Mostly masked stars aren't used; if all are, that is an error."""
    exposure, candidates = make_field()
    saturated = np.zeros(exposure.image.array.shape, dtype=bool)
    saturated[:32, :32] = True
    exposure.mask.set("SATURATED", saturated)
    result = _task().determine_psf(exposure, candidates)
    assert not result.used[0]
    assert len(result.psf.piff_psf.stars) == 15
    _check_truth(result)
    exposure, candidates = make_field(2)
    exposure.mask.set("SATURATED", np.ones(exposure.image.array.shape, dtype=bool))
    with pytest.raises(PiffTooFewGoodStarsError, match="0 good stars"):
        _task().determine_psf(exposure, candidates)


def test_bad_pixels(make_field: MakeField) -> None:
    """NaN pixels and infinite variances cost pixels, not the fit."""
    exposure, candidates = make_field()
    x, y = (np.round(v).astype(int) for v in (candidates.x - 100, candidates.y - 200))
    exposure.image.array[y[0] + 3, x[0]] = np.nan
    exposure.variance.array[y[1], x[1] + 4] = np.inf
    exposure.variance.array[y[2] - 8 : y[2] + 8, x[2] - 8 : x[2] + 8] = np.inf
    result = _task().determine_psf(exposure, candidates)
    assert result.used[0]
    assert not result.used[2]
    assert len(result.psf.piff_psf.stars) == 15
    _check_truth(result)


@pytest.mark.parametrize("centered", [False, True])
def test_no_signal(make_field: MakeField, centered: bool) -> None:
    """Without any signal both fitters fail alike."""
    exposure, candidates = make_field(2)
    exposure.image.array[:] = 0.0
    errors = []
    for fitter in ("piff", "structured"):
        with pytest.raises((RuntimeError, ValueError)) as raised:
            _task(fitter=fitter, piffPixelGridFitCenter=centered).determine_psf(exposure, candidates)
        errors.append(repr(raised.value))
    assert errors[0] == errors[1]


def test_negative_flux(make_field: MakeField) -> None:
    """A star that is a hole doesn't spoil the PSF.

    (Piff may even use it: the model is linear in the flux.)
    """
    exposure, candidates = make_field()
    exposure.image.array[:32, :32] *= -1
    _check_truth(_task().determine_psf(exposure, candidates))


def test_candidates_smaller_than_stamps(make_field: MakeField, caplog: pytest.LogCaptureFixture) -> None:
    """Stamps are limited to the size the candidates were accepted with."""
    exposure, candidates = make_field(3, width=15)
    with caplog.at_level(logging.WARNING):
        result = _task(stampSize=21).determine_psf(exposure, candidates)
    assert "candidate size 15 instead of 21" in caplog.text
    assert result.psf.stamp_size == 15
    assert _task(stampSize=None).determine_psf(exposure, candidates).psf.stamp_size == 15


def test_oversampling(make_field: MakeField) -> None:
    """The stamp of an oversampled model is counted in model pixels."""
    exposure, candidates = make_field(3)
    result = _task(samplingSize=0.9, stampSize=15).determine_psf(exposure, candidates)
    assert result.psf.stamp_size == 2 * int(0.5 * 15 / 0.9) + 1
    assert np.isfinite(result.psf.draw_kernel_images([150.0], [250.0])).all()


@pytest.mark.parametrize(
    ("size", "order", "number"), [(0.5, 1, 9), (0.5, 0, 2), (0.4, 2, 6), (0.3, 1, 9), (0.5, 3, 10)]
)
def test_undersampled_stars_end_in_time(make_field: MakeField, size: float, order: int, number: int) -> None:
    """End with a PSF, or a clear error, where pixels can't tell the terms."""
    stamp = 2 * int(6.5 / size) + 1
    exposure, candidates = make_field(4, width=stamp, spacing=48)
    candidates = candidates.take(np.arange(number))
    start = time.process_time()
    task = _task(samplingSize=size, stampSize=stamp, spatialOrder=order, piffMaxIter=4)
    with contextlib.suppress(PiffTooFewGoodStarsError, PsfUnsolvableError):
        psf = task.determine_psf(exposure, candidates).psf
        assert np.isfinite(psf.draw_kernel_images([150.0], [250.0])).all()
    # A dense solution of thousands of terms takes minutes.
    assert time.process_time() - start < 20


def test_debug_star_data(make_field: MakeField) -> None:
    """Star images are kept on demand."""
    exposure, candidates = make_field(3)
    result = _task(debugStarData=True).determine_psf(exposure, candidates)
    assert result.psf.piff_psf.stars[0].image.array.shape == (13, 13)


@pytest.mark.parametrize(("number", "dropped"), [(300, []), (301, [277]), (305, [9, 38, 74, 219, 277])])
def test_downsampling(number: int, dropped: list[int]) -> None:
    """The down-sampling is upstream's (values of spec 01 §5.1)."""
    chosen = _task().downsample_candidates(number)
    assert sorted(set(range(number)) - set(chosen.tolist())) == dropped


def test_downsampled_fit(make_field: MakeField) -> None:
    """Flags belong to the candidates that were kept."""
    exposure, candidates = make_field()
    task = _task(maxCandidates=9)
    chosen = task.downsample_candidates(16)
    result = task.determine_psf(exposure, candidates)
    assert set(np.flatnonzero(result.used)) <= set(chosen)
    used = {s.data.properties["starId"] for s in result.psf.piff_psf.stars if not s.is_flagged}
    assert used == set(candidates.id[result.used])


def test_pixel_scale(make_field: MakeField) -> None:
    """The scale is the simulated one."""
    # A tangent plane 20 pixels from its origin: no distortion.
    assert pixel_scale(make_field(2)[0]) == pytest.approx(0.2, rel=1e-7)


def test_model_scale() -> None:
    """Rounding never makes Piff refuse stamps of the model's size."""
    scales = np.random.default_rng(4).uniform(0.19, 0.21, 2000)
    assert any(25 * scale / scale > 25 for scale in scales)
    for scale in scales:
        result = model_scale(scale, 1.0, 25, 25)
        assert 25 * result / scale <= 25
        assert result == pytest.approx(scale, rel=1e-15)
    assert model_scale(0.2, 1.5, 25, 25) == 0.2 * 1.5


@pytest.mark.parametrize(
    ("interp", "expected"),
    [
        ({"type": "BasisPolynomial", "order": [2, 2], "keys": ["x", "y"]}, (6, 2)),
        ({"type": "BasisPolynomial", "order": [2, 2, 1], "keys": ["x", "y", "colorValue"]}, (7, 3)),
        ({"type": "Polynomial", "order": 1}, (3, 2)),
        ({"type": "Mean"}, (0, 0)),
    ],
)
def test_minimum_stars(interp: dict[str, Any], expected: tuple[int, int]) -> None:
    """As many stars as terms (upstream's count)."""
    assert minimum_stars({"interp": interp}) == expected


@pytest.mark.parametrize(("level", "levels"), [(0, set()), (2, {"INFO"}), (3, {"DEBUG", "INFO", "VERBOSE"})])
def test_piff_logging(
    make_field: MakeField, caplog: pytest.LogCaptureFixture, level: int, levels: set[str]
) -> None:
    """Messages of Piff appear at the chosen level."""
    exposure, candidates = make_field(2)
    task = _task(piffLoggingLevel=level, spatialOrder=0, fitter="piff")
    task.determine_psf(exposure, candidates)
    assert {r.levelname for r in caplog.records if r.name.endswith("Piff.piff")} == levels


def test_compiled_solver_is_not_left_singular_systems(
    make_field: MakeField, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hand over with a solver that can't end the process."""
    import lsst.meas.finalize.psf.structured as structured

    solvers: list[str] = []
    process = piff.PSF.process

    def record(config: dict[str, Any], *args: Any, **kwargs: Any) -> piff.PSF:
        solvers.append(config["interp"]["solver"])
        return process(config, *args, **kwargs)

    monkeypatch.setattr(structured, "fit_structured", lambda *args, **kwargs: None)
    monkeypatch.setattr(piff.PSF, "process", record)
    exposure, candidates = make_field()
    result = _task(piffBasisPolynomialSolver="cpp").determine_psf(exposure, candidates)
    assert solvers == ["scipy"]
    _check_truth(result)
