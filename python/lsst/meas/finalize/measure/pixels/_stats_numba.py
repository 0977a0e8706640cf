# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled statistics of large arrays: import where they are called."""

from __future__ import annotations

__all__ = ("collect", "count_keys", "sums_within")

from typing import Any

import numpy as np

from ..._jit_numba import njit

_BLOCK = 4096


@njit()
def _key(bits: Any) -> Any:
    """Return the upper half of a number that sorts as the float32 does."""
    if bits & np.uint32(0x80000000):
        return (bits ^ np.uint32(0xFFFFFFFF)) >> np.uint32(16)
    return (bits | np.uint32(0x80000000)) >> np.uint32(16)


@njit()
def count_keys(bits: Any, counts: Any) -> Any:
    """Count float32 numbers, given as uint32, by the upper halves of their
    bits, (65536,) in ascending order; those that aren't finite are left out.
    """
    for i in range(len(bits)):
        if bits[i] & np.uint32(0x7F800000) != np.uint32(0x7F800000):
            counts[_key(bits[i])] += 1


@njit()
def collect(bits: Any, wanted: Any, out: Any) -> Any:
    """Copy the numbers whose upper half is wanted, bool (65536,), at most as
    many as there is room for: others may change the image meanwhile.
    """
    found = 0
    for i in range(len(bits)):
        if found == len(out):
            break
        if bits[i] & np.uint32(0x7F800000) != np.uint32(0x7F800000) and wanted[_key(bits[i])]:
            out[found] = bits[i]
            found += 1


# The order of sums is free, which lets the compiler vectorise them.
@njit(error_model="numpy", fastmath={"reassoc"})
def sums_within(values: Any, centre: float, width: float) -> Any:
    """Return number, sum and sum of squares of the offsets from a centre that
    are not larger than a width.  Values that aren't finite never are.
    """
    count, total, squares = 0, 0.0, 0.0
    # Sums of blocks keep rounding errors small.
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        block_total, block_squares, block_count = 0.0, 0.0, 0
        for i in range(len(block)):
            offset = np.float64(block[i]) - centre
            inside = (abs(offset) <= width) & (abs(offset) < np.inf)
            kept = offset if inside else 0.0
            block_total += kept
            block_squares += kept * kept
            block_count += 1 if inside else 0
        count += block_count
        total += block_total
        squares += block_squares
    return count, total, squares
