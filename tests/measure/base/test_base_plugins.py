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

from ..conftest import STAR_BOX, KernelPsf, flags_set, reference_star, shift_image

_SHAPE = {"q_xx": np.array([4.0]), "q_yy": np.array([5.29]), "q_xy": np.array([0.0])}

type Run = Callable[..., SourceCatalog]
type Make = Callable[..., Any]


def test_the_kernel_is_shifted_as_specified() -> None:
    """Compare sum and maximum with the specification."""
    image = shift_image(KernelPsf().image, 30.3 - 30, 29.6 - 30)
    assert image.sum() == pytest.approx(0.99999887547, abs=1e-11)
    assert image.max() == pytest.approx(0.03356725888, abs=1e-11)


def test_psf_flux_reference(run_plugins: Run, make_exposure: Make) -> None:
    """Compare with the reference values of spec 03 §9."""
    exposure = make_exposure(reference_star())
    catalog = run_plugins(["base_PsfFlux"], exposure, [30.3], [29.6], STAR_BOX, psf=KernelPsf())
    assert catalog["base_PsfFlux_instFlux"][0] == pytest.approx(9991.0728632, abs=6e-8)
    assert catalog["base_PsfFlux_instFluxErr"][0] == pytest.approx(7.6148570, abs=6e-8)
    assert catalog["base_PsfFlux_area"][0] == pytest.approx(57.9859174, rel=1e-7)  # float32
    assert catalog["base_PsfFlux_chi2"][0] == pytest.approx(8469.93, abs=6e-3)
    assert catalog["base_PsfFlux_npixels"][0] == 625
    assert not flags_set(catalog, "base_PsfFlux")


def test_psf_flux_masked_edge_and_nan(run_plugins: Run, make_exposure: Make) -> None:
    """Drop masked pixels, flag edges, lack of pixels and NaN."""
    size = 61
    image, mask = reference_star(), np.zeros((size, size), dtype=np.uint8)
    mask[:, 31:] = 1

    def run(x: float, planes: list[str], pixels: np.ndarray = image, **kwargs: Any) -> SourceCatalog:
        exposure = make_exposure(pixels, mask=mask, **kwargs)

        def configure(config: Any) -> None:
            config.plugins["base_PsfFlux"].badMaskPlanes = planes

        return run_plugins(
            ["base_PsfFlux"], exposure, [x], [29.6], STAR_BOX, psf=KernelPsf(), configure=configure
        )

    half = run(30.3, ["BAD"])
    assert half["base_PsfFlux_npixels"][0] == 13 * 25
    assert half["base_PsfFlux_instFlux"][0] == pytest.approx(9991, rel=0.01)
    assert not flags_set(half, "base_PsfFlux")
    assert flags_set(run(50.3, ["BAD"]), "base_PsfFlux") == {"flag", "flag_noGoodPixels", "flag_edge"}
    assert flags_set(run(50.3, []), "base_PsfFlux") == {"flag", "flag_edge"}
    broken = image.copy()
    broken[30, 30] = np.nan
    nan = run(30.3, [], broken)
    assert flags_set(nan, "base_PsfFlux") == {"flag"}
    assert np.isnan(nan["base_PsfFlux_instFlux"][0])
    assert nan["base_PsfFlux_npixels"][0] == 625
    infinite = run(30.3, [], variance=np.full((size, size), np.inf))
    assert flags_set(infinite, "base_PsfFlux") == {"flag"}
    zero = run(30.3, [], variance=np.zeros((size, size)))
    assert flags_set(zero, "base_PsfFlux") == {"flag"}
    assert np.isnan(zero["base_PsfFlux_instFluxErr"][0])
    off = run(500.0, [])
    assert flags_set(off, "base_PsfFlux") == {"flag", "flag_noGoodPixels", "flag_edge"}
    with pytest.raises(MeasurementFatalError, match="base_PsfFlux: There is no mask plane 'WRONG'"):
        run(30.3, ["WRONG"])


def test_gaussian_flux(run_plugins: Run, make_exposure: Make) -> None:
    """Compare with the reference value; flag what can't be measured."""
    boxes = np.repeat(STAR_BOX, 5, axis=0)
    columns = {k: np.repeat(v, 5) for k, v in _SHAPE.items()}
    columns["q_xx"][1], columns["q_xy"][2] = np.nan, 5.0
    catalog = run_plugins(
        ["base_GaussianFlux"],
        make_exposure(reference_star(), origin=(1000, 2000)),
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
        ["base_GaussianFlux"], make_exposure(image), [200.0], [200.0], STAR_BOX,
        columns=columns, aliases={"slot_Shape": "q"},
    )  # fmt: skip
    # 2 × 2πσ², less the 9e-4 beyond e = 14.
    assert catalog["base_GaussianFlux_instFlux"][0] == pytest.approx(4 * np.pi * 900, rel=1.5e-3)


def test_pixel_flags(run_plugins: Run, make_exposure: Make) -> None:
    """Look into footprints and at centres; be off the image."""
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[5, 5] = 1 << 1  # SAT in the first footprint, not at its centre
    mask[9:12, 9:12] |= 1 << 2  # INTRP at the whole centre
    mask[10, 10] |= 1 << 3  # CR at one pixel
    x, y = [10.2, 30.0, 70.0, np.nan, 59.4], [9.9, 10.0, 10.0, 10.0, 10.0]
    boxes = np.array([[4, 4, 16, 16], [25, 5, 35, 15], [50, 5, 65, 15], [4, 4, 16, 16], [1, 1, 0, 0]])
    catalog = run_plugins(["base_PixelFlags"], make_exposure(np.zeros((40, 60)), mask=mask), x, y, boxes)
    flags = [flags_set(catalog, "base_PixelFlags_flag", k) for k in range(5)]
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

        return run_plugins(["base_PixelFlags"], exposure, [10.0], [10.0], STAR_BOX - 15, configure=configure)

    catalog = run(["STREAK", "DETECTED"], ["STREAK", "DETECTED"])
    assert flags_set(catalog, "base_PixelFlags_flag") == {"detected", "detectedCenter"}
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
        np.repeat(STAR_BOX, n, axis=0),
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
        np.repeat(STAR_BOX, 2, axis=0),
        psf=KernelPsf(),
    )
    # About 2000 pixels: errors 0.045 and 0.03.
    assert catalog["base_LocalBackground_instFlux"][0] == pytest.approx(7.0, abs=0.2)
    assert catalog["base_LocalBackground_instFluxErr"][0] == pytest.approx(2.0, abs=0.15)
    assert not flags_set(catalog, "base_LocalBackground")
    assert flags_set(catalog, "base_LocalBackground", 1) == {"flag", "flag_noGoodPixels"}


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
    boxes = np.repeat(STAR_BOX, 2, axis=0)
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
    catalog = run_plugins(names, exposure, [20.0], [20.0], STAR_BOX)
    for name in names[:3]:
        assert catalog[f"{name}_flag"][0]
    assert catalog["base_FPPosition_missingDetector_flag"][0]
    assert not catalog["base_FPPosition_flag"][0]
    assert np.isnan(catalog["base_FPPosition_x"][0])
    assert np.isnan(catalog["base_LocalPhotoCalib"][0])
