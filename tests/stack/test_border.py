# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of the conversion of objects of lsst.afw in memory."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from lsst.images import VisitImage
from lsst.images.serialization import ArchiveReadError
from lsst.meas.finalize.afw import (
    FitsFormatError,
    from_afw,
    is_afw,
    psf_to_afw,
    read_exposure,
    read_exposure_catalog,
    read_source_catalog,
    to_afw,
)
from lsst.meas.finalize.catalogs import Schema, SourceCatalog

COMPONENTS = (
    "aperture_corrections",
    "band",
    "bbox",
    "bounds",
    "detector",
    "metadata",
    "obs_info",
    "photometric_scaling",
    "sky_projection",
    "summary_stats",
    "unit",
)


def keeping(path: Path, *kept: str) -> bytes:
    """Return an exposure file with only some components."""
    data = bytearray(path.read_bytes())
    with fits.open(path) as hdulist:
        end = hdulist[0].fileinfo()["datLoc"]
    for start in range(0, end, 80):
        card = bytes(data[start : start + 80]).decode("latin-1")
        key = card.removeprefix("HIERARCH ").split("=")[0].strip()
        if (key.startswith("ARCHIVE_ID_") or key.endswith("_ID")) and not any(name in key for name in kept):
            data[start : start + 80] = b"COMMENT".ljust(80)
    return bytes(data)


def read(stack: Any, data: bytes, cls: str = "ExposureF") -> Any:
    """Return an afw exposure with the contents of a file."""
    manager = stack.fits.MemFileManager(len(data))
    manager.setData(data, len(data))
    return getattr(stack.image, cls).readFits(manager)


def test_exposure_is_that_of_its_file(stack: Any, calexp_path: Path) -> None:
    """Convert an exposure; compare all there is with the file's."""
    exposure = stack.image.ExposureF.readFits(str(calexp_path))
    ours, theirs = from_afw(exposure), read_exposure(calexp_path)
    for name in COMPONENTS:
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("image", "mask", "variance"):
        a, b = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_array_equal(a.array, b.array)
        assert a.bbox == b.bbox
        assert a.sky_projection == b.sky_projection
    assert ours.mask.schema == theirs.mask.schema
    position = {"x": 100.0, "y": 200.0}
    np.testing.assert_array_equal(
        ours.psf.compute_kernel_image(**position).array, theirs.psf.compute_kernel_image(**position).array
    )


def test_pixels_are_read_only_views(stack: Any, calexp_path: Path) -> None:
    """Share image and variance, and let nobody write to them."""
    exposure = stack.image.ExposureF.readFits(str(calexp_path))
    ours = from_afw(exposure)
    for plane, theirs in ((ours.image, exposure.image), (ours.variance, exposure.variance)):
        assert np.shares_memory(plane.array, theirs.array)
        assert theirs.array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            plane.array[0, 0] = 1.0
    assert not np.shares_memory(ours.mask.array, exposure.mask.array)


def test_mask_planes_are_those_of_this_exposure(stack: Any, calexp_path: Path) -> None:
    """Number the planes otherwise, and add one."""
    exposure = stack.image.ExposureF.readFits(str(calexp_path))
    theirs = from_afw(exposure).mask
    old = exposure.mask.getMaskPlaneDict()
    bits = {name: 30 - bit for name, bit in old.items()} | {"MINE": 31}
    array = np.zeros_like(exposure.mask.array)
    for name, bit in old.items():
        array |= np.where(exposure.mask.array >> bit & 1, 1 << bits[name], 0).astype(np.int32)
    array[7, 9] |= np.int32(-(2**31))
    exposure.mask = stack.image.Mask(array, bits)
    ours = from_afw(exposure).mask
    for name in theirs.schema.names:
        np.testing.assert_array_equal(ours.get(name), theirs.get(name))
    assert np.argwhere(ours.get("MINE")).tolist() == [[7, 9]]


def test_sub_exposure_keeps_its_place(stack: Any, calexp_path: Path) -> None:
    """Convert a part of an exposure, in parent coordinates."""
    from lsst.geom import Box2I, Extent2I, Point2I

    whole = stack.image.ExposureF.readFits(str(calexp_path))
    box = Box2I(Point2I(20, 30), Extent2I(50, 40))
    ours = from_afw(stack.image.ExposureF(whole, box, stack.image.PARENT, True))
    theirs = read_exposure(calexp_path, bbox=ours.bbox)
    assert (ours.bbox.x.min, ours.bbox.y.min, ours.bbox.shape) == (20, 30, (40, 50))
    np.testing.assert_array_equal(ours.image.array, theirs.image.array)
    np.testing.assert_array_equal(ours.mask.array, theirs.mask.array)
    assert ours.sky_projection == theirs.sky_projection


@pytest.mark.parametrize("cls", ["ExposureD", "ExposureI"])
def test_other_pixel_types_become_float32(stack: Any, calexp_path: Path, cls: str) -> None:
    """Convert exposures of float64 and int32 as their files would be."""
    exposure = getattr(stack.image, cls).readFits(str(calexp_path))
    image = from_afw(exposure).image
    assert image.array.dtype == np.float32
    np.testing.assert_array_equal(image.array, exposure.image.array.astype(np.float32))


def test_exposure_without_wcs(stack: Any, calexp_path: Path) -> None:
    """Give what there is, and say what isn't when it is asked for."""
    result = from_afw(read(stack, keeping(calexp_path, "PSF", "DETECTOR")))
    assert result.psf.bounds == result.detector.bbox
    with pytest.raises(FitsFormatError, match="ExposureF in memory.*wcs"):
        _ = result.sky_projection


def test_bare_exposure_has_what_it_has(stack: Any, calexp_path: Path) -> None:
    """Convert an exposure with a WCS and nothing else; use the data ID."""
    data = keeping(calexp_path, "SKYWCS")
    data_id = {"instrument": "SynthCam", "visit": 5, "detector": 1, "band": "r", "physical_filter": "r2"}
    ours, theirs = (
        from_afw(read(stack, data), data_id=data_id),
        read_exposure(io.BytesIO(data), data_id=data_id),
    )
    for name in COMPONENTS:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.detector is None
    assert ours.band == "r"
    assert ours.aperture_corrections == {}
    with pytest.raises(ArchiveReadError, match="no PSF"):
        _ = ours.psf


def test_exposure_without_pixels_is_refused(stack: Any) -> None:
    """Convert a default-constructed exposure."""
    with pytest.raises(ValueError, match="ExposureF has no pixels"):
        from_afw(stack.image.ExposureF())


def test_source_catalog_goes_there_and_back(stack: Any, src_path: Path) -> None:
    """Convert a source catalogue in both directions."""
    ours = read_source_catalog(src_path)
    theirs = to_afw(ours)
    assert isinstance(theirs, stack.table.SourceCatalog)
    again = from_afw(theirs)
    assert again.schema == ours.schema
    assert again.schema.aliases == ours.schema.aliases
    for name in ours.schema.names:
        np.testing.assert_array_equal(again[name], ours[name])
    np.testing.assert_array_equal(again.footprints.area, ours.footprints.area)


def test_empty_source_catalog(stack: Any) -> None:
    """Convert a catalogue without rows and footprints."""
    again = from_afw(to_afw(SourceCatalog(Schema.source_minimal())))
    assert len(again) == 0
    assert again.schema == Schema.source_minimal()


def test_exposure_catalog_goes_there_and_back(stack: Any, tiny: Path) -> None:
    """Convert a catalogue of PSFs in both directions."""
    path = tiny / "expected/default/detector_1/finalized_psf_ap_corr_detector_catalog.fits"
    ours = read_exposure_catalog(path)
    theirs = to_afw(ours)
    assert isinstance(theirs, stack.table.ExposureCatalog)
    again = from_afw(theirs)
    assert again.schema == ours.schema
    assert again.metadata == ours.metadata
    assert again[0].id == 1
    assert again[0].ap_corr_map.keys() == ours[0].ap_corr_map.keys()
    at = {"x": 3.0, "y": 4.0}
    np.testing.assert_array_equal(
        again[0].psf.compute_kernel_image(**at).array, ours[0].psf.compute_kernel_image(**at).array
    )


def test_psf_alone(stack: Any, tiny: Path) -> None:
    """Convert a PSF without aperture corrections, and nothing."""
    path = tiny / "expected/default/detector_1/finalized_psf_ap_corr_detector_catalog.fits"
    psf, ap_corr_map = psf_to_afw(read_exposure_catalog(path)[0].psf, None)
    assert psf is not None
    assert ap_corr_map is None
    assert psf_to_afw(None, None) == (None, None)


class Info:
    """Records what is set on an exposure."""

    def setPsf(self, psf: Any) -> None:
        self.psf = psf

    def setApCorrMap(self, ap_corr_map: Any) -> None:
        self.ap_corr_map = ap_corr_map


def test_image_goes_back(stack: Any, calexp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add to the conversion of lsst.images what that leaves out."""
    copies = []

    def to_legacy(image: Any, *, copy: bool) -> Any:
        copies.append(copy)
        return SimpleNamespace(info=Info(), image=image.image)

    monkeypatch.setattr(VisitImage, "to_legacy", to_legacy)
    ours = from_afw(stack.image.ExposureF.readFits(str(calexp_path)))
    exposure = to_afw(ours)
    assert copies == [True]
    assert isinstance(exposure.info.psf, stack.table.Psf)
    assert isinstance(exposure.info.ap_corr_map, stack.table.ApCorrMap)
    assert {name for name, _ in exposure.info.ap_corr_map.items()} == set(ours.aperture_corrections)
    bare = to_afw(from_afw(read(stack, keeping(calexp_path, "SKYWCS"))))
    assert vars(bare.info) == {}


def test_other_objects_are_refused(stack: Any) -> None:
    """Name the class of what can't be converted."""
    mask = stack.image.Mask(np.zeros((1, 1), dtype=np.int32), {})
    assert is_afw(mask)
    with pytest.raises(TypeError, match=r"lsst.afw.image.Mask can't be converted; an Exposure"):
        from_afw(mask)
    with pytest.raises(TypeError, match=r"builtins.int isn't an object of lsst.afw"):
        from_afw(3)
    with pytest.raises(TypeError, match=r"builtins.int can't be converted to lsst.afw"):
        to_afw(3)


def test_without_the_stack() -> None:
    """Fail to import what isn't there, with Python's message."""
    with pytest.raises(ImportError, match=r"lsst\.afw"):
        to_afw(SourceCatalog(Schema.source_minimal()))


@pytest.fixture
def large(stack: Any, calexp_path: Path) -> Any:
    """Return an exposure of 2036 by 2000 pixels."""
    exposure = stack.image.ExposureF.readFits(str(calexp_path))
    rng = np.random.default_rng(3)
    planes = exposure.mask.getMaskPlaneDict()
    mask = rng.integers(0, 2 ** max(planes.values()), size=(2000, 2036), dtype=np.int32)
    exposure._fill(
        exposure._file, (np.ones(mask.shape), mask, np.ones(mask.shape)), planes, exposure.getXY0()
    )
    return exposure


def test_memory(large: Any) -> None:
    """Need little more than the planes."""
    from_afw(large)
    n_bytes = sum(plane.array.nbytes for plane in (large.image, large.mask, large.variance))
    tracemalloc.start()
    from_afw(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.3 * n_bytes
