# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Design matrices of stars against a model grid, never formed densely."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ._interpolant import GridWeights
    from ._stars import StarArrays

__all__ = ("Design", "GeneralDesign", "SeparableDesign", "make_design")

_ROUNDING = 1e-13
"""Rounding error of positions, in nodes."""

_GRAM_SAMPLE = 24
"""Stars whose dense normal matrices are averaged in rotated frames."""


class Design(abc.ABC):
    """Linear maps between model grids and star images, at given centres.

    A grid is [N, n, n] (first index v, second u), an image [N, h, w], and the
    map has no flux in it: ``draw`` returns the image of a star of flux 1.

    Parameters
    ----------
    stars
        Geometry of the stars.
    weights
        The interpolant.
    size
        Number of grid nodes per side.
    scale
        Distance of grid nodes, in the units of (u, v).
    """

    block_length: ClassVar[int]
    """Stars per block: so few that the work space fits a cache, and so many
    that threads of other detectors can work while a block is multiplied.
    """

    max_steps: ClassVar[int]
    """Solver steps after which Piff's direct solution is the cheaper one."""

    def __init__(self, stars: StarArrays, weights: GridWeights, size: int, scale: float) -> None:
        self.stars = stars
        self.weights = weights
        self.size = size
        self.scale = scale
        self.max_uv = (size + 1) / 2.0 * scale

    @abc.abstractmethod
    def take(self, index: npt.NDArray[np.intp] | slice) -> Design:
        """Return the design of a subset of the stars, without centres."""

    @abc.abstractmethod
    def support(self, center: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return the pixels no further than half a node off the grid."""

    @abc.abstractmethod
    def set_center(self, center: npt.NDArray[np.float64], support: npt.NDArray[np.bool_]) -> None:
        """Compute the factors of the map for centres [N, 2].

        Pixels outside ``support`` [N, h, w] may be left out of the map.
        """

    @abc.abstractmethod
    def pack(self, image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Bring images [N, h, w] into the layout of `draw` and `adjoint`."""

    @abc.abstractmethod
    def draw(self, grid: npt.NDArray[np.float64], block: slice) -> npt.NDArray[np.float64]:
        """Map grids of a block of stars to packed images."""

    @abc.abstractmethod
    def adjoint(self, image: npt.NDArray[np.float64], block: slice) -> npt.NDArray[np.float64]:
        """Map packed images to grids by the transpose of `draw`."""

    def blocks(self) -> list[slice]:
        """Return blocks of stars whose work space fits the cache."""
        length = self.block_length
        return [slice(i, i + length) for i in range(0, len(self.stars.x), length)]

    @abc.abstractmethod
    def shifts(self, center: npt.NDArray[np.float64], step: float) -> tuple[npt.NDArray[np.float64], ...]:
        """Return what `draw_shifted` needs to know of centres [N, 2].

        Each array is one of N stars, so that blocks can be cut of it; all
        stars at once take a fraction of the time of many blocks.
        """

    @abc.abstractmethod
    def draw_shifted(
        self,
        grid: npt.NDArray[np.float64],
        shifts: tuple[npt.NDArray[np.float64], ...],
        step: float,
        out: npt.NDArray[np.float64],
    ) -> None:
        """Draw at the centres, and with u, then v, of them moved by a step.

        ``out`` [N, 3, h, w] receives the images.  The factors set by
        `set_center` aren't used or changed.
        """


class SeparableDesign(Design):
    """Maps of stars whose pixel axes lie along those of the grid.

    The map of a star is the Kronecker product of two small matrices, so each
    application is two matrix products of the size of a stamp.
    """

    # Blocks of 32 take as long, but hold the interpreter's lock most of it.
    block_length = 144
    max_steps = 1500

    def _factors(
        self, center: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the matrices [N, h, n] and [N, w, n] of rows and columns."""
        along_x, along_y = self._axis_positions(center)
        rows = self._axis_weights(along_y / self.scale)
        columns = self._axis_weights(along_x / self.scale)
        rows *= (self.stars.pixel_area / self.scale**2)[:, np.newaxis, np.newaxis]
        return rows, columns

    def _axis_weights(self, position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the weights [N, pixels, n] along one axis."""
        count = position.shape[1]
        nodes = position[:, :1] + np.arange(count)
        if np.abs(position - nodes).max() < _ROUNDING:
            return self.weights.one_node_apart(position[:, 0], count, self.size)
        return self.weights(position, self.size)

    def _axis_positions(
        self, center: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return world coordinates [N, w], [N, h] of columns and rows."""
        jac = self.stars.jacobian
        swap = int(self.stars.transposed)
        # Along x runs u, or v if the axes are exchanged.
        along_x = jac[:, swap, 0, np.newaxis] * self.stars.x - center[:, swap, np.newaxis]
        along_y = jac[:, 1 - swap, 1, np.newaxis] * self.stars.y - center[:, 1 - swap, np.newaxis]
        return along_x, along_y

    def take(self, index: npt.NDArray[np.intp] | slice) -> SeparableDesign:
        return SeparableDesign(self.stars.take(index), self.weights, self.size, self.scale)

    def set_center(self, center: npt.NDArray[np.float64], support: npt.NDArray[np.bool_]) -> None:
        self._support = support
        self._rows, self._columns = self._factors(center)
        self._rows_t = np.ascontiguousarray(self._rows.swapaxes(1, 2))
        self._columns_t = np.ascontiguousarray(self._columns.swapaxes(1, 2))

    def support(self, center: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        along_x, along_y = self._axis_positions(center)
        inside_x = np.abs(along_x) <= self.max_uv
        inside_y = np.abs(along_y) <= self.max_uv
        return inside_y[:, :, np.newaxis] & inside_x[:, np.newaxis, :]

    def pack(self, image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return image

    def _orient(self, grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Exchange u and v of grids if the pixel axes are exchanged."""
        return grid.swapaxes(1, 2) if self.stars.transposed else grid

    def draw(self, grid: npt.NDArray[np.float64], block: slice) -> npt.NDArray[np.float64]:
        return self._rows[block] @ self._orient(grid) @ self._columns_t[block]

    def adjoint(self, image: npt.NDArray[np.float64], block: slice) -> npt.NDArray[np.float64]:
        return self._orient(self._rows_t[block] @ image @ self._columns[block])

    def shifts(self, center: npt.NDArray[np.float64], step: float) -> tuple[npt.NDArray[np.float64], ...]:
        return (*self._factors(center), *self._factors(center + step))

    def draw_shifted(
        self,
        grid: npt.NDArray[np.float64],
        shifts: tuple[npt.NDArray[np.float64], ...],
        step: float,
        out: npt.NDArray[np.float64],
    ) -> None:
        rows, columns, moved_rows, moved_columns = shifts
        along_x, along_y = (2, 1) if self.stars.transposed else (1, 2)
        grid = self._orient(grid)
        columns = columns.swapaxes(1, 2)
        half = rows @ grid
        np.matmul(half, columns, out=out[:, 0])
        np.matmul(half, moved_columns.swapaxes(1, 2), out=out[:, along_x])
        np.matmul(moved_rows @ grid, columns, out=out[:, along_y])

    def mean_factors(
        self, weight: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return mean normal matrices [n, n] of the two axes of the grid.

        The normal matrix of a star of weight [N] is the Kronecker product of
        two, and the mean of many stars' products is about that of the means:
        their phases along u say nothing of those along v.  Masked pixels are
        ignored.
        """
        share = np.sqrt(weight / weight.sum())[:, np.newaxis, np.newaxis]
        rows = self._rows * (share * self._support.any(axis=2)[:, :, np.newaxis])
        columns = self._columns * (share * self._support.any(axis=1)[:, :, np.newaxis])
        along_y, along_x = (flat.T @ flat for flat in (m.reshape(-1, self.size) for m in (rows, columns)))
        return (along_x, along_y) if self.stars.transposed else (along_y, along_x)


class GeneralDesign(Design):
    """Maps of stars whose pixel axes are rotated or sheared in (u, v).

    Every pixel has its own position in u and v, but its weights on the grid
    are still an outer product: one batched matrix product and one scalar
    product per pixel and application.  A packed image is the list of the
    pixels of the support, padded with zeros to the longest.
    """

    block_length = 4
    max_steps = 250

    def _positions(self, center: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return world coordinates relative to the centres, [2, N, h*w]."""
        uv = np.stack([self.stars.pixel_uv(axis).reshape(len(center), -1) for axis in range(2)])
        uv -= center.T[:, :, np.newaxis]
        return uv

    def _weights(self, position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the weights [N, pixels, n] along one axis of the grid."""
        return self.weights(position / self.scale, self.size)

    def take(self, index: npt.NDArray[np.intp] | slice) -> GeneralDesign:
        return GeneralDesign(self.stars.take(index), self.weights, self.size, self.scale)

    def support(self, center: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        inside = (np.abs(self._positions(center)) <= self.max_uv).all(axis=0)
        return inside.reshape(self.stars.image.shape)

    def set_center(self, center: npt.NDArray[np.float64], support: npt.NDArray[np.bool_]) -> None:
        flat = support.reshape(len(support), -1)
        longest = int(np.count_nonzero(flat, axis=1).max())
        # Supported pixels first, in their order.
        self._index = np.argsort(~flat, axis=1, kind="stable")[:, :longest]
        self._supported = np.take_along_axis(flat, self._index, axis=1)
        self._u = np.empty((len(center), self.size, longest))
        self._v = np.empty_like(self._u)
        # One block at a time.
        for part in self.blocks():
            u, v = self.take(part)._positions(center[part])
            u = np.take_along_axis(u, self._index[part], axis=1)
            v = np.take_along_axis(v, self._index[part], axis=1)
            self._u[part] = self._weights(u).swapaxes(1, 2)
            self._v[part] = self._weights(v).swapaxes(1, 2)
        self._v *= (self.stars.pixel_area / self.scale**2)[:, np.newaxis, np.newaxis]

    def pack(self, image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        flat = np.take_along_axis(image.reshape(len(image), -1), self._index, axis=1)
        return np.where(self._supported, flat, 0.0)

    def draw(self, grid: npt.NDArray[np.float64], block: slice) -> npt.NDArray[np.float64]:
        half = grid @ self._u[block]
        half *= self._v[block]
        return half.sum(axis=1)

    def adjoint(self, image: npt.NDArray[np.float64], block: slice) -> npt.NDArray[np.float64]:
        weighted = self._v[block] * image[:, np.newaxis, :]
        return weighted @ self._u[block].swapaxes(1, 2)

    def shifts(self, center: npt.NDArray[np.float64], step: float) -> tuple[npt.NDArray[np.float64], ...]:
        # Weights of every pixel would be too many to keep.
        return (center,)

    def draw_shifted(
        self,
        grid: npt.NDArray[np.float64],
        shifts: tuple[npt.NDArray[np.float64], ...],
        step: float,
        out: npt.NDArray[np.float64],
    ) -> None:
        (center,) = shifts
        flat = out.reshape(len(grid), 3, -1)
        transposed = grid.swapaxes(1, 2)
        # One block at a time.
        for part in self.blocks():
            u, v = self.take(part)._positions(center[part])
            at_v = self._weights(v)
            half = self._weights(u) @ transposed[part]
            np.einsum("spv,spv->sp", half, at_v, out=flat[part, 0])
            np.einsum("spv,spv->sp", half, self._weights(v - step), out=flat[part, 2])
            half = self._weights(u - step) @ transposed[part]
            np.einsum("spv,spv->sp", half, at_v, out=flat[part, 1])
        flat *= (self.stars.pixel_area / self.scale**2)[:, np.newaxis, np.newaxis]

    def mean_gram(self, weight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the mean normal matrix [n*n, n*n] of stars of weight [N].

        Only a preconditioner is made from it: masked pixels are ignored, and
        so are most stars if there are many.
        """
        n2 = self.size**2
        count = len(weight)
        sample = np.unique(np.linspace(0, count - 1, min(count, _GRAM_SAMPLE)).astype(np.intp))
        gram = np.zeros((n2, n2))
        # One dense matrix at a time, over a few stars, bounds the work space.
        for i in sample:
            supported = self._supported[i]
            v, u = self._v[i][:, supported], self._u[i][:, supported]
            dense = (v[:, np.newaxis, :] * u[np.newaxis, :, :]).reshape(n2, -1)
            gram += weight[i] * (dense @ dense.T)
        return gram / weight[sample].sum()


def make_design(stars: StarArrays, weights: GridWeights, size: int, scale: float) -> Design:
    """Return the cheapest design that is exact for these stars.

    Parameters
    ----------
    stars
        Geometry of the stars.
    weights
        The interpolant.
    size
        Number of grid nodes per side.
    scale
        Distance of grid nodes, in the units of (u, v).

    Returns
    -------
    design
        `SeparableDesign` if the pixel axes of all stars lie along u and v.
    """
    kind = SeparableDesign if stars.separable else GeneralDesign
    return kind(stars, weights, size, scale)
