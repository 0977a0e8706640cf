# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""GAaP photometry: check values, analytic truth, failures, independence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import galsim
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.apcorr import get_ap_corr_names
from lsst.meas.finalize.measure import (
    GaapFluxConfig,
    MeasurementFatalError,
    gaap_result_name,
    plugin_registry,
)
from lsst.pex.config import FieldValidationError

P = "ext_gaap_GaapFlux"
SIGMAS = [0.5, 0.7, 1.0, 1.5, 2.5, 3.0]
RESULTS = [f"{P}_1_15x_{k}" for k in ("0_5", "0_7", "1_0", "1_5", "2_5", "3_0", "PsfFlux", "Optimal")]
ARCSEC = np.pi / 180 / 3600


class GaussianPsf:
    """Sampled round Gaussian; ``sigma`` may be one per star."""

    def __init__(self, sigma: float, size: int = 25, skew: float = 0.0) -> None:
        self.sigma, self.size, self.skew = sigma, size, skew

    def draw_kernel_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        v, u = np.mgrid[: self.size, : self.size] - self.size // 2
        image = np.exp(-(u**2 + v**2) / (2 * self.sigma**2))
        image *= 1 + self.skew * ((u / 4) ** 3 - 0.5 * (v / 4) ** 3)
        return np.repeat(image[None] / image.sum(), len(x), axis=0)

    def draw_star_images(
        self, x: np.ndarray, y: np.ndarray, color: Any = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        raise AssertionError("GAaP draws no stars.")

    def compute_shapes(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        return np.tile([self.sigma**2, self.sigma**2, 0.0], (len(x), 1))

    def compute_aperture_fluxes(self, radius: float, x: Any, y: Any, color: Any = None) -> np.ndarray:
        return np.ones(len(x))


class Tangent:
    """Pixel-to-sky transform: a linear map to a tangent plane."""

    ra0, dec0 = 2.0, -0.7

    def __init__(self, matrix: Any = ((0.2, 0.0), (0.0, 0.2)), origin: tuple[int, int] = (0, 0)) -> None:
        self.matrix = np.array(matrix) * ARCSEC
        self.origin = origin

    @property
    def pixel_to_sky_transform(self) -> Tangent:
        return self

    def apply_forward(self, *, x: np.ndarray, y: np.ndarray) -> SimpleNamespace:
        u, v = np.asarray(x) - self.origin[0], np.asarray(y) - self.origin[1]
        xi, eta = (a * u + b * v for a, b in self.matrix)
        denominator = np.cos(self.dec0) - eta * np.sin(self.dec0)
        ra = self.ra0 + np.arctan2(xi, denominator)
        tan = (np.sin(self.dec0) + eta * np.cos(self.dec0)) / np.hypot(xi, denominator)
        return SimpleNamespace(x=ra, y=np.arctan(tan))


def _configure(config: Any) -> None:
    config.plugins[P].sigmas = SIGMAS
    config.plugins[P].doPsfPhotometry = True


@pytest.fixture
def measure(make_exposure: Any, run_plugins: Any) -> Any:
    """Return a function that runs GAaP alone."""

    def run(image: np.ndarray, x: Any, y: Any, boxes: Any, psf: Any, **kwargs: Any) -> Any:
        variance = kwargs.pop("variance", np.full(image.shape, 400.0))
        origin = kwargs.pop("origin", (0, 0))
        exposure = make_exposure(image, variance=variance, origin=origin, mask=kwargs.pop("mask", None))
        exposure.sky_projection = kwargs.pop("wcs", Tangent(origin=origin))
        n = len(x)
        shape = kwargs.pop("shape", np.tile([4.0, 4.0, 0.0], (n, 1)))
        columns = {f"q_{k}": shape[:, i] for i, k in enumerate(("xx", "yy", "xy"))}
        columns |= {f"p_{k}": np.full(n, v) for k, v in (("xx", 4.0), ("yy", 4.0), ("xy", 0.0))}
        arguments = {
            "columns": columns,
            "aliases": {"slot_Shape": "q", "slot_PsfShape": "p"},
            "configure": _configure,
        } | kwargs
        return run_plugins([P], exposure, x, y, np.asarray(boxes), psf=psf, **arguments)

    return run


def _star(skew: float = 0.0) -> np.ndarray:
    v, u = np.mgrid[:81, :81] - 40
    image = np.exp(-(u**2 + v**2) / 8.0) * (1 + skew * ((u / 4) ** 3 - 0.5 * (v / 4) ** 3))
    return (1e5 * image / image.sum()).astype(np.float32)


WHOLE = np.array([[0, 0, 80, 80]])


def _fluxes(catalog: Any, suffix: str = "instFlux") -> np.ndarray:
    return np.stack([catalog[f"{name}_{suffix}"] for name in RESULTS], axis=-1)


def _values(catalog: Any) -> dict[str, np.ndarray]:
    return {name: catalog[name].copy() for name in catalog.schema.names if name.startswith(P)}


def _set_flags(catalog: Any, row: int) -> set[str]:
    return {
        name.removeprefix(f"{P}_")
        for name in catalog.schema.names
        if name.startswith(P) and catalog[name].dtype == bool and catalog[name][row]
    }


def test_check_values(measure: Any) -> None:
    """Reproduce fluxes and errors of spec 06 §6 case A."""
    catalog = measure(_star(), [40.0], [40.0], WHOLE, GaussianPsf(2.0))
    flux, error = _fluxes(catalog)[0], _fluxes(catalog, "instFluxErr")[0]
    truth = [99989.4125, 99999.9837, 99999.9960, 99999.9981, 99999.9964, 99999.9974, 99999.9518]
    errors = [147.70428, 151.18686, 193.39057, 275.85719, 448.89659, 536.52667, 146.21019]
    # The spec's digits; single precision leaves 1e-7.
    np.testing.assert_allclose(flux[:7], truth, rtol=2e-7)
    np.testing.assert_allclose(error[:7], errors, rtol=1e-7)
    assert not _set_flags(catalog, 0) - {"flag_edge"}


def test_kernel_is_reflected(measure: Any) -> None:
    """Reproduce the faithful fluxes of case B: a skewed PSF."""
    catalog = measure(_star(0.2), [40.0], [40.0], WHOLE, GaussianPsf(2.0, skew=0.2))
    truth = [99766.8563, 99883.9664, 99927.5964, 99962.2468, 99985.1966, 99989.5665, 99872.0358]
    np.testing.assert_allclose(_fluxes(catalog)[0, :7], truth, rtol=2e-7)


def test_kernel_as_fitted(measure: Any) -> None:
    """Reproduce the sane fluxes of case B with the option for them."""

    def as_fitted(config: Any) -> None:
        _configure(config)
        config.plugins[P].doConvolveAsFitted = True

    catalog = measure(_star(0.2), [40.0], [40.0], WHOLE, GaussianPsf(2.0, skew=0.2), configure=as_fitted)
    truth = [100127.8977, 100124.2412, 100089.7409, 100048.6136, 100019.2909, 100013.6188, 100127.6741]
    np.testing.assert_allclose(_fluxes(catalog)[0, :7], truth, rtol=2e-7)
    faithful = measure(_star(0.2), [40.0], [40.0], WHOLE, GaussianPsf(2.0, skew=0.2))
    np.testing.assert_allclose(_fluxes(catalog, "instFluxErr"), _fluxes(faithful, "instFluxErr"), rtol=1e-12)


@pytest.mark.parametrize("psf_sigma", [1.5, 1.7])
def test_fluxes_of_gaussian_galaxy(measure: Any, psf_sigma: float) -> None:
    """Measure pre-seeing fluxes, independent of the PSF, on a sheared sky.

    For a galaxy with moments G and an aperture with moments A on the sky's
    plane it is F sqrt(det A / det(A + G)).
    """
    matrix = np.array([[0.19, 0.03], [-0.02, 0.21]])
    moments = np.array([[9.0, 2.0], [2.0, 6.0]])
    x, y, total = 100.3, 99.6, 3e4
    profile = galsim.Gaussian(flux=total, sigma=1.0).transform(*np.linalg.cholesky(moments).ravel())
    # transform() multiplies the flux by the Jacobian.
    profile = profile.withFlux(total)
    profile = galsim.Convolve(profile, galsim.Gaussian(sigma=psf_sigma)).shift(x - 100, y - 100)
    image = profile.drawImage(nx=201, ny=201, scale=1.0, method="no_pixel", dtype=float).array
    shape = np.array([[9.0, 6.0, 2.0]]) + [psf_sigma**2, psf_sigma**2, 0]
    catalog = measure(
        image, [x], [y], [[15, 15, 185, 185]], GaussianPsf(psf_sigma, 41), wcs=Tangent(matrix), shape=shape
    )
    to_pixels = np.linalg.inv(matrix)
    truth = []
    for sigma in SIGMAS:
        aperture = sigma**2 * to_pixels @ to_pixels.T
        truth.append(total * np.sqrt(np.linalg.det(aperture) / np.linalg.det(aperture + moments)))
    # Sampled PSFs and weights are not quite band limited, and the weight is
    # cut off where it is 9e-4.
    np.testing.assert_allclose(_fluxes(catalog)[0, :6], truth, rtol=1e-3)
    optimal = np.array([[shape[0, 0] + 4, shape[0, 2]], [shape[0, 2], shape[0, 1] + 4]])
    ratio = np.sqrt(np.linalg.det(optimal) / np.linalg.det(optimal + moments))
    assert catalog[f"{RESULTS[-1]}_instFlux"][0] == pytest.approx(total * ratio, rel=1e-3)
    stored = [catalog[f"{P}_OptimalShape_{k}"][0] for k in ("xx", "yy", "xy")]
    np.testing.assert_allclose(stored, [optimal[0, 0], optimal[1, 1], optimal[0, 1]])


def test_errors_are_those_of_noise(measure: Any) -> None:
    """Scatter as the errors say, where the stamp holds the aperture."""
    rng = np.random.default_rng(8)
    n, width = 400, 61
    image = rng.normal(0.0, 20.0, (20 * width, 20 * width))
    k = np.arange(n)
    x, y = 30.0 + width * (k % 20), 30.0 + width * (k // 20)
    boxes = np.stack([x - 20, y - 20, x + 20, y + 20], axis=1).astype(int)
    catalog = measure(image, x, y, boxes, GaussianPsf(2.0), wcs=Tangent())
    for name in (RESULTS[0], RESULTS[2], RESULTS[6], RESULTS[7]):
        pull = catalog[f"{name}_instFlux"] / catalog[f"{name}_instFluxErr"]
        # 400 values: the errors of mean and scatter are 5 % and 3.5 %.
        assert abs(pull.mean()) < 0.2, name
        assert pull.std() == pytest.approx(1.0, abs=0.12), name


def test_negative_flux_and_zero_variance(measure: Any) -> None:
    """Measure negative stars; without variance there's no error."""
    variance = np.zeros((81, 81))
    catalog = measure(-_star(), [40.0], [40.0], WHOLE, GaussianPsf(2.0), variance=variance)
    assert catalog[f"{RESULTS[1]}_instFlux"][0] == pytest.approx(-99999.9837, rel=2e-7)
    assert np.isnan(_fluxes(catalog, "instFluxErr")).all()
    variance[:] = -1.0
    catalog = measure(-_star(), [40.0], [40.0], WHOLE, GaussianPsf(2.0), variance=variance)
    assert np.isnan(_fluxes(catalog, "instFluxErr")).all()
    assert not _set_flags(catalog, 0) - {"flag_edge"}


def test_mask_plays_no_role(measure: Any) -> None:
    """Measure a star whose pixels are all masked like any other."""
    arguments = _star(), [40.0], [40.0], WHOLE, GaussianPsf(2.0)
    masked = measure(*arguments, mask=np.full((81, 81), 0b111))
    for name, value in _values(measure(*arguments)).items():
        np.testing.assert_array_equal(masked[name], value, err_msg=name)


def test_star_at_edge(measure: Any) -> None:
    """Clip the stamp at the image's edge; beyond it there is nothing."""
    star, psf = _star(), GaussianPsf(2.0)
    padded = np.zeros((81, 81), dtype=np.float32)
    padded[:, 35:] = star[:, 35:]
    # The footprint's box, grown by 10 pixels, ends at the edge or beyond it.
    inside = measure(padded, [40.0], [40.0], [[10, 10, 70, 70]], psf)
    beyond = measure(star[:, 35:], [5.0], [40.0], [[0, 10, 35, 70]], psf)
    assert _set_flags(inside, 0) == set()
    assert _set_flags(beyond, 0) == {"flag_edge"}
    # The smallest weight reaches 3.7 pixels; the others lose what the kernel
    # spread over the edge.
    assert _fluxes(beyond)[0, 0] == pytest.approx(_fluxes(inside)[0, 0], rel=1e-6)
    assert (_fluxes(beyond)[0, 1:] < _fluxes(inside)[0, 1:] - 0.5).all()


def test_small_apertures(measure: Any) -> None:
    """Flag apertures not larger than the target; keep the sub-pixel quirk."""
    psf = GaussianPsf(2.0)

    def sigmas(config: Any) -> None:
        # Target sigma 2.3 pixels = 0.46 arcsec.
        config.plugins[P].sigmas = [0.3, 0.4599, 0.4601, np.sqrt(2.3**2 + 0.2499) / 5, 0.7]

    catalog = measure(_star(), [40.0], [40.0], WHOLE, psf, configure=sigmas)
    names = [gaap_result_name(1.15, s, P) for s in (0.3, 0.4599, 0.4601)]
    assert [bool(catalog[f"{n}_flag_bigPsf"][0]) for n in names] == [True, True, False]
    assert [bool(catalog[f"{n}_flag"][0]) for n in names] == [True, True, False]
    assert np.isnan(catalog[f"{names[0]}_instFlux"][0])
    quirk = catalog[f"{gaap_result_name(1.15, np.sqrt(2.3**2 + 0.2499) / 5, P)}_instFlux"][0]
    # 16 samples in each of 5 pixels (e <= 9), which hold 0.896 of a Gaussian
    # of sigma 0.5; the star's curvature adds 1 %.
    assert quirk / 1e5 == pytest.approx(16 * 0.896, rel=0.015)
    assert not catalog[f"{P}_flag"][0]

    def average(config: Any) -> None:
        sigmas(config)
        config.plugins[P].doAverageSubpixels = True

    averaged = measure(_star(), [40.0], [40.0], WHOLE, psf, configure=average)
    name = gaap_result_name(1.15, np.sqrt(2.3**2 + 0.2499) / 5, P)
    # Averages over pixels widen the aperture by 1/12 pixel^2.
    assert averaged[f"{name}_instFlux"][0] / 1e5 == pytest.approx(5.54 / (5.54 + 1 / 12), rel=4e-3)
    wide = f"{gaap_result_name(1.15, 0.7, P)}_instFlux"
    assert averaged[wide][0] == catalog[wide][0]


def test_fields_and_names(measure: Any) -> None:
    """Have upstream's fields in order, without an alias of the centroid."""

    def factors(config: Any) -> None:
        config.plugins[P].scalingFactors = [1.15, 1.3]
        config.plugins[P].sigmas = [0.7]
        config.plugins[P].doPsfPhotometry = True

    catalog = measure(_star(), [40.0], [40.0], WHOLE, GaussianPsf(2.0), configure=factors)
    values = ("instFlux", "instFluxErr")
    expected = [f"{f}_0_7_{v}" for f in ("1_15x", "1_3x") for v in values]
    expected += [f"{f}_PsfFlux_{v}" for f in ("1_15x", "1_3x") for v in values]
    expected += [f"OptimalShape_{k}" for k in ("xx", "yy", "xy")]
    expected += [f"{f}_Optimal_{v}" for f in ("1_15x", "1_3x") for v in values]
    names = [name.removeprefix(f"{P}_") for name in catalog.schema.names if name.startswith(P)]
    assert names[: len(expected)] == expected
    assert names[-3:] == ["flag_edge", "flag_no_pixel", "flag"]
    assert f"{P}_flag_badCentroid" not in catalog.schema.aliases
    wide, narrow = (catalog[f"{P}_{f}_0_7_instFlux"][0] for f in ("1_3x", "1_15x"))
    # A star's flux doesn't depend on the target PSF.
    assert wide == pytest.approx(narrow, rel=1e-4)
    assert gaap_result_name(1.15, 0.5) == "1_15x_0_5"
    assert plugin_registry[P].execution_order == 2.0


def test_config() -> None:
    """Name results, pass options on, refuse what upstream refuses."""
    config = GaapFluxConfig()
    assert list(config.getAllGaapResultNames(None)) == ["1_15x_0_7", "1_15x_1_0", "1_15x_Optimal"]
    config.sigmas, config.doPsfPhotometry = SIGMAS, True
    assert list(config.getAllGaapResultNames()) == RESULTS
    config.gaussianizationMethod = "direct"
    config.scaleByFwhm = False
    assert config._modelPsfMatch.convolutionMethod == "direct"
    assert config._modelPsfMatch.kernel["AL"].scaleByFwhm is False
    assert (config.gaussianizationMethod, config.scaleByFwhm) == ("direct", False)
    config.validate()
    for name, value in (
        ("scalingFactors", [0.9]),
        ("_modelPsfDimension", 64),
        ("gaussianizationMethod", "no"),
    ):
        with pytest.raises(FieldValidationError):
            setattr(config, name, value)
    config.sigmas, config.doPsfPhotometry, config.doOptimalPhotometry = [], False, False
    with pytest.raises(FieldValidationError, match="nothing to measure"):
        config.validate()
    config.doOptimalPhotometry = True
    config.validate()
    config._modelPsfMatch.kernel["AL"].alardNGauss = 2
    with pytest.raises(FieldValidationError, match="alardNGauss"):
        config.validate()


def test_registered_for_aperture_correction(measure: Any) -> None:
    """Register names when a plugin is made, unless told not to."""

    def unregistered(config: Any) -> None:
        config.plugins[P].sigmas = [0.77]
        config.plugins[P].registerForApCorr = False

    measure(_star(), [40.0], [40.0], WHOLE, GaussianPsf(2.0))
    measure(_star(), [40.0], [40.0], WHOLE, GaussianPsf(2.0), configure=unregistered)
    assert set(RESULTS) <= get_ap_corr_names()
    assert f"{P}_1_15x_0_77" not in get_ap_corr_names()


def _field(count: int = 9) -> tuple[np.ndarray, ...]:
    """Make stars on a grid: image, x, y, boxes."""
    rng = np.random.default_rng(11)
    n = np.arange(count)
    x = 50.0 + 100 * (n % 3) + rng.uniform(-0.5, 0.5, count)
    y = 50.0 + 100 * (n // 3) + rng.uniform(-0.5, 0.5, count)
    # Positions that survive a shift of the origin exactly.
    x, y = np.round(x * 1024) / 1024, np.round(y * 1024) / 1024
    j, i = np.mgrid[: 100 * int(np.ceil(count / 3)), :300]
    image = rng.normal(0, 5, j.shape)
    for a, b in zip(x, y, strict=True):
        image += rng.uniform(500, 5e4) * np.exp(-((i - a) ** 2 + (j - b) ** 2) / 8.0)
    centre = np.stack([x, y], axis=1).astype(int)
    half = rng.integers(8, 30, (count, 2))
    return image.astype(np.float32), x, y, np.hstack([centre - half, centre + half])


class SpoiltPsf(GaussianPsf):
    """PSF that cannot be drawn, or measured, for some stars."""

    def __init__(self, undrawn: float, no_shape: float, one_nan: float) -> None:
        super().__init__(2.0)
        self.undrawn, self.no_shape, self.one_nan = undrawn, no_shape, one_nan

    def draw_kernel_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        images = super().draw_kernel_images(x, y)
        images[np.asarray(x) == self.undrawn] = np.nan
        images[np.asarray(x) == self.one_nan, 3, 3] = np.nan
        return images

    def compute_shapes(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        shapes = super().compute_shapes(x, y)
        shapes[np.isin(x, [self.undrawn, self.no_shape])] = np.nan
        return shapes


def test_bad_stars_spoil_only_themselves(measure: Any) -> None:
    """Flag each kind of bad star as specified; others are as without."""
    image, x, y, boxes = _field(15)
    good = measure(image, x, y, boxes, GaussianPsf(2.0))
    assert not any(_set_flags(good, i) for i in range(15))
    image = image.copy()
    image[int(y[0]) + 2, int(x[0])] = np.nan
    boxes[1] = boxes[1] + [-60, 0, -60, 0]  # the centre is off the stamp
    boxes[2] = 10, 10, 9, 9
    x[3] = np.nan
    shape = np.tile([4.0, 4.0, 0.0], (15, 1))
    shape[4] = np.nan
    shape[9] = -9.0
    image[boxes[5, 1] : boxes[5, 3] + 1, boxes[5, 0] : boxes[5, 2] + 1] = 0.0
    boxes[6, 0] = 5
    psf = SpoiltPsf(x[7], x[8], x[10])
    boxes[11] = 500, 500, 510, 510  # all off the image
    catalog = measure(image, x, y, boxes, psf, shape=shape)
    every = {f"{r.removeprefix(f'{P}_')}_flag" for r in RESULTS}
    unmatched = every | {"1_15x_flag_gaussianization"}
    flags = [_set_flags(catalog, i) for i in range(15)]
    assert flags[0] == set()  # quirk: NaN without flags
    assert np.isnan(_fluxes(catalog)[0]).all()
    assert np.isfinite(_fluxes(catalog, "instFluxErr")[0]).all()
    assert flags[1] == {"flag"}
    assert flags[2] == every | {"flag", "flag_no_pixel"}
    assert flags[3] == unmatched
    assert flags[4] == flags[9] == {"1_15x_Optimal_flag_bigPsf", "1_15x_Optimal_flag"}
    assert np.isnan(catalog[f"{P}_OptimalShape_xx"][4])
    np.testing.assert_array_equal(_fluxes(catalog)[4, :7], _fluxes(good)[4, :7])
    assert flags[5] == set()
    assert flags[6] == {"flag_edge"}
    assert flags[7] == {"flag"}
    assert catalog["base_InvalidPsf_flag"].tolist() == [i == 7 for i in range(15)]
    assert flags[8] == flags[10] == unmatched
    assert flags[11] == unmatched | {"flag_edge"}
    for i in (1, 2, 3, 7, 8, 10, 11):
        assert np.isnan(_fluxes(catalog)[i]).all()
    for name, value in _values(good).items():
        np.testing.assert_array_equal(catalog[name][12:], value[12:], err_msg=name)


def test_missing_footprint(make_exposure: Any) -> None:
    """Flag stars that have no footprint at all."""
    from lsst.meas.finalize.catalogs import Footprints, Schema, SourceCatalog
    from lsst.meas.finalize.measure import MeasureBatch

    schema = Schema.source_minimal()
    for name in ("c_x", "c_y"):
        schema.add_field(name, "D")
    schema.set_alias("slot_Centroid", "c")
    config = GaapFluxConfig()
    config.doOptimalPhotometry = False
    plugin = plugin_registry[P](config, P, schema, {})
    catalog = SourceCatalog(schema, 2, footprints=Footprints.empty(2))
    catalog["c_x"] = catalog["c_y"] = 40.0
    exposure = make_exposure(_star())
    exposure.sky_projection = Tangent()
    plugin.measure(MeasureBatch(catalog, exposure, psf=GaussianPsf(2.0)))
    assert _set_flags(catalog, 0) == _set_flags(catalog, 1) == {"flag"}


def test_missing_prerequisites(measure: Any) -> None:
    """Flag what lacks a slot or a WCS; without a PSF the run ends."""
    star = _star()
    for slot in ("slot_Shape", "slot_PsfShape"):
        catalog = measure(star, [40.0], [40.0], WHOLE, GaussianPsf(2.0), aliases={slot: "q"})
        assert _set_flags(catalog, 0) == {"flag"}
        assert np.isnan(_fluxes(catalog)).all()
    catalog = measure(star, [40.0], [40.0], WHOLE, GaussianPsf(2.0), wcs=None)
    assert _set_flags(catalog, 0) - {"flag_edge"} == {"flag"}
    assert np.isfinite(_fluxes(catalog)[0]).tolist() == [False] * 6 + [True] * 2
    with pytest.raises(MeasurementFatalError, match="PSF"):
        measure(star, [40.0], [40.0], WHOLE, None)


def test_no_stars(measure: Any) -> None:
    """Measure an empty catalogue."""
    assert len(measure(_star(), [], [], np.empty((0, 4), dtype=int), GaussianPsf(2.0))) == 0


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(9)),
    split=st.integers(1, 8),
    origin=st.tuples(st.integers(-5000, 5000), st.integers(-5000, 5000)),
)
def test_order_parts_and_origin(measure: Any, order: list[int], split: int, origin: tuple[int, int]) -> None:
    """Measure the same in any order, in parts and at any XY0."""
    image, x, y, boxes = _field()
    truth = _values(measure(image, x, y, boxes, GaussianPsf(2.0)))
    shift = np.array(origin)
    for rows in (np.array(order[:split]), np.array(order[split:])):
        part = measure(
            image,
            x[rows] + shift[0],
            y[rows] + shift[1],
            boxes[rows] + np.tile(shift, 2),
            GaussianPsf(2.0),
            origin=origin,
        )
        for name, value in _values(part).items():
            # Stamps of other sizes make other Fourier transforms, whose
            # results are rounded to float32.
            np.testing.assert_allclose(value, truth[name][rows], rtol=2e-6, err_msg=name)
