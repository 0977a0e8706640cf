# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Conversions between descriptions of ellipses (spec 03 §6).

A quadrupole is an array whose last axis holds xx, yy, xy; all functions work
on stacks of them.
"""

from __future__ import annotations

__all__ = (
    "axes_from_quadrupole",
    "determinant_radius",
    "transform_quadrupole",
)

import numpy as np
import numpy.typing as npt

type FloatArray = npt.NDArray[np.float64]


def axes_from_quadrupole(quadrupole: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute semi-axes and position angle.

    Parameters
    ----------
    quadrupole : `numpy.ndarray`
        Moments xx, yy, xy in pixel², shape (..., 3).

    Returns
    -------
    a, b : `numpy.ndarray`
        Semi-axes in pixels, a ≥ b.
    theta : `numpy.ndarray`
        Angle from x to the major axis in radians, in (-π/2, π/2].
    """
    ixx, iyy, ixy = np.moveaxis(np.asarray(quadrupole, dtype=np.float64), -1, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        t = np.sqrt((ixx - iyy) ** 2 + 4 * ixy**2)
        a = np.sqrt(0.5 * (ixx + iyy + t))
        b = np.sqrt(0.5 * (ixx + iyy - t))
        theta = 0.5 * np.arctan2(2 * ixy, ixx - iyy)
    return a, b, theta


def determinant_radius(quadrupole: npt.ArrayLike) -> FloatArray:
    """Compute (xx yy - xy²)^(1/4), NaN if that is not real; (...)."""
    ixx, iyy, ixy = np.moveaxis(np.asarray(quadrupole, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore"):
        return np.asarray((ixx * iyy - ixy * ixy) ** 0.25)


def transform_quadrupole(quadrupole: npt.ArrayLike, linear: npt.ArrayLike) -> FloatArray:
    """Transform moments by linear maps, Q → L Q Lᵀ.

    Parameters
    ----------
    quadrupole : `numpy.ndarray`
        Moments xx, yy, xy, shape (..., 3).
    linear : `numpy.ndarray`
        Matrices, shape (..., 2, 2).

    Returns
    -------
    quadrupole : `numpy.ndarray`
        Transformed moments, shape (..., 3).
    """
    return np.einsum("...ij,...j->...i", _moment_matrix(linear), np.asarray(quadrupole, dtype=np.float64))


def _moment_matrix(linear: npt.ArrayLike) -> FloatArray:
    """Return the matrix that transforms (xx, yy, xy)."""
    m = np.asarray(linear, dtype=np.float64)
    xx, xy, yx, yy = m[..., 0, 0], m[..., 0, 1], m[..., 1, 0], m[..., 1, 1]
    rows = (
        (xx**2, xy**2, 2 * xx * xy),
        (yx**2, yy**2, 2 * yx * yy),
        (xx * yx, xy * yy, xx * yy + xy * yx),
    )
    return np.stack([np.stack(r, axis=-1) for r in rows], axis=-2)
