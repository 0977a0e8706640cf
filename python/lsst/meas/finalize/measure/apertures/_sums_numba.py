# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled loops of aperture photometry: import where they are called."""

from __future__ import annotations

__all__ = ("naive_sums", "sinc_sums")

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit

_LANES = 16
"""Pixels that loops take at a time; those left over take as long each."""


@njit(error_model="numpy", inline="always")
def _add(total: npt.NDArray, part: npt.NDArray, weight: float) -> None:
    """Add pixels times a weight; vectorised by the compiler."""
    for i in range(len(total)):
        # The product is double, the sum has the coefficients' type.
        total[i] += total.dtype.type(weight * part[i])


@njit(error_model="numpy")
def _shift(
    coefficients: npt.NDArray,
    x_taps: npt.NDArray,
    y_taps: npt.NDArray,
    x_centre: int,
    y_centre: int,
    line: npt.NDArray,
    scratch: npt.NDArray,
    shifted: npt.NDArray,
) -> None:
    """Shift one coefficient image along x, then along y.

    Where a tap is missing the coefficients are copied unshifted.  ``line``
    and the rows of ``scratch`` are longer than those of the images, by more
    than _LANES; the line is zero beyond.
    """
    n = coefficients.shape[0]
    taps = x_taps.shape[0]
    inner = n - taps + 1
    padded = (inner + _LANES - 1) // _LANES * _LANES
    shifted[:] = coefficients
    for j in range(n):
        line[:n] = coefficients[j]
        total = scratch[j, :padded]
        total[:] = 0.0
        for t in range(taps):
            _add(total, line[t : t + padded], x_taps[t])
    total = line[:padded]
    for j in range(inner):
        total[:] = 0.0
        for t in range(taps):
            _add(total, scratch[j + t, :padded], y_taps[t])
        shifted[j + y_centre, x_centre : x_centre + inner] = total[:inner]


# The order of sums is free, which lets the compiler vectorise them.
@njit(error_model="numpy", fastmath={"reassoc"})
def _weighted_sums(pixels: npt.NDArray, variance: npt.NDArray, weights: npt.NDArray) -> tuple[float, float]:
    """Sum pixels times weights, and variances times their squares."""
    total = 0.0
    total_var = 0.0
    for i in range(len(weights)):
        c = np.float64(weights[i])
        total += pixels[i] * c
        total_var += variance[i] * (c * c)
    return total, total_var


@njit(error_model="numpy")
def sinc_sums(
    images: npt.NDArray,
    variances: npt.NDArray,
    members: npt.NDArray,
    coefficients: npt.NDArray,
    which: npt.NDArray,
    x_taps: npt.NDArray,
    y_taps: npt.NDArray,
    x_centres: npt.NDArray,
    y_centres: npt.NDArray,
    flux: npt.NDArray,
    flux_var: npt.NDArray,
) -> None:
    """Sum images times shifted coefficients, and variances times squares.

    ``images`` (N, P, h, h), of which the central n pixels are used;
    ``members`` (m,) which of the N; all that follows is per member: ``which``
    (m,) of the coefficients (M, n, n), the shift, and the results (m, P).
    """
    n = coefficients.shape[1]
    offset = (images.shape[2] - n) // 2
    line = np.zeros(n + 2 * _LANES, dtype=coefficients.dtype)
    scratch = np.empty((n, n + 2 * _LANES), dtype=coefficients.dtype)
    shifted = np.empty((n, n), dtype=coefficients.dtype)
    for m in range(len(members)):
        s = members[m]
        line[n:] = 0.0
        _shift(
            coefficients[which[m]], x_taps[m], y_taps[m], x_centres[m], y_centres[m], line, scratch, shifted
        )
        for p in range(images.shape[1]):
            total = 0.0
            total_var = 0.0
            for j in range(n):
                pixels = images[s, p, j + offset, offset : offset + n]
                variance = variances[s, p, j + offset, offset : offset + n]
                part, part_var = _weighted_sums(pixels, variance, shifted[j])
                total += part
                total_var += part_var
            flux[m, p] = total
            flux_var[m, p] = total_var


@njit(error_model="numpy")
def naive_sums(
    images: npt.NDArray,
    variances: npt.NDArray,
    x_low: npt.NDArray,
    x_high: npt.NDArray,
    flux: npt.NDArray,
    flux_var: npt.NDArray,
) -> None:
    """Sum pixels between the columns x_low and x_high of each row."""
    for s in range(images.shape[0]):
        total = 0.0
        total_var = 0.0
        for j in range(images.shape[1]):
            for i in range(x_low[s, j], x_high[s, j] + 1):
                total += np.float64(images[s, j, i])
                total_var += np.float64(variances[s, j, i])
        flux[s] = total
        flux_var[s] = total_var
