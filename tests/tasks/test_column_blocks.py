# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of putting columns together as tables come."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from lsst.meas.finalize.tasks import _column_blocks
from lsst.meas.finalize.tasks._column_blocks import ColumnBlocks


def make_table(n: int, start: int = 0, gaps: bool = False) -> pa.Table:
    """Make a table of a number, a flag and a text."""
    numbers = np.arange(start, start + n)
    gap = np.full(n, gaps) & (numbers % 3 == 0)
    return pa.table(
        {
            "number": pa.array(numbers / 2, mask=gap),
            "flag": pa.array(numbers % 2 == 0),
            "text": pa.array([f"t{i}" for i in numbers], type=pa.string()),
        }
    )


@pytest.mark.parametrize("n_tables", [0, 1, 40, 1000])
@pytest.mark.parametrize("at_once", [7, 2**14])
def test_rows_are_kept_however_many_were_expected(
    n_tables: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grow by tables of very different length, read in pieces."""
    monkeypatch.setattr(_column_blocks, "_AT_ONCE", at_once)
    sizes = [1, 500, 3, 20, 800, 0, 9] * 5
    starts = np.cumsum([0, *sizes])
    blocks = ColumnBlocks(make_table(0).schema, n_tables)
    for n, start in zip(sizes, starts[:-1].tolist(), strict=True):
        blocks.append(make_table(n, start))
    columns = blocks.columns()
    numbers = np.arange(starts[-1])
    assert list(columns) == ["number", "flag", "text"]
    assert np.array_equal(columns["number"], numbers / 2)
    assert np.array_equal(columns["flag"], numbers % 2 == 0)
    assert columns["text"].tolist() == [f"t{i}" for i in numbers]


def test_gaps_that_come_late_mask_a_column() -> None:
    """Keep the rows so far of a column with gaps in later tables."""
    blocks = ColumnBlocks(make_table(0).schema, 3)
    for start, gaps in ((0, False), (100, True), (200, False)):
        blocks.append(make_table(100, start, gaps))
    columns = blocks.columns()
    numbers = np.arange(300)
    masked = (numbers % 3 == 0) & (numbers // 100 == 1)
    assert np.array_equal(columns["number"].mask, masked)
    assert np.array_equal(columns["number"].data[~masked], (numbers / 2)[~masked])
    assert not np.ma.isMaskedArray(columns["flag"])


def test_a_long_table_does_not_fill_the_memory() -> None:
    """Expect no more rows than fit, if the first table is unlike the rest."""
    blocks = ColumnBlocks(pa.schema({"a": pa.float64()}), 10**6)
    tracemalloc.start()
    try:
        blocks.append(pa.table({"a": np.zeros(10**5)}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # As many as that for each table would be 800 GB.
    assert peak < 1.1 * 2**30
    assert len(blocks.columns()["a"]) == 10**5
