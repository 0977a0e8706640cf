# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Lanczos kernels of shifts by fractions of a pixel (spec 03 §7)."""

from __future__ import annotations

__all__ = ("lanczos_weights", "split_shift")

import numpy as np
import numpy.typing as npt

type IntArray = npt.NDArray[np.int64]
type FloatArray = npt.NDArray[np.float64]


def lanczos_weights(fraction: npt.ArrayLike, order: int = 5) -> tuple[FloatArray, IntArray]:
    """Compute the kernels that shift by fractions of a pixel.

    Parameters
    ----------
    fraction : `numpy.ndarray`
        Shifts in pixels within (-1, 1), shape (N,).
    order : `int`, optional
        Order of the kernel.

    Returns
    -------
    weights : `numpy.ndarray`
        float64 of shape (N, 2 order), each with sum 1.
    centres : `numpy.ndarray`
        Index c of the tap at offset 0, int64 of shape (N,): shifted pixels
        are ``out[p] = Σ_k weights[k] in[p + k - c]``.
    """
    f = np.atleast_1d(np.asarray(fraction, dtype=np.float64))
    centres = np.where(f > 0, order, order - 1).astype(np.int64)
    offsets = np.arange(2 * order) - centres[:, None]
    t = np.pi * (offsets + f[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        raw = np.sin(t) * np.sin(t / order) * order / t**2
    raw = np.where(np.abs(t) <= 1e-5, 1.0, raw)
    # No shift is an exact identity, not one to rounding.
    raw = np.where(f[:, None] == 0, (offsets == 0).astype(np.float64), raw)
    return raw / raw.sum(axis=1, keepdims=True), centres


def split_shift(
    dx: npt.ArrayLike, dy: npt.ArrayLike
) -> tuple[tuple[IntArray, FloatArray], tuple[IntArray, FloatArray]]:
    """Split shifts into whole pixels and fractions.

    Parameters
    ----------
    dx, dy : `numpy.ndarray`
        Shifts in pixels, shape (N,), rounded to float32 first.

    Returns
    -------
    x, y : `tuple` [`numpy.ndarray`, `numpy.ndarray`]
        Whole pixels (int64) and fraction (float64) of each axis.

    Notes
    -----
    A shift with both components within (-1, 1) is all fraction (upstream
    quirk).
    """
    sx = np.atleast_1d(np.asarray(dx, dtype=np.float32))
    sy = np.atleast_1d(np.asarray(dy, dtype=np.float32))
    small = (np.abs(sx) < 1) & (np.abs(sy) < 1)

    def split(shift: npt.NDArray[np.float32]) -> tuple[IntArray, FloatArray]:
        wide = shift.astype(np.float64)
        whole = np.where(small, 0.0, np.floor(wide + 0.5))
        return whole.astype(np.int64), wide - whole

    return split(sx), split(sy)
