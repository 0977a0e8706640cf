# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Components of exposures that are odd or damaged, and those that aren't."""

from __future__ import annotations

import copy
import gzip
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits

from lsst.images import Box, Polygon, VisitImage
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import GaussianPointSpreadFunction
from lsst.meas.finalize.afw import (
    ComponentError,
    ExposureReader,
    FitsFormatError,
    read_exposure,
    read_exposure_catalog,
    read_source_catalog,
)
from lsst.meas.finalize.afw.archive import ArchiveWriter
from lsst.meas.finalize.afw.exposure._partial import PartialVisitImage

EditCard = Callable[[bytes, int, str, str], bytes]

_PROPERTIES = {
    "aperture_corrections",
    "band",
    "bounds",
    "detector",
    "obs_info",
    "photometric_scaling",
    "psf",
    "sky_projection",
    "summary_stats",
    "unit",
}


@pytest.fixture(scope="module")
def calexp_bytes(tiny: Path) -> bytes:
    """File of detector 0 of the small golden set."""
    (path,) = tiny.glob("export/**/calexp_*_S00_*.fits")
    return path.read_bytes()


def _unreadable(image: VisitImage) -> set[str]:
    """Return the properties that raise an exception naming them."""
    errors = {}
    for name in _PROPERTIES:
        try:
            getattr(image, name)
        except ComponentError as error:
            errors[name] = str(error)
    unnamed = [text for name, text in errors.items() if f"component {name!r}" not in text]
    assert not unnamed
    return set(errors)


def _damage_archive(name: str) -> Callable[[bytes, EditCard], bytes]:
    def damage(data: bytes, edit_card: EditCard) -> bytes:
        return edit_card(data, 0, f"ARCHIVE_ID_{name}", "999")

    return damage


def _replace(old: bytes, new: bytes) -> Callable[[bytes, EditCard], bytes]:
    def damage(data: bytes, edit_card: EditCard) -> bytes:
        assert len(old) == len(new)
        assert old in data
        return data.replace(old, new)

    return damage


def _edit(hdu: int, key: str, value: str) -> Callable[[bytes, EditCard], bytes]:
    return lambda data, edit_card: edit_card(data, hdu, key, value)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_damage_archive("SKYWCS"), {"sky_projection"}),
        (_damage_archive("PSF"), {"psf"}),
        (_damage_archive("PHOTOCALIB"), {"photometric_scaling"}),
        (_damage_archive("DETECTOR"), {"detector"}),
        (_damage_archive("VALID_POLYGON"), {"bounds"}),
        (_damage_archive("AP_CORR_MAP"), {"aperture_corrections"}),
        (_damage_archive("FILTER"), {"band"}),
        (_edit(1, "BUNIT", "'counts'"), {"unit"}),
        (_edit(1, "BUNIT", "'furlongs'"), {"unit"}),
        # Persistence names in the index, and contents.
        (_replace(b"PhotoCalib        ", b"PhotoKalib        "), {"photometric_scaling"}),
        (_replace(b"\5TransformMap  ", b"\5TransformMop  "), {"detector"}),
        (_replace(b"\5Polygon  ", b"\5Polygin  "), {"bounds"}),
        (_replace(b"1 SkyWcs 0  Begin FrameSet", b"1 SkyWcs 0  Begin FrumeSet"), {"sky_projection"}),
    ],
)
def test_one_bad_component(
    calexp_bytes: bytes,
    edit_card: EditCard,
    damage: Callable[[bytes, EditCard], bytes],
    expected: set[str],
) -> None:
    """Read everything but the component that is damaged."""
    stream = io.BytesIO(damage(calexp_bytes, edit_card))
    result = read_exposure(stream)
    assert _unreadable(result) == expected
    assert result.image.array.any()
    assert result.obs_info.visit_id == 20260304011
    # Alone as well.
    for name in ExposureReader.COMPONENTS:
        if name in expected:
            with pytest.raises(ComponentError, match=f"component '{name}'"):
                read_exposure(stream, component=name)
        else:
            read_exposure(stream, component=name)


def test_zero_calibration(stack_files: Path) -> None:
    """Read files that say that their counts have no calibration."""
    with fits.open(stack_files / "exposure_bunit_counts.fits") as hdulist:
        header = hdulist[0].header
        del header["EXPINFO_V"], header["AR_HDU"]
        header["FILTER"] = "r"
        for flux in (0, 0.0, -1.0, "NAN"):
            header["FLUXMAG0"] = flux
            buffer = io.BytesIO()
            hdulist.writeto(buffer, output_verify="ignore")
            image = read_exposure(buffer, component="image")
            assert image.array.sum() == 179700
            result = read_exposure(buffer)
            assert result.band == "r"
            if isinstance(flux, str):
                assert result.photometric_scaling is None
                continue
            with pytest.raises(ComponentError, match="'photometric_scaling' .* magnitude 0 is"):
                _ = result.photometric_scaling


def test_unknown_unit(stack_files: Path) -> None:
    """Read the pixels whatever their unit is."""
    result = read_exposure(stack_files / "exposure_bunit_counts.fits")
    # Value that afw reads.
    assert result.image.array.sum() == 179700
    assert result.image.unit is None
    assert result.variance.unit is None
    with pytest.raises(ComponentError, match="BUNIT = 'counts' isn't a unit"):
        _ = result.unit
    with pytest.raises(ComponentError, match="BUNIT = 'counts' isn't a unit"):
        result.convert_unit(u.nJy)


def test_nonfinite_pixels(stack_files: Path) -> None:
    """Read special numbers as afw does."""
    result = read_exposure(stack_files / "exposure_nonfinite_plain.fits")
    box = Box.factory[60:61, 40:47]
    np.testing.assert_array_equal(
        result.image[box].array[0], np.array([np.nan, np.nan, np.nan, 0, 0, 0, 6], dtype=np.float32)
    )
    np.testing.assert_array_equal(
        result.variance[box].array[0, :5], np.array([np.nan, np.nan, np.nan, 0, 4], dtype=np.float32)
    )


def test_no_field_angle(stack_files: Path) -> None:
    """Read a detector whose camera has a focal plane only."""
    path = stack_files / "exposure_detector_no_fieldangle.fits"
    detector = read_exposure(path).detector
    # Values that afw reads.
    assert (detector.name, detector.id) == ("detector 1", 1)
    position = detector.to_focal_plane.apply_forward(x=50.0, y=70.0)
    assert (position.x, position.y) == pytest.approx((1.01, 1.41), rel=1e-14)
    with pytest.raises(ComponentError, match="no field angles"):
        _ = detector.to_field_angle


def _with_polygon(stack_files: Path, x: list[float], y: list[float]) -> bytes:
    """Make a file whose only component is a polygon, by hand."""
    writer = ArchiveWriter()
    archive_id = writer.put(Polygon(x_vertices=x, y_vertices=y))
    with fits.open(stack_files / "exposure_nonfinite_plain.fits") as hdulist:
        header = hdulist[0].header
        for key in [k for k in header if k.endswith("_ID") or k.startswith("ARCHIVE_ID")]:
            del header[key]
        header["AR_HDU"] = 5
        header["VALID_POLYGON_ID"] = archive_id
        buffer = io.BytesIO()
        hdulist[:4].writeto(buffer, output_verify="ignore")
    return buffer.getvalue() + b"".join(writer.hdus())


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([35, 300, 35, 300], [55, 55, 400, 400]),
        ([42, 50, 42, 50], [62, 62, 70, 70]),
        ([41, 60, 60, 50, 45, 55], [61, 61, 75, 61, 75, 75]),
    ],
)
def test_polygons_that_cross_themselves(stack_files: Path, x: list[float], y: list[float]) -> None:
    """Say so when the valid region is asked for, inside of the image too."""
    result = read_exposure(_with_polygon(stack_files, x, y))
    assert "bounds" in _unreadable(result)
    with pytest.raises(ComponentError, match="polygon crosses itself"):
        _ = result[Box.factory[60:70, 40:50]].bounds


def test_good_polygon(stack_files: Path) -> None:
    """Clip a polygon that reaches beyond the image."""
    result = read_exposure(_with_polygon(stack_files, [30, 50, 50, 30], [50, 50, 70, 70]))
    assert "bounds" not in _unreadable(result)
    assert result.bbox.contains(result.bounds.bbox)


@pytest.fixture
def partial(calexp_bytes: bytes, edit_card: EditCard) -> VisitImage:
    """Return an image without projection, corrections, filter and unit."""
    data = edit_card(calexp_bytes, 1, "BUNIT", "'furlongs'")
    for name in ("SKYWCS", "AP_CORR_MAP", "FILTER", "PHOTOCALIB"):
        data = _damage_archive(name)(data, edit_card)
    return read_exposure(data, data_id={"physical_filter": "r_03"})


def test_partial_images_can_be_used(partial: VisitImage) -> None:
    """Cut, copy and pickle images that aren't complete."""
    expected = {"aperture_corrections", "band", "photometric_scaling", "sky_projection", "unit"}
    box = Box.factory[10:40, 20:60]
    for image in (partial, partial[box], partial.copy(), copy.copy(partial), partial[...][box].copy()):
        assert isinstance(image, PartialVisitImage)
        assert _unreadable(image) == expected
        assert image.image.sky_projection is None
        assert image.mask.sky_projection is None
        assert image.physical_filter == "r_03"
        assert image.psf.bounds == image.detector.bbox
        assert "VisitImage" in repr(image)
        assert str(image)
    np.testing.assert_array_equal(partial[box].image.array, partial.image[box].array)
    restored = pickle.loads(pickle.dumps(partial[box].summary_stats))
    assert restored == partial.summary_stats


def test_partial_images_can_be_mended(partial: VisitImage) -> None:
    """Take components that are set later."""
    field = ChebyshevField(partial.bbox, np.ones((1, 1)), unit=u.nJy / u.electron)
    partial.photometric_scaling = field
    partial.psf = GaussianPointSpreadFunction(2.0, bounds=partial.bbox, stamp_size=25)
    cutout = partial[Box.factory[0:10, 0:10]]
    assert cutout.photometric_scaling == field
    assert cutout.psf is partial.psf
    assert "photometric_scaling" not in _unreadable(cutout)


def test_partial_images_are_not_written(partial: VisitImage, tmp_path: Path) -> None:
    """Refuse to store what isn't there, by name."""
    with pytest.raises(ComponentError, match="can't be read"):
        partial.write(str(tmp_path / "partial.fits"))
    partial._problems.clear()
    partial._psf = ComponentError("no PSF")
    with pytest.raises(ComponentError, match="no PSF"):
        partial.write(str(tmp_path / "no_psf.fits"))


def test_no_pixels(calexp_bytes: bytes) -> None:
    """Read the components of an exposure of 0 × 0 pixels."""
    with fits.open(io.BytesIO(calexp_bytes), disable_image_compression=True) as hdulist:
        rest = hdulist[4].fileinfo()["hdrLoc"]
        first = hdulist[1].fileinfo()["hdrLoc"]
    for n_axes, shape in ((2, (0, 0)), (2, (0, 7)), (0, ())):
        planes = b""
        for name in ("IMAGE", "MASK", "VARIANCE"):
            header = fits.Header({"XTENSION": "IMAGE", "BITPIX": -32, "NAXIS": n_axes})
            header.update({f"NAXIS{n}": size for n, size in enumerate(shape, start=1)})
            header.update({"PCOUNT": 0, "GCOUNT": 1, "EXTTYPE": name})
            planes += header.tostring().encode()
        data = calexp_bytes[:first] + planes + calexp_bytes[rest:]
        assert read_exposure(data, component="psf").kernel_bbox.area == 625
        assert read_exposure(data, component="wcs").pixel_frame.detector == 0
        assert read_exposure(data, component="band") == "r"
        assert len(read_exposure(data, component="apCorrMap")) == 6
        for component in (None, "image", "bbox", "mask", "variance"):
            with pytest.raises(FitsFormatError, match="the exposure has no pixels"):
                read_exposure(data, component=component)


def test_compressed_file(tmp_path: Path, calexp_bytes: bytes) -> None:
    """Read files that gzip has compressed, from paths, bytes and streams."""
    compressed = gzip.compress(calexp_bytes)
    path = tmp_path / "calexp.fits.gz"
    path.write_bytes(compressed)
    expected = read_exposure(calexp_bytes, component="image").array
    sources: list[Any] = [path, str(path), compressed, io.BytesIO(compressed)]
    for source in sources:
        np.testing.assert_array_equal(read_exposure(source, component="image").array, expected)
    assert read_exposure(path).psf.kernel_bbox.area == 625
    path.write_bytes(compressed[:-2000])
    with pytest.raises(FitsFormatError, match=r"calexp\.fits\.gz"):
        read_exposure(path)


def test_other_kinds_of_files(tiny: Path, calexp_bytes: bytes, tmp_path: Path) -> None:
    """Say what a file is, and what reads it."""
    (src,) = tiny.glob("export/**/src_*_S00_*.fits")
    catalog = tiny / "expected/default/finalized_psf_ap_corr_catalog.fits"
    with pytest.raises(FitsFormatError, match="SOURCE catalog of the stack; use read_source_catalog"):
        read_exposure(src)
    with pytest.raises(FitsFormatError, match="EXPOSURE catalog of the stack; use read_exposure_catalog"):
        read_exposure(catalog, component="image")
    path = tmp_path / "native.fits"
    native = read_exposure(calexp_bytes)
    native.psf = GaussianPointSpreadFunction(2.0, bounds=native.bbox, stamp_size=25)
    native.write(str(path))
    for read in (read_exposure, read_exposure_catalog, read_source_catalog):
        with pytest.raises(
            FitsFormatError, match=r"file of lsst\.images; use lsst\.images\.VisitImage\.read"
        ):
            read(path)
    assert len(read_exposure_catalog(catalog))
    table = fits.BinTableHDU.from_columns([fits.Column("a", "1J", array=[1, 2])])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "table.fits")
    with pytest.raises(FitsFormatError, match=r"table\.fits\[HDU 1\]: this is a table, no image"):
        read_exposure(tmp_path / "table.fits")


def test_unknown_components_are_named(calexp_bytes: bytes) -> None:
    """Tell which components there are."""
    for name in ("photoCalib", "", "PSF"):
        with pytest.raises(ValueError, match=f"has no component '{name}', but .*photometric_scaling, psf"):
            read_exposure(calexp_bytes, component=name)


@pytest.mark.parametrize("thing", [None, 3, [b"SIMPLE"], {"a": 1}])
def test_things_that_are_no_files(thing: Any) -> None:
    """Tell what was given."""
    for read in (read_exposure, read_exposure_catalog, read_source_catalog):
        with pytest.raises(TypeError, match=f"a {type(thing).__name__} is no file name"):
            read(thing)
