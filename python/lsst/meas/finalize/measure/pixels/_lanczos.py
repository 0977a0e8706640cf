# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Sub-pixel shifts of small images with Lanczos kernels (spec 03 §7)."""

from __future__ import annotations

__all__ = ("lanczos_weights", "offset_images", "recenter_images", "split_shift")

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


def _shift_rows(images: np.ndarray, weights: FloatArray, centres: IntArray) -> np.ndarray:
    """Shift along the last axis; pixels without all taps keep their value."""
    n_taps = weights.shape[1]
    width = images.shape[-1]
    result = images.copy()
    # At most two groups: kernels for positive and for other fractions.
    for c in np.unique(centres):
        rows = np.flatnonzero(centres == c)
        inner = np.zeros((len(rows), images.shape[1], width - n_taps + 1), dtype=images.dtype)
        for k in range(n_taps):
            part = images[rows, :, k : k + inner.shape[2]]
            inner += (part * weights[rows, k][:, None, None]).astype(images.dtype)
        result[rows, :, c : c + inner.shape[2]] = inner
    return result


def _shift_inner(images: np.ndarray, fx: FloatArray, fy: FloatArray, order: int) -> np.ndarray:
    """Shift by fractions; the border is the unshifted input."""
    wx, cx = lanczos_weights(fx, order)
    wy, cy = lanczos_weights(fy, order)
    along_x = _shift_rows(images, wx, cx)
    shifted = np.swapaxes(_shift_rows(np.swapaxes(along_x, 1, 2), wy, cy), 1, 2)
    height, width = images.shape[1:]
    n_taps = 2 * order
    column, row = np.arange(width), np.arange(height)
    inner_x = (column >= cx[:, None]) & (column <= width - n_taps + cx[:, None])
    inner_y = (row >= cy[:, None]) & (row <= height - n_taps + cy[:, None])
    moved = ((fx != 0) | (fy != 0))[:, None, None]
    return np.where(inner_y[:, :, None] & inner_x[:, None, :] & moved, shifted, images)


def offset_images(
    images: npt.ArrayLike, dx: npt.ArrayLike, dy: npt.ArrayLike, *, order: int = 5, buffer: int = 0
) -> tuple[np.ndarray, IntArray, IntArray]:
    """Shift images with a Lanczos kernel.

    Parameters
    ----------
    images : `numpy.ndarray`
        Images, float32 or float64 of shape (N, h, w).
    dx, dy : `numpy.ndarray`
        Shifts in pixels, rounded to float32, shape (N,).
    order : `int`, optional
        Order of the kernel.
    buffer : `int`, optional
        Zero pixels added on all sides while shifting.

    Returns
    -------
    images : `numpy.ndarray`
        Shifted images of the same shape and type; at the border, where taps
        are missing, pixels are those of the input.
    x0, y0 : `numpy.ndarray`
        Whole pixels to add to the images' origins, int64 of shape (N,).

    Raises
    ------
    ValueError
        Raised if the images are smaller than the kernel.
    """
    stack = np.asarray(images)
    (ix, fx), (iy, fy) = split_shift(dx, dy)
    if buffer:
        stack = np.pad(stack, ((0, 0), (buffer, buffer), (buffer, buffer)))
    if min(stack.shape[1:]) < 2 * order:
        raise ValueError(
            f"Images of {stack.shape[2]} × {stack.shape[1]} pixels are smaller than a Lanczos "
            f"kernel of {2 * order} taps."
        )
    shifted = _shift_inner(stack, fx, fy, order)
    if buffer:
        shifted = shifted[:, buffer:-buffer, buffer:-buffer]
    return shifted, ix, iy


def recenter_images(
    kernels: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike
) -> tuple[np.ndarray, IntArray, IntArray]:
    """Move PSF images from the central pixel to positions (spec 03 §7.1).

    Parameters
    ----------
    kernels : `numpy.ndarray`
        PSF images centred on pixel (h // 2, w // 2), shape (N, h, w).
    x, y : `numpy.ndarray`
        Positions in pixels, shape (N,).

    Returns
    -------
    images : `numpy.ndarray`
        Shifted images, not normalised again.
    x0, y0 : `numpy.ndarray`
        Column and row of their first pixels, int64 of shape (N,).
    """
    stack = np.asarray(kernels)
    px, py = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    ix, iy = np.floor(px + 0.5), np.floor(py + 0.5)
    images, _, _ = offset_images(stack, px - ix, py - iy, buffer=5)
    height, width = stack.shape[1:]
    return images, ix.astype(np.int64) - width // 2, iy.astype(np.int64) - height // 2
