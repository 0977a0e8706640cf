# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Row groups of Parquet files that end where a detector ends."""

from __future__ import annotations

__all__ = ("group_bounds", "write_row_groups")

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

_MIN_GROUP_ROWS = 1000
# Each group makes the footer longer, which all readers of one detector read:
# with this times the root of the number of rows, both are of like length.
_ROOT_FACTOR = 9


def group_bounds(detector: npt.NDArray[np.integer]) -> list[int]:
    """Choose row groups of whole detectors.

    Parameters
    ----------
    detector
        Detector of each row; those of a detector should be together.

    Returns
    -------
    bounds : `list` [`int`]
        Where row groups start, and the number of rows: at the first row of
        a detector, and not before there are enough rows.
    """
    group_rows = max(_MIN_GROUP_ROWS, _ROOT_FACTOR * math.isqrt(len(detector)))
    bounds = [0]
    for start in np.flatnonzero(np.diff(detector)) + 1:  # over detectors, some hundred
        if start - bounds[-1] >= group_rows:
            bounds.append(int(start))
    return [*bounds, len(detector)]


def write_row_groups(table: pa.Table, bounds: Sequence[int], path: str, **options: Any) -> None:
    """Write a Parquet file.

    Parameters
    ----------
    table
        The table.
    bounds
        Where row groups start, and the number of rows.
    path
        The file.
    **options
        Passed to `pyarrow.parquet.ParquetWriter`.
    """
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, table.schema, **options) as writer:
        for start, stop in itertools.pairwise(bounds):
            writer.write_table(table.slice(start, stop - start))
