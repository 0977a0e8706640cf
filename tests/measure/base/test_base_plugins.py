# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.catalogs import SourceCatalog
from lsst.meas.finalize.measure import MeasurementFatalError
from lsst.meas.finalize.measure.moments._gaussian import adaptive_moments
from lsst.meas.finalize.measure.pixels import lanczos_weights

_BOX = np.array([[20, 20, 40, 40]])
_SHAPE = {"q_xx": np.array([4.0]), "q_yy": np.array([5.29]), "q_xy": np.array([0.0])}

type Run = Callable[..., SourceCatalog]
type Make = Callable[..., Any]


def _shift(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Shift by fractions of a pixel; there is nothing beyond the image."""
    padded = np.pad(image, 10)
    for axis, taps, centre in zip((1, 0), *lanczos_weights(np.float32([dx, dy])), strict=True):
        padded = sum(tap * np.roll(padded, centre - k, axis) for k, tap in enumerate(taps))
    return padded[10:-10, 10:-10]


def test_the_kernel_is_shifted_as_specified() -> None:
    """Compare sum and maximum with the specification."""
    image = _shift(_KernelPsf().image, 30.3 - 30, 29.6 - 30)
    assert image.sum() == pytest.approx(0.99999887547, abs=1e-11)
    assert image.max() == pytest.approx(0.03356725888, abs=1e-11)


class _KernelPsf:
    """The pixel-sampled Gaussian K of spec 03 §9, the same everywhere."""

    def __init__(self) -> None:
        y, x = np.mgrid[-12:13, -12:13]
        image = np.exp(-0.5 * (x**2 + y**2) / 2.15**2)
        self.image = image / image.sum()

    def draw_kernel_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        return np.repeat(self.image[None], len(x), axis=0)

    def draw_star_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> Any:
        x, y = np.nan_to_num(x), np.nan_to_num(y)
        ix, iy = np.floor(x + 0.5), np.floor(y + 0.5)
        images = np.array([_shift(self.image, *shift) for shift in zip(x - ix, y - iy, strict=True)])
        return images, ix.astype(np.int64) - 12, iy.astype(np.int64) - 12

    def compute_shapes(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        moments = adaptive_moments(self.draw_kernel_images(x, y), 12, 12)
        return np.stack([moments.xx, moments.yy, moments.xy], axis=1)

    def compute_aperture_fluxes(self, radius: float, x: np.ndarray, y: np.ndarray, color: Any = None) -> Any:
        raise NotImplementedError


def _star(x: float = 30.3, y: float = 29.6, size: int = 61) -> np.ndarray:
    """Return the reference image of spec 03 §9."""
    rows, columns = np.mgrid[:size, :size]
    exponent = -0.5 * ((columns - x) ** 2 / 4 + (rows - y) ** 2 / 5.29)
    return (10000 * np.exp(exponent) / (2 * np.pi * 2 * 2.3)).astype(np.float32)


def _with_peaks(catalog_boxes: np.ndarray, x: list[float], y: list[float]) -> Any:
    from lsst.meas.finalize.catalogs import Footprints

    spans = [[(r, b[0], b[2]) for r in range(b[1], b[3] + 1)] for b in catalog_boxes.tolist()]
    light = Footprints.from_spans(spans)
    return Footprints(
        light.span_offsets, light.span_y, light.span_x0, light.span_x1,
        peak_offsets=np.arange(len(x) + 1), peaks={"f_x": np.array(x), "f_y": np.array(y)},
    )  # fmt: skip


def _centroid(
    exposure: Any, x: list[float], y: list[float], boxes: np.ndarray, psf: Any = None, **options: Any
) -> SourceCatalog:
    """Run base_SdssCentroid from peaks."""
    from lsst.meas.finalize.catalogs import Schema
    from lsst.meas.finalize.measure import SingleFrameMeasurementConfig, SingleFrameMeasurementTask

    config = SingleFrameMeasurementConfig()
    config.plugins.names = ["base_SdssCentroid"]
    config.plugins["base_SdssCentroid"].update(**options)
    config.doReplaceWithNoise = False
    for slot in config.slots._fields:
        setattr(config.slots, slot, "base_SdssCentroid" if slot == "centroid" else None)
    task = SingleFrameMeasurementTask(Schema.source_minimal(), config=config)
    catalog = SourceCatalog(task.schema, len(x), footprints=_with_peaks(boxes, x, y))
    task.run(catalog, exposure, psf=_KernelPsf() if psf is None else psf)
    return catalog


def _flags(catalog: SourceCatalog, prefix: str, row: int = 0) -> set[str]:
    """Return the flags that are set, without the prefix."""
    return {
        f.name.removeprefix(prefix + "_")
        for f in catalog.schema
        if f.type == "Flag" and f.name.startswith(prefix) and catalog[f.name][row]
    }


def test_psf_flux_reference(run_plugins: Run, make_exposure: Make) -> None:
    """Compare with the reference values of spec 03 §9."""
    exposure = make_exposure(_star())
    catalog = run_plugins(["base_PsfFlux"], exposure, [30.3], [29.6], _BOX, psf=_KernelPsf())
    assert catalog["base_PsfFlux_instFlux"][0] == pytest.approx(9991.0728632, abs=6e-8)
    assert catalog["base_PsfFlux_instFluxErr"][0] == pytest.approx(7.6148570, abs=6e-8)
    assert catalog["base_PsfFlux_area"][0] == pytest.approx(57.9859174, rel=1e-7)  # float32
    assert catalog["base_PsfFlux_chi2"][0] == pytest.approx(8469.93, abs=6e-3)
    assert catalog["base_PsfFlux_npixels"][0] == 625
    assert not _flags(catalog, "base_PsfFlux")


def test_psf_flux_masked_edge_and_nan(run_plugins: Run, make_exposure: Make) -> None:
    """Drop masked pixels, flag edges, lack of pixels and NaN."""
    size = 61
    image, mask = _star(), np.zeros((size, size), dtype=np.uint8)
    mask[:, 31:] = 1

    def run(x: float, planes: list[str], pixels: np.ndarray = image, **kwargs: Any) -> SourceCatalog:
        exposure = make_exposure(pixels, mask=mask, **kwargs)

        def configure(config: Any) -> None:
            config.plugins["base_PsfFlux"].badMaskPlanes = planes

        return run_plugins(
            ["base_PsfFlux"], exposure, [x], [29.6], _BOX, psf=_KernelPsf(), configure=configure
        )

    half = run(30.3, ["BAD"])
    assert half["base_PsfFlux_npixels"][0] == 13 * 25
    assert half["base_PsfFlux_instFlux"][0] == pytest.approx(9991, rel=0.01)
    assert not _flags(half, "base_PsfFlux")
    assert _flags(run(50.3, ["BAD"]), "base_PsfFlux") == {"flag", "flag_noGoodPixels", "flag_edge"}
    assert _flags(run(50.3, []), "base_PsfFlux") == {"flag", "flag_edge"}
    broken = image.copy()
    broken[30, 30] = np.nan
    nan = run(30.3, [], broken)
    assert _flags(nan, "base_PsfFlux") == {"flag"}
    assert np.isnan(nan["base_PsfFlux_instFlux"][0])
    assert nan["base_PsfFlux_npixels"][0] == 625
    infinite = run(30.3, [], variance=np.full((size, size), np.inf))
    assert _flags(infinite, "base_PsfFlux") == {"flag"}
    zero = run(30.3, [], variance=np.zeros((size, size)))
    assert _flags(zero, "base_PsfFlux") == {"flag"}
    assert np.isnan(zero["base_PsfFlux_instFluxErr"][0])
    off = run(500.0, [])
    assert _flags(off, "base_PsfFlux") == {"flag", "flag_noGoodPixels", "flag_edge"}
    with pytest.raises(MeasurementFatalError, match="base_PsfFlux: There is no mask plane 'WRONG'"):
        run(30.3, ["WRONG"])


def test_gaussian_flux(run_plugins: Run, make_exposure: Make) -> None:
    """Compare with the reference value; flag what can't be measured."""
    boxes = np.repeat(_BOX, 5, axis=0)
    columns = {k: np.repeat(v, 5) for k, v in _SHAPE.items()}
    columns["q_xx"][1], columns["q_xy"][2] = np.nan, 5.0
    catalog = run_plugins(
        ["base_GaussianFlux"],
        make_exposure(_star(), origin=(1000, 2000)),
        np.array([30.3, 30.3, 30.3, np.nan, -20.0]) + 1000,
        np.full(5, 2029.6),
        boxes + [1000, 2000, 1000, 2000],
        columns=columns,
        aliases={"slot_Shape": "q"},
    )
    assert catalog["base_GaussianFlux_instFlux"][0] == pytest.approx(9999.9916498, abs=1e-5)  # f32 centre
    assert catalog["base_GaussianFlux_instFluxErr"][0] == pytest.approx(7.6029799964, abs=6e-11)
    assert catalog["base_GaussianFlux_flag"].tolist() == [False, True, True, True, True]
    assert np.isnan(catalog["base_GaussianFlux_instFlux"][1:]).all()


def test_gaussian_flux_large(run_plugins: Run, make_exposure: Make) -> None:
    """Use a window as large as the shape asks for."""
    image = np.ones((400, 400))
    columns = {"q_xx": np.array([900.0]), "q_yy": np.array([900.0]), "q_xy": np.array([0.0])}
    catalog = run_plugins(
        ["base_GaussianFlux"], make_exposure(image), [200.0], [200.0], _BOX,
        columns=columns, aliases={"slot_Shape": "q"},
    )  # fmt: skip
    # 2 × 2πσ², less the 9e-4 beyond e = 14.
    assert catalog["base_GaussianFlux_instFlux"][0] == pytest.approx(4 * np.pi * 900, rel=1.5e-3)


def test_sdss_shape(run_plugins: Run, make_exposure: Make) -> None:
    """Compare with the reference values, on a shifted image too."""
    for origin in ((0, 0), (100, 200)):
        catalog = run_plugins(
            ["base_SdssShape"],
            make_exposure(_star(), origin=origin),
            [30.25 + origin[0]],
            [29.65 + origin[1]],
            _BOX + np.array([*origin, *origin]),
            psf=_KernelPsf(),
        )
        assert catalog["base_SdssShape_x"][0] == pytest.approx(30.2750133428 + origin[0], abs=6e-11)
        assert catalog["base_SdssShape_xx"][0] == pytest.approx(4.0024230589, abs=6e-11)
        assert catalog["base_SdssShape_instFlux"][0] == pytest.approx(9999.8850615, abs=6e-8)
        assert catalog["base_SdssShape_xyErr"][0] == pytest.approx(0.00700036, abs=6e-9)
        assert catalog["base_SdssShape_psf_xx"][0] == pytest.approx(4.622334166, abs=6e-10)
        assert not _flags(catalog, "base_SdssShape")


def test_sdss_shape_failures(run_plugins: Run, make_exposure: Make) -> None:
    """Flag stars without moments, and leave the others alone."""
    image = _star(size=120)
    image[80:, :] = np.nan
    x, y = [30.3, 30.0, np.nan, 500.0], [29.6, 100.0, 30.0, 30.0]
    boxes = np.repeat(_BOX, 4, axis=0)
    catalog = run_plugins(["base_SdssShape"], make_exposure(image), x, y, boxes, psf=_KernelPsf())
    assert catalog["base_SdssShape_flag"].tolist() == [False, True, True, True]
    assert catalog["base_SdssShape_flag_unweightedBad"].tolist() == [False, True, False, True]


def test_sdss_centroid_reference(make_exposure: Make) -> None:
    """Compare with the reference values of spec 03 §9."""
    catalog = _centroid(make_exposure(_star(), origin=(10, 20)), [40.0], [50.0], _BOX + [10, 20, 10, 20])
    # Smoothed pixels are float32.
    assert catalog["base_SdssCentroid_x"][0] == pytest.approx(40.3015628, abs=1e-6)
    assert catalog["base_SdssCentroid_y"][0] == pytest.approx(49.5989166, abs=1e-6)
    # The table's numbers were not summed in float32 along rows.
    assert catalog["base_SdssCentroid_xErr"][0] == pytest.approx(0.00261766, rel=3e-5)
    assert catalog["base_SdssCentroid_yErr"][0] == pytest.approx(0.00297721, rel=3e-5)
    assert not _flags(catalog, "base_SdssCentroid")


def test_sdss_centroid_flags(make_exposure: Make) -> None:
    """Set each flag where it belongs."""
    image = _star(size=200)
    image += _star(5.0, 60.0, size=200)  # near the edge
    image += _star(100.4, 60.3, size=200)  # centre off the footprint
    image -= _star(100.0, 140.0, size=200)  # hole
    image[150:, 150:] = np.nan
    x = [30.0, 5.0, 100.0, 100.0, 180.0, 60.0, 1.0, 300.0]
    y = [30.0, 60.0, 60.0, 140.0, 180.0, 160.0, 1.0, 10.0]
    boxes = np.array([[a - 6, b - 6, a + 6, b + 6] for a, b in zip(x, y, strict=True)], dtype=int)
    boxes[2] = [104, 50, 110, 70]
    catalog = _centroid(make_exposure(image), x, y, boxes)
    name = "base_SdssCentroid"
    assert not _flags(catalog, name, 0)
    assert _flags(catalog, name, 1) == {"flag", "flag_near_edge"}
    assert catalog[f"{name}_x"][1] == pytest.approx(5.0, abs=0.1)
    assert _flags(catalog, name, 2) == {"flag", "flag_resetToPeak"}
    assert catalog[f"{name}_x"][2] == 100.0
    assert _flags(catalog, name, 3) == {"flag", "flag_notAtMaximum"}
    assert _flags(catalog, name, 4) == {"flag", "flag_badError", "flag_resetToPeak"}
    assert _flags(catalog, name, 5) == {"flag", "flag_noSecondDerivative"}
    assert _flags(catalog, name, 6) == {"flag", "flag_edge"}
    assert _flags(catalog, name, 7) == {"flag", "flag_edge"}
    assert catalog[f"{name}_x"][7] == 300.0


def test_sdss_centroid_bins_wide_stars(make_exposure: Make) -> None:
    """Find the centre of something wide in noise, by binning."""
    rows, columns = np.mgrid[:200, :200]
    image = 1000 * np.exp(-0.5 * ((columns - 101.3) ** 2 + (rows - 98.8) ** 2) / 64)
    image += np.random.default_rng(2).normal(size=image.shape)
    box = np.array([[80, 80, 120, 120]])
    catalog = _centroid(make_exposure(image), [101.0], [99.0], box)
    assert not _flags(catalog, "base_SdssCentroid")
    x, err = catalog["base_SdssCentroid_x"][0], catalog["base_SdssCentroid_xErr"][0]
    assert abs(x - 101.3) < 5 * err
    assert err < 0.05
    single = _centroid(make_exposure(image), [101.0], [99.0], box, binmax=1)
    assert single["base_SdssCentroid_x"][0] != x


def test_pixel_flags(run_plugins: Run, make_exposure: Make) -> None:
    """Look into footprints and at centres; be off the image."""
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[5, 5] = 1 << 1  # SAT in the first footprint, not at its centre
    mask[9:12, 9:12] |= 1 << 2  # INTRP at the whole centre
    mask[10, 10] |= 1 << 3  # CR at one pixel
    x, y = [10.2, 30.0, 70.0, np.nan, 59.4], [9.9, 10.0, 10.0, 10.0, 10.0]
    boxes = np.array([[4, 4, 16, 16], [25, 5, 35, 15], [50, 5, 65, 15], [4, 4, 16, 16], [1, 1, 0, 0]])
    catalog = run_plugins(["base_PixelFlags"], make_exposure(np.zeros((40, 60)), mask=mask), x, y, boxes)
    flags = [_flags(catalog, "base_PixelFlags_flag", k) for k in range(5)]
    everywhere = {"saturated", "interpolated", "cr"}
    assert flags[0] == everywhere | {"interpolatedCenter", "interpolatedCenterAll", "crCenter"}
    assert not flags[1]
    off = {"offimage", "edge", "edgeCenter", "edgeCenterAll"}
    # Off the image all CenterAll flags are set (upstream quirk).
    words = ("nodata", "interpolated", "saturated", "cr", "bad", "suspect", "edge")
    assert flags[2] >= off | {f"{w}CenterAll" for w in words if w not in ("nodata", "suspect")}
    assert flags[3] >= off | everywhere | {"base_PixelFlags_flag"}
    assert not flags[4]


def test_pixel_flags_options(run_plugins: Run, make_exposure: Make) -> None:
    """Add flags for more planes, and complain about unknown ones."""
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[10, 10] = 1 << 5
    exposure = make_exposure(np.zeros((40, 40)), mask=mask)

    def run(anywhere: list[str], center: list[str]) -> SourceCatalog:
        def configure(config: Any) -> None:
            config.plugins["base_PixelFlags"].masksFpAnywhere = anywhere
            config.plugins["base_PixelFlags"].masksFpCenter = center

        return run_plugins(["base_PixelFlags"], exposure, [10.0], [10.0], _BOX - 15, configure=configure)

    catalog = run(["STREAK", "DETECTED"], ["STREAK", "DETECTED"])
    assert _flags(catalog, "base_PixelFlags_flag") == {"detected", "detectedCenter"}
    names = [n.removeprefix("base_PixelFlags_flag_") for n in catalog.schema.names if "PixelFlags" in n]
    assert names[-6:] == [
        "streakCenter",
        "detectedCenter",
        "streakCenterAll",
        "detectedCenterAll",
        "streak",
        "detected",
    ]
    with pytest.raises(MeasurementFatalError, match="base_PixelFlags: There is no mask plane 'NOPE'"):
        run(["NOPE"], [])
    with pytest.raises(ValueError, match="base_PixelFlags_flag_edge"):
        run(["EDGE"], [])


def test_variance(run_plugins: Run, make_exposure: Make) -> None:
    """Take the median around stars; flag where nothing is left."""
    variance = np.tile(np.arange(80.0), (60, 1))
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[:, 60:] = 1
    n = 5
    shape = {"q_xx": np.full(n, 4.0), "q_yy": np.full(n, 5.0), "q_xy": np.zeros(n)}
    shape["q_xx"][2] = np.nan
    catalog = run_plugins(
        ["base_Variance"],
        make_exposure(np.zeros((60, 80)), variance=variance, mask=mask),
        [30.0, 75.0, 30.0, np.nan, 300.0],
        np.full(n, 30.0),
        np.repeat(_BOX, n, axis=0),
        columns=shape,
        aliases={"slot_Shape": "q"},
    )
    assert catalog["base_Variance_value"][0] == 30.0
    assert catalog["base_Variance_flag"].tolist() == [False, True, True, True, True]
    assert catalog["base_Variance_flag_emptyFootprint"].tolist() == [False, True, True, False, True]


def test_local_background(run_plugins: Run, make_exposure: Make) -> None:
    """Measure the background in an annulus, robustly."""
    rng = np.random.default_rng(4)
    image = rng.normal(7.0, 2.0, (120, 120))
    image[55:66, 55:66] += 1000.0  # inside the annulus' hole
    image[60, 85] = 1e6  # an outlier in the annulus
    mask = np.zeros(image.shape, dtype=np.uint8)
    mask[:, 90:] = 1
    catalog = run_plugins(
        ["base_LocalBackground"],
        make_exposure(image, mask=mask),
        [60.0, 300.0],
        [60.0, 60.0],
        np.repeat(_BOX, 2, axis=0),
        psf=_KernelPsf(),
    )
    # About 2000 pixels: errors 0.045 and 0.03.
    assert catalog["base_LocalBackground_instFlux"][0] == pytest.approx(7.0, abs=0.2)
    assert catalog["base_LocalBackground_instFluxErr"][0] == pytest.approx(2.0, abs=0.15)
    assert not _flags(catalog, "base_LocalBackground")
    assert _flags(catalog, "base_LocalBackground", 1) == {"flag", "flag_noGoodPixels"}


class _Tangent:
    """A pixel-to-sky transform: 0.2 arcsec pixels, rotated, about a point."""

    scale = 0.2 * np.pi / 180 / 3600
    rotation = 0.3
    ra0, dec0 = 1.0, -0.5

    @property
    def pixel_to_sky_transform(self) -> _Tangent:
        return self

    def apply_forward(self, *, x: np.ndarray, y: np.ndarray) -> SimpleNamespace:
        c, s = np.cos(self.rotation), np.sin(self.rotation)
        xi, eta = self.scale * (c * x - s * y), self.scale * (s * x + c * y)
        denominator = np.cos(self.dec0) - eta * np.sin(self.dec0)
        ra = self.ra0 + np.arctan2(xi, denominator)
        tan = (np.sin(self.dec0) + eta * np.cos(self.dec0)) / np.hypot(xi, denominator)
        return SimpleNamespace(x=ra, y=np.arctan(tan))


def test_sky_plugins(run_plugins: Run, make_exposure: Make) -> None:
    """Compare Jacobian, CD matrix and sky errors with a known projection."""
    exposure = make_exposure(np.zeros((40, 40)))
    exposure.sky_projection = _Tangent()
    errors = {"slotted_xErr": np.array([0.3, 0.3]), "slotted_yErr": np.array([0.3, 0.3])}
    names = ["base_Jacobian", "base_LocalWcs", "base_SkyCoord"]
    boxes = np.repeat(_BOX, 2, axis=0)
    catalog = run_plugins(names, exposure, [0.0, np.nan], [0.0, 3.0], boxes, columns=errors)
    assert catalog["base_Jacobian_value"][0] == pytest.approx((0.2 / 0.5) ** 2, rel=1e-6)
    c, s = _Tangent.scale * np.cos(0.3), _Tangent.scale * np.sin(0.3)
    cd = [catalog[f"base_LocalWcs_CDMatrix_{k}"][0] for k in ("1_1", "1_2", "2_1", "2_2")]
    # Differences of coordinates of order 1 leave 1e-16 / 1e-6.
    np.testing.assert_allclose(cd, [c, -s, s, c], rtol=1e-8)
    assert (catalog["coord_ra"][0], catalog["coord_dec"][0]) == (1.0, -0.5)
    assert catalog["coord_raErr"][0] == pytest.approx(0.3 * _Tangent.scale, rel=1e-6)
    assert catalog["coord_ra_dec_Cov"][0] == pytest.approx(0.0, abs=1e-6 * (0.3 * _Tangent.scale) ** 2)
    assert np.isnan(catalog["coord_raErr"][1])
    assert catalog["base_LocalWcs_flag"].tolist() == [False, True]


def test_no_wcs_no_detector(run_plugins: Run, make_exposure: Make) -> None:
    """Flag what needs a WCS, detector or calibration that isn't there."""
    exposure = make_exposure(np.zeros((40, 40)))
    exposure.sky_projection = exposure.detector = exposure.photometric_scaling = None
    names = ["base_Jacobian", "base_LocalWcs", "base_LocalPhotoCalib", "base_SkyCoord", "base_FPPosition"]
    catalog = run_plugins(names, exposure, [20.0], [20.0], _BOX)
    for name in names[:3]:
        assert catalog[f"{name}_flag"][0]
    assert catalog["base_FPPosition_missingDetector_flag"][0]
    assert not catalog["base_FPPosition_flag"][0]
    assert np.isnan(catalog["base_FPPosition_x"][0])
    assert np.isnan(catalog["base_LocalPhotoCalib"][0])
