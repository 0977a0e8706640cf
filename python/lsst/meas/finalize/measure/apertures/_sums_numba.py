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

from ..jit_numba import njit


@njit(error_model="numpy")
def _shift(
    coefficients: npt.NDArray,
    x_taps: npt.NDArray,
    y_taps: npt.NDArray,
    x_centre: int,
    y_centre: int,
    scratch: npt.NDArray,
    shifted: npt.NDArray,
) -> None:
    """Shift one coefficient image along x, then along y.

    Where a tap is missing the coefficients are copied unshifted.
    """
    n = coefficients.shape[0]
    taps = x_taps.shape[0]
    inner = n - taps + 1
    shifted[:] = coefficients
    # Loops over slices, from 0, are those that compilers vectorise.
    for j in range(n):
        total = scratch[j, :inner]
        total[:] = 0.0
        for t in range(taps):
            weight = x_taps[t]
            part = coefficients[j, t : t + inner]
            for i in range(inner):
                # The product is double, the sum has the coefficients' type.
                total[i] += coefficients.dtype.type(weight * part[i])
    for j in range(inner):
        total = shifted[j + y_centre, x_centre : x_centre + inner]
        total[:] = 0.0
        for t in range(taps):
            weight = y_taps[t]
            part = scratch[j + t, :inner]
            for i in range(inner):
                total[i] += coefficients.dtype.type(weight * part[i])


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
    scratch = np.empty((n, n), dtype=coefficients.dtype)
    shifted = np.empty((n, n), dtype=coefficients.dtype)
    for m in range(len(members)):
        s = members[m]
        _shift(coefficients[which[m]], x_taps[m], y_taps[m], x_centres[m], y_centres[m], scratch, shifted)
        for p in range(images.shape[1]):
            total = 0.0
            total_var = 0.0
            for j in range(n):
                pixels = images[s, p, j + offset, offset : offset + n]
                variance = variances[s, p, j + offset, offset : offset + n]
                for i in range(n):
                    c = np.float64(shifted[j, i])
                    total += pixels[i] * c
                    total_var += variance[i] * c * c
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
