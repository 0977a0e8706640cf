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
from decimal import Decimal
from typing import Any

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.masked import Masked
from hypothesis import given
from hypothesis import strategies as st

from lsst.meas.finalize.stars import OutsideTable

BIG = 2**60  # like real ids: floats of this size are 256 apart
type Make = Callable[[list[int]], Any]

EXACT: dict[str, Make] = {
    "int64": lambda v: np.array(v, np.int64),
    "uint64": lambda v: np.array(v, np.uint64),
    "big-endian": lambda v: np.array(v, ">i8"),
    "strided": lambda v: np.repeat(np.array(v), 2)[::2],
    "list": list,
    "objects": lambda v: np.array(v, object),
    "decimals": lambda v: np.array([Decimal(i) for i in v], object),
    "text": lambda v: np.array([str(i) for i in v]),
    "bytes": lambda v: np.array([str(i).encode() for i in v]),
    "text objects": lambda v: np.array([str(i) for i in v], object),
    "masked column": lambda v: MaskedColumn(v, mask=[False] * len(v)),
    "masked array": lambda v: np.ma.array(v),
    "column with unit": lambda v: Column(v, unit="ct"),
    "integer quantity": lambda v: u.Quantity(np.array(v), u.one, dtype=np.int64),
    "pandas": pd.Series,
    "pandas Int64": lambda v: pd.array(v, dtype="Int64"),
    "pandas Arrow": lambda v: pd.Series(v, dtype="int64[pyarrow]"),
    "pandas category": lambda v: pd.Series(pd.Categorical(v)),
    "pandas string": lambda v: pd.Series([str(i) for i in v], dtype="string"),
    "arrow": pa.array,
    "arrow chunks": lambda v: pa.chunked_array([v[:1], v[1:]]),
    "arrow dictionary": lambda v: pa.array(v).dictionary_encode(),
    "arrow dictionary of text": lambda v: pa.array([str(i) for i in v]).dictionary_encode(),
    "arrow large_string": lambda v: pa.array([str(i) for i in v], pa.large_string()),
    "arrow string_view": lambda v: pa.array([str(i) for i in v], pa.string_view()),
    "arrow decimal": lambda v: pa.array([Decimal(i) for i in v], pa.decimal128(20, 0)),
}
INEXACT: dict[str, Make] = {
    "float64": lambda v: np.array(v, np.float64),
    "float quantity": lambda v: np.array(v) * u.one,
    "scientific text": lambda v: np.array([f"{i:.17e}" for i in v]),
    "grouped text": lambda v: np.array([f"{i:_}" for i in v]),
    "bool": lambda v: np.array(v, bool),
    "times": lambda v: np.array(v, "M8[ns]"),
    "durations": lambda v: pa.array(v, pa.duration("ns")),
    "complex": lambda v: np.array(v, complex),
    "two per row": lambda v: np.array([v, v]).T,
    "lists": lambda v: pa.array([[i] for i in v]),
    "a gap": lambda v: MaskedColumn(v, mask=[i == v[1] for i in v]),
    "a gap in a quantity": lambda v: Masked(u.Quantity(v, dtype=np.int64), mask=[i == v[1] for i in v]),
    "None": lambda v: np.array([v[0], None, *v[2:]], object),
    "a fraction": lambda v: np.array([v[0], Decimal("1.5"), *v[2:]], object),
    "NaN": lambda v: np.array([1.0, np.nan, *range(len(v) - 2)]),
    "half": lambda v: np.array([1.0, 0.5, *range(len(v) - 2)]),
    "pandas Int64 with NA": lambda v: pd.array([v[0], None, *v[2:]], dtype="Int64"),
    "pandas category with NA": lambda v: pd.Series(pd.Categorical([v[0], None, *v[2:]])),
    "arrow null": lambda v: pa.array([v[0], None, *v[2:]]),
    "arrow null in dictionary": lambda v: pa.array([v[0], None, *v[2:]]).dictionary_encode(),
    "arrow nulls only": lambda v: pa.nulls(len(v)),
    "above int64": lambda v: np.array([i + 2**63 for i in v], np.uint64),
    "objects above int64": lambda v: np.array([i + 2**63 for i in v], object),
}


def contain(column: Any) -> list[Any]:
    """Return tables of all kinds that can hold a column."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return [pa.table({"key": column}), {"key": column}]
    if isinstance(column, pd.Series | pd.api.extensions.ExtensionArray):
        frame = pd.DataFrame({"key": column})
        return [frame, frame.set_index("key"), {"key": column}, frame.iloc[::-1].sort_index()]
    tables: list[Any] = [Table({"key": column}), {"key": column}]
    # A QTable makes float quantities of integers with a unit.
    if not (isinstance(column, Column) and column.unit is not None and column.dtype.kind == "i"):
        tables.append(QTable({"key": column}))
    # NumPy's own records drop masks and units of what they are made of.
    if type(column) is np.ndarray and column.ndim == 1:
        tables.append(np.rec.fromarrays([column], names="key"))
    return tables


@pytest.mark.parametrize("kind", EXACT)
def test_exact_keys_are_the_same_in_any_form(kind: str) -> None:
    """Return the very integers, though floats couldn't tell them apart."""
    values = [BIG + 1, BIG, BIG + 3, BIG + 2]
    for table in contain(EXACT[kind](values)):
        keys = OutsideTable(table, "stars of tract 4").keys("key")
        assert keys.dtype == np.int64
        assert keys.dtype.isnative
        assert keys.tolist() == values


@pytest.mark.parametrize("kind", INEXACT)
def test_inexact_keys_are_refused_by_name(kind: str) -> None:
    """Name table and column of what could be another number."""
    for table in contain(INEXACT[kind]([BIG + 1, BIG, BIG + 3, BIG + 2])):
        with pytest.raises(ValueError, match="'key' of stars of tract 4|stars of tract 4 can't be read"):
            OutsideTable(table, "stars of tract 4").keys("key")


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u1", "u2", "u4", ">i2", ">u4"])
def test_small_integers_keep_their_type(dtype: str) -> None:
    """Keep the type, in native order."""
    keys = OutsideTable({"key": np.array([1, 2], dtype)}, "t").keys("key")
    assert keys.dtype == np.dtype(dtype).newbyteorder("=")
    assert keys.tolist() == [1, 2]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8), st.sampled_from([np.float64, np.float32]))
def test_floats_are_exact_or_refused(values: list[int], dtype: type) -> None:
    """Take floats only if no other integer has the same float."""
    table = OutsideTable({"key": np.array(values, dtype)}, "t")
    limit = 2**53 if dtype is np.float64 else 2**24
    # Those above the limit that happen to be exact are in doubt as well.
    if all(abs(int(dtype(v))) < limit for v in values):
        assert table.keys("key").tolist() == values
    else:
        with pytest.raises(ValueError, match="float"):
            table.keys("key")


@given(st.lists(st.text(alphabet="0123456789+-_ .e\u0661", max_size=5), min_size=1, max_size=4))
def test_text_is_exact_or_refused(values: list[str]) -> None:
    """Take text that Python would write for integers, and no other."""
    table = OutsideTable({"key": np.array(values)}, "t")

    def plain(text: str) -> bool:
        return text.isascii() and text.lstrip("-").isdigit() and str(int(text)) == text

    if all(map(plain, values)):
        assert table.keys("key").tolist() == [int(v) for v in values]
    else:
        with pytest.raises(ValueError, match="not text"):
            table.keys("key")


MAGNITUDES: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda v: v,
    "float32": lambda v: v.astype(np.float32),
    "big-endian": lambda v: v.astype(">f4"),
    "masked with rubbish": lambda v: MaskedColumn(np.nan_to_num(v, nan=99.0), mask=np.isnan(v)),
    "masked array": lambda v: np.ma.array(np.nan_to_num(v), mask=np.isnan(v)),
    "quantity": lambda v: v * u.mag,
    "AB magnitudes": lambda v: v * u.ABmag,
    "column in AB": lambda v: Column(v, unit=u.ABmag),
    "millimagnitudes": lambda v: Column(v * 1024, unit=u.Unit("mag") / 1024),
    "unknown unit": lambda v: Column(v, unit=u.Unit("magnitudos", parse_strict="silent")),
    "masked quantity": lambda v: Masked(np.nan_to_num(v), mask=np.isnan(v)) * u.mag,
    "objects": lambda v: np.array([None if np.isnan(i) else float(i) for i in v], object),
    "pandas Float64": lambda v: pd.array(v, dtype="Float64"),
    "pandas Arrow": lambda v: pd.Series(v, dtype="double[pyarrow]"),
    "arrow": lambda v: pa.array(v, from_pandas=True),
    "arrow float32": lambda v: pa.array(v.astype(np.float32), from_pandas=True),
    "arrow dictionary": lambda v: pa.array(v, from_pandas=True).dictionary_encode(),
}


@pytest.mark.parametrize("kind", MAGNITUDES)
def test_numbers_are_nan_where_they_are_missing(kind: str) -> None:
    """Never let out what lies under a mask."""
    values = np.array([20.5, np.nan, 17.25])
    for table in contain(MAGNITUDES[kind](values)):
        outside = OutsideTable(table, "t")
        before = repr(table)
        got = outside.numbers("key", "mag")
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, values)
        assert repr(table) == before


@pytest.mark.parametrize(
    "column",
    [
        np.array(["20.5"]),
        np.array([True]),
        np.array([1j]),
        np.array([[1.0, 2.0]]),
        np.array(["2026-01-01"], "M8[D]"),
        [1.0] * u.nJy,
        Column([1.0], unit="deg"),
        np.array(["x"], object),
        pa.array(["x"]).dictionary_encode(),
    ],
)
def test_other_things_are_no_numbers(column: Any) -> None:
    """Refuse columns that aren't magnitudes, by name."""
    for table in contain(column):
        with pytest.raises(ValueError, match="'key' of fgcm of tract 7"):
            OutsideTable(table, "fgcm of tract 7").numbers("key", "mag")


def test_positions_are_converted() -> None:
    """Return degrees whatever the unit that the column tells."""
    for column in ([np.pi] * u.rad, Column([180 * 3600.0], unit="arcsec"), Column([180.0]), [180.0] * u.deg):
        got = OutsideTable({"key": column}, "t").numbers("key", "deg")
        np.testing.assert_allclose(got, 180.0, rtol=1e-15)


def test_flags() -> None:
    """Take booleans and 0 and 1."""
    expected = [True, False]
    for column in (expected, [1, 0], np.array([1.0, 0.0]), pa.array(expected), pd.array(expected, "boolean")):
        assert OutsideTable({"key": column}, "t").flags("key").tolist() == expected
    for column in ([2, 0], pa.array([True, None]), ["True", "False"]):
        with pytest.raises(ValueError, match="'key' of t"):
            OutsideTable({"key": column}, "t").flags("key")


def test_what_is_no_table_is_named() -> None:
    """Name the dataset that isn't a table at all."""
    for thing in (3, "text", pd.Series([1]), pa.array([1]), np.zeros(3), {"a": [1], "b": [1, 2]}):
        with pytest.raises(ValueError, match="stars of tract 4 can't be read"):
            OutsideTable(thing, "stars of tract 4")
    with pytest.raises(KeyError, match=r"stars of tract 4 has no columns \['key'\]"):
        OutsideTable({}, "stars of tract 4").keys("key")
