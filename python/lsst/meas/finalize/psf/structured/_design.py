# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Design matrices of stars against a model grid, never formed densely."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ._interpolant import InterpolantTable
    from ._stars import StarArrays

__all__ = ("Design", "GeneralDesign", "SeparableDesign", "make_design")

_CHUNK = 32
"""Stars handled together where the work space per star is large."""

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
    table
        The interpolant.
    size
        Number of grid nodes per side.
    scale
        Distance of grid nodes, in the units of (u, v).
    """

    def __init__(self, stars: StarArrays, table: InterpolantTable, size: int, scale: float) -> None:
        self.stars = stars
        self.table = table
        self.size = size
        self.scale = scale
        self.max_uv = (size + 1) / 2.0 * scale

    @abc.abstractmethod
    def take(self, index: npt.NDArray[np.intp]) -> Design:
        """Return the design of a subset of the stars, without centres."""

    @abc.abstractmethod
    def set_center(self, center: npt.NDArray[np.float64]) -> None:
        """Compute the factors of the map for centres [N, 2]."""

    @abc.abstractmethod
    def support(self, center: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return the pixels no further than half a node off the grid."""

    @abc.abstractmethod
    def draw(self, grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Map grids to images."""

    @abc.abstractmethod
    def adjoint(self, image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Map images to grids by the transpose of `draw`."""

    @abc.abstractmethod
    def draw_shifted(
        self, grid: npt.NDArray[np.float64], center: npt.NDArray[np.float64], step: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Draw at the centres, and with u, then v, of them moved by a step.

        The factors set by `set_center` aren't used or changed.
        """

    @abc.abstractmethod
    def mean_gram(
        self, weight: npt.NDArray[np.float64], support: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        """Return the mean normal matrix [n*n, n*n] of stars of unit weight.

        Only a preconditioner is made from it: masked pixels are ignored, and
        it may be taken from a sample.
        """


class SeparableDesign(Design):
    """Maps of stars whose pixel axes lie along those of the grid.

    The map of a star is the Kronecker product of two small matrices, so each
    application is two matrix products of the size of a stamp.
    """

    def _factors(
        self, center: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the matrices [N, h, n] and [N, w, n] of rows and columns."""
        along_x, along_y = self._axis_positions(center)
        rows = self.table.weights(along_y / self.scale, self.size)
        columns = self.table.weights(along_x / self.scale, self.size)
        rows *= (self.stars.pixel_area / self.scale**2)[:, np.newaxis, np.newaxis]
        return rows, columns

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

    def take(self, index: npt.NDArray[np.intp]) -> SeparableDesign:
        return SeparableDesign(self.stars.take(index), self.table, self.size, self.scale)

    def set_center(self, center: npt.NDArray[np.float64]) -> None:
        self._rows, self._columns = self._factors(center)
        self._rows_t = np.ascontiguousarray(self._rows.swapaxes(1, 2))
        self._columns_t = np.ascontiguousarray(self._columns.swapaxes(1, 2))

    def support(self, center: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        along_x, along_y = self._axis_positions(center)
        inside_x = np.abs(along_x) <= self.max_uv
        inside_y = np.abs(along_y) <= self.max_uv
        return inside_y[:, :, np.newaxis] & inside_x[:, np.newaxis, :]

    def _orient(self, grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Exchange u and v of grids if the pixel axes are exchanged."""
        return grid.swapaxes(1, 2) if self.stars.transposed else grid

    def draw(self, grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self._rows @ self._orient(grid) @ self._columns_t

    def adjoint(self, image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self._orient(self._rows_t @ image @ self._columns)

    def draw_shifted(
        self, grid: npt.NDArray[np.float64], center: npt.NDArray[np.float64], step: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        rows, columns = self._factors(center)
        moved_rows, moved_columns = self._factors(center + step)
        half = rows @ self._orient(grid)
        image = half @ columns.swapaxes(1, 2)
        along_x = half @ moved_columns.swapaxes(1, 2)
        along_y = moved_rows @ self._orient(grid) @ columns.swapaxes(1, 2)
        return (image, along_y, along_x) if self.stars.transposed else (image, along_x, along_y)

    def mean_gram(
        self, weight: npt.NDArray[np.float64], support: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        n = self.size
        rows = self._rows * support.any(axis=2)[:, :, np.newaxis]
        columns = self._columns * support.any(axis=1)[:, :, np.newaxis]
        gram_y = (rows.swapaxes(1, 2) @ rows) * (weight / weight.sum())[:, np.newaxis, np.newaxis]
        gram_x = columns.swapaxes(1, 2) @ columns
        if self.stars.transposed:
            gram_y, gram_x = gram_x, gram_y
        mean = gram_y.reshape(-1, n * n).T @ gram_x.reshape(-1, n * n)
        return mean.reshape(n, n, n, n).transpose(0, 2, 1, 3).reshape(n * n, n * n)


class GeneralDesign(Design):
    """Maps of stars whose pixel axes are rotated or sheared in (u, v).

    Every pixel has its own position in u and v, but its weights on the grid
    are still an outer product: one batched matrix product and one row-wise
    scalar product per application.
    """

    def _positions(self, center: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return world coordinates relative to the centres, [2, N, h*w]."""
        stars = self.stars
        count, height, width = len(stars.x), stars.y.shape[1], stars.x.shape[1]
        jac = stars.jacobian[:, :, :, np.newaxis, np.newaxis]
        x = stars.x[:, np.newaxis, :]
        y = stars.y[:, :, np.newaxis]
        uv = np.empty((2, count, height * width))
        for axis in range(2):
            world = jac[:, axis, 0] * x + jac[:, axis, 1] * y
            uv[axis] = world.reshape(count, -1) - center[:, axis, np.newaxis]
        return uv

    def _pixel_weights(
        self, position: npt.NDArray[np.float64], *, area: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the weights [N, h*w, n] along one axis of the grid."""
        weights = self.table.weights(position / self.scale, self.size)
        if area is not None:
            weights *= (area / self.scale**2)[:, np.newaxis, np.newaxis]
        return weights

    def take(self, index: npt.NDArray[np.intp]) -> GeneralDesign:
        return GeneralDesign(self.stars.take(index), self.table, self.size, self.scale)

    def set_center(self, center: npt.NDArray[np.float64]) -> None:
        count = len(center)
        pixels = self.stars.x.shape[1] * self.stars.y.shape[1]
        self._u = np.empty((count, pixels, self.size))
        self._v = np.empty((count, pixels, self.size))
        # Chunks of stars bound the work space.
        for part in self._chunks():
            chunk = self.take(part)
            u, v = chunk._positions(center[part])
            self._u[part] = self._pixel_weights(u)
            self._v[part] = chunk._pixel_weights(v, area=chunk.stars.pixel_area)

    def _chunks(self) -> list[npt.NDArray[np.intp]]:
        """Return the indices of consecutive groups of stars."""
        count = len(self.stars.x)
        return [np.arange(i, min(i + _CHUNK, count)) for i in range(0, count, _CHUNK)]

    def support(self, center: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        inside = (np.abs(self._positions(center)) <= self.max_uv).all(axis=0)
        return inside.reshape(len(center), self.stars.y.shape[1], self.stars.x.shape[1])

    def _image(self, flat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return flat images as [N, h, w]."""
        return flat.reshape(len(flat), self.stars.y.shape[1], self.stars.x.shape[1])

    def draw(self, grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        flat = np.empty(self._u.shape[:2])
        # Chunks of stars bound the work space.
        for part in self._chunks():
            start, stop = part[0], part[-1] + 1
            half = self._v[start:stop] @ grid[start:stop]
            half *= self._u[start:stop]
            flat[start:stop] = half.sum(axis=2)
        return self._image(flat)

    def adjoint(self, image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        flat = image.reshape(len(image), -1)
        grid = np.empty((len(image), self.size, self.size))
        # Chunks of stars bound the work space.
        for part in self._chunks():
            start, stop = part[0], part[-1] + 1
            weighted = self._u[start:stop] * flat[start:stop, :, np.newaxis]
            grid[start:stop] = self._v[start:stop].swapaxes(1, 2) @ weighted
        return grid

    def draw_shifted(
        self, grid: npt.NDArray[np.float64], center: npt.NDArray[np.float64], step: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        shape = (len(grid), self.stars.x.shape[1] * self.stars.y.shape[1])
        flat = np.empty((3, *shape))
        # Chunks of stars bound the work space.
        for part in self._chunks():
            chunk = self.take(part)
            u, v = chunk._positions(center[part])
            area = chunk.stars.pixel_area
            weights_u = self._pixel_weights(u)
            half = self._pixel_weights(v, area=area) @ grid[part]
            flat[0, part] = (half * weights_u).sum(axis=2)
            flat[1, part] = (half * self._pixel_weights(u - step)).sum(axis=2)
            half = self._pixel_weights(v - step, area=area) @ grid[part]
            flat[2, part] = (half * weights_u).sum(axis=2)
        return self._image(flat[0]), self._image(flat[1]), self._image(flat[2])

    def mean_gram(
        self, weight: npt.NDArray[np.float64], support: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        n2 = self.size**2
        count = len(weight)
        sample = np.unique(np.linspace(0, count - 1, min(count, _GRAM_SAMPLE)).astype(np.intp))
        gram = np.zeros((n2, n2))
        # One dense matrix at a time, over a few stars, bounds the work space.
        for i in sample:
            dense = (self._v[i][:, :, np.newaxis] * self._u[i][:, np.newaxis, :]).reshape(-1, n2)
            dense = dense[support[i].ravel()]
            gram += weight[i] * (dense.T @ dense)
        return gram / weight[sample].sum()


def make_design(stars: StarArrays, table: InterpolantTable, size: int, scale: float) -> Design:
    """Return the cheapest design that is exact for these stars.

    Parameters
    ----------
    stars
        Geometry of the stars.
    table
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
    return kind(stars, table, size, scale)
