# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of fast conversion of wide tables to Arrow, against the butler's."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import astropy.table
import astropy.units as u
import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.daf.butler import Butler, DatasetType
from lsst.daf.butler.formatters.parquet import arrow_to_astropy, astropy_to_arrow
from lsst.meas.finalize.butler import ArrowTableFormatter, table_to_arrow
from lsst.meas.finalize.tasks._output import WideTable
from lsst.resources import ResourcePath

_DTYPES = ("f4", "f8", "i2", "i4", "i8", "u1", "?", "U1", "U7", ">f8", "(2,)f8", "S3")
_DESCRIPTIONS = (
    *(None, "", "Flux: 'x'", "two\nlines", "d" * 200, "1e3", "null", "- a", "#", "{x}", "wide " * 60),
    "\xe9 " + "it's " * 60,
)
_META = st.dictionaries(
    st.sampled_from(["NOISE", "COMMENT", "lsst.meta", "x: y"]),
    st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.lists(st.integers())),
    max_size=3,
)


def _assert_same(table: astropy.table.Table) -> None:
    expected, found = astropy_to_arrow(table), table_to_arrow(table)
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert found.schema.metadata == expected.schema.metadata
    for name in expected.column_names:
        assert found[name].to_pylist() == expected[name].to_pylist() or np.array_equal(
            found[name].to_numpy(), expected[name].to_numpy(), equal_nan=True
        )


@pytest.mark.parametrize("variant", ["default", "color"])
def test_golden_tables(tiny: Path, variant: str) -> None:
    """Convert a table that the stack wrote, with what it says of columns."""
    path = tiny / "expected" / variant / "detector_0/finalized_src_detector_table.parquet"
    _assert_same(WideTable(arrow_to_astropy(pyarrow.parquet.read_table(path)), copy=False))


@given(data=st.data(), rows=st.integers(0, 3), meta=_META)
@settings(max_examples=40, deadline=None)
def test_any_table(data: Any, rows: int, meta: dict[str, Any]) -> None:
    """Convert any columns, units, descriptions and metadata."""
    table = astropy.table.Table(meta=meta)
    for k, dtype in enumerate(data.draw(st.lists(st.sampled_from(_DTYPES), min_size=1, max_size=5))):
        column: Any = astropy.table.Column(
            np.zeros(rows, dtype=dtype),
            name=data.draw(st.sampled_from(["a", "it's", "b c"])) + str(k),
            unit=data.draw(st.sampled_from([None, "", "nJy", "pixel2", "count", "dn/s"])),
            description=data.draw(st.sampled_from(_DESCRIPTIONS) | st.text(max_size=9)),
            format=data.draw(st.sampled_from([None, "%.3f"])),
        )
        if data.draw(st.booleans()):
            column.meta["key"] = 1
        if column.ndim == 1 and data.draw(st.booleans()):
            column = astropy.table.MaskedColumn(column, mask=np.arange(rows) == 1)
        table[column.name] = column
    _assert_same(table)


@pytest.mark.parametrize("texts", [[], [""], ["", "g-i", ""], ["\u00e9\u4e2d\U0001f600", "a\0b", " "]])
def test_texts(texts: list[str]) -> None:
    """Convert texts of any length and script, or none at all."""
    _assert_same(astropy.table.Table({"t": np.array(texts, dtype="U4"), "i": np.arange(len(texts))}))


@pytest.mark.parametrize("text", [np.str_("A flux."), 0, False, b"bytes"])
def test_descriptions_that_are_no_plain_text(text: Any) -> None:
    """Convert what the butler converts, whether or not it is of type `str`."""
    table = astropy.table.Table({"x": [1.0]})
    table["x"].description = text
    _assert_same(table)
    table["x"].description = str(text)
    _assert_same(table)


def test_names_from_arrays() -> None:
    """Convert columns whose names are texts of NumPy."""
    for names in (np.array(["a", "b"]), ["a", "b"]):
        table = astropy.table.Table([[1.0], [2]], names=names)
        table["a"].name = names[0]
        _assert_same(table)


_WRITE = """
import sys
import astropy.table, numpy
from lsst.meas.finalize.butler import table_to_arrow
from lsst.meas.finalize.butler._arrow import _detector_bounds
import pyarrow.parquet

columns = {"detector": numpy.arange(3), "t": ["a", "", "c"], "x": numpy.ones(3), "f": numpy.ones(3, bool)}
table = table_to_arrow(astropy.table.Table(columns))
assert _detector_bounds(table) == [0, 3]
pyarrow.parquet.write_table(table, sys.argv[1])
assert "pandas" not in sys.modules
"""


def test_tables_are_written_without_pandas(tmp_path: Path) -> None:
    """Write a star table in a process that doesn't need pandas."""
    command = [sys.executable, "-c", _WRITE, str(tmp_path / "a.parq")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not result.returncode, result.stderr


def test_stored_table_names_the_butlers_formatter(tmp_path: Path) -> None:
    """Record a formatter that every client has."""
    Butler.makeRepo(str(tmp_path))
    table = astropy.table.Table({"x": np.arange(3)})
    table["x"].unit, table["x"].description = u.nJy, "A flux."
    with Butler.from_config(str(tmp_path), writeable=True, run="run") as butler:
        kind = DatasetType("table", butler.dimensions.empty, "ArrowAstropy")
        butler.registry.registerDatasetType(kind)
        butler.put(table, "table")
        back = butler.get("table")
    assert back["x"].unit == u.nJy
    assert back["x"].description == "A flux."
    with sqlite3.connect(tmp_path / "gen3.sqlite3") as connection:
        (name,) = connection.execute("SELECT formatter FROM file_datastore_records").fetchone()
    assert name == "lsst.daf.butler.formatters.parquet.ParquetFormatter"


@pytest.mark.parametrize(("sizes", "n_groups"), [((700, 0, 400, 20, 900), 2), ((5,), 1), ((), 1)])
def test_row_groups_end_with_detectors(tmp_path: Path, sizes: tuple[int, ...], n_groups: int) -> None:
    """Store tables of several detectors, few rows, and none."""
    detector = np.repeat(np.arange(len(sizes)), sizes)
    table = astropy.table.Table({"detector": detector, "flux": np.arange(len(detector)) * 1.5})
    ArrowTableFormatter.write_local_file(
        object.__new__(ArrowTableFormatter), table, ResourcePath(tmp_path / "t.parq")
    )
    stored = pyarrow.parquet.ParquetFile(tmp_path / "t.parq")
    assert arrow_to_astropy(stored.read()).values_equal(table).colnames == table.colnames
    groups = [set(stored.read_row_group(i)["detector"].to_pylist()) for i in range(stored.num_row_groups)]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert len(groups) == n_groups


@pytest.mark.parametrize("n_detectors", [1, 5])
def test_measured_numbers_have_no_dictionary(tmp_path: Path, n_detectors: int) -> None:
    """Make files of one and of several detectors smaller than by default."""
    rng = np.random.default_rng(1)
    n = 1000 * n_detectors
    table = astropy.table.Table({f"flux{i}": rng.random(n) for i in range(9)})
    table["pair"] = rng.random((n, 2))
    table["a.b"] = np.full(n, "text")
    table["detector"] = np.repeat(np.arange(n_detectors), 1000)
    path = tmp_path / "t.parq"
    ArrowTableFormatter.write_local_file(object.__new__(ArrowTableFormatter), table, ResourcePath(path))
    with pyarrow.parquet.ParquetFile(path) as stored:
        assert arrow_to_astropy(stored.read()).values_equal(table).colnames == table.colnames
        group = stored.metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    assert {c.path_in_schema for c in columns if c.has_dictionary_page} == {"a.b", "detector"}
    with_statistics = [c.path_in_schema for c in columns if c.is_stats_set]
    assert {"a.b", "detector"} <= set(with_statistics)
    # A single row group is read in any case.
    assert ("flux0" in with_statistics) == (n_detectors > 1)
    pyarrow.parquet.write_table(table_to_arrow(table), tmp_path / "default.parq")
    assert path.stat().st_size < 0.9 * (tmp_path / "default.parq").stat().st_size


def test_detectors_out_of_order_are_no_groups(tmp_path: Path) -> None:
    """Store a table that isn't sorted as the butler does."""
    table = astropy.table.Table({"detector": np.repeat([2, 1, 0], 1500)})
    path = tmp_path / "t.parq"
    ArrowTableFormatter.write_local_file(object.__new__(ArrowTableFormatter), table, ResourcePath(path))
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 1


def test_wide_table_notices_changes() -> None:
    """Remember the dtype only while the columns stay."""
    table = WideTable({"a": [1, 2], "b": [1.0, 2.0]})
    assert table.dtype == [("a", "i8"), ("b", "f8")]
    table["a"] = np.array([1, 2], dtype="i4")
    assert table.dtype == [("a", "i4"), ("b", "f8")]
    table.rename_column("b", "c")
    assert table.dtype.names == ("a", "c")
    table.remove_column("a")
    assert table.dtype.names == ("c",)
