# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Positions PSFs are evaluated at."""

from __future__ import annotations

__all__ = ("defined_positions",)

import numpy as np
import numpy.typing as npt


def defined_positions(
    x: npt.ArrayLike, y: npt.ArrayLike, average: tuple[float, float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Replace undefined positions by the average one.

    Parameters
    ----------
    x, y
        Positions in pixels, shape (N,); undefined if either is NaN.
    average
        Position to use instead.

    Returns
    -------
    x, y : `numpy.ndarray`
        Positions without NaN, float64, shape (N,).

    Raises
    ------
    ValueError
        Raised if the positions aren't one-dimensional arrays.
    """
    xs, ys = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    if xs.ndim != 1:
        raise ValueError(f"Positions must be one-dimensional arrays, not of shape {xs.shape}.")
    missing = np.isnan(xs) | np.isnan(ys)
    if missing.any():
        xs, ys = np.where(missing, average[0], xs), np.where(missing, average[1], ys)
    return xs, ys
