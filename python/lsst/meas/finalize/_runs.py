# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Runs of consecutive rows, which sources and objects have of flat arrays."""

from __future__ import annotations

__all__ = ("run_offsets", "run_rows")

import numpy as np
import numpy.typing as npt

type Integers = npt.NDArray[np.int64]


def run_offsets(counts: npt.ArrayLike) -> Integers:
    """Return where runs start that follow each other, and where they end.

    Parameters
    ----------
    counts
        Lengths of the runs, (N,).

    Returns
    -------
    offsets
        Starts of the runs and the end of the last one, (N + 1,).
    """
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def run_rows(starts: Integers, counts: Integers) -> Integers:
    """Concatenate ``arange(start, start + count)`` of all runs.

    Parameters
    ----------
    starts, counts
        First rows and lengths of the runs, (N,).

    Returns
    -------
    rows
        Rows, run after run; of shape (``counts.sum()``,).
    """
    ends = np.cumsum(counts)
    return np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(starts - (ends - counts), counts)
