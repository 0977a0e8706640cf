# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
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
from numba import njit


@njit(cache=True, error_model="numpy")
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
    last_x = n - taps + x_centre
    last_y = n - taps + y_centre
    for j in range(n):
        for i in range(n):
            scratch[j, i] = 0.0
            shifted[j, i] = coefficients[j, i]
        for t in range(taps):
            weight = x_taps[t]
            offset = t - x_centre
            for i in range(x_centre, last_x + 1):
                # The product is double, the sum has the coefficients' type.
                scratch[j, i] += coefficients.dtype.type(weight * coefficients[j, i + offset])
    for j in range(y_centre, last_y + 1):
        for i in range(x_centre, last_x + 1):
            shifted[j, i] = 0.0
        for t in range(taps):
            weight = y_taps[t]
            row = j + t - y_centre
            for i in range(x_centre, last_x + 1):
                shifted[j, i] += coefficients.dtype.type(weight * scratch[row, i])


@njit(cache=True, error_model="numpy")
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
                for i in range(n):
                    c = np.float64(shifted[j, i])
                    total += images[s, p, j + offset, i + offset] * c
                    total_var += variances[s, p, j + offset, i + offset] * c * c
            flux[m, p] = total
            flux_var[m, p] = total_var


@njit(cache=True, error_model="numpy")
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
