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

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table

from lsst.daf.butler.formatters.parquet import astropy_to_arrow
from lsst.meas.finalize.tasks._consolidate import _concatenate


def make_table(n: int, detector: int = 0, text: str = "g-i", **columns: type) -> pa.Table:
    """Make a star table."""
    table = Table(
        {"id": np.arange(n), "detector": np.full(n, detector), "color": np.full(n, text, dtype="U5")}
    )
    for name, dtype in columns.items():
        table[name] = np.zeros(n, dtype=dtype)
    return astropy_to_arrow(table)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 35])
def test_tables_are_concatenated_in_order(n: int) -> None:
    """Put together more tables than are copied at once, some empty."""
    merged = _concatenate(make_table(d % 3, d) for d in range(n))
    assert merged["detector"].tolist() == [d for d in range(n) for _ in range(d % 3)]
    assert merged["id"].tolist() == [i for d in range(n) for i in range(d % 3)]
    assert merged["color"].dtype == "U5"


def test_empty_tables_keep_their_columns() -> None:
    """Put together tables without rows."""
    assert _concatenate([make_table(0), make_table(0, extra=float)]).colnames == ["id", "detector", "color"]
    merged = _concatenate([make_table(0), make_table(2, extra=float), make_table(0)])
    assert merged.colnames == ["id", "detector", "color", "extra"]


def test_tables_that_differ_are_refused() -> None:
    """Name columns of other names or types, lengths of text, and order."""
    with pytest.raises(TypeError, match=r"differ in columns \['extra'\]"):
        _concatenate([make_table(1), make_table(1, extra=float)])
    with pytest.raises(TypeError, match=r"differ in columns \['extra'\]"):
        _concatenate([make_table(1, extra=np.float32), make_table(1, extra=float)])
    longer = Table({"id": [1], "detector": [1], "color": np.array(["g-i"], dtype="U7")})
    with pytest.raises(TypeError, match=r"differ in columns \['color'\]"):
        _concatenate([make_table(1), astropy_to_arrow(longer)])
    with pytest.raises(TypeError, match="differ in the order of columns"):
        _concatenate([make_table(1), make_table(1).select(["detector", "id", "color"])])
