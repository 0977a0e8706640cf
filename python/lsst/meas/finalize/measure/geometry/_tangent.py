# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Positions and Jacobians on planes tangent to the sky."""

from __future__ import annotations

__all__ = ("gnomonic_offsets", "sky_positions", "tangent_jacobians")

from typing import Any

import numpy as np
import numpy.typing as npt

type FloatArray = npt.NDArray[np.float64]

# Step of the central differences in pixels; errors are ~1e-10 relative.
_STEP = 1.0


def sky_positions(projection: Any, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return right ascensions and declinations of pixels.

    Parameters
    ----------
    projection : `lsst.images.SkyProjection`
        Projection of the image.
    x, y : `numpy.ndarray`
        Positions in pixels, PARENT.

    Returns
    -------
    ra, dec : `numpy.ndarray`
        ICRS coordinates in radians.
    """
    point = projection.pixel_to_sky_transform.apply_forward(x=x, y=y)
    return np.asarray(point.x, dtype=np.float64), np.asarray(point.y, dtype=np.float64)


def gnomonic_offsets(
    ra: FloatArray, dec: FloatArray, ra0: FloatArray, dec0: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Project sky positions onto tangent planes.

    Parameters
    ----------
    ra, dec : `numpy.ndarray`
        Positions in radians.
    ra0, dec0 : `numpy.ndarray`
        Points of contact in radians.

    Returns
    -------
    xi, eta : `numpy.ndarray`
        Offsets towards east and north in radians.
    """
    delta = ra - ra0
    half = 2 * np.sin(0.5 * delta) ** 2
    # Written with small differences, lest digits cancel.
    denominator = np.cos(dec - dec0) - np.cos(dec0) * np.cos(dec) * half
    xi = np.cos(dec) * np.sin(delta) / denominator
    eta = (np.sin(dec - dec0) + np.sin(dec0) * np.cos(dec) * half) / denominator
    return np.asarray(xi), np.asarray(eta)


def tangent_jacobians(projection: Any, x: FloatArray, y: FloatArray) -> FloatArray:
    """Compute derivatives of tangent-plane offsets with respect to pixels.

    Parameters
    ----------
    projection : `lsst.images.SkyProjection`
        Projection of the image.
    x, y : `numpy.ndarray`
        Positions in pixels, PARENT, shape (N,).

    Returns
    -------
    jacobians : `numpy.ndarray`
        Radians per pixel, (N, 2, 2): rows towards east and north, columns x
        and y, on the plane that touches the sky at each position.
    """
    ra0, dec0 = sky_positions(projection, x, y)
    result = np.empty((len(x), 2, 2))
    for k, (dx, dy) in enumerate(((_STEP, 0.0), (0.0, _STEP))):
        ahead = gnomonic_offsets(*sky_positions(projection, x + dx, y + dy), ra0, dec0)
        behind = gnomonic_offsets(*sky_positions(projection, x - dx, y - dy), ra0, dec0)
        for axis in range(2):
            result[:, axis, k] = (ahead[axis] - behind[axis]) / (2 * _STEP)
    return result
