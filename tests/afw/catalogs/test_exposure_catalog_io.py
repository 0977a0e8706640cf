# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from lsst.images import Box, Polygon
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import PiffWrapper
from lsst.meas.finalize.afw import (
    ArchiveError,
    FitsFormatError,
    MalformedArchiveError,
    UnsupportedPersistableError,
    read_exposure_catalog,
    write_exposure_catalog,
)
from lsst.meas.finalize.afw.archive._reader import ArchiveReader
from lsst.meas.finalize.afw.archive._registry import reads, writes
from lsst.meas.finalize.afw.components._transmission import IdentityTransmissionCurve
from lsst.meas.finalize.afw.components._visit_info import VisitInfo, read_visit_info_cards
from lsst.meas.finalize.afw.piff import _pickle
from lsst.meas.finalize.catalogs import ExposureCatalog, Schema

_COMPONENTS = [
    "wcs",
    "psf",
    "photoCalib",
    "apCorrMap",
    "validPolygon",
    "visitInfo",
    "transmissionCurve",
    "detector",
]


def _golden(tiny: Path) -> Path:
    return tiny / "expected/default/finalized_psf_ap_corr_catalog.fits"


def _catalog(ids: list[int]) -> ExposureCatalog:
    schema = Schema.exposure_minimal()
    schema.add_field("visit", "L", doc="Visit number")
    catalog = ExposureCatalog(schema, len(ids), metadata={"COMMENT": ["sorted."]})
    catalog["id"] = ids
    catalog["visit"] = 7
    box = Box.factory[0:10, 0:20]
    for row, detector in enumerate(ids):
        catalog.ap_corr_maps[row] = {
            "base_X_instFlux": ChebyshevField(box, np.full((2, 3), float(detector))),
            "base_X_instFluxErr": ChebyshevField(box, np.zeros((1, 1))),
        }
    return catalog


def _make_all(catalog: ExposureCatalog) -> None:
    """Make all that is made when asked for."""
    for objects in (catalog.psfs, catalog.ap_corr_maps, *catalog.components.values()):
        for obj in objects:
            for field in obj.values() if isinstance(obj, Mapping) else ():
                assert np.isfinite(field(x=1.0, y=2.0))


def test_golden_catalogues_are_read(tiny: Path) -> None:
    """Read what the stack wrote, with PSFs and aperture corrections."""
    catalog = read_exposure_catalog(_golden(tiny))
    np.testing.assert_array_equal(catalog["id"], [0, 1])
    np.testing.assert_array_equal(catalog["visit"], [20260304011] * 2)
    assert catalog.schema.names == (*Schema.exposure_minimal().names, "visit")
    assert catalog.metadata["COMMENT"][0] == "Catalog id is detector id, sorted."
    assert all(isinstance(psf, PiffWrapper) for psf in catalog.psfs)
    assert catalog.psfs[0] is not catalog.psfs[1]
    record = catalog.find(1)
    assert record is not None
    assert record.psf is catalog.psfs[1]
    assert len(record.ap_corr_map) == 64
    assert record.get("wcs") is None
    assert catalog.find(2) is None


def test_golden_catalogues_are_reproduced(tiny: Path, tmp_path: Path) -> None:
    """Write what was read, equal but for pickled PSFs that were used."""
    paths = sorted(tiny.glob("expected/**/finalized_psf_*.fits"))
    assert len(paths) == 9
    for path in paths:
        catalog = read_exposure_catalog(path)
        write_exposure_catalog(catalog, tmp_path / "a.fits")
        assert (tmp_path / "a.fits").read_bytes() == path.read_bytes()
        # What was asked for may have been changed, and is written anew.
        _make_all(catalog)
        write_exposure_catalog(catalog, tmp_path / "a.fits")
        raw, written = path.read_bytes(), (tmp_path / "a.fits").read_bytes()
        with fits.open(path) as expected, fits.open(tmp_path / "a.fits") as found:
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                a, b = one.fileinfo(), other.fileinfo()
                cards = written[a["hdrLoc"] : a["datLoc"]], raw[b["hdrLoc"] : b["datLoc"]]
                data = written[a["datLoc"] :][: a["datSpan"]], raw[b["datLoc"] :][: b["datSpan"]]
                if one.name == "PiffPsf":
                    # Another process pickles the same object to other bytes.
                    split = [[c[i : i + 80] for i in range(0, len(c), 80)] for c in cards]
                    changed = {x[:8] for x, y in zip(*split, strict=True) if x != y}
                    assert changed <= {b"PCOUNT  ", b"TFORM1  "}
                else:
                    assert cards[0] == cards[1]
                    assert data[0] == data[1]


def test_psfs_survive(tiny: Path, tmp_path: Path) -> None:
    """Draw the same images after writing and reading."""
    catalog = read_exposure_catalog(_golden(tiny))
    write_exposure_catalog(catalog, tmp_path / "a.fits")
    found = read_exposure_catalog(tmp_path / "a.fits")
    for psf, expected in zip(found.psfs, catalog.psfs, strict=True):
        assert psf is not None
        assert expected is not None
        images = [p.compute_kernel_image(x=100.0, y=420.0).array for p in (psf, expected)]
        np.testing.assert_array_equal(*images)


def test_catalogues_survive(tmp_path: Path) -> None:
    """Keep fields, metadata, order and shared objects."""
    catalog = _catalog([2, 5, 9])
    catalog.ap_corr_maps[1] = catalog.ap_corr_maps[0]
    catalog.ap_corr_maps[2] = None
    catalog.schema.set_alias("ccd", "id")
    write_exposure_catalog(catalog, tmp_path / "a.fits")
    found = read_exposure_catalog(tmp_path / "a.fits")
    assert found.schema == catalog.schema
    assert found.metadata == catalog.metadata
    np.testing.assert_array_equal(found["ccd"], [2, 5, 9])
    assert found.ap_corr_maps[0] == catalog.ap_corr_maps[0]
    assert found.ap_corr_maps[1] is found.ap_corr_maps[0]
    assert found.ap_corr_maps[2] is None
    assert found.psfs == [None] * 3


def test_layout_is_what_the_stack_expects(tmp_path: Path) -> None:
    """Put archive ids first, then the minimal fields (spec 02 §9.2)."""
    write_exposure_catalog(_catalog([3]), tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits") as hdulist:
        hdulist.verify("exception")
        header = hdulist[1].header
        minimal = ["id", "bbox_min_x", "bbox_min_y", "bbox_max_x", "bbox_max_y"]
        assert hdulist[1].columns.names == [*_COMPONENTS, *minimal, "visit"]
        assert hdulist[1].columns.formats == ["1J"] * 8 + ["1K"] + ["1J"] * 4 + ["1K"]
        assert header["AFW_TYPE"] == "EXPOSURE"
        assert (header["AFW_TABLE_VERSION"], header["EXPTABLE_VER"]) == (3, 5)
        assert "AR_HDU" not in header
        index = hdulist[2]
        assert index.columns.formats == ["1J"] * 5 + ["64A"] * 2
        assert (index.header["AR_CATN"], index.header["AR_NCAT"]) == (0, len(hdulist) - 2)
        for number, hdu in enumerate(hdulist[3:], 1):
            assert hdu.header["EXTTYPE"] == "ARCHIVE_DATA"
            assert hdu.header["AR_CATN"] == number
        # Size 1 arrays are recognised by this card only.
        assert [hdu.header["TCCLS6"] for hdu in hdulist[4:]] == ["Array", "Array"]
        assert [hdu.header["TFORM6"] for hdu in hdulist[4:]] == ["6D", "1D"]


def test_rows_are_sorted(tmp_path: Path) -> None:
    """Write rows in ascending order of id, also if one is there twice."""
    catalog = _catalog([9, 2, 5])
    write_exposure_catalog(catalog, tmp_path / "a.fits")
    found = read_exposure_catalog(tmp_path / "a.fits")
    np.testing.assert_array_equal(found["id"], [2, 5, 9])
    for detector in (2, 5, 9):
        record = found.find(detector)
        assert record is not None
        assert record.ap_corr_map["base_X_instFlux"].coefficients[0, 0] == detector
    write_exposure_catalog(_catalog([2, 5, 2]), tmp_path / "b.fits")
    assert read_exposure_catalog(tmp_path / "b.fits")["id"].tolist() == [2, 2, 5]


def test_unsuitable_catalogues_are_refused(tmp_path: Path) -> None:
    """Refuse what can't be written, leaving no file behind."""
    with pytest.raises(ValueError, match="the first fields must be"):
        write_exposure_catalog(ExposureCatalog(Schema.source_minimal(), 0), tmp_path / "a.fits")
    catalog = _catalog([1])
    catalog.psfs[0] = object()  # type: ignore[call-overload]
    with pytest.raises(UnsupportedPersistableError, match=r"builtins\.object can't be written"):
        write_exposure_catalog(catalog, tmp_path / "a.fits")
    assert not list(tmp_path.iterdir())


class _Thing(IdentityTransmissionCurve):
    reads = 0


@writes(_Thing, name="TestThing", module="")
def _write_thing(record: Any, obj: _Thing) -> None:
    pass


@reads("TestThing")
def _read_thing(archive: ArchiveReader, tables: list[Any], name: str) -> _Thing:
    assert tables == []
    _Thing.reads += 1
    return _Thing()


def test_other_components_are_read_when_asked_for(tmp_path: Path) -> None:
    """Read components lazily, long after the file is gone."""
    catalog = _catalog([1, 2, 3])
    catalog.components["transmissionCurve"][1:] = [_Thing()] * 2
    write_exposure_catalog(catalog, tmp_path / "a.fits")
    _Thing.reads = 0
    found = read_exposure_catalog(tmp_path / "a.fits")
    (tmp_path / "a.fits").unlink()
    assert _Thing.reads == 0
    curves = found.components["transmissionCurve"]
    assert curves[0] is None
    thing = curves[-1]
    assert isinstance(thing, _Thing)
    assert found[1].get("transmissionCurve") is thing
    assert list(curves) == [None, thing, thing]
    assert curves[:1] == [None]
    assert copy.deepcopy(curves)[0] is None
    assert _Thing.reads == 1
    with pytest.raises(IndexError):
        curves[3]


@pytest.mark.parametrize("fate", ["removed", "replaced", "cut off", "overwritten"])
def test_later_changes_of_the_file_do_not_matter(tiny: Path, tmp_path: Path, fate: str) -> None:
    """Make components from the contents that the file had when it was read,
    also on the way to another file.
    """
    path = tmp_path / "a.fits"
    path.write_bytes(data := _golden(tiny).read_bytes())
    catalog, other = read_exposure_catalog(path), read_exposure_catalog(path)
    match fate:
        case "removed":
            path.unlink()
        case "replaced":
            path.unlink()
            write_exposure_catalog(_catalog([0, 1]), path)
        case "cut off":
            os.truncate(path, 3000)
        case "overwritten":
            with path.open("r+b") as stream:
                stream.seek(5000)
                stream.write(bytes(len(data) - 5000))
    record = catalog.find(1)
    assert record is not None
    assert record.psf.compute_kernel_image(x=1.0, y=2.0).array.max() == pytest.approx(0.0439725, abs=1e-7)
    assert len(record.ap_corr_map) == 64
    write_exposure_catalog(other, tmp_path / "b.fits")
    assert (tmp_path / "b.fits").read_bytes() == data


def test_equal_psfs_of_a_file_are_checked_once(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make two PSFs of two rows with the same bytes, checked once per file."""
    catalog = read_exposure_catalog(_golden(tiny))
    for row in (0, 1):
        catalog.psfs[row] = read_exposure_catalog(_golden(tiny)).psfs[0]
    write_exposure_catalog(catalog, tmp_path / "a.fits")
    checked: list[bytes] = []
    original = _pickle.check_opcodes
    monkeypatch.setattr(_pickle, "check_opcodes", lambda data: (checked.append(data), original(data)))
    for n_files in (1, 2):
        first, second = read_exposure_catalog(tmp_path / "a.fits").psfs
        assert first is not second
        assert first.piff_psf is not second.piff_psf
        assert len(checked) == n_files


def test_components_of_images_are_kept(tiny: Path, tmp_path: Path) -> None:
    """Write components read from the stack's image, as visit summaries do."""
    path = sorted(tiny.glob("export/**/calexp_*S00*.fits"))[0]
    catalog = _catalog([0])
    names = {
        "wcs": "SKYWCS",
        "validPolygon": "VALID_POLYGON",
        "photoCalib": "PHOTOCALIB",
        "detector": "DETECTOR",
    }
    with fits.open(path) as hdulist:
        archive = ArchiveReader(hdulist, 4)
        header = hdulist[0].header
        objects = {name: archive.get(header[f"{key}_ID"]) for name, key in names.items()}
        objects["visitInfo"] = VisitInfo(read_visit_info_cards(header))
    for name, obj in objects.items():
        catalog.components[name][0] = obj
    write_exposure_catalog(catalog, tmp_path / "a.fits")
    found = read_exposure_catalog(tmp_path / "a.fits")
    record = found.find(0)
    assert record is not None
    for name in ("validPolygon", "photoCalib"):
        assert record.get(name) == objects[name]
    # Tables have radians.
    cards = objects["visitInfo"].cards
    close = {k: pytest.approx(v, rel=1e-15) if type(v) is float else v for k, v in cards.items()}
    assert record.get("visitInfo").cards == close
    assert record.get("wcs").text == objects["wcs"].text
    assert record.get("detector").attributes == objects["detector"].attributes
    # What has been read once is written to the same bytes.
    write_exposure_catalog(found, tmp_path / "b.fits")
    assert (tmp_path / "b.fits").read_bytes() == (tmp_path / "a.fits").read_bytes()


def test_unknown_classes_fail_alone(tmp_path: Path) -> None:
    """Name unknown classes when they are asked for, and read the rest."""
    catalog = _catalog([1, 2, 3])
    catalog.components["transmissionCurve"] = [_Thing(), _Thing(), _Thing()]
    path = tmp_path / "a.fits"
    write_exposure_catalog(catalog, path)
    path.write_bytes(path.read_bytes().replace(b"TestThing", b"Unknown01"))
    found = read_exposure_catalog(path)
    assert found.find(2).get("wcs") is None
    assert found.ap_corr_maps[2] is not None
    match = r"a.fits\[HDU 2\]: component 'transmissionCurve' of the row with id \(detector\) 3: .*'Unknown01'"
    for _ in range(2):
        with pytest.raises(UnsupportedPersistableError, match=match):
            found[2].get("transmissionCurve")


@pytest.mark.parametrize(
    ("hdu", "key", "value", "match"),
    [
        (1, "AFW_TYPE", "'SOURCE'", "AFW_TYPE is 'SOURCE' instead of 'EXPOSURE'"),
        (1, "TTYPE9", "'key'", "no column 'id'"),
        (1, "TFORM2", "'1E'", "column 'psf' is no column of archive ids"),
        (2, "AR_NCAT", "2", "cat.archive=2"),
        (3, "TTYPE2", "'fld'", "no column 'field'"),
        (4, "NAXIS2", "1000000", "announces"),
        (4, "TTYPE6", "'c'", "no column 'coefficients'"),
    ],
)
def test_damaged_catalogues_are_refused(
    tmp_path: Path, edit_card: Callable[..., bytes], hdu: int, key: str, value: str, match: str
) -> None:
    """Name file, HDU and column of what is wrong."""
    path = tmp_path / "damaged.fits"
    write_exposure_catalog(_catalog([1]), path)
    path.write_bytes(edit_card(path.read_bytes(), hdu, key, value))
    with pytest.raises(FitsFormatError, match=match) as info:
        _make_all(read_exposure_catalog(path))
    assert "damaged.fits[HDU" in str(info.value)
    if hdu > 1 and key != "NAXIS2":
        found = read_exposure_catalog(path)
        assert found["id"].tolist() == [1]
        match = "component 'apCorrMap' of the row with id .detector. 1|aperture correction 'base_X_instFlux'"
        with pytest.raises(FitsFormatError, match=match):
            _make_all(found)


@pytest.mark.parametrize(("archive_id", "match"), [(99, "no archive id 99"), (-1, "no archive id -1")])
def test_bad_archive_ids_are_refused(tmp_path: Path, archive_id: int, match: str) -> None:
    """Refuse ids that no object has."""
    path = tmp_path / "damaged.fits"
    write_exposure_catalog(_catalog([1]), path)
    with fits.open(path) as hdulist:
        start = hdulist[1].fileinfo()["datLoc"] + 4 * _COMPONENTS.index("apCorrMap")
    data = bytearray(path.read_bytes())
    data[start : start + 4] = archive_id.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    with pytest.raises((FitsFormatError, MalformedArchiveError), match=match):
        _make_all(read_exposure_catalog(path))
    with pytest.raises((FitsFormatError, MalformedArchiveError), match=match):
        write_exposure_catalog(read_exposure_catalog(path), tmp_path / "b.fits")
    assert not (tmp_path / "b.fits").exists()


def test_components_of_other_classes_are_refused(tmp_path: Path) -> None:
    """Name a component that is something else, when it is asked for."""
    path = tmp_path / "damaged.fits"
    catalog = _catalog([1])
    catalog.components["wcs"][0] = Polygon(x_vertices=[0, 0, 1], y_vertices=[0, 1, 1])
    catalog.components["validPolygon"][0] = catalog.components["wcs"][0]
    write_exposure_catalog(catalog, path)
    found = read_exposure_catalog(path)
    assert found.components["validPolygon"][0] == catalog.components["wcs"][0]
    with pytest.raises(MalformedArchiveError, match=r"component 'wcs' .*: archive id 1 is a Polygon"):
        found.components["wcs"][0]
    catalog.ap_corr_maps[0] = catalog.components["wcs"][0]
    write_exposure_catalog(catalog, path)
    with pytest.raises(MalformedArchiveError, match=r"HDU 2\]: component 'apCorrMap' .* is a Polygon"):
        _make_all(read_exposure_catalog(path))


def test_metadata_survives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Keep any keyword, but none that would change the format."""
    kept = {"A.B": 1, "X/Y": "z", "K": [1.5, math.inf, -math.inf, True, None, "a"], "LONG KEYWORD": "'"}
    catalog = _catalog([1])
    reserved = {"NAXIS1": 3, "FLAGCOL": 1, "AFW_TYPE": "SOURCE", "ttype1": "x", "ALIAS": "id:x", "END": 1}
    catalog.metadata = {**kept, **reserved}
    write_exposure_catalog(catalog, tmp_path / "a.fits")
    assert str(list(reserved)) in caplog.text
    assert read_exposure_catalog(tmp_path / "a.fits").metadata == kept
    with fits.open(tmp_path / "a.fits") as hdulist:
        hdulist.verify("exception")
        assert (hdulist[1].header["A.B"], hdulist[1].header["X/Y"]) == (1, "z")

    catalog.metadata = {"N": math.nan}
    write_exposure_catalog(catalog, tmp_path / "a.fits")
    assert math.isnan(read_exposure_catalog(tmp_path / "a.fits").metadata["N"])


def test_fields_behind_aliases_survive(tmp_path: Path) -> None:
    """Write the fields, not what aliases make of their names."""
    catalog = _catalog([3, 4])
    catalog.schema.set_alias("visit", "id")
    catalog.schema.set_alias("i", "nothing")
    write_exposure_catalog(catalog, tmp_path / "a.fits")
    found = read_exposure_catalog(tmp_path / "a.fits")
    assert found.schema == catalog.schema
    np.testing.assert_array_equal(found.field_column("visit"), [7, 7])
    np.testing.assert_array_equal(found.field_column("id"), [3, 4])
    record = found.find(4)
    assert record is not None
    assert (record.id, record["visit"]) == (4, 7)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    """Refuse files cut off anywhere before the padding at their end."""
    path = tmp_path / "cut.fits"
    write_exposure_catalog(_catalog([1]), path)
    data = path.read_bytes()
    for length in [*range(0, len(data) - 2880, 2880), 100, 6000, len(data) - 2880 + 10]:
        path.write_bytes(data[:length])
        with pytest.raises((FitsFormatError, ArchiveError), match=r"cut\.fits"):
            _make_all(read_exposure_catalog(path))


def test_missing_archive_ids_mean_no_component(tmp_path: Path, edit_card: Callable[..., bytes]) -> None:
    """Accept tables without some of the component columns."""
    path = tmp_path / "a.fits"
    write_exposure_catalog(_catalog([1]), path)
    path.write_bytes(edit_card(path.read_bytes(), 1, "TTYPE2", "'spare'"))
    found = read_exposure_catalog(path)
    assert found.psfs == [None]
    assert found["spare"] == [0]
    assert found.ap_corr_maps[0] is not None
