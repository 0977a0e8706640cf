# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of what tables of detectors must agree in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table, vstack

from lsst.daf.butler.formatters.parquet import arrow_to_astropy, astropy_to_arrow
from lsst.meas.finalize.tasks._merged_table import _concatenate, merge_tables


def make(detector: int, unit: Any = None, text: str | None = None, **columns: Any) -> Table:
    """Make a star table of two rows."""
    table = Table({"detector": np.full(2, detector), "flux": np.arange(2) + 0.5, **columns})
    table["flux"].unit, table["flux"].description = unit, text
    return table


def merge_arrow(tables: list[Table]) -> Table:
    """Put tables together that come as a butler reads them."""
    return _concatenate([(f"table {i}", astropy_to_arrow(t)) for i, t in enumerate(tables)], len(tables))


def merge_in_memory(tables: list[Table]) -> Table:
    """Put tables together that nobody has stored."""
    return merge_tables(tables, lambda: None)


MERGERS = pytest.mark.parametrize("merge", [merge_arrow, merge_in_memory])


@MERGERS
@pytest.mark.parametrize("unit", [u.ct, u.uJy])
def test_other_units_are_refused(merge: Any, unit: u.UnitBase) -> None:
    """Put no numbers of different units into one column."""
    message = f"differ in the unit of column 'flux': table 3 has '{unit}' instead of 'nJy'"
    with pytest.raises(TypeError, match=message):
        merge([make(0, u.nJy)[:0], make(1, u.nJy), make(2), make(3, unit)])


@MERGERS
def test_a_unit_may_be_missing(merge: Any) -> None:
    """Take unit and description from the table that has them, by any name."""
    tables = [make(0), make(1), make(2, u.count, "A flux."), make(3, u.ct, "Another."), make(4)]
    merged = merge(tables)
    assert merged["flux"].unit == u.ct
    assert merged["detector"].tolist() == vstack(tables, metadata_conflicts="silent")["detector"].tolist()
    if merge is merge_arrow:  # astropy takes the last
        assert merged["flux"].description == "A flux."


@MERGERS
@pytest.mark.parametrize("shapes", [((2, 3), (3, 2)), ((6,), (2, 3)), ((2, 3), (6,))])
def test_other_shapes_are_refused(merge: Any, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Compare the shapes of rows, of which Arrow knows only how many."""
    tables = [make(i, moments=np.arange(12.0).reshape(2, *shape)) for i, shape in enumerate(shapes)]
    with pytest.raises(TypeError, match=r"differ in columns \['moments'\]: table 1"):
        merge(tables)
    assert np.array_equal(merge(tables[:1] * 2)["moments"], vstack(tables[:1] * 2)["moments"])


@MERGERS
def test_another_order_is_refused(merge: Any) -> None:
    """Say that it is the order in which tables differ."""
    with pytest.raises(TypeError, match="differ in the order of columns: table 1"):
        merge([make(0), make(1)["flux", "detector"]])


def test_tables_of_astropy_and_the_butler(tmp_path: Path) -> None:
    """Join what is told in two ways, and keep metadata that all have."""
    tables = []
    for i in range(3):
        table = make(i, u.nJy, "A flux.", color=["g-i", "a"])
        table.meta = {"NOISE": 3, "DETECTOR": i}
        table.write(tmp_path / f"{i}.parquet", format="parquet")
        tables.append(pq.read_table(tmp_path / f"{i}.parquet"))
    merged = _concatenate([(i, t) for i, t in enumerate(tables)], 3)
    assert merged.meta == {"NOISE": 3}
    assert (merged["flux"].unit, merged["flux"].description) == (u.nJy, "A flux.")
    butler = astropy_to_arrow(make(3, color=["g-i", "a"]))
    assert arrow_to_astropy(butler)["flux"].unit is None
    merged = _concatenate([(0, butler), (1, tables[0])], 2)
    assert merged["flux"].unit == u.nJy
    assert merged["color"].dtype == "U3"
    with pytest.raises(TypeError, match="differ in the unit of column 'flux': 1 has 'nJy' instead of 'uJy'"):
        _concatenate([(0, astropy_to_arrow(make(0, u.uJy, color=["g-i", "a"]))), (1, tables[0])], 2)


def test_few_tables_are_described() -> None:
    """Compare each way in which tables are described once."""
    tables = [astropy_to_arrow(make(i, u.nJy if i % 2 else None, "x" * (i % 3))) for i in range(30)]
    described: list[pa.Schema] = []

    def describe(schema: pa.Schema) -> Table:
        described.append(schema)
        return arrow_to_astropy(schema.empty_table())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lsst.meas.finalize.tasks._shared_columns.describe_columns", describe)
        merged = _concatenate([(i, t) for i, t in enumerate(tables)], 30)
    assert merged["flux"].unit == u.nJy
    assert len(merged) == 60
    assert len(described) == 6
