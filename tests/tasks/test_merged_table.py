# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of merging the star tables of detectors."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.table import MaskedColumn, Table

from lsst.daf.butler.formatters.parquet import arrow_to_astropy, astropy_to_arrow
from lsst.meas.finalize.tasks._merged_table import _concatenate


def concatenate(tables: Iterable[pa.Table]) -> Table:
    """Put together tables whose number is told beforehand."""
    named = [(f"table {i}", table) for i, table in enumerate(tables)]
    return _concatenate(named, len(named))


def make_table(n: int, detector: int = 0, text: str = "g-i", **columns: type) -> pa.Table:
    """Make a star table."""
    table = Table(
        {"id": np.arange(n), "detector": np.full(n, detector), "color": np.full(n, text, dtype="U5")}
    )
    for name, dtype in columns.items():
        table[name] = np.zeros(n, dtype=dtype)
    return astropy_to_arrow(table)


@pytest.mark.parametrize("n", [1, 16, 35])
def test_tables_are_concatenated_in_order(n: int) -> None:
    """Put together tables of different length, some empty."""
    merged = concatenate(make_table(d % 3, d) for d in range(n))
    assert merged["detector"].tolist() == [d for d in range(n) for _ in range(d % 3)]
    assert merged["id"].tolist() == [i for d in range(n) for i in range(d % 3)]
    assert merged["color"].dtype == "U5"


def test_empty_tables_keep_their_columns() -> None:
    """Put together tables without rows."""
    assert concatenate([make_table(0), make_table(0, extra=float)]).colnames == ["id", "detector", "color"]
    merged = concatenate([make_table(0), make_table(2, extra=float), make_table(0)])
    assert merged.colnames == ["id", "detector", "color", "extra"]


def test_tables_are_dropped_once_copied() -> None:
    """Keep no table while the next one is read."""
    alive: list[weakref.ref[pa.Table]] = []

    def read() -> Iterator[tuple[object, pa.Table]]:
        for detector in range(4):
            assert [ref() for ref in alive] == [None] * detector
            table = make_table(9, detector)
            alive.append(weakref.ref(table))
            yield detector, table
            del table

    assert len(_concatenate(read(), 4)) == 36
    assert len(alive) == 4


def test_tables_that_differ_are_refused() -> None:
    """Name columns of other names or types, lengths of text, and order."""
    with pytest.raises(TypeError, match=r"differ in columns \['extra'\]: table 2 from"):
        concatenate([make_table(1), make_table(0), make_table(1, extra=float)])
    with pytest.raises(TypeError, match=r"differ in columns \['extra'\]"):
        concatenate([make_table(1, extra=np.float32), make_table(1, extra=float)])
    longer = Table({"id": [1], "detector": [1], "color": np.array(["g-i"], dtype="U7")})
    with pytest.raises(TypeError, match=r"differ in columns \['color'\]"):
        concatenate([make_table(1), astropy_to_arrow(longer)])
    with pytest.raises(TypeError, match="differ in the order of columns"):
        concatenate([make_table(1), make_table(1).select(["detector", "id", "color"])])


def make_wide(n: int, start: int, masked: bool = False, seed: int = 0) -> pa.Table:
    """Make a table with columns of all sorts."""
    rng = np.random.default_rng(seed)
    table = Table({"id": np.arange(start, start + n, dtype=np.int64)})
    for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64"):
        table[name] = rng.integers(0, 100, n).astype(name)
    for name in ("float16", "float32", "float64"):
        table[name] = rng.random(n).astype(name)
        table[name][::3] = np.nan
    for i in range(11):
        table[f"flag{i}"] = rng.random(n) < 0.5
    for name, dtype in (("text", "U7"), ("long", "U1001"), ("bytes", "S3")):
        table[name] = rng.integers(0, 999, n).astype(dtype)
    table["time"] = rng.integers(0, 10**9, n).astype("M8[us]")
    table["pair"] = rng.random((n, 2))
    table["float64"].unit = u.nJy
    table["float32"].description = "a number"
    table["flag3"].description = "a flag"
    table["int8"].format = "3d"
    table.meta = {"where": "there", "list": [1, 2]}
    if masked:
        for name in ("float64", "flag3", "int32", "text", "uint8"):
            table[name] = MaskedColumn(table[name], mask=rng.random(n) < 0.3)
    return astropy_to_arrow(table)


def without_yaml(table: pa.Table) -> pa.Table:
    """Return a table as the butler does."""
    metadata = {key: value for key, value in table.schema.metadata.items() if key != b"table_meta_yaml"}
    return table.replace_schema_metadata(metadata)


def from_pandas(table: pa.Table) -> pa.Table:
    """Return what pandas makes of a table."""
    return pa.Table.from_pandas(table.drop_columns(["pair", "float16"]).to_pandas())


def in_pieces(table: pa.Table) -> pa.Table:
    """Return a table whose columns are in pieces that differ."""
    columns = []
    for i, column in enumerate(table.columns):
        cuts = sorted({0, i % 7, 3 * i % 11, len(column)} & set(range(len(column) + 1)))
        chunks = [column.slice(a, b - a) for a, b in zip(cuts, cuts[1:], strict=False)]
        columns.append(pa.chunked_array([c for chunk in chunks for c in chunk.chunks], type=column.type))
    return pa.table(columns, schema=table.schema)


FORMS: dict[str, Any] = {
    "as written": lambda t: t,
    "as the butler reads": without_yaml,
    "pandas": from_pandas,
    "no metadata": lambda t: t.drop_columns(["pair"]).replace_schema_metadata(None),
    "in pieces": in_pieces,
    "sliced": lambda t: pa.concat_tables([t, t, t]).combine_chunks().slice(len(t) // 3, 2 * len(t)),
    "dictionary": lambda t: t.set_column(1, "int8", t["int8"].dictionary_encode()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("masked", ["", "all", "late"])
def test_the_result_is_the_butlers(form: str, masked: str) -> None:
    """Get the table that the butler would make of all rows."""
    if form == "pandas" and masked:
        pytest.skip("pandas gives integers another type only where there are gaps")
    sizes = [0, 13, 1, 40, 0, 7, 300]
    tables = [
        FORMS[form](make_wide(n, 1000 * i, masked == "all" or (masked == "late" and i == 5), seed=i))
        for i, n in enumerate(sizes)
    ]
    got = concatenate(tables)
    expected = arrow_to_astropy(pa.concat_tables(filter(len, tables)).combine_chunks())
    assert got.colnames == expected.colnames
    assert got.meta == expected.meta
    for name in expected.colnames:
        column, true = got[name], expected[name]
        assert type(column) is type(true), name
        assert column.dtype == true.dtype
        assert (column.unit, column.description, column.format) == (true.unit, true.description, true.format)
        assert column.meta == true.meta
        assert column.flags.writeable
        assert np.array_equal(np.ma.getmaskarray(column), np.ma.getmaskarray(true)), name
        assert repr(column.tolist()) == repr(true.tolist()), name
        if isinstance(true, MaskedColumn):
            assert np.array_equal(column.fill_value, true.fill_value, equal_nan=true.dtype.kind == "f")


def test_columns_that_are_there_twice_are_refused() -> None:
    """Name a column whose name another one has."""
    table = make_table(2)
    twice = table.append_column("id", table["detector"])
    with pytest.raises(KeyError, match="id"):
        concatenate([twice, twice])
