# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Stamps of many stars, cut out of an image."""

from __future__ import annotations

__all__ = (
    "AFW_MASK_PLANES",
    "BoxCutter",
    "StampSet",
    "count_uninformative",
    "cut_stamps",
    "informative_variance",
    "mask_planes",
    "plane_bits",
)

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ._display import counted

if TYPE_CHECKING:
    from lsst.images import MaskSchema, VisitImage

AFW_MASK_PLANES: Mapping[str, int] = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
    "VIGNETTED": 9,
    "STREAK": 10,
}
"""Mask planes of a fresh stack process and their bits (spec 02 §2.5)."""

_AFW_NAMES: Mapping[str, str] = {
    "SATURATED": "SAT",
    "INTERPOLATED": "INTRP",
    "COSMIC_RAY": "CR",
    "DETECTION_EDGE": "EDGE",
    "UNMASKED_NAN": "UNMASKEDNAN",
}
# Planes that pipelines set only when something of the kind is in the image.
_OPTIONAL_PLANES = frozenset(
    (
        "BRIGHT_OBJECT",
        "CROSSTALK",
        "INJECTED",
        "INJECTED_CORE",
        "ITL_DIP",
        "NOT_DEBLENDED",
        "OTHERDET",
        "PARTLY_VIGNETTED",
        "SPIKE",
        "THISDET",
        "UNMASKEDNAN",
    )
)


def mask_planes(schema: MaskSchema) -> dict[str, int]:
    """Return the bit of every mask plane under its afw name.

    Parameters
    ----------
    schema
        Schema of an `lsst.images.Mask` with uint8 elements.

    Returns
    -------
    `dict` [`str`, `int`]
        Bit numbers for `StampSet.mask`.

    Raises
    ------
    ValueError
        Raised if there are more than 32 planes.
    """
    if len(schema) > 32:
        raise ValueError(f"The mask has {len(schema)} planes; 32 are supported.")
    return {_AFW_NAMES.get(p.name, p.name): i for i, p in enumerate(schema) if p is not None}


def plane_bits(planes: Mapping[str, int], names: Iterable[str]) -> int:
    """Return the OR of the bits of some mask planes.

    Parameters
    ----------
    planes
        Bit numbers by afw name, as of `mask_planes`.
    names
        Names as in afw or in lsst.images.  A known plane that isn't there
        contributes nothing.

    Raises
    ------
    ValueError
        Raised for a name that is no known mask plane.
    """
    bits = 0
    for given in names:
        name = _AFW_NAMES.get(given, given)
        if name in planes:
            bits |= 1 << planes[name]
        elif name not in AFW_MASK_PLANES and name not in _OPTIONAL_PLANES:
            raise ValueError(f"There is no mask plane {given!r}; known are {sorted(planes)}.")
    return bits


@dataclass(repr=False)
class StampSet:
    """Cut-outs of N stars, all of one size.

    Parameters
    ----------
    image, variance
        float32 arrays of shape (N, height, width).
    mask
        uint32 array of the same shape.
    x0, y0
        int64 arrays of shape (N,): PARENT column and row of pixel [0, 0].
    planes
        Bit number in ``mask`` by afw name of the mask plane.
    valid
        bool array like ``image``, False where the stamp leaves the image
        (all planes are 0 there); `None` if all stamps are inside.
    """

    image: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    x0: np.ndarray
    y0: np.ndarray
    planes: Mapping[str, int]
    valid: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of stamps, their height and their width."""
        n, height, width = self.image.shape
        return n, height, width

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        _, height, width = self.shape
        return f"<StampSet of {counted(len(self), 'stamp')} of {height} × {width}>"

    def bits(self, names: Iterable[str]) -> int:
        """Return the OR of the bits of some mask planes.

        Parameters
        ----------
        names
            Names as in afw or in lsst.images.  A known plane this image
            lacks contributes nothing.

        Raises
        ------
        ValueError
            Raised for a name that is no known mask plane.
        """
        return plane_bits(self.planes, names)

    def bad(self, names: Iterable[str]) -> np.ndarray:
        """Return where any of some mask planes is set, bool like ``mask``."""
        return (self.mask & np.uint32(self.bits(names))) != 0

    def take(self, index: np.ndarray | slice | list[int]) -> StampSet:
        """Return some of the stamps."""
        return StampSet(
            self.image[index],
            self.variance[index],
            self.mask[index],
            self.x0[index],
            self.y0[index],
            self.planes,
            None if self.valid is None else self.valid[index],
        )


def cut_stamps(exposure: VisitImage, x0: np.ndarray, y0: np.ndarray, width: int, height: int) -> StampSet:
    """Cut equal boxes out of all three planes of an image.

    Parameters
    ----------
    exposure
        Image with an uint8 mask.
    x0, y0
        PARENT column and row of the first pixel of each box.
    width, height
        Size of the boxes in pixels.

    Returns
    -------
    `StampSet`
        Copies of the pixels; variances that are not positive are NaN.
    """
    box = exposure.bbox
    x0 = np.asarray(x0, dtype=np.int64)
    y0 = np.asarray(y0, dtype=np.int64)
    cut = BoxCutter(x0 - box.x.start, y0 - box.y.start, width, height, (box.y.size, box.x.size))
    return StampSet(
        cut(exposure.image.array),
        informative_variance(cut(exposure.variance.array), cut.valid),
        _cut_mask(exposure.mask.array, cut),
        x0,
        y0,
        mask_planes(exposure.mask.schema),
        cut.valid,
    )


def _cut_mask(mask: np.ndarray, cut: BoxCutter) -> np.ndarray:
    """Return the first 32 bits of the boxes' mask, uint32."""
    size = mask.shape[2]
    # The bytes of a pixel are copied together, as one item of their size.
    items = np.ascontiguousarray(mask).view(np.dtype((np.void, size)))[..., 0]
    stamps = cut(items)
    words = np.zeros((*stamps.shape, 4), dtype=np.uint8)
    words[..., :size] = stamps.view(np.uint8).reshape(*stamps.shape, size)[..., :4]
    return words.view("<u4")[..., 0].astype(np.uint32, copy=False)


def informative_variance(variance: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Replace variances that say nothing about a pixel by NaN.

    A variance of zero is not perfect knowledge, but none, as is a negative
    one.  Infinite ones stay, as errors made of them say the same.

    Parameters
    ----------
    variance
        Variances of any shape, floating point; changed in place.
    valid
        bool array of that shape: where to look; everywhere if `None`.

    Returns
    -------
    `numpy.ndarray`
        The same array.
    """
    with np.errstate(invalid="ignore"):
        useless = ~(variance > 0)
    if valid is not None:
        useless &= valid
    if useless.any():
        variance[useless] = np.nan
    return variance


def count_uninformative(exposure: VisitImage) -> int:
    """Count pixels without a positive, finite variance.

    Parameters
    ----------
    exposure
        Image with an uint8 mask.

    Returns
    -------
    `int`
        Their number, without those that the mask says have no data.
    """
    useless = ~_is_informative(exposure.variance.array)
    if not useless.any():
        return 0
    plane = mask_planes(exposure.mask.schema).get("NO_DATA")
    if plane is not None:
        useless &= (exposure.mask.array[..., plane // 8] >> (plane % 8)) & 1 == 0
    return int(np.count_nonzero(useless))


def _is_informative(variance: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (variance > 0) & (variance < np.inf)


class BoxCutter:
    """Cut the same boxes out of several planes.

    Parameters
    ----------
    column, row
        First column and row of each box in the planes, int64 of shape (N,).
    width, height
        Size of the boxes in pixels.
    plane_shape
        Number of rows and columns of the planes.

    Attributes
    ----------
    valid : `numpy.ndarray` or `None`
        bool array of shape (N, height, width), False outside the planes;
        `None` if all boxes are inside.
    """

    def __init__(
        self, column: np.ndarray, row: np.ndarray, width: int, height: int, plane_shape: tuple[int, int]
    ) -> None:
        n_rows, n_columns = plane_shape
        self._row, self._column = row, column
        self._shape = (len(row), height, width)
        self._inside = (column >= 0) & (column + width <= n_columns) & (row >= 0) & (row + height <= n_rows)
        self.valid: np.ndarray | None = None
        if not self._inside.all():
            partial = ~self._inside
            rows = row[partial, None] + np.arange(height)
            columns = column[partial, None] + np.arange(width)
            in_y, in_x = (rows >= 0) & (rows < n_rows), (columns >= 0) & (columns < n_columns)
            self.valid = np.ones(self._shape, dtype=bool)
            self.valid[partial] = in_y[:, :, None] & in_x[:, None, :]
            self._clipped = (
                np.clip(rows, 0, n_rows - 1)[:, :, None],
                np.clip(columns, 0, n_columns - 1)[:, None, :],
            )

    def __call__(self, plane: np.ndarray) -> np.ndarray:
        """Return the boxes' pixels, 0 outside the plane.

        Parameters
        ----------
        plane
            Array of the shape given to the constructor.

        Returns
        -------
        `numpy.ndarray`
            Copied pixels, shape (N, height, width).
        """
        n, height, width = self._shape
        if n == 0:
            return np.empty(self._shape, dtype=plane.dtype)
        if self.valid is None:
            # Windows are copied row by row, far faster than by index arrays.
            return sliding_window_view(plane, (height, width))[self._row, self._column]
        stamps = np.empty(self._shape, dtype=plane.dtype)
        inside = self._inside
        if inside.any():
            windows = sliding_window_view(plane, (height, width))
            stamps[inside] = windows[self._row[inside], self._column[inside]]
        clipped = plane[self._clipped]
        clipped[~self.valid[~inside]] = np.zeros((), dtype=plane.dtype)
        stamps[~inside] = clipped
        return stamps
