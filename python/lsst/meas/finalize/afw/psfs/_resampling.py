# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Recentring of PSF kernel images by Lanczos interpolation."""

from __future__ import annotations

__all__ = ("recentre_kernel_images",)

import numpy as np
import numpy.typing as npt

_ORDER = 5
_IDENTITY_LIMIT = 1e-5


def _weights(shift: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the (N, 2 · order) weights and the (N,) first tap of shifts."""
    centre = np.where(shift > 0, _ORDER, _ORDER - 1)
    t = np.arange(2 * _ORDER) - centre[:, np.newaxis] + shift[:, np.newaxis]
    angle = np.pi * t
    near = np.abs(angle) <= _IDENTITY_LIMIT
    safe = np.where(near, 1.0, angle)
    weights = np.where(near, 1.0, np.sin(safe) * np.sin(safe / _ORDER) / (safe**2 / _ORDER))
    weights /= weights.sum(axis=1, keepdims=True)
    identity = shift == 0
    weights[identity] = np.arange(2 * _ORDER) == _ORDER - 1
    return weights, -centre


def _matrices(shift: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Return the (N, size, size) matrices that shift zero-padded rows."""
    weights, first = _weights(shift)
    taps = np.arange(size)[np.newaxis, np.newaxis, :] - np.arange(size)[np.newaxis, :, np.newaxis]
    index = taps - first[:, np.newaxis, np.newaxis]
    inside = (index >= 0) & (index < 2 * _ORDER)
    rows = np.arange(len(shift))[:, np.newaxis, np.newaxis]
    return np.where(inside, weights[rows, np.clip(index, 0, 2 * _ORDER - 1)], 0.0)


def recentre_kernel_images(
    images: npt.NDArray[np.float64], dx: npt.ArrayLike, dy: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Shift images of the PSF by fractions of a pixel.

    Parameters
    ----------
    images
        (N, height, width) images.
    dx, dy
        (N,) shifts in pixels, from -0.5 to 0.5.

    Returns
    -------
    shifted : `numpy.ndarray`
        (N, height, width) images, zero outside before the shift; not
        renormalised.

    Notes
    -----
    Spec 03 §7: Lanczos weights of order 5 divided by their sum; the shift is
    rounded to float32; no shift is an exact identity.
    """
    shift_x, shift_y = (np.asarray(d).astype(np.float32).astype(np.float64) for d in (dx, dy))
    moved = images @ _matrices(shift_x, images.shape[2]).transpose(0, 2, 1)
    return _matrices(shift_y, images.shape[1]) @ moved
