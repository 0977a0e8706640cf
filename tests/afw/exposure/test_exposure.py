# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from lsst.images import Box, VisitImage
from lsst.images.psfs import GaussianPointSpreadFunction, PiffWrapper
from lsst.images.serialization import ArchiveReadError
from lsst.meas.finalize.afw import ComponentError, ExposureReader, FitsFormatError, read_exposure
from lsst.meas.finalize.afw.psfs._persistables import EVERYWHERE
from lsst.meas.finalize.afw.wcs._ast_text import transform_points

EditCard = Callable[[bytes, int, str, str], bytes]

_ARCSEC = 206264.80624709636


def _calexp(root: Path, name: str) -> Path:
    (path,) = root.glob(f"export/**/calexp_*_{name}_*.fits")
    return path


def _src(root: Path, name: str) -> Path:
    (path,) = root.glob(f"export/**/src_*_{name}_*.fits")
    return path


@pytest.fixture(scope="module")
def calexp_bytes(tiny: Path) -> bytes:
    """File of detector 0 of the small golden set."""
    return _calexp(tiny, "S00").read_bytes()


@pytest.fixture(scope="module")
def exposure(tiny: Path) -> VisitImage:
    """Detector 0 of the small golden set."""
    return read_exposure(_calexp(tiny, "S00"))


def _drop_components(data: bytes, edit_card: EditCard, *names: str) -> bytes:
    for name in names:
        for key in (f"{name}_ID", f"ARCHIVE_ID_{name}"):
            data = edit_card(data, 0, key, "0")
    return data


def _rename(data: bytes, old: str, new: str) -> bytes:
    """Rename a header card, keeping the size of the header."""
    assert len(old) == len(new)
    assert old.encode() in data
    return data.replace(old.encode(), new.encode())


def test_pixels_equal_those_of_astropy(tiny: Path) -> None:
    """Read pixels and mask as an independent reader does."""
    path = _calexp(tiny, "S01")
    result = read_exposure(path)
    with fits.open(path) as hdulist:
        np.testing.assert_array_equal(result.image.array, hdulist[1].data)
        np.testing.assert_array_equal(result.variance.array, hdulist[3].data)
        header, mask = hdulist[2].header, hdulist[2].data
    assert result.image.array.dtype == np.float32
    assert result.image.array.dtype.isnative
    renamed = {"SAT": "SATURATED", "INTRP": "INTERPOLATED", "CR": "COSMIC_RAY", "EDGE": "DETECTION_EDGE"}
    planes = {card[3:]: header[card] for card in header if card.startswith("MP_")}
    assert "STREAK" in planes
    for name, bit in planes.items():
        expected = (mask >> bit) & 1
        np.testing.assert_array_equal(result.mask.get(renamed.get(name, name)), expected.astype(bool))
    assert result.mask.get("DETECTED").any()


def test_components(exposure: VisitImage, tiny: Path) -> None:
    """Fill all components of the image."""
    assert exposure.bbox == Box.factory[0:520, 0:560]
    assert str(exposure.unit) == "adu"
    assert (exposure.band, exposure.physical_filter) == ("r", "r_sim")
    assert (exposure.detector.name, exposure.detector.id, exposure.detector.serial) == ("S00", 0, "SN000")
    assert exposure.detector.bbox == exposure.bbox
    assert len(exposure.detector.amplifiers) == 2
    assert exposure.obs_info.visit_id == 20260304011
    assert exposure.obs_info.detector_exposure_id == 202603040110
    assert exposure.obs_info.detector_num == 0
    assert exposure.metadata["id"] == 202603040110
    assert exposure.metadata["EXPTIME"] == 30.0
    assert exposure.metadata["BORE-RA"] == 52.3
    assert exposure.metadata["DATE-AVG"] == "2026-03-04T05:06:07.000000000"
    assert "base_PsfFlux_instFlux" in exposure.aperture_corrections
    assert len(exposure.aperture_corrections) == 6
    assert isinstance(exposure.psf, PiffWrapper)
    assert exposure.psf.bounds == exposure.detector.bbox
    # The file's polygon joins the centres of the corner pixels.
    assert exposure.bounds.area == 559 * 519


def test_psf_of_exposure_draws(exposure: VisitImage) -> None:
    """Draw the PSF at a position."""
    image = exposure.psf.compute_kernel_image(x=100.0, y=200.0)
    assert image.array.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.unravel_index(image.array.argmax(), image.array.shape) == (12, 12)


@pytest.mark.parametrize("name", ["S00", "S01"])
def test_wcs_agrees_with_source_catalogue(tiny: Path, name: str) -> None:
    """Reproduce the sky positions the stack gave its sources."""
    result = read_exposure(_calexp(tiny, name), component="sky_projection")
    with fits.open(_src(tiny, name)) as hdulist:
        data = hdulist[1].data
        x, y = data["base_SdssCentroid_x"], data["base_SdssCentroid_y"]
        ra, dec = data["coord_ra"], data["coord_dec"]
    mapping = result.pixel_to_sky_transform._ast_mapping
    found_ra, found_dec = transform_points(mapping, x, y)
    good = np.isfinite(x) & np.isfinite(ra)
    assert good.sum() > 40
    # 1e-9 arcsec is rounding of an angle in radians.
    np.testing.assert_allclose((found_ra - ra)[good] * _ARCSEC, 0, atol=1e-9)
    np.testing.assert_allclose((found_dec - dec)[good] * _ARCSEC, 0, atol=1e-9)
    back_x, back_y = transform_points(mapping, ra[good], dec[good], forward=False)
    np.testing.assert_allclose(back_x, x[good], atol=1e-8)
    np.testing.assert_allclose(back_y, y[good], atol=1e-8)


@pytest.mark.parametrize("detector", [0, 1])
def test_focal_plane_agrees_with_golden(tiny: Path, detector: int) -> None:
    """Reproduce base_FPPosition through the detector's transforms."""
    result = read_exposure(_calexp(tiny, f"S0{detector}"), component="detector")
    path = tiny / f"expected/default/detector_{detector}/finalized_src_detector_table.parquet"
    columns = ["slot_Centroid_x", "slot_Centroid_y", "base_FPPosition_x", "base_FPPosition_y"]
    table = pq.read_table(path, columns=columns)
    x, y, fp_x, fp_y = (table[name].to_numpy() for name in columns)
    found = result.to_focal_plane.apply_forward(x=x, y=y)
    # Millimetres; rounding of numbers around 10.
    np.testing.assert_allclose(found.x, fp_x, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.y, fp_y, rtol=0, atol=1e-13)


def test_all_of_large_set(golden_visit: Path) -> None:
    """Read quantised images with thousands of pixels per side."""
    paths = sorted(golden_visit.glob("export/**/calexp_*.fits"))
    assert len(paths) == 3
    result = read_exposure(paths[0])
    assert result.image.array.shape == (2000, 2036)
    with fits.open(paths[0]) as hdulist:
        np.testing.assert_array_equal(result.image.array, hdulist[1].data)


def test_part_of_image(tiny: Path, exposure: VisitImage) -> None:
    """Read only a box of the pixels."""
    box = Box.factory[100:140, 30:90]
    result = read_exposure(_calexp(tiny, "S00"), bbox=box)
    assert result.bbox == box
    np.testing.assert_array_equal(result.image.array, exposure.image[box].array)
    np.testing.assert_array_equal(result.mask.array, exposure.mask[box].array)
    np.testing.assert_array_equal(result.variance.array, exposure.variance[box].array)
    with pytest.raises(ValueError, match="isn't inside the image"):
        read_exposure(_calexp(tiny, "S00"), bbox=Box.factory[500:540, 0:10])


def test_single_components(tiny: Path, exposure: VisitImage) -> None:
    """Read every component alone, also by the stack's names."""
    path = _calexp(tiny, "S00")
    for name in ExposureReader.COMPONENTS:
        read_exposure(path, component=name)
    assert read_exposure(path, component="bbox") == exposure.bbox
    assert read_exposure(path, component="wcs") == exposure.sky_projection
    assert read_exposure(path, component="apCorrMap") == exposure.aperture_corrections
    with pytest.raises(ValueError, match="no component 'nonsense'"):
        read_exposure(path, component="nonsense")


def test_open_hdulist_and_stream(calexp_bytes: bytes, exposure: VisitImage) -> None:
    """Read from an open file, which stays open."""
    with fits.open(io.BytesIO(calexp_bytes)) as hdulist:
        result = read_exposure(hdulist)
        assert hdulist[0].header["EXPID"] == 202603040110
    np.testing.assert_array_equal(result.image.array, exposure.image.array)
    np.testing.assert_array_equal(
        read_exposure(io.BytesIO(calexp_bytes), component="image").array, exposure.image.array
    )


def test_origin(calexp_bytes: bytes, edit_card: EditCard) -> None:
    """Place the pixels by the alternate WCS."""
    data = calexp_bytes
    for hdu in (1, 2, 3):
        data = edit_card(edit_card(data, hdu, "CRVAL1A", "300.0"), hdu, "CRVAL2A", "-20.0")
    assert read_exposure(io.BytesIO(data), component="bbox") == Box.factory[-20:500, 300:860]
    result = read_exposure(io.BytesIO(data), bbox=Box.factory[-20:0, 300:310])
    assert result.image.array.shape == (20, 10)
    # Only reference pixels (1, 1) count (spec 02 §2.3).
    data = edit_card(data, 1, "CRPIX1A", "2.0")
    assert read_exposure(io.BytesIO(data), component="bbox") == Box.factory[0:520, 0:560]


def test_native_round_trip(exposure: VisitImage, tmp_path: Path) -> None:
    """Store the image as lsst.images does."""
    with_gaussian = exposure[...]
    with_gaussian.psf = GaussianPointSpreadFunction(2.0, bounds=exposure.bbox, stamp_size=25)
    path = str(tmp_path / "visit_image.fits")
    with_gaussian.write(path)
    result = VisitImage.read(path)
    # lsst.images quantises neither by default.
    np.testing.assert_array_equal(result.image.array, exposure.image.array)
    assert result.mask == exposure.mask
    assert result.detector == exposure.detector
    assert result.sky_projection == exposure.sky_projection
    assert result.aperture_corrections == exposure.aperture_corrections
    assert result.metadata["id"] == exposure.metadata["id"]
    assert result.metadata["BORE-ROTANG"] == exposure.metadata["BORE-ROTANG"]
    # A Piff PSF must be serialisable as well.
    exposure[...].write(str(tmp_path / "piff.fits"))


def test_no_wcs(calexp_bytes: bytes, edit_card: EditCard) -> None:
    """Say that there is no WCS."""
    data = _drop_components(calexp_bytes, edit_card, "SKYWCS")
    result = read_exposure(io.BytesIO(data))
    for use in (lambda: result.sky_projection, lambda: result.astropy_wcs):
        with pytest.raises(ComponentError, match="component 'wcs' is missing"):
            use()
    assert result.image.sky_projection is None
    # Other components don't need it.
    assert result.psf.bounds == result.detector.bbox
    assert read_exposure(io.BytesIO(data), component="band") == "r"


def test_header_wcs(calexp_bytes: bytes, edit_card: EditCard, exposure: VisitImage) -> None:
    """Fall back to the WCS of the header, here added to the file."""
    data = _drop_components(calexp_bytes, edit_card, "SKYWCS")
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdulist:
        header = hdulist[1].header
        header.update(
            CTYPE1="RA---TAN",
            CTYPE2="DEC--TAN",
            CRPIX1=280.0,
            CRPIX2=260.0,
            CRVAL1=52.3,
            CRVAL2=-27.9,
            CD1_1=-5e-5,
            CD1_2=0.0,
            CD2_1=0.0,
            CD2_2=5e-5,
            CUNIT1="deg",
            CUNIT2="deg",
            RADESYS="ICRS",
        )
        buffer = io.BytesIO()
        hdulist.writeto(buffer)
    projection = read_exposure(io.BytesIO(buffer.getvalue()), component="sky_projection")
    # FITS pixel 280 is pixel 279 here.
    sky = projection.pixel_to_sky(x=279.0, y=259.0)
    assert sky.ra.deg == pytest.approx(52.3, abs=1e-12)
    assert sky.dec.deg == pytest.approx(-27.9, abs=1e-12)
    north = projection.pixel_to_sky(x=279.0, y=279.0)
    assert north.dec.deg == pytest.approx(-27.9 + 20 * 5e-5, abs=1e-9)


def test_no_detector(calexp_bytes: bytes, edit_card: EditCard) -> None:
    """Accept an exposure without detector."""
    data = _drop_components(calexp_bytes, edit_card, "DETECTOR")
    result = read_exposure(io.BytesIO(data), data_id={"detector": 5, "instrument": "Cam"})
    assert result.detector is None
    frame = result.sky_projection.pixel_frame
    assert (frame.detector, frame.instrument, frame.bbox) == (5, "Cam", result.bbox)
    assert result[Box.factory[0:10, 0:10]].detector is None


def test_no_psf_and_no_apcorr(calexp_bytes: bytes, edit_card: EditCard) -> None:
    """Tell that there is no PSF when it is asked for, not before."""
    data = _drop_components(calexp_bytes, edit_card, "PSF", "AP_CORR_MAP")
    result = read_exposure(io.BytesIO(data))
    assert result.aperture_corrections == {}
    with pytest.raises(ArchiveReadError, match="there is no PSF"):
        _ = result.psf
    with pytest.raises(ArchiveReadError, match="there is no PSF"):
        read_exposure(io.BytesIO(data), component="psf")


def test_unreadable_psf(calexp_bytes: bytes) -> None:
    """Give the reason why a PSF is unreadable when it is asked for."""
    data = _rename(calexp_bytes, "piff.pixelgrid", "piff.pixelgrxx")
    result = read_exposure(io.BytesIO(data))
    with pytest.raises(ArchiveReadError, match="piff.pixelgrxx.PixelGrid, which isn't on the list"):
        _ = result.psf


def test_unknown_classes(calexp_bytes: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Skip components of unknown classes with one warning."""
    data = _rename(calexp_bytes, "ApCorrMap", "ApCorrMop")
    data = _rename(data, "PiffPsf", "PaffPsf")
    with caplog.at_level(logging.WARNING):
        result = read_exposure(io.BytesIO(data))
    with pytest.raises(ComponentError, match="'aperture_corrections' .* unsupported ApCorrMop"):
        _ = result.aperture_corrections
    with pytest.raises(ArchiveReadError, match="'psf' .* unsupported PaffPsf"):
        _ = result.psf
    messages = [r.getMessage() for r in caplog.records if "can't be read" in r.getMessage()]
    assert len(messages) == 1
    assert "ApCorrMop" in messages[0]


def test_no_filter(calexp_bytes: bytes, edit_card: EditCard, caplog: pytest.LogCaptureFixture) -> None:
    """Take the filter from the data id, or none with a warning."""
    data = _drop_components(calexp_bytes, edit_card, "FILTER")
    result = read_exposure(io.BytesIO(data), data_id={"band": "z", "physical_filter": "z_03"})
    assert (result.band, result.physical_filter) == ("z", "z_03")
    with caplog.at_level(logging.WARNING):
        result = read_exposure(io.BytesIO(data))
    assert (result.band, result.physical_filter) == ("", "unknown")
    assert "no band and no physical filter" in caplog.text


def test_no_visit_info(calexp_bytes: bytes) -> None:
    """Make a minimal description of the observation."""
    with fits.open(io.BytesIO(calexp_bytes), disable_image_compression=True) as hdulist:
        header = hdulist[0].header
        for key in [k for k in header if header.index(k) > header.index("DETSER") and k != "EXPID"]:
            del header[key]
        buffer = io.BytesIO()
        hdulist.writeto(buffer)
    result = read_exposure(io.BytesIO(buffer.getvalue()), data_id={"instrument": "Cam", "visit": 7})
    assert result.obs_info.instrument == "Cam"
    assert result.obs_info.physical_filter == "r_sim"
    assert result.obs_info.exposure_time is None
    assert dict(result.metadata)["id"] == 202603040110
    assert result.sky_projection.pixel_frame.visit == 7


def test_numbers_as_text(calexp_bytes: bytes, edit_card: EditCard) -> None:
    """Accept numbers in quotes, and drop undefined ones."""
    data = edit_card(edit_card(calexp_bytes, 0, "EXPTIME", "'31.5'"), 0, "BORE-AZ", "'NAN'")
    metadata = read_exposure(io.BytesIO(data), component="metadata")
    assert metadata["EXPTIME"] == 31.5
    assert "BORE-AZ" not in metadata


def test_unparsable_card(calexp_bytes: bytes, edit_card: EditCard, caplog: pytest.LogCaptureFixture) -> None:
    """Ignore a card that isn't FITS, with a warning."""
    data = edit_card(calexp_bytes, 0, "OBS-ELEV", "12 monkeys")
    with caplog.at_level(logging.WARNING):
        metadata = read_exposure(io.BytesIO(data), component="metadata")
    assert "OBS-ELEV" not in metadata
    assert metadata["EXPTIME"] == 30.0
    assert "1 unparsable cards" in caplog.text


def test_no_unit(calexp_bytes: bytes, edit_card: EditCard, caplog: pytest.LogCaptureFixture) -> None:
    """Assume counts with a warning; nJy only for calibrated pixels."""
    data = edit_card(calexp_bytes, 1, "BUNIT", "' '")
    with caplog.at_level(logging.WARNING):
        assert str(read_exposure(io.BytesIO(data), component="unit")) == "adu"
    assert "no BUNIT" in caplog.text
    with pytest.raises(ValueError, match="BUNIT = 'parrots'"):
        read_exposure(io.BytesIO(edit_card(calexp_bytes, 1, "BUNIT", "'parrots'")), component="unit")


def test_photometric_scaling(exposure: VisitImage, tiny: Path) -> None:
    """Convert the constant calibration."""
    with fits.open(_calexp(tiny, "S00")) as hdulist:
        mean = hdulist["PHOTOCALIB"].data["calibrationMean"][0]
    field = exposure.photometric_scaling
    assert field is not None
    assert str(field.unit) == "nJy / electron"
    assert field(x=np.array([10.0]), y=np.array([20.0]))[0] == pytest.approx(mean, rel=1e-15)


def test_missing_mask_and_variance(calexp_bytes: bytes, edit_card: EditCard) -> None:
    """Replace a mask or variance that can't be read by zeros."""
    data = edit_card(edit_card(calexp_bytes, 2, "EXTTYPE", "'WRONG'"), 3, "EXTTYPE", "'WRONG'")
    result = read_exposure(io.BytesIO(data))
    assert not result.mask.array.any()
    assert not result.variance.array.any()
    with pytest.raises(ValueError, match="EXTTYPE is 'WRONG' instead of 'IMAGE'"):
        read_exposure(io.BytesIO(edit_card(calexp_bytes, 1, "EXTTYPE", "'WRONG'")))


@pytest.mark.parametrize("hdu", [2, 3])
def test_planes_of_another_box(calexp_bytes: bytes, edit_card: EditCard, hdu: int) -> None:
    """Replace a mask or variance that belongs elsewhere by zeros."""
    result = read_exposure(io.BytesIO(edit_card(calexp_bytes, hdu, "CRVAL1A", "3")))
    assert result.mask.bbox == result.variance.bbox == result.image.bbox
    assert result.mask.array.any() == (hdu == 3)
    assert result.variance.array.any() == (hdu == 2)


def _old_version(data: bytes, edit_card: EditCard, version: int, **cards: Any) -> bytes:
    data = _drop_components(data, edit_card, "FILTER", *(["PHOTOCALIB"] if version == 0 else []))
    data = edit_card(data, 0, "EXPINFO_V", str(version))
    # Cards nobody needs make room.
    for old, (key, value) in zip(("FOCUSZ", "OBSTYPE", "PROGRAM"), cards.items(), strict=False):
        data = edit_card(data, 0, old, "0")
        start = data.index(f"{old:<8}= ".encode())
        prefix = f"{key:<8}" if len(key) <= 8 else f"HIERARCH {key} "
        data = data[:start] + f"{prefix}= {value}".ljust(80).encode() + data[start + 80 :]
    return data


def test_version_0(calexp_bytes: bytes, edit_card: EditCard) -> None:
    """Interpret filter and calibration in the header of old files."""
    data = _old_version(
        calexp_bytes, edit_card, 0, FILTER="'i2      '", FLUXMAG0="1.0E12", FLUXMAG0ERR="1.0E9"
    )
    result = read_exposure(io.BytesIO(data))
    assert (result.band, result.physical_filter) == ("i", "HSC-I2")
    # 3.63e12 nJy are magnitude 0.
    value = result.photometric_scaling(x=np.array([5.0]), y=np.array([5.0]))[0]
    assert value == pytest.approx(3.630780547701, rel=1e-12)
    data = _old_version(calexp_bytes, edit_card, 1, FILTER="'g       '")
    result = read_exposure(io.BytesIO(data), data_id={"physical_filter": "g_01"})
    assert (result.band, result.physical_filter) == ("g", "g_01")


def test_new_versions_are_refused(calexp_bytes: bytes, edit_card: EditCard) -> None:
    """Refuse versions and layouts that aren't known."""
    with pytest.raises(ValueError, match="EXPINFO_V = 3 isn't a supported version"):
        read_exposure(io.BytesIO(edit_card(calexp_bytes, 0, "EXPINFO_V", "3")))
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.zeros((4, 4), dtype=np.float32)).writeto(buffer)
    with pytest.raises(ValueError, match="before 2013"):
        read_exposure(io.BytesIO(buffer.getvalue()))


def test_uncompressed(calexp_bytes: bytes, exposure: VisitImage) -> None:
    """Read plain images, with a third axis of length 1."""
    with fits.open(io.BytesIO(calexp_bytes)) as hdulist:
        plain = fits.HDUList([hdulist[0]])
        for number in (1, 2, 3):
            data = hdulist[number].data
            header = hdulist[number].header
            plain.append(fits.ImageHDU(data[np.newaxis] if number == 1 else data, header))
        with fits.open(io.BytesIO(calexp_bytes), disable_image_compression=True) as raw:
            plain.extend(raw[4:])
            buffer = io.BytesIO()
            plain.writeto(buffer)
    for box in (None, Box.factory[5:9, 3:13]):
        result = read_exposure(io.BytesIO(buffer.getvalue()), bbox=box)
        expected = exposure[...] if box is None else exposure[box]
        np.testing.assert_array_equal(result.image.array, expected.image.array)
        np.testing.assert_array_equal(result.mask.array, expected.mask.array)
        assert result.image.array.dtype.isnative


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.02, 0.1, 0.3])
def test_truncated(calexp_bytes: bytes, fraction: float) -> None:
    """Raise one clear error for files that end before the mask."""
    data = calexp_bytes[: int(fraction * len(calexp_bytes))]
    with pytest.raises(ValueError, match=r"."):
        read_exposure(io.BytesIO(data))


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("fraction", [0.6, 0.8, 0.95])
def test_cut_off_archive(calexp_bytes: bytes, exposure: VisitImage, fraction: float) -> None:
    """Give the pixels there are, and say what is missing when asked."""
    data = calexp_bytes[: int(fraction * len(calexp_bytes))]
    result = read_exposure(io.BytesIO(data), data_id={"band": "r", "physical_filter": "r_sim"})
    np.testing.assert_array_equal(result.image.array, exposure.image.array)
    np.testing.assert_array_equal(
        read_exposure(io.BytesIO(data), component="image").array, exposure.image.array
    )
    assert result.obs_info.visit_id == exposure.obs_info.visit_id
    assert (result.band, result.physical_filter) == ("r", "r_sim")
    # The tables of the others come first.
    names = ("sky_projection", "psf") if fraction > 0.9 else ("detector", "psf", "photometric_scaling")
    for name in names:
        with pytest.raises(ComponentError, match=f"component '{name}' can't be read: .*the file has only"):
            getattr(result, name)


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize(
    ("hdu", "key", "value", "message"),
    [
        (0, "AR_HDU", "-3", "AR_HDU = -3"),
        (0, "AR_HDU", "400", "only"),
        (4, "NAXIS2", "100000000", "the file has only"),
        (0, "ARCHIVE_ID_SKYWCS", "77", "no archive id 77"),
        (0, "ARCHIVE_ID_SKYWCS", "11", "component SKYWCS is a FilterLabel"),
    ],
)
def test_lying_archives(
    calexp_bytes: bytes, edit_card: EditCard, hdu: int, key: str, value: str, message: str
) -> None:
    """Name the component when it is asked for, alone or of the image."""
    stream = io.BytesIO(edit_card(calexp_bytes, hdu, key, value))
    result = read_exposure(stream)
    with pytest.raises(ComponentError, match=message):
        _ = result.sky_projection
    with pytest.raises(ComponentError, match=message):
        read_exposure(stream, component="wcs")
    assert result.image.array.any()


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize(
    ("hdu", "key", "value", "message"),
    [
        (1, "ZNAXIS1", "150000", "can't hold 312000000 bytes"),
        (1, "ZTILE1", "100", "in 3120 tiles"),
        (1, "ZNAXIS1", "2000000000", "ZNAXIS1 = 2000000000"),
        (1, "ZNAXIS2", "-5", "ZNAXIS2 = -5"),
        (1, "PCOUNT", "1000000000", "the file has only"),
        (1, "ZBITPIX", "-33", "ZBITPIX is -33"),
        (0, "EXPINFO_V", "'x'", "EXPINFO_V = 'x'"),
    ],
)
def test_lying_headers(
    calexp_bytes: bytes, edit_card: EditCard, hdu: int, key: str, value: str, message: str
) -> None:
    """Check what headers announce before believing it."""
    with pytest.raises(ValueError, match=message):
        read_exposure(io.BytesIO(edit_card(calexp_bytes, hdu, key, value)))


def test_long_tiles(calexp_bytes: bytes) -> None:
    """Refuse tiles that might expand without end, before expanding them."""
    with fits.open(io.BytesIO(calexp_bytes), disable_image_compression=True) as hdulist:
        start = hdulist[1].fileinfo()["datLoc"]
    data = bytearray(calexp_bytes)
    # Number of bytes of the first row, of 560 pixels.
    data[start : start + 4] = (10_000).to_bytes(4, "big")
    with pytest.raises(FitsFormatError, match="tile of 2240 bytes of pixels is compressed to 10000 bytes"):
        read_exposure(io.BytesIO(bytes(data)))


def test_corrupted_pixels(calexp_bytes: bytes) -> None:
    """Raise for damaged compressed data."""
    with fits.open(io.BytesIO(calexp_bytes), disable_image_compression=True) as hdulist:
        info = hdulist[1].fileinfo()
    rng = np.random.default_rng(5)
    start = info["datLoc"] + 520 * 16
    data = bytearray(calexp_bytes)
    data[start : start + 4000] = rng.bytes(4000)
    with pytest.raises(ValueError, match="unreadable pixels"):
        read_exposure(io.BytesIO(bytes(data)))


def test_not_fits(tmp_path: Path) -> None:
    """Name a file that is no FITS file."""
    path = tmp_path / "letter.fits"
    path.write_text("Dear Sir or Madam")
    with pytest.raises(ValueError, match="letter.fits"):
        read_exposure(path)
    with pytest.raises(FileNotFoundError):
        read_exposure(tmp_path / "missing.fits")


def test_unbounded_psf_box_is_large() -> None:
    """Keep detectors inside the bounds of PSFs without any."""
    assert EVERYWHERE.contains(Box.factory[-(10**6) : 10**6, 0:10])
