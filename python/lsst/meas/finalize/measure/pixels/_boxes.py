# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Integer boxes and pixel regions of many stars, batched by size."""

from __future__ import annotations

__all__ = (
    "CutOut",
    "PixelRegions",
    "box_batches",
    "ellipse_boxes",
    "inside_bounds",
    "pixel_regions",
)

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ...catalogs import StampSet

_FAR = 2.0**53
_MAX_BATCH_PIXELS = 1_000_000
"""Pixels cut out at a time, unless a single star has more."""


class CutOut(Protocol):
    """Give equal boxes of the image each star is measured on."""

    def __call__(
        self,
        x0: npt.NDArray[np.int64],
        y0: npt.NDArray[np.int64],
        width: int,
        height: int,
        rows: npt.NDArray[np.int64],
    ) -> StampSet:
        """Cut out boxes (PARENT origins x0, y0) for the stars ``rows``.

        These are indices into the arrays of positions and shapes that the
        caller gave; of `MeasureBatch.cutout`, indices into the batch.
        """
        ...


class BoxBatch(NamedTuple):
    """Stars whose boxes are cut out together."""

    rows: npt.NDArray[np.int64]
    x0: npt.NDArray[np.int64]
    y0: npt.NDArray[np.int64]
    width: int
    height: int
    sizes: npt.NDArray[np.int64]
    """True width and height of each box, (n, 2)."""


def box_batches(boxes: npt.NDArray[np.integer], rows: npt.NDArray[np.int64]) -> Iterator[BoxBatch]:
    """Sort stars into portions of similar box size and bounded memory.

    Parameters
    ----------
    boxes : `numpy.ndarray` of int, (N, 4)
        Inclusive min x, min y, max x, max y of each star.
    rows : `numpy.ndarray` of int, (M,)
        Stars wanted; their boxes are not empty.

    Yields
    ------
    batch : `BoxBatch`
        Stars, origins and the common size that holds all their boxes.
    """
    boxes = np.asarray(boxes, dtype=np.int64)
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    # Padding to the largest of a power-of-two class costs at most 4 times.
    classes = np.ceil(np.log2(np.maximum(sizes.max(axis=1, initial=1), 16)))
    for size_class in np.unique(classes[rows]):
        members = rows[classes[rows] == size_class]
        width, height = (int(v) for v in sizes[members].max(axis=0))
        portion = max(1, _MAX_BATCH_PIXELS // (width * height))
        for start in range(0, len(members), portion):
            part = members[start : start + portion]
            yield BoxBatch(part, boxes[part, 0], boxes[part, 1], width, height, sizes[part])


def ellipse_boxes(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    ixx: npt.NDArray[np.float64],
    iyy: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """Return the integer boxes of ellipses.

    Parameters
    ----------
    x, y : `numpy.ndarray` of float64, (N,)
        Centres in pixels.
    ixx, iyy : `numpy.ndarray` of float64, (N,)
        Diagonal of the ellipses' quadrupole in pixel^2.

    Returns
    -------
    boxes : `numpy.ndarray` of int64, (N, 4)
        Inclusive min x, min y, max x, max y ("EXPAND" of spec 03 §0); beyond
        any image where values aren't finite.
    """
    half_x, half_y = np.sqrt(ixx), np.sqrt(iyy)
    edges = (
        np.ceil(x - half_x - 0.5),
        np.ceil(y - half_y - 0.5),
        np.floor(x + half_x + 0.5),
        np.floor(y + half_y + 0.5),
    )
    return _as_integers(np.nan_to_num(np.stack(edges, axis=-1), nan=-_FAR))


def _as_integers(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Cast to int64, which is undefined for a float beyond its range; no
    image is that large.
    """
    return np.clip(values, -_FAR, _FAR).astype(np.int64)


def inside_bounds(
    boxes: npt.NDArray[np.integer], bounds: tuple[int, int, int, int] | npt.NDArray[np.integer]
) -> npt.NDArray[np.bool_]:
    """Return which inclusive boxes (..., 4) lie within another, (...).

    ``bounds`` are the limits of one box for all, or of one for each.
    """
    limits = np.asarray(bounds)
    above = np.all(boxes[..., :2] >= limits[..., :2], axis=-1)
    return np.asarray(above & np.all(boxes[..., 2:] <= limits[..., 2:], axis=-1))


@dataclass(frozen=True)
class PixelRegions:
    """Pixels inside ellipses, as one range of columns per row.

    Attributes
    ----------
    y0 : `numpy.ndarray` of int64, (N,)
        PARENT row of the first range.
    x_low, x_high : `numpy.ndarray` of int64, (N, h)
        Inclusive PARENT columns; empty where x_low > x_high.
    """

    y0: npt.NDArray[np.int64]
    x_low: npt.NDArray[np.int64]
    x_high: npt.NDArray[np.int64]

    def boxes(self) -> npt.NDArray[np.int64]:
        """Return the tight inclusive boxes of the pixels, (N, 4); max < min
        where there are none.
        """
        filled = self.x_low <= self.x_high
        far = np.iinfo(np.int64).max // 2
        rows = self.y0[:, None] + np.arange(filled.shape[1])
        lows = [np.where(filled, v, far).min(axis=1, initial=far) for v in (self.x_low, rows)]
        highs = [np.where(filled, v, -far).max(axis=1, initial=-far) for v in (self.x_high, rows)]
        return np.stack([*lows, *highs], axis=-1)

    def mask(self, x0: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.bool_]:
        """Return the pixels as a stack of masks, (N, h, width).

        Parameters
        ----------
        x0 : `numpy.ndarray` of int64, (N,)
            PARENT column of each mask's first pixel.
        width : `int`
            Width of the masks.
        """
        columns = x0[:, None, None] + np.arange(width)
        return (columns >= self.x_low[:, :, None]) & (columns <= self.x_high[:, :, None])


def pixel_regions(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    ixx: npt.NDArray[np.float64],
    iyy: npt.NDArray[np.float64],
    ixy: npt.NDArray[np.float64],
    y0: npt.NDArray[np.int64],
    height: int,
) -> PixelRegions:
    """Find the pixels whose centres are inside or on ellipses.

    Parameters
    ----------
    x, y : `numpy.ndarray` of float64, (N,)
        Centres in pixels, finite.
    ixx, iyy, ixy : `numpy.ndarray` of float64, (N,)
        Quadrupole of the boundary in pixel^2, finite.
    y0 : `numpy.ndarray` of int64, (N,)
        PARENT row at which to start.
    height : `int`
        Number of rows to return.

    Returns
    -------
    regions : `PixelRegions`
        Ranges of columns.

    Notes
    -----
    Spec 03 §8.3.
    """
    boxes = ellipse_boxes(x, y, ixx, iyy)
    rows = y0[:, None] + np.arange(height)
    thin = iyy < ixx * np.finfo(np.float64).eps
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(thin, 0.0, ixy / iyy)
        width2 = ixx - ixy * slope
        curve = np.where(thin, 0.0, width2 / iyy)
        delta = rows - y[:, None]
        square = width2[:, None] - curve[:, None] * delta * delta
        half = np.sqrt(square)
        centre = x[:, None] + slope[:, None] * delta
        low, high = np.ceil(centre - half), np.floor(centre + half)
    empty = ~(square >= 0.0) | (rows < boxes[:, 1, None]) | (rows > boxes[:, 3, None]) | ~(low <= high)
    return PixelRegions(
        y0,
        _as_integers(np.where(empty, 0, low)),
        _as_integers(np.where(empty, -1, high)),
    )
