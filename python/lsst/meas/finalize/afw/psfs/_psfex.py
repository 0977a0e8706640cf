# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""PSFEx models persisted by the stack (spec 02 §6.2)."""

from __future__ import annotations

__all__ = ("PsfexPsf",)

from typing import Any

import numpy as np
import numpy.typing as npt

from lsst.images import Bounds, Image

from .._errors import ArchiveError
from ._kernels import check_dimensions
from ._psfs import KernelImagePsf

_LANCZOS = 5
_PI = 3.1415926535898
"""As coded in PSFEx."""

_MAX_DEGREE = 50
_FloatArray = npt.NDArray[np.float64]


def monomials(
    ux: _FloatArray, uy: _FloatArray, groups: tuple[int, int], degrees: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Evaluate the polynomial basis of PSFEx.

    Parameters
    ----------
    ux, uy
        (N,) scaled positions.
    groups
        Group of x and of y.
    degrees
        Degree of each group: of the sum of the exponents if x and y share
        one, else of each exponent.

    Returns
    -------
    values : `numpy.ndarray`
        (N, number of terms) values, the exponent of x running fastest.
    """
    if any(not 0 <= g < len(degrees) for g in groups) or any(not 0 <= d <= _MAX_DEGREE for d in degrees):
        raise ArchiveError(f"a PsfexPsf has polynomial groups {groups} of degrees {degrees}")
    terms = []
    same = groups[0] == groups[1]
    for q in range(degrees[groups[1]] + 1):
        for p in range(degrees[groups[0]] - (q if same else 0) + 1):
            terms.append(ux**p * uy**q)
    return np.stack(terms, axis=1)


def resampling_matrices(
    delta: npt.NDArray[np.float32], n_in: int, n_out: int, step: np.float32
) -> npt.NDArray[np.float64]:
    """Return the weights that resample one axis of a PSFEx model.

    Parameters
    ----------
    delta
        (N,) sub-pixel shifts in output pixels.
    n_in, n_out
        Size of the model and of the image.
    step
        Model pixels per image pixel.

    Returns
    -------
    matrices : `numpy.ndarray`
        (N, n_out, n_in) Lanczos-5 weights; rows beyond the model are 0.
    """
    offset = (-delta * step).astype(np.float32).astype(np.float64)
    width = float(step)
    start = n_in // 2 + offset - (n_out // 2) * width
    skip = np.where(start < 0, np.trunc(1 - start / width), 0.0)
    start = np.where(start < 0, start + skip * width, start)
    count = np.minimum(np.trunc((n_in - 1 - start) / width + 1), n_out - skip)
    steps = np.full((len(delta), n_out), width)
    steps[:, 0] = start
    # Accumulated one by one like the original, for equal rounding.
    positions = np.add.accumulate(steps, axis=1)
    index = np.arange(n_out) - skip[:, np.newaxis]
    valid = (index >= 0) & (index < count[:, np.newaxis])
    at = np.take_along_axis(positions, np.clip(index, 0, n_out - 1).astype(np.int64), axis=1)
    taps = np.arange(n_in)
    first = np.trunc(at)[:, :, np.newaxis] - _LANCZOS - 1
    t = taps - at[:, :, np.newaxis]
    inside = (taps >= first) & (taps <= first + 2 * _LANCZOS + 1) & (np.abs(t) <= _LANCZOS)
    near = np.abs(t) < 1e-5
    angle = _PI * np.where(near, 1.0, t)
    values = np.where(near, 1.0, np.sin(angle) * np.sin(angle / _LANCZOS) / (angle**2 / _LANCZOS))
    weights = np.where(inside & valid[:, :, np.newaxis], values, 0.0)
    total = weights.sum(axis=2, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total != 0)


class PsfexPsf(KernelImagePsf):
    """A PSFEx model: images on a fine grid, polynomials of position.

    Parameters
    ----------
    bounds
        Where the PSF is valid.
    components
        (terms, height, width) float32 images, one for each polynomial term.
    groups, degrees
        Polynomial basis; see `monomials`.
    context_first, context_second
        Offsets and scales of x and y.
    pixel_step
        Image pixels per model pixel.
    average_position
        Position used in place of NaN.

    Notes
    -----
    Unlike other kernel PSFs, star images aren't shifted kernel images: the
    model is resampled for every sub-pixel position (spec 02 §6.2).
    """

    def __init__(
        self,
        bounds: Bounds,
        components: npt.NDArray[np.float32],
        groups: tuple[int, int],
        degrees: tuple[int, ...],
        context_first: tuple[float, float],
        context_second: tuple[float, float],
        pixel_step: float,
        average_position: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        step = np.float32(pixel_step)
        if not (np.isfinite(step) and step > 0) or not all(context_second):
            raise ArchiveError(f"a PsfexPsf has the pixel step {pixel_step} and scales {context_second}")
        n_terms = monomials(np.zeros(1), np.zeros(1), groups, degrees).shape[1]
        if components.ndim != 3 or len(components) != n_terms:
            raise ArchiveError(f"a PsfexPsf of {n_terms} terms has components of shape {components.shape}")
        height, width = (int(np.float32(n) * step) | 1 for n in components.shape[1:])
        check_dimensions(width, height, "PsfexPsf")
        super().__init__(bounds, width, height, average_position=average_position)
        self.components = np.ascontiguousarray(components, dtype=np.float32)
        self.groups, self.degrees = groups, degrees
        self.context_first, self.context_second = context_first, context_second
        self._step = np.float32(1) / step

    def _model_images(self, x: _FloatArray, y: _FloatArray) -> npt.NDArray[np.float32]:
        basis = monomials(
            (x - self.context_first[0]) / self.context_second[0],
            (y - self.context_first[1]) / self.context_second[1],
            self.groups,
            self.degrees,
        ).astype(np.float32)
        result = np.zeros((len(x), *self.components.shape[1:]), dtype=np.float32)
        # Term by term, for the rounding of the original's accumulation.
        for k, component in enumerate(self.components):
            result += basis[:, k, np.newaxis, np.newaxis] * component
        return result

    def _resample(
        self,
        x: _FloatArray,
        y: _FloatArray,
        dx: npt.NDArray[np.float32],
        dy: npt.NDArray[np.float32],
    ) -> _FloatArray:
        model = self._model_images(x, y)
        n_y, n_x = model.shape[1:]
        columns = resampling_matrices(dx, n_x, self._kernel_bbox.x.size, self._step)
        rows = resampling_matrices(dy, n_y, self._kernel_bbox.y.size, self._step)
        half = (model.astype(np.float64) @ columns.transpose(0, 2, 1)).astype(np.float32)
        images = (rows @ half.astype(np.float64)).astype(np.float32)
        flat = images.reshape(len(images), -1)
        # A running sum adds sequentially in float32, like the original.
        total = np.add.accumulate(flat, axis=1, dtype=np.float32)[:, -1]
        return (images / total[:, np.newaxis, np.newaxis]).astype(np.float64)

    def _evaluate(self, x: _FloatArray, y: _FloatArray) -> _FloatArray:
        zero = np.zeros(len(x), dtype=np.float32)
        return self._resample(x, y, zero, zero)

    @staticmethod
    def _split(c: _FloatArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return sub-pixel shift and nearest pixel, with the original's
        truncation towards zero.
        """
        delta = (c - np.trunc(c)).astype(np.float32)
        delta = np.where(delta > 0.5, delta - np.float32(1), delta).astype(np.float32)
        return delta, np.trunc(c - delta + 0.5).astype(np.int64)

    def draw_star_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: Any = None
    ) -> tuple[_FloatArray, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Draw the PSF as the images of stars; see `KernelImagePsf`."""
        xs, ys = self._positions(x, y)
        (dx, ix), (dy, iy) = self._split(xs), self._split(ys)
        box = self._kernel_bbox
        return self._resample(xs, ys, dx, dy), ix + box.x.start, iy + box.y.start

    def compute_stellar_bbox(self, *, x: float, y: float) -> Any:
        image: Image = self.compute_stellar_image(x=x, y=y)
        return image.bbox
