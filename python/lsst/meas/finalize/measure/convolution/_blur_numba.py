# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled blurring of stars: import where it is called."""

from __future__ import annotations

__all__ = ("blur_windows",)

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit


@njit(error_model="numpy", inline="always")
def _add(total: npt.NDArray, part: npt.NDArray, weight: float, squared: bool) -> None:
    """Add pixels times a weight or its square; vectorised by the compiler."""
    if squared:
        for i in range(len(total)):
            total[i] += part[i] * weight * weight
    else:
        for i in range(len(total)):
            total[i] += part[i] * weight


_LANES = 32
"""Pixels that loops take at a time; those left over take as long each."""


@njit(error_model="numpy")
def _blur(
    pixels: npt.NDArray,
    weights: npt.NDArray,
    inner: npt.NDArray,
    margin: int,
    half: int,
    squared: bool,
    line: npt.NDArray,
    scratch: npt.NDArray,
    out: npt.NDArray,
) -> None:
    """Write the pixels of ``inner`` (min x, min y, max x, max y), correlated
    with weights along x, then y.  Everything is rounded to float32, as
    upstream does, in the same order.

    ``line`` and the rows of ``scratch`` are longer than those of ``pixels``,
    by _LANES at least; what is in them there doesn't matter.
    """
    x_low, y_low, x_high, y_high = inner
    width = x_high - x_low + 1
    padded = (width + _LANES - 1) // _LANES * _LANES
    first = x_low + margin - half
    used = width + 2 * half
    for j in range(y_low + margin - half, y_high + margin + half + 1):
        line[:used] = pixels[j, first : first + used]
        total = scratch[j, :padded]
        total[:] = 0.0
        for t in range(2 * half + 1):
            _add(total, line[t : t + padded], weights[t], squared)
    total = line[:padded]
    for j in range(y_low, y_high + 1):
        total[:] = 0.0
        for t in range(2 * half + 1):
            _add(total, scratch[j + margin + t - half, :padded], weights[t], squared)
        out[j, x_low : x_high + 1] = total[:width]


@njit(error_model="numpy")
def blur_windows(
    images: npt.NDArray,
    variances: npt.NDArray,
    margin: int,
    weights: npt.NDArray,
    half: npt.NDArray,
    regions: npt.NDArray,
    out_images: npt.NDArray,
    out_variances: npt.NDArray,
) -> None:
    """Blur each of N stars with P kernels.

    ``images`` and ``variances`` (N, h + 2 margin, w + 2 margin) are float32;
    ``weights`` (N, P, T); ``half`` (N, P) is -1 where nothing is to be done;
    ``regions`` (N, P, 4) are inclusive and count from the first pixel of the
    outputs (N, P, h, w), which must be zero: they stay so outside a region.
    """
    height, width = out_images.shape[2:]
    # Zeros: what is left over in memory may be numbers that take long.
    line = np.zeros(width + 2 * margin + _LANES, dtype=np.float32)
    scratch = np.zeros((height + 2 * margin, width + _LANES), dtype=np.float32)
    inner = np.empty(4, dtype=np.int64)
    for s in range(out_images.shape[0]):
        for p in range(out_images.shape[1]):
            x_low, y_low, x_high, y_high = regions[s, p]
            for j in range(max(y_low, 0), min(y_high, height - 1) + 1):
                for i in range(max(x_low, 0), min(x_high, width - 1) + 1):
                    out_images[s, p, j, i] = images[s, j + margin, i + margin]
                    out_variances[s, p, j, i] = variances[s, j + margin, i + margin]
            h = half[s, p]
            if h < 0:
                continue
            inner[0] = max(x_low + h, 0)
            inner[1] = max(y_low + h, 0)
            inner[2] = min(x_high - h, width - 1)
            inner[3] = min(y_high - h, height - 1)
            if inner[0] > inner[2] or inner[1] > inner[3]:
                continue
            w = weights[s, p]
            _blur(images[s], w, inner, margin, h, False, line, scratch, out_images[s, p])
            _blur(variances[s], w, inner, margin, h, True, line, scratch, out_variances[s, p])
