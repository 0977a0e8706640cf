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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from lsst.images import Box
from lsst.images.fields import ChebyshevField, ProductField
from lsst.meas.finalize.afw import ArchiveError, MalformedArchiveError, UnsupportedPersistableError
from lsst.meas.finalize.afw.archive import ArchiveReader, ArchiveWriter, ObjectRecord, reads, writes
from lsst.meas.finalize.afw.fits._table import read_table
from lsst.meas.finalize.afw.fits._writer import PRIMARY_HDU
from lsst.meas.finalize.catalogs import Field, Schema

_BOX = Box.factory[0:10, 0:20]


def _field(value: float = 1.0) -> ChebyshevField:
    return ChebyshevField(_BOX, np.array([[value]]))


def _archive(*objects: Any) -> tuple[bytes, list[int]]:
    writer = ArchiveWriter()
    ids = [writer.put(obj) for obj in objects]
    return PRIMARY_HDU + b"".join(writer.hdus()), ids


def _reader(data: bytes) -> ArchiveReader:
    return ArchiveReader(fits.open(io.BytesIO(data)), 1)


def _edit_index(data: bytes, row: int, **values: Any) -> bytes:
    """Change columns of an index row; named by position."""
    with fits.open(io.BytesIO(data)) as hdulist:
        start = hdulist[1].fileinfo()["datLoc"] + row * hdulist[1].header["NAXIS1"]
    changed = bytearray(data)
    for i, name in enumerate(("id", "catalog", "persistable", "row0", "nrows")):
        if name in values:
            changed[start + 4 * i : start + 4 * i + 4] = int(values[name]).to_bytes(4, "big", signed=True)
    if "name" in values:
        changed[start + 20 : start + 84] = values["name"].encode().ljust(64)
    return bytes(changed)


def test_nested_and_shared_objects() -> None:
    """Write shared objects once, and read them as one object."""
    shared = _field(2.0)
    product = ProductField([shared, _field(3.0)])
    data, ids = _archive(product, shared, None)
    reader = _reader(data)
    assert ids == [1, 2, 0]
    found = reader.get(1)
    assert found is reader.get(1)
    assert list(found.operands)[0] is reader.get(2)
    assert [f.coefficients[0, 0] for f in found.operands] == [2.0, 3.0]
    assert reader.get(0) is None
    assert 3 in reader
    assert 4 not in reader
    assert reader.name(1) == "ProductBoundedField"


def test_order_of_tables_is_the_stacks() -> None:
    """Give parents smaller ids and earlier tables, but later index rows."""
    data, _ = _archive(ProductField([_field(2.0), _field(3.0)]))
    reader = _reader(data)
    index = read_table(fits.open(io.BytesIO(data)), 1)
    np.testing.assert_array_equal(index.column("id"), [2, 3, 1])
    np.testing.assert_array_equal(index.column("cat.archive"), [2, 2, 1])
    np.testing.assert_array_equal(index.column("row0"), [0, 1, 0])
    np.testing.assert_array_equal(index.column("nrows"), [1, 1, 2])
    assert set(index.column("module")) == {"lsst.afw.math"}
    assert reader.table(1).header["EXTNAME"] == "ProductBoundedField"
    assert reader.table(2).header["AR_CATN"] == 2


def test_golden_archives_are_complete(tiny: Path) -> None:
    """Find the rows of every object in the stack's archives."""
    for path in sorted(tiny.rglob("*.fits")):
        with fits.open(path) as hdulist:
            number = [hdu.header.get("EXTTYPE") for hdu in hdulist].index("ARCHIVE_INDEX")
            reader = ArchiveReader(hdulist, number)
            assert len(hdulist) == number + reader.n_tables
            rows = dict.fromkeys(range(1, reader.n_tables), 0)
            for archive_id in np.unique(reader.ids):
                entries = reader.ids == archive_id
                for table, catalog in zip(reader.tables(archive_id), reader.catalogs[entries], strict=True):
                    rows[int(catalog)] += len(table)
            assert rows == {n: len(reader.table(n)) for n in rows}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"id": 0}, "invalid entry of archive id 0"),
        ({"id": 1}, "duplicate entry of archive id 1"),
        ({"catalog": 3}, "cat.archive=3.* with 2 data tables"),
        ({"catalog": -2}, "cat.archive=-2"),
        ({"catalog": 0}, "cat.archive=0"),
        ({"row0": -1}, "row0=-1"),
        ({"nrows": -1}, "nrows=-1"),
    ],
)
def test_invalid_index_entries_are_refused(change: dict[str, int], match: str) -> None:
    """Check the index as a whole on opening."""
    data, _ = _archive(ProductField([_field(2.0), _field(3.0)]))
    with pytest.raises(MalformedArchiveError, match=match):
        _reader(_edit_index(data, 0, **change))


@pytest.mark.parametrize("change", [{"row0": 2}, {"row0": 2**31 - 1}, {"nrows": 2**31 - 1}])
def test_index_rows_outside_of_tables_are_refused(change: dict[str, int]) -> None:
    """Check rows before they are taken."""
    data, _ = _archive(ProductField([_field(2.0), _field(3.0)]))
    reader = _reader(_edit_index(data, 0, **change))
    assert reader.get(3).coefficients[0, 0] == 3.0
    with pytest.raises(
        MalformedArchiveError, match=r"HDU 3\]: rows .* archive id 2 .* outside of the 2 rows"
    ):
        reader.get(2)


def test_unknown_ids_are_refused() -> None:
    """Name the id that isn't there."""
    reader = _reader(_archive(_field())[0])
    for archive_id in (-1, 2, 2**40, 10**30):
        with pytest.raises(MalformedArchiveError, match=f"there is no archive id {archive_id}"):
            reader.get(archive_id)


def test_unknown_classes_are_named_when_asked_for() -> None:
    """Leave the rest of an archive with an unknown class readable."""
    data, _ = _archive(_field(), _field(5.0))
    reader = _reader(_edit_index(data, 0, name="MysteryPsf"))
    assert reader.get(2).coefficients[0, 0] == 5.0
    with pytest.raises(UnsupportedPersistableError, match="archive id 1: objects of class 'MysteryPsf'"):
        reader.get(1)


def test_cycles_are_refused() -> None:
    """Refuse an object that contains itself."""
    data, _ = _archive(ProductField([_field(2.0)]))
    # The nested entry becomes a product of rows that name its parent.
    data = _edit_index(data, 0, name="ProductBoundedField", catalog=1, row0=0)
    with pytest.raises(MalformedArchiveError, match=r"contains itself \(archive ids 2 -> 2\)"):
        _reader(data).get(2)
    with pytest.raises(MalformedArchiveError, match=r"contains itself \(archive ids 1 -> 2 -> 2\)"):
        _reader(data).get(1)


def test_deep_nesting_is_refused() -> None:
    """Refuse a chain that would exhaust the stack."""
    field: Any = _field()
    for _ in range(250):
        field = ProductField([field])
    data, _ = _archive(field)
    with pytest.raises(MalformedArchiveError, match="nested more than"):
        _reader(data).get(1)


@reads("TestFragile")
def _read_fragile(archive: ArchiveReader, tables: list[Any], name: str) -> int:
    return int(tables[0]["bbox_min_x"][0])


def test_malformed_objects_are_named(edit_card: Callable[..., bytes]) -> None:
    """Name the object whose reader fails, whatever its exception."""
    data = _edit_index(_archive(_field())[0], 0, name="TestFragile")
    assert _reader(data).get(1) == 0
    # A number is read as two characters.
    data = edit_card(edit_card(data, 2, "TFORM2", "'4A'"), 2, "TCCLS2", "'String'")
    with pytest.raises(MalformedArchiveError, match=r"HDU 1\]: archive id 1 is a malformed TestFragile: inv"):
        _reader(data).get(1)


def test_classes_of_one_id_must_agree() -> None:
    """Refuse an id with two classes."""

    class Pair:
        pass

    @writes(Pair, name="TestPair", module="")
    def _write(record: ObjectRecord, obj: Pair) -> None:
        for name in ("a", "b"):
            record.table(Schema((Field(name, "I"),))).add_row(**{name: 1})

    @reads("TestPair")
    def _read(archive: ArchiveReader, tables: list[Any], name: str) -> tuple[int, ...]:
        return tuple(len(t) for t in tables)

    data, _ = _archive(Pair())
    assert _reader(data).get(1) == (1, 1)
    with pytest.raises(MalformedArchiveError, match=r"several classes: \['Other', 'TestPair'\]"):
        _reader(_edit_index(data, 1, name="Other")).get(1)
    with pytest.raises(ValueError, match="registered already"):
        reads("TestPair")(_read)
    with pytest.raises(ValueError, match="registered already"):
        writes(Pair, name="TestPair", module="")(_write)


@pytest.mark.parametrize(
    ("hdu", "key", "value", "match"),
    [
        (1, "EXTTYPE", "'ARCHIVE_DATA'", "EXTTYPE is 'ARCHIVE_DATA' instead"),
        (1, "AR_NCAT", "-4", "AR_NCAT = -4"),
        (1, "AR_NCAT", "'x'", "AR_NCAT = 'x'"),
        (1, "TFORM4", "'1E'", "columns of an archive index"),
        (1, "NAXIS2", "123456789", "unreadable archive index.* announces"),
        (2, "EXTTYPE", "'IMAGE'", "expected archive table 1, found EXTTYPE='IMAGE'"),
        (2, "AR_CATN", "7", "expected archive table 1, .*AR_CATN=7"),
        (2, "TTYPE1", "'order_z'", "no column 'order_x'"),
        (2, "NAXIS2", "99999999", "unreadable archive table.* announces"),
    ],
)
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
def test_damaged_headers_are_refused(
    edit_card: Callable[..., bytes], hdu: int, key: str, value: str, match: str
) -> None:
    """Name what is wrong with the tables of an archive."""
    data = edit_card(_archive(_field())[0], hdu, key, value)
    with pytest.raises(MalformedArchiveError, match=match):
        _reader(data).get(1)


def test_missing_data_tables_are_refused() -> None:
    """Refuse archives whose last tables are cut off."""
    data, _ = _archive(_field())
    with fits.open(io.BytesIO(data)) as hdulist:
        end = hdulist[2].fileinfo()["hdrLoc"]
    with pytest.raises(MalformedArchiveError, match="the file has only 2 HDUs"):
        _reader(data[:end]).get(1)


def test_objects_that_can_not_be_written() -> None:
    """Refuse unknown classes and objects that contain themselves."""
    writer = ArchiveWriter()
    with pytest.raises(UnsupportedPersistableError, match=r"objects of class builtins\.set can't be written"):
        writer.put({1})
    loop: dict[str, Any] = {}
    loop["a"] = loop
    with pytest.raises(ArchiveError, match="aperture correction 'a' is a dict"):
        writer.put(loop)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"a": [1]}, r"columns \['a'\] given for fields \['a', 's'\]"),
        ({"a": [1, 2], "s": ["x"]}, "column 'a' has 2 rows instead of 1"),
        ({"a": [2**31], "s": ["x"]}, "column 'a': values are outside of"),
        ({"a": [1], "s": ["toolong"]}, "column 's': 'toolong' is longer than 3 bytes"),
        ({"a": ["x"], "s": ["x"]}, "column 'a'"),
    ],
)
def test_rows_that_do_not_fit_are_refused(values: dict[str, list[Any]], match: str) -> None:
    """Check rows given by writers of single classes."""
    record = ObjectRecord(ArchiveWriter(), 1, "X", "")
    table = record.table(Schema((Field("a", "I"), Field("s", "String", size=3))))
    with pytest.raises(ArchiveError, match=match):
        table.fill(1, **values)
