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
    "distortion",
    "quadrupole_from_axes",
    "quadrupole_from_distortion",
    "trace_radius",
    "transform_covariance",
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


def quadrupole_from_axes(a: npt.ArrayLike, b: npt.ArrayLike, theta: npt.ArrayLike) -> FloatArray:
    """Compute moments xx, yy, xy from semi-axes and position angle.

    Parameters
    ----------
    a, b : `numpy.ndarray`
        Semi-axes in pixels.
    theta : `numpy.ndarray`
        Angle from x to the first axis in radians.

    Returns
    -------
    quadrupole : `numpy.ndarray`
        Moments in pixel², shape (..., 3).
    """
    a2, b2 = np.square(np.asarray(a, dtype=np.float64)), np.square(np.asarray(b, dtype=np.float64))
    c, s = np.cos(theta), np.sin(theta)
    return np.stack(
        np.broadcast_arrays(a2 * c**2 + b2 * s**2, a2 * s**2 + b2 * c**2, (a2 - b2) * c * s), axis=-1
    )


def determinant_radius(quadrupole: npt.ArrayLike) -> FloatArray:
    """Compute (xx yy - xy²)^(1/4), NaN if that is not real; (...)."""
    ixx, iyy, ixy = np.moveaxis(np.asarray(quadrupole, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore"):
        return np.asarray((ixx * iyy - ixy * ixy) ** 0.25)


def trace_radius(quadrupole: npt.ArrayLike) -> FloatArray:
    """Compute sqrt((xx + yy) / 2), NaN if that is not real; (...)."""
    ixx, iyy, _ = np.moveaxis(np.asarray(quadrupole, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(0.5 * (ixx + iyy)))


def distortion(quadrupole: npt.ArrayLike) -> FloatArray:
    """Compute the distortions (xx - yy, 2 xy) / (xx + yy), (..., 2)."""
    ixx, iyy, ixy = np.moveaxis(np.asarray(quadrupole, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([(ixx - iyy) / (ixx + iyy), 2 * ixy / (ixx + iyy)], axis=-1)


def quadrupole_from_distortion(e: npt.ArrayLike, radius: npt.ArrayLike) -> FloatArray:
    """Compute moments from distortions and determinant radius.

    Parameters
    ----------
    e : `numpy.ndarray`
        Distortions, shape (..., 2).
    radius : `numpy.ndarray`
        Determinant radius in pixels.

    Returns
    -------
    quadrupole : `numpy.ndarray`
        Moments xx, yy, xy in pixel², shape (..., 3); NaN if |e| ≥ 1.
    """
    e1, e2 = np.moveaxis(np.asarray(e, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.square(radius) / np.sqrt(np.where(e1**2 + e2**2 < 1, 1 - e1**2 - e2**2, np.nan))
    return np.stack([scale * (1 + e1), scale * (1 - e1), scale * e2], axis=-1)


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


def transform_covariance(covariance: npt.ArrayLike, linear: npt.ArrayLike) -> FloatArray:
    """Transform covariances of (xx, yy, xy) by linear maps, C → T C Tᵀ.

    Parameters
    ----------
    covariance : `numpy.ndarray`
        Covariance matrices, shape (..., 3, 3).
    linear : `numpy.ndarray`
        Matrices, shape (..., 2, 2).

    Returns
    -------
    covariance : `numpy.ndarray`
        Transformed covariances, shape (..., 3, 3).
    """
    t = _moment_matrix(linear)
    return np.einsum("...ij,...jk,...lk->...il", t, np.asarray(covariance, dtype=np.float64), t)


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
