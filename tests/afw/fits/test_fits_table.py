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
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.afw import FitsFormatError, read_source_catalog, write_source_catalog
from lsst.meas.finalize.afw.fits._schema import table_metadata, table_schema
from lsst.meas.finalize.afw.fits._table import FitsTable, TableView, read_table
from lsst.meas.finalize.afw.fits._writer import PRIMARY_HDU, encode_table, write_file
from lsst.meas.finalize.catalogs import Field, Schema, SourceCatalog

_SCALARS = ("B", "U", "I", "L", "F", "D", "Angle", "Flag")
_ARRAYS = ("ArrayB", "ArrayU", "ArrayI", "ArrayF", "ArrayD")
_NAMES = st.lists(
    st.from_regex(r"[a-z][a-zA-Z0-9_]{0,40}", fullmatch=True), min_size=1, max_size=8, unique=True
)
_DOCS = ("", "it's what it is", "long " * 20 + ".")
_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), max_size=6)


def _read(data: bytes, number: int = 1) -> FitsTable:
    with fits.open(io.BytesIO(data)) as hdulist:
        return read_table(hdulist, number)


def _column(draw: st.DrawFn, field: Field, n: int) -> np.ndarray:
    if field.type == "String":
        values = draw(st.lists(_TEXT, min_size=n, max_size=n))
        return np.array(values, dtype=object if not field.size else f"U{field.size}")
    raw = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = field.size if field.is_array else 1

    def some(k: int) -> np.ndarray:
        if field.type == "Flag":
            return raw.integers(0, 2, k).astype(bool)
        # Random bits reach all values, with infinities and NaN.
        return np.frombuffer(raw.bytes(k * field.dtype.itemsize), dtype=field.dtype)

    if field.is_array and not field.size:
        column = np.empty(n, dtype=object)
        for i in range(n):
            column[i] = some(int(raw.integers(0, 5)))
        return column
    return some(n * count).reshape((n, count) if field.is_array else (n,))


@st.composite
def _tables(draw: st.DrawFn) -> tuple[Schema, dict[str, np.ndarray], int]:
    n = draw(st.integers(0, 5))
    schema = Schema()
    for name in draw(_NAMES):
        kind = draw(st.sampled_from((*_SCALARS, *_ARRAYS, "String")))
        size = 0
        if kind == "String":
            size = draw(st.sampled_from((0, 24)))
        elif kind in _ARRAYS:
            size = draw(st.sampled_from((0, 1, 3)))
        unit = "rad" if kind == "Angle" else "" if kind == "Flag" else draw(st.sampled_from(("", "pixel")))
        schema.add_field(
            name,
            kind,
            doc=draw(st.sampled_from(_DOCS)),
            unit=unit,
            size=size,
        )
    return schema, {f.name: _column(draw, f, n) for f in schema}, n


def _assert_same(found: np.ndarray, expected: np.ndarray, field: Field) -> None:
    if found.dtype == object:
        for one, other in zip(found, expected, strict=True):
            if field.type == "String":
                assert one == other
            else:
                assert np.asarray(one).tobytes() == np.asarray(other, dtype=field.dtype).tobytes()
    else:
        assert found.shape == expected.shape
        assert found.tobytes() == expected.astype(found.dtype).tobytes()


@settings(max_examples=80, deadline=None)
@given(_tables())
def test_schema_and_columns_survive(table: tuple[Schema, dict[str, np.ndarray], int]) -> None:
    """Read back what was written, bit by bit."""
    schema, columns, n = table
    found_schema, found = table_schema(_read(PRIMARY_HDU + encode_table(schema, columns, n)))
    assert found_schema.fields == schema.fields
    for field in schema:
        _assert_same(found[field.name], columns[field.name], field)


@settings(max_examples=40, deadline=None)
@given(_tables())
def test_catalogues_of_any_fields_survive(table: tuple[Schema, dict[str, np.ndarray], int]) -> None:
    """Read back whole catalogues, and write them to the same bytes."""
    extra, columns, n = table
    assume(not set(extra.names) & set(Schema.source_minimal().names))
    schema = Schema((*Schema.source_minimal().fields, *extra.fields))
    catalog = SourceCatalog(schema, columns | {"id": np.arange(2**63 - n, 2**63, dtype=np.uint64)})
    with tempfile.TemporaryDirectory() as directory:
        one, two = (Path(directory) / name for name in ("one.fits", "two.fits"))
        write_source_catalog(catalog, one)
        found = read_source_catalog(one)
        write_source_catalog(found, two)
        assert one.read_bytes() == two.read_bytes()
    assert found.schema == schema
    for field in schema:
        _assert_same(found[field.name], catalog[field.name], field)


@settings(max_examples=40, deadline=None)
@given(_tables())
def test_astropy_reads_the_same(table: tuple[Schema, dict[str, np.ndarray], int]) -> None:
    """Compare with astropy as independent reader."""
    schema, columns, n = table
    with fits.open(io.BytesIO(PRIMARY_HDU + encode_table(schema, columns, n))) as hdulist:
        hdulist.verify("exception")
        if n == 0:
            assert hdulist[1].header["NAXIS2"] == 0
            return
        data = hdulist[1].data
        flags = [f.name for f in schema if f.type == "Flag"]
        for i, name in enumerate(flags):
            np.testing.assert_array_equal(data["flags"].reshape(n, -1)[:, i], columns[name])
        for field in schema:
            if field.type not in ("Flag", "String") and not (field.is_array and field.size == 0):
                values = np.asarray(data[field.name]).astype(field.dtype).reshape(columns[field.name].shape)
                np.testing.assert_array_equal(values, columns[field.name])


def test_golden_tables_are_reproduced_byte_by_byte(tiny: Path) -> None:
    """Decode and encode every afw table the stack wrote."""
    n_tables = 0
    for path in sorted(tiny.rglob("*.fits")):
        raw = path.read_bytes()
        with fits.open(path) as hdulist:
            for number, hdu in enumerate(hdulist):
                if "AFW_TABLE_VERSION" not in hdu.header:
                    continue
                n_tables += 1
                table = read_table(hdulist, number)
                encoded = encode_table(*table_schema(table), len(table))
                info = hdu.fileinfo()
                data = raw[info["datLoc"] : info["datLoc"] + info["datSpan"]]
                # Headers are equal up to the cards that follow the fields.
                assert encoded[len(encoded) - len(data) :] == data, f"{path}[{number}]"
                cards = encoded[: encoded.index(b"END" + b" " * 77)]
                assert raw[info["hdrLoc"] :].startswith(cards), f"{path}[{number}]"
    assert n_tables >= 90


def test_layout_of_flags_between_fields() -> None:
    """Put flag cards where the stack's record layout needs them."""
    schema = Schema(
        (
            Field("calibrationMean", "D"),
            Field("calibrationErr", "D"),
            Field("isConstant", "Flag"),
            Field("field", "I"),
            Field("version", "I"),
        )
    )
    columns: dict[str, Any] = {f.name: f.make_column(1) for f in schema}
    table = _read(PRIMARY_HDU + encode_table(schema, columns, 1))
    assert table.names == schema.names
    keys = [key for key, _, _ in table.cards if key.startswith(("TTYPE", "TFLAG"))]
    assert keys == ["TTYPE1", "TTYPE2", "TTYPE3", "TFLAG1", "TTYPE4", "TTYPE5"]


def _simple() -> bytes:
    schema = Schema((Field("a", "I"), Field("f", "Flag"), Field("v", "ArrayF"), Field("s", "String", size=4)))
    v = np.empty(3, dtype=object)
    for i in range(3):
        v[i] = np.arange(i, dtype=np.float32)
    columns = {"a": np.arange(3), "f": np.array([True, False, True]), "v": v, "s": np.array(["x", "", "yz"])}
    return PRIMARY_HDU + encode_table(schema, columns, 3, [("AFW_TABLE_VERSION", 3, "")])


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("NAXIS2", "1000000000000", "announces .* the file has only"),
        ("NAXIS2", "-3", "NAXIS2 must be a non-negative|unreadable HDU"),
        ("PCOUNT", "4611686018427387904", "announces .* the file has only"),
        ("TFORM2", f"'{'9' * 19}J'", r"column 2 \('a'\) has the invalid TFORM"),
        ("NAXIS1", "2000000000000", "the columns take 25 bytes per row"),
        ("TFORM2", "'999999999999J'", "bytes per row, but NAXIS1"),
        ("TFORM2", "'rubbish'", r"column 2 \('a'\) has the invalid TFORM"),
        ("TFORM2", "'2QJ'", r"column 2 \('a'\) has the unsupported TFORM"),
        ("TFIELDS", "40", "column 5 has no cards"),
        ("TTYPE4", "'a'", r"duplicate column or flag names \['a'\]"),
        ("FLAGCOL", "3", "FLAGCOL is 3, which is no column of bits"),
        ("FLAGCOL", "77", "FLAGCOL is 77"),
        ("XTENSION", "'IMAGE'", "not a binary table"),
    ],
)
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
def test_lying_headers_are_refused(edit_card: Callable[..., bytes], key: str, value: str, match: str) -> None:
    """Refuse impossible sizes before anything is allocated."""
    data = edit_card(_simple(), 1, key, value)
    with pytest.raises(FitsFormatError, match=match) as info:
        _read(data)
    assert "HDU 1" in str(info.value)


@pytest.mark.parametrize("kind", ["ArrayB", "ArrayD"])
def test_columns_may_be_changed_if_copied(kind: str) -> None:
    """Copy arrays of variable length, or share them as they are."""
    schema = Schema((Field("a", kind), Field("n", "I")))
    rows = np.empty(2, dtype=object)
    rows[:] = [np.arange(3), np.arange(5)]
    table = _read(PRIMARY_HDU + encode_table(schema, {"a": rows, "n": np.arange(2)}, 2))
    columns, shared = table_schema(table)[1], table_schema(table, copy=False)[1]
    columns["a"][1][:], columns["n"][:] = 7, 7
    assert [values.tolist() for values in shared["a"]] == [[0, 1, 2], [0, 1, 2, 3, 4]]
    assert shared["n"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        shared["n"][0] = 7


def test_rows_without_bytes_are_refused() -> None:
    """Refuse any number of rows that cost the file nothing."""
    schema = Schema((Field("s", "String", size=4),))
    empty = PRIMARY_HDU + encode_table(schema, {"s": np.array([], dtype="U4")}, 0)
    cards = {b"NAXIS1  =                    4": b"NAXIS1  =                    0", b"'4A  ": b"'0A  "}
    cards[b"NAXIS2  =                    0"] = b"NAXIS2  =        1000000000000"
    for old, new in cards.items():
        assert empty.count(old) == 1
        empty = empty.replace(old, new)
    with pytest.raises(FitsFormatError, match="1000000000000 rows, but NAXIS1 is 0"):
        _read(empty)


@pytest.mark.parametrize("kind", ["Point", "Coord", "Covariance"])
@pytest.mark.parametrize(("code", "values"), [("2A", ["ab"]), ("2L", [[True, False]]), ("2C", [[1j, 2]])])
def test_compound_columns_of_other_types_are_none(kind: str, code: str, values: list[Any]) -> None:
    """Take a column for what it is where a compound can't be."""
    hdu = fits.BinTableHDU.from_columns([fits.Column("p", code, array=np.array(values))])
    hdu.header["TCCLS1"] = kind
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    schema, _ = table_schema(_read(buffer.getvalue()))
    assert schema.names == (("p",) if code == "2A" else ())


def test_missing_hdus_and_truncation_are_refused() -> None:
    """Name the HDU that isn't there or isn't complete."""
    data = _simple()
    with pytest.raises(FitsFormatError, match=r"HDU 2\]: the file has only 2 HDUs"):
        _read(data, 2)
    with pytest.raises(FitsFormatError, match="HDU 1"), pytest.warns(match="truncated"):
        _read(data[:-2870])


@pytest.mark.parametrize(("count", "offset"), [(2**40, 0), (-1, 0), (1, -4), (1, 2**62), (2, 8)])
def test_heap_descriptors_are_checked(count: int, offset: int) -> None:
    """Refuse rows of variable length outside of the heap."""
    data = bytearray(_simple())
    table = _read(bytes(data))
    column = table.item("v")
    start = len(data) - 2880 + 2 * table.layout.row_bytes + column.offset
    data[start : start + 16] = np.array([count, offset], dtype=">i8").tobytes()
    damaged = _read(bytes(data))
    np.testing.assert_array_equal(damaged.column("a"), [0, 1, 2])
    with pytest.raises(FitsFormatError, match="row 2 of column 'v'"):
        damaged.column("v")


def test_overlapping_heap_rows_are_refused() -> None:
    """Refuse many rows pointing to the same large block."""
    data = bytearray(_simple())
    table = _read(bytes(data))
    column = table.item("v")
    for row in range(3):
        start = len(data) - 2880 + row * table.layout.row_bytes + column.offset
        data[start : start + 16] = np.array([3, 0], dtype=">i8").tobytes()
    with pytest.raises(FitsFormatError, match="overlap"):
        _read(bytes(data)).ragged("v")


def test_unknown_columns_are_named() -> None:
    """Name the column asked for and those there are."""
    table = _read(_simple())
    with pytest.raises(FitsFormatError, match=r"no column 'zz' \(columns: a, f, v, s\)"):
        table.column("zz")
    with pytest.raises(FitsFormatError, match="rows 2 to 3 are outside of the 3 rows"):
        TableView(table, 2, 2)
    assert TableView(table, 1).get("zz") is None
    np.testing.assert_array_equal(TableView(table, 1)["s"], ["", "yz"])


def test_logical_columns_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """Leave out columns afw has no type for, with a warning."""
    columns = [fits.Column("id", "1K", array=[1]), fits.Column("ok", "1L", array=[True])]
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(buffer)
    schema, _ = table_schema(_read(buffer.getvalue()))
    assert schema.names == ("id",)
    assert "skipping column 'ok' of type 'L'" in caplog.text


def test_angles_must_be_radians() -> None:
    """Refuse angles in degrees."""
    hdu = fits.BinTableHDU.from_columns([fits.Column("ra", "1D", array=[1.0], unit="deg")])
    hdu.header["TCCLS1"] = "Angle"
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    with pytest.raises(FitsFormatError, match="angle 'ra' has type 'D' and unit 'deg'"):
        table_schema(_read(buffer.getvalue()))


@pytest.mark.filterwarnings("ignore:Keyword name")
def test_old_tables_get_current_names() -> None:
    """Expand compound columns and alias old names (spec 02 §4.5)."""
    hdu = fits.BinTableHDU.from_columns(
        [
            fits.Column("flags", "2X", array=np.array([[True, False]])),
            fits.Column("centroid_sdss", "2D", array=np.array([[3.0, 4.0]])),
            fits.Column("centroid_sdss_err", "3E", array=np.array([[4.0, 0.5, 9.0]])),
            fits.Column("coord", "2D", array=np.array([[0.1, 0.2]])),
            fits.Column("flux_psf", "1D", array=[5.0], unit="dn"),
        ]
    )
    hdu.header["FLAGCOL"] = 1
    hdu.header["TFLAG1"] = "flux_psf_flags"
    hdu.header["TFLAG2"] = "flags_pixel_edge"
    for number, kind in ((2, "Point"), (3, "Covariance(Point)"), (4, "Coord"), (5, "Scalar")):
        hdu.header[f"TCCLS{number}"] = kind
    hdu.header["AFW_TYPE"] = "SOURCE"
    hdu.header["PSF_FLUX_SLOT"] = "flux.psf"
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    schema, columns = table_schema(_read(buffer.getvalue()))
    assert schema["coord_ra"].type == "Angle"
    assert columns["centroid_sdss_y"] == [4.0]
    assert columns["centroid_sdss_xErr"] == [2.0]
    assert columns["centroid_sdss_yErr"] == [3.0]
    assert columns["centroid_sdss_x_y_Cov"] == [0.5]
    assert schema.resolve("centroid_sdss_err_x_y_Cov") == "centroid_sdss_x_y_Cov"
    assert schema.resolve("slot_PsfFlux") == "flux_psf"
    assert schema.resolve("flux_psf_instFlux") == "flux_psf"
    assert schema.resolve("flux_psf_flags") == "flux_psf_flag"
    assert schema.resolve("flags_pixel_edge") == "flag_pixel_edge"
    assert columns["flux_psf_flag"] == [True]


@pytest.mark.filterwarnings("ignore:Keyword name")
def test_version_two_fluxes_get_current_names() -> None:
    """Alias fluxes and uncertainties of table versions 1 and 2."""
    hdu = fits.BinTableHDU.from_columns(
        [
            fits.Column("base_PsfFlux_flux", "1D", array=[5.0], unit="count"),
            fits.Column("base_PsfFlux_fluxSigma", "1D", array=[1.0], unit="count"),
        ]
    )
    hdu.header["AFW_TABLE_VERSION"] = 1
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    schema, _ = table_schema(_read(buffer.getvalue()))
    assert schema.resolve("base_PsfFlux_instFlux") == "base_PsfFlux_flux"
    assert schema.resolve("base_PsfFlux_instFluxErr") == "base_PsfFlux_fluxSigma"


def test_metadata_keeps_repeated_cards() -> None:
    """Collect metadata, leaving out the cards of the format."""
    cards: list[tuple[str, Any, str]] = [
        ("COMMENT", "one", ""),
        ("COMMENT", "two", ""),
        ("LSST BUTLER ID", "abc", "id"),
        ("MULTI", [1, 2], ""),
        ("EMPTY", None, ""),
        ("ALIAS", "b:a", ""),
    ]
    table = _read(PRIMARY_HDU + encode_table(Schema((Field("a", "I"),)), {"a": np.zeros(1)}, 1, cards))
    assert table_metadata(table) == {
        "COMMENT": ["one", "two"],
        "LSST BUTLER ID": "abc",
        "MULTI": [1, 2],
        "EMPTY": None,
    }


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({}, "no values for field 'a'"),
        ({"a": np.array(["abc"]), "b": np.zeros((1, 2))}, "'abc'.* is longer than the 2 bytes of field 'a'"),
        (
            {"a": np.array(["ab"]), "b": np.zeros((1, 3))},
            r"'b' has values of shape \(1, 3\) instead",
        ),
    ],
)
def test_unsuitable_columns_are_refused(columns: dict[str, np.ndarray], match: str) -> None:
    """Refuse to write columns that don't fit their fields."""
    schema = Schema((Field("a", "String", size=2), Field("b", "ArrayD", size=2)))
    with pytest.raises(ValueError, match=match):
        encode_table(schema, columns, 1)


def test_files_are_written_completely_or_not_at_all(tmp_path: Path) -> None:
    """Keep the old file, and nothing else, when writing fails."""
    path = tmp_path / "a.fits"
    path.write_bytes(b"old")

    def fail() -> Any:
        yield b"new"
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        write_file(path, fail())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_file(path, [b"n", b"ew"])
    assert path.read_bytes() == b"new"


def test_errors_of_writing_name_the_file(tmp_path: Path) -> None:
    """Name the file that was given, not the temporary one, nor one in place
    of another that is read meanwhile.
    """
    folder = tmp_path / "folder"
    folder.mkdir()
    for path, error in ((tmp_path / "none/a.fits", FileNotFoundError), (folder, IsADirectoryError)):
        with pytest.raises(error) as info:
            write_file(path, [b"new"])
        assert (info.value.filename, info.value.filename2) == (str(path), None)
    with pytest.raises(FileNotFoundError) as info:
        write_file(tmp_path / "a.fits", (Path(name).read_bytes() for name in ["input"]))
    assert info.value.filename == "input"
    assert list(tmp_path.iterdir()) == [folder]
