# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled sums under Gaussian weights; import this module lazily."""

from __future__ import annotations

__all__ = ("gaussian_sums",)

import math
from typing import Any

import numpy as np

from ..._jit_numba import njit
from ..moments.gaussian_numba import FAILED, invert, needs_subpixel, region, weighted_sums

_F = np.float32
_D = np.float64  # unlike float(), widens a float32 in compiled code


@njit()
def _row_sum(
    pixels: Any,
    first: Any,
    last: Any,
    xc: Any,
    y: Any,
    w11: Any,
    w12: Any,
    w22: Any,
) -> Any:
    """Sum one row of pixels; ``xc`` and ``y`` are float32.

    From one pixel to the next the weight's logarithm changes linearly, so two
    products replace an exponential; errors stay below 1e-12.
    """
    y2 = _D(_F(y * y))
    curvature = math.exp(-w11)
    total = 0.0
    g = 0.0
    ratio = 0.0
    inside = False
    for j in range(first, last + 1):
        x = _F(_F(j) - xc)
        # Rounded as upstream, so that the same pixels are cut off.
        e = _F(_D(_F(x * x)) * w11 + 2.0 * _D(_F(x * y)) * w12 + y2 * w22)
        if e > 14.0:
            if inside:
                break
            continue
        if not inside:
            inside = True
            dx, dy = _D(x), _D(y)
            g = math.exp(-0.5 * (dx * dx * w11 + 2.0 * dx * dy * w12 + dy * dy * w22))
            ratio = math.exp(-(dx + 0.5) * w11 - dy * w12)
        total += _D(_F(pixels[j])) * g
        g *= ratio
        ratio *= curvature
    return total


@njit()
def _average_sum(pixels: Any, window: Any, xc: Any, yc: Any, w11: Any, w12: Any, w22: Any) -> Any:
    """Sum pixels under the weight's average over 4 x 4 samples of each."""
    total = 0.0
    for i in range(window[2], window[3] + 1):
        for j in range(window[0], window[1] + 1):
            weight = 0.0
            for k in range(16):
                y = i - yc + 0.25 * (k // 4) - 0.375
                x = j - xc + 0.25 * (k % 4) - 0.375
                e = x * x * w11 + 2.0 * x * y * w12 + y * y * w22
                if e <= 14.0:
                    weight += math.exp(-0.5 * e)
            total += _D(pixels[i, j]) * weight / 16.0
    return total


@njit()
def _gaussian_sum(
    image: Any, size: Any, xc: Any, yc: Any, sxx: Any, syy: Any, sxy: Any, average: Any, sums: Any
) -> Any:
    """Sum one stamp under one weight; return the sum and a status."""
    ok, w11, w12, w22 = invert(sxx, sxy, syy)
    if not ok or not (math.isfinite(xc) and math.isfinite(yc)):
        return math.nan, FAILED
    if w11 < 0.0 or w11 > 1e6 or w22 < 0.0 or w22 > 1e6 or abs(w12) > 1e6:
        return math.nan, FAILED
    window = region(xc, yc, sxx, syy, (0, size[0] - 1, 0, size[1] - 1))
    subpixel = needs_subpixel(sxx, sxy, syy)
    if subpixel and average:
        return _average_sum(image, window, xc, yc, w11, w12, w22), 0
    if subpixel:
        weighted_sums(image, 0, 0, window, xc, yc, w11, w12, w22, 0.0, True, False, sums)
        return sums[0], 0
    total = 0.0
    for i in range(window[2], window[3] + 1):
        y = _F(_F(i) - _F(yc))
        total += _row_sum(image[i], window[0], window[1], _F(xc), y, w11, w12, w22)
    return total, 0


@njit()
def gaussian_sums(
    images: Any,
    sizes: Any,
    xc: Any,
    yc: Any,
    moments: Any,
    average: Any,
    total: Any,
    status: Any,
) -> Any:
    """Sum a stack of stamps under given weights, xx, yy, xy.

    ``moments`` (A, N, 3) are those of A weights for each of the N stamps,
    NaN for none; ``total`` and ``status`` are (A, N).

    The same as ``fixed_kernel`` of the SDSS moments but for the rounding of
    weights and products to float32, and for ``average``: means instead of
    sums over the samples of a pixel under very small weights.
    """
    sums = np.zeros(6)
    # A star's pixels stay in the cache while its weights are gone through.
    for n in range(len(images)):
        for a in range(len(moments)):
            m = moments[a, n]
            total[a, n], status[a, n] = _gaussian_sum(
                images[n], sizes[n], xc[n], yc[n], m[0], m[1], m[2], average, sums
            )
