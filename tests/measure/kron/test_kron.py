# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Kron photometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.apcorr import get_ap_corr_names
from lsst.meas.finalize.catalogs import Footprints, Schema
from lsst.meas.finalize.measure import MeasurementFatalError, plugin_registry
from lsst.meas.finalize.measure.kron._radius import footprint_radii

KRON = "ext_photometryKron_KronFlux"
SLOT = {"slot_Shape": "shape"}


class RoundPsf:
    """Batch PSF that only knows its moments, and may fail to draw."""

    def __init__(self, sigma: float = 0.5, *, drawable: bool = True) -> None:
        self.sigma = sigma
        self.drawable = drawable

    def draw_kernel_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        return np.full((len(x), 25, 25), 1.0 / 625 if self.drawable else np.nan)

    def draw_star_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> Any:
        origin = np.zeros(len(x), dtype=np.int64)
        return self.draw_kernel_images(x, y), origin, origin

    def compute_shapes(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        variance = self.sigma**2 if self.drawable else np.nan
        return np.tile([variance, variance, 0.0 * variance], (len(x), 1))

    def compute_aperture_fluxes(self, radius: float, x: np.ndarray, y: np.ndarray, color: Any = None) -> Any:
        return np.ones(len(x))


def _gaussian(
    shape: tuple[int, int], x: float, y: float, moments: tuple[float, float, float], amplitude: float = 1.0
) -> np.ndarray:
    """Sample exp(-d Q^-1 d / 2) at pixel centres."""
    xx, yy, xy = moments
    j, i = np.mgrid[: shape[0], : shape[1]]
    dx, dy = i - x, j - y
    chi2 = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / (xx * yy - xy * xy)
    return amplitude * np.exp(-0.5 * chi2)


def _columns(*moments: tuple[float, float, float]) -> dict[str, np.ndarray]:
    """Return a shape slot's columns."""
    return {
        f"shape_{k}": np.array(v, dtype=float)
        for k, v in zip(("xx", "yy", "xy"), np.transpose(moments), strict=True)
    }


@pytest.fixture
def measure(make_exposure: Any, run_plugins: Any) -> Any:
    """Return a function that measures stars on an image."""

    def run(image: np.ndarray, x: Any, y: Any, moments: Any, **kwargs: Any) -> Any:
        exposure = make_exposure(image, **{k: kwargs.pop(k) for k in ("variance", "origin") if k in kwargs})
        options = kwargs.pop("options", {})
        kwargs.setdefault("psf", RoundPsf())
        columns = _columns(*moments) | kwargs.pop("columns", {})
        boxes = kwargs.pop(
            "boxes", np.array([[v - 5, w - 5, v + 5, w + 5] for v, w in zip(x, y, strict=True)])
        )

        def configure(config: Any) -> None:
            for name, value in options.items():
                setattr(config.plugins[KRON], name, value)

        catalog = run_plugins(
            [KRON],
            exposure,
            np.array(x, float),
            np.array(y, float),
            np.asarray(boxes).astype(int),
            columns=columns,
            aliases=SLOT,
            configure=configure,
            **kwargs,
        )
        return {name.removeprefix(f"{KRON}_"): catalog[name] for name in catalog.schema.names if KRON in name}

    return run


def _flags(result: dict[str, np.ndarray], row: int = 0) -> set[str]:
    return {name for name, values in result.items() if name.startswith("flag") and values[row]}


def test_fields() -> None:
    """Declare upstream's fields in upstream's order, ready for correction."""
    schema = Schema.source_minimal()
    schema.set_alias("slot_Centroid", "somewhere")
    metadata: dict[str, Any] = {}
    cls = plugin_registry[KRON]
    cls(cls.ConfigClass(), KRON, schema, metadata)
    added = [f for f in schema if f.name.startswith(KRON)]
    assert [(f.name.removeprefix(f"{KRON}_"), f.type, f.unit) for f in added[:5]] == [
        ("instFlux", "D", "count"),
        ("instFluxErr", "D", "count"),
        ("radius", "F", ""),
        ("radius_for_radius", "F", ""),
        ("psf_radius", "F", ""),
    ]
    assert [f.name.removeprefix(f"{KRON}_flag_") for f in added[6:]] == [
        "edge",
        "bad_shape_no_psf",
        "no_minimum_radius",
        "no_fallback_radius",
        "bad_radius",
        "used_minimum_radius",
        "used_psf_radius",
        "small_radius",
        "bad_shape",
    ]
    assert schema.aliases[f"{KRON}_flag_badInitialCentroid"] == "somewhere_flag"
    assert metadata == {"EXT_PHOTOMETRYKRON_KRONFLUX_NRADIUSFORFLUX": 2.5}
    assert KRON in get_ap_corr_names()


@pytest.mark.parametrize(
    ("x", "y", "moments", "radius"),
    [
        (40.0, 40.0, (4.0, 4.0, 0.0), 2.512595016359),
        (40.3, 39.9, (2.25, 2.25, 0.0), 1.896448154822),
        (50.2, 49.6, (6.0, 4.0, 1.0), 2.751583897802),
    ],
)
def test_radius_of_gaussians(
    measure: Any, x: float, y: float, moments: tuple[float, float, float], radius: float
) -> None:
    """Reproduce the spec's radii (05 §8), and the flux within an ellipse."""
    result = measure(_gaussian((101, 101), x, y, moments), [x], [y], [moments])
    assert result["radius"][0] == np.float32(radius)
    size = (moments[0] * moments[1] - moments[2] ** 2) ** 0.25
    assert result["radius_for_radius"][0] == pytest.approx(6 * size, rel=1e-7)
    assert result["psf_radius"][0] == np.float32(0.5 * np.sqrt(0.5 * np.pi))
    # The aperture is concentric with the isophotes: closed form.  What is
    # missing is aliasing and the finite grid of coefficients.
    flux = 2 * np.pi * size**2 * (1.0 - np.exp(-0.5 * (2.5 * radius / size) ** 2))
    assert result["instFlux"][0] == pytest.approx(flux, rel=1e-3)
    assert not _flags(result)


def test_large_apertures_count_pixels(measure: Any) -> None:
    """Sum pixels where the aperture's minor semi-axis exceeds 10 pixels."""
    image = _gaussian((201, 201), 100.2, 99.7, (30.0, 25.0, 3.0))
    variance = np.linspace(1, 2, 201 * 201).reshape(201, 201)
    result = measure(image, [100.2], [99.7], [(30.0, 25.0, 3.0)], variance=variance)
    scale = (2.5 * float(result["radius"][0])) ** 2 / np.sqrt(30 * 25 - 9)
    dx, dy = np.arange(201)[None, :] - 100.2, np.arange(201)[:, None] - 99.7
    inside = (25 * dx * dx - 6 * dx * dy + 30 * dy * dy) / (30 * 25 - 9) <= scale
    # The image is float32.
    assert result["instFlux"][0] == pytest.approx(image[inside].sum(), rel=1e-6)
    assert result["instFluxErr"][0] == pytest.approx(np.sqrt(variance[inside].sum()), rel=1e-6)


def test_radius_not_above_moments(measure: Any) -> None:
    """Leave the aperture at 6 sigma, unflagged, as upstream does."""
    image = _gaussian((121, 121), 60.0, 60.0, (1.0, 1.0, 0.0))
    result = measure(image, [60], [60], [(4.0, 4.0, 0.0)])
    assert result["radius"][0] == 12.0
    assert not _flags(result)


@pytest.mark.parametrize("amplitude", [-1.0, 0.0])
def test_flux_not_positive(measure: Any, amplitude: float) -> None:
    """Fall back on the PSF's radius; that alone sets no general flag."""
    image = _gaussian((81, 81), 40.0, 40.0, (4.0, 4.0, 0.0), amplitude)
    result = measure(image, [40], [40], [(4.0, 4.0, 0.0)], psf=RoundPsf(2.0))
    assert {"flag_bad_radius", "flag_used_psf_radius"} <= _flags(result)
    assert "flag" not in _flags(result)
    assert result["radius"][0] == result["psf_radius"][0]
    assert np.isnan(result["radius_for_radius"][0])
    assert np.isfinite(result["instFlux"][0])


@pytest.mark.parametrize("inside", [True, False])
def test_nan_pixels(measure: Any, inside: bool) -> None:
    """Fall back; only in the aperture itself NaN makes the flux NaN."""
    image = np.full((61, 121), 0.0)
    for x in (30.0, 90.0):
        image += _gaussian(image.shape, x, 30.0, (2.25, 2.25, 0.0))
    expected = measure(image, [30, 90], [30, 30], [(2.25, 2.25, 0.0)] * 2)
    # The grid of the sinc coefficients reaches 7 pixels far.
    image[30 if inside else 38, 30] = np.nan
    result = measure(image, [30, 90], [30, 30], [(2.25, 2.25, 0.0)] * 2)
    assert np.isnan(result["instFlux"][0]) == inside
    assert {"flag_bad_radius", "flag_used_psf_radius"} <= _flags(result)
    assert "flag" not in _flags(result)
    for name, values in result.items():
        np.testing.assert_array_equal(values[1], expected[name][1], err_msg=name)


def test_image_edge(measure: Any) -> None:
    """Flag apertures that leave the image; nothing is written."""
    image = _gaussian((121, 121), 60.0, 60.0, (4.0, 4.0, 0.0)) + _gaussian(
        (121, 121), 3.0, 60.0, (4.0, 4.0, 0.0)
    )
    boxes = np.tile([50, 50, 70, 70], (4, 1))
    result = measure(image, [3, 60, 1e8, np.inf], [60] * 4, [(4.0, 4.0, 0.0)] * 4, boxes=boxes)
    for row in (0, 2):
        assert _flags(result, row) == {"flag", "flag_edge"}
        assert all(np.isnan(v[row]) for k, v in result.items() if not k.startswith("flag"))
    assert not _flags(result, 1)
    assert "flag" in _flags(result, 3)


def test_truncated_sinc_aperture(measure: Any) -> None:
    """Return NaN without a flag, but the radius, as upstream does."""
    image = _gaussian((61, 61), 3.0, 30.0, (4.0, 4.0, 0.0))
    result = measure(image, [3], [30], [(4.0, 4.0, 0.0)], options={"fixed": True})
    assert np.isnan(result["instFlux"][0])
    assert result["radius"][0] == 2.0
    assert not _flags(result)


def test_flagged_shape(measure: Any) -> None:
    """Use the PSF's shape instead of a flagged one."""
    image = _gaussian((121, 121), 60.0, 60.0, (4.0, 4.0, 0.0))
    flag = {"shape_flag": np.array([True])}
    result = measure(image, [60], [60], [(np.nan,) * 3], columns=flag, psf=RoundPsf(2.0))
    assert _flags(result) == {"flag", "flag_bad_shape"}
    assert result["radius"][0] == np.float32(2.512595016359)
    result = measure(image, [60], [60], [(np.nan,) * 3], columns=flag, psf=None)
    assert _flags(result) == {"flag", "flag_bad_shape_no_psf"}


def test_impossible_shapes(measure: Any) -> None:
    """Flag stars whose shape is no ellipse, and only these."""
    image = np.zeros((61, 261))
    for x in (30.0, 80.0, 130.0, 180.0, 230.0):
        image += _gaussian(image.shape, x, 30.0, (2.25, 2.25, 0.0))
    bad = [(np.nan, 2.25, 0.0), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (np.inf, 1.0, 0.0), (2.25, 2.25, 0.0)]
    result = measure(image, [30, 80, 130, 180, 230], [30] * 5, bad)
    assert result["flag"].tolist() == [True] * 4 + [False]
    assert np.isnan(result["instFlux"]).tolist() == [True] * 4 + [False]


def test_exposures_without_psf(measure: Any) -> None:
    """Need a minimum radius, unless that is not to be enforced."""
    image = _gaussian((81, 81), 40.0, 40.0, (4.0, 4.0, 0.0))
    star: Any = (image, [40], [40], [(4.0, 4.0, 0.0)])
    result = measure(*star, psf=None)
    assert _flags(result) == {"flag", "flag_no_minimum_radius"}
    assert np.isnan(result["radius"][0])
    result = measure(*star, psf=None, options={"enforceMinimumRadius": False})
    assert not _flags(result)
    assert result["radius"][0] == np.float32(2.512595016359)
    assert result["psf_radius"][0] == -1.0
    result = measure(*star, psf=None, options={"minimumRadius": 3.0})
    assert _flags(result) == {"flag_used_minimum_radius", "flag_small_radius"}
    assert result["radius"][0] == 3.0
    result = measure(-image, *star[1:], psf=None, options={"minimumRadius": 3.0})
    assert {"flag_bad_radius", "flag_used_minimum_radius"} <= _flags(result)
    result = measure(-image, *star[1:], psf=None)
    assert _flags(result) == {"flag", "flag_bad_radius", "flag_no_fallback_radius"}


def test_psf_sets_minimum(measure: Any) -> None:
    """Enlarge the aperture to that of the PSF."""
    image = _gaussian((81, 81), 40.0, 40.0, (4.0, 4.0, 0.0))
    result = measure(image, [40], [40], [(4.0, 4.0, 0.0)], psf=RoundPsf(3.0))
    assert _flags(result) == {"flag_used_psf_radius", "flag_small_radius"}
    assert result["radius"][0] == result["psf_radius"][0]


def test_psf_that_cannot_be_drawn(make_exposure: Any, run_plugins: Any) -> None:
    """Tell an invalid PSF from one without measurable moments."""
    image = _gaussian((81, 81), 40.0, 40.0, (4.0, 4.0, 0.0))
    catalog = run_plugins(
        [KRON],
        make_exposure(image),
        [40.0],
        [40.0],
        np.array([[30, 30, 50, 50]]),
        psf=RoundPsf(drawable=False),
        columns=_columns((4.0, 4.0, 0.0)),
        aliases=SLOT,
    )
    assert catalog[f"{KRON}_flag"][0]
    assert catalog["base_InvalidPsf_flag"][0]
    assert np.isnan(catalog[f"{KRON}_instFlux"][0])


def test_unmeasurable_psf_moments(measure: Any) -> None:
    """Go on without a minimum radius."""
    psf = RoundPsf()
    psf.sigma = np.nan
    image = _gaussian((81, 81), 40.0, 40.0, (4.0, 4.0, 0.0))
    result = measure(image, [40], [40], [(4.0, 4.0, 0.0)], psf=psf)
    assert not _flags(result)
    assert result["radius"][0] == np.float32(2.512595016359)
    assert np.isnan(result["psf_radius"][0])


def test_zero_variance(measure: Any) -> None:
    """Return no error."""
    image = _gaussian((81, 81), 40.0, 40.0, (4.0, 4.0, 0.0))
    result = measure(image, [40], [40], [(4.0, 4.0, 0.0)], variance=np.zeros((81, 81)))
    assert np.isnan(result["instFluxErr"][0])
    assert result["instFlux"][0] > 0


def test_missing_columns(make_exposure: Any, run_plugins: Any) -> None:
    """Stop without a centroid slot; flag everything without shapes."""
    exposure = make_exposure(_gaussian((81, 81), 40.0, 40.0, (4.0, 4.0, 0.0)))
    star: Any = ([KRON], exposure, [40.0], [40.0], np.array([[30, 30, 50, 50]]))
    catalog = run_plugins(*star, psf=RoundPsf())
    assert catalog[f"{KRON}_flag"][0]
    with pytest.raises(MeasurementFatalError, match="slot_Centroid"):
        run_plugins(*star, psf=RoundPsf(), aliases={"slot_Centroid": "nothing"})


def test_peak_replaces_centroid(measure: Any) -> None:
    """Flag a star with neither centroid nor peak."""
    image = _gaussian((81, 81), 40.0, 40.0, (4.0, 4.0, 0.0))
    result = measure(image, [np.nan], [40], [(4.0, 4.0, 0.0)], boxes=np.array([[30, 30, 50, 50]]))
    assert _flags(result) == {"flag"}
    assert np.isnan(result["instFlux"][0])


def test_options(measure: Any) -> None:
    """Iterate, smooth, and start from the footprint."""
    image = _gaussian((161, 161), 80.0, 80.0, (4.0, 4.0, 0.0))
    star: Any = (image, [80], [80], [(4.0, 4.0, 0.0)])
    # With a single iteration the radius is that of the 6 sigma aperture;
    # the next has 6 radii, which adds little.
    twice = measure(*star, options={"nIterForRadius": 2})
    assert twice["radius_for_radius"][0] == pytest.approx(6 * 2.512595016359, rel=1e-6)
    # Smoothing with sigma 1.5 gives a Gaussian of sigma 2.5, cut off at 2
    # sigma of the kernel: a little less.
    smooth = measure(*star, options={"smoothingSigma": 1.5})
    assert smooth["psf_radius"][0] == pytest.approx(np.sqrt(0.5 * np.pi * (0.25 + 2.25)), rel=1e-6)
    assert 0.95 * 2.5 * 1.2533 < smooth["radius"][0] < 2.5 * 1.27
    wide = measure(*star, boxes=np.array([[50, 50, 110, 110]]), options={"useFootprintRadius": True})
    size = np.sqrt(2 * (61**2 - 1) / 12)
    assert wide["radius_for_radius"][0] == pytest.approx(size, rel=1e-6)


def test_footprint_radii() -> None:
    """Compute moments of rectangles in closed form."""
    footprints = Footprints.from_spans([[(y, 3, 12) for y in range(5, 9)], []])
    expected = ((10**2 - 1) / 12 * (4**2 - 1) / 12) ** 0.25
    np.testing.assert_allclose(footprint_radii(footprints, np.arange(2)), [expected, np.nan], rtol=1e-12)


def test_batches_do_not_matter(measure: Any) -> None:
    """Measure the same alone, in any order, and on shifted images."""
    rng = np.random.default_rng(5)
    count = 12
    x, y = rng.uniform(20, 180, count), rng.uniform(5, 195, count)
    moments = [
        tuple(v)
        for v in np.stack(
            [rng.uniform(2, 6, count), rng.uniform(2, 20, count), rng.uniform(-1, 1, count)], -1
        )
    ]
    image = rng.normal(size=(201, 201))
    for k in range(count):
        image += _gaussian(image.shape, x[k], y[k], moments[k], 1000.0)
    together = measure(image, x, y, moments)
    order = rng.permutation(count)
    shuffled = measure(image, x[order], y[order], [moments[k] for k in order])
    shifted = measure(image, x + 512, y + 256, moments, origin=(512, 256))
    for name, values in together.items():
        np.testing.assert_array_equal(shuffled[name], values[order], err_msg=name)
        # Upstream's centres are float32 in PARENT coordinates.
        np.testing.assert_allclose(shifted[name], values, rtol=1e-4, atol=1e-2, err_msg=name)
        alone = measure(image, x[:1], y[:1], moments[:1])
        np.testing.assert_array_equal(alone[name], values[:1], err_msg=name)
