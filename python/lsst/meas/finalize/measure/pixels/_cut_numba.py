# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled copying of boxes out of planes: import where it is called."""

from __future__ import annotations

__all__ = ("cut_masks", "cut_pixels", "cut_variances")

from typing import Any

import numpy as np

from ..._jit_numba import njit


@njit()
def _overlap(start: Any, size: Any, limit: Any) -> Any:
    """Return which part of a range of pixels is within a plane."""
    first = min(max(-start, 0), size)
    return first, max(min(limit - start, size), first)


# Loops over slices, from 0, are those that compilers vectorise.
@njit()
def cut_pixels(plane: Any, column: Any, row: Any, out: Any) -> Any:
    """Copy boxes of a plane; 0 outside of it.

    ``plane`` (H, W), ``column`` and ``row`` (N,) of the first pixels, ``out``
    (N, h, w) of the plane's type.
    """
    zero = out.dtype.type(0)
    height, width = out.shape[1:]
    for n in range(len(out)):
        x, y = column[n], row[n]
        left, right = _overlap(x, width, plane.shape[1])
        top, bottom = _overlap(y, height, plane.shape[0])
        if right - left < width or bottom - top < height:
            out[n] = zero
        for i in range(top, bottom):
            source = plane[y + i, x + left : x + right]
            line = out[n, i, left:right]
            for j in range(len(line)):
                line[j] = source[j]


@njit()
def cut_variances(plane: Any, column: Any, row: Any, out: Any) -> Any:
    """Do so with variances, which are NaN where they tell nothing."""
    zero, nothing = out.dtype.type(0), out.dtype.type(np.nan)
    height, width = out.shape[1:]
    for n in range(len(out)):
        x, y = column[n], row[n]
        left, right = _overlap(x, width, plane.shape[1])
        top, bottom = _overlap(y, height, plane.shape[0])
        if right - left < width or bottom - top < height:
            out[n] = zero
        for i in range(top, bottom):
            source = plane[y + i, x + left : x + right]
            line = out[n, i, left:right]
            for j in range(len(line)):
                line[j] = source[j] if source[j] > zero else nothing


@njit()
def cut_masks(planes: Any, column: Any, row: Any, out: Any) -> Any:
    """Copy boxes of a mask's bytes, (H, W, K) uint8, into words, uint32."""
    height, width = out.shape[1:]
    for n in range(len(out)):
        x, y = column[n], row[n]
        left, right = _overlap(x, width, planes.shape[1])
        top, bottom = _overlap(y, height, planes.shape[0])
        out[n] = np.uint32(0)
        for i in range(top, bottom):
            line = out[n, i, left:right]
            for k in range(planes.shape[2]):
                shift = np.uint32(8 * k)
                source = planes[y + i, x + left : x + right, k]
                for j in range(len(line)):
                    line[j] |= np.uint32(source[j]) << shift
