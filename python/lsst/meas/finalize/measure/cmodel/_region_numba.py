# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled collection of pixels to fit: import where it is called."""

from __future__ import annotations

__all__ = ("collect_pixels",)

from typing import Any

import numpy as np

from ..._jit_numba import njit


@njit()
def collect_pixels(
    image: Any, variance: Any, mask: Any, bits: Any, corner: Any, low: Any, high: Any, count: Any, out: Any
) -> Any:
    """Copy pixels of stamps between columns of each row, one star's after the
    other's.

    Parameters
    ----------
    image, variance, mask : `numpy.ndarray`
        Stamps, (n, h, w).
    bits : `int`
        Pixels with any of these in their mask are left out.
    corner : `numpy.ndarray`
        PARENT column and row of the first pixels, (n, 2).
    low, high : `numpy.ndarray`
        Columns of the stamps between which pixels are taken, (n, h).
    count : `numpy.ndarray`
        Receives the number of each star's pixels, (n,).
    out : `numpy.ndarray`
        Receives columns, rows, values and variances, float32 (4, total).

    Returns
    -------
    total : `int`
        Number of pixels.
    """
    total = 0
    for n in range(len(image)):
        before = total
        for i in range(image.shape[1]):
            for j in range(low[n, i], high[n, i] + 1):
                if mask[n, i, j] & bits:
                    continue
                out[0, total] = np.float32(corner[n, 0] + j)
                out[1, total] = np.float32(corner[n, 1] + i)
                out[2, total] = image[n, i, j]
                out[3, total] = variance[n, i, j]
                total += 1
        count[n] = total - before
    return total
