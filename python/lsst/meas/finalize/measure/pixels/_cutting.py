# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Cut-outs of planes that are copied when a plugin asks for them."""

from __future__ import annotations

__all__ = ("LazyStamps", "Planes", "cut_boxes")

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ...catalogs import StampSet, mask_planes

if TYPE_CHECKING:
    from lsst.images import VisitImage

type IntArray = npt.NDArray[np.int64]


def _fixed(array: np.ndarray, dtype: type) -> np.ndarray:
    """Return an array of the kind that kernels are compiled for, without a
    copy if it is contiguous.
    """
    view: np.ndarray = np.ascontiguousarray(array, dtype=dtype).view()
    # Whether the caller may write to it makes no difference then.
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class Planes:
    """The planes of an image, from which boxes are cut.

    Attributes
    ----------
    image, variance : `numpy.ndarray`
        float32 (H, W).
    mask : `numpy.ndarray`
        uint8 (H, W, K).
    origin : `tuple` [`int`, `int`]
        PARENT column and row of the first pixel.
    bits : `dict` [`str`, `int`]
        Bit of each mask plane by its name in afw.
    """

    image: npt.NDArray[np.float32]
    variance: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8]
    origin: tuple[int, int]
    bits: dict[str, int]

    @classmethod
    def of(cls, exposure: VisitImage) -> Self:
        """Return the planes of an image, without a copy if that's possible.

        Parameters
        ----------
        exposure : `lsst.images.VisitImage`
            The image.
        """
        box = exposure.bbox
        return cls(
            _fixed(exposure.image.array, np.float32),
            _fixed(exposure.variance.array, np.float32),
            _fixed(exposure.mask.array, np.uint8),
            (box.x.start, box.y.start),
            mask_planes(exposure.mask.schema),
        )


def cut_boxes(
    plane: np.ndarray, column: IntArray, row: IntArray, height: int, width: int, kernel: str = "cut_pixels"
) -> np.ndarray:
    """Cut equal boxes out of a plane.

    Parameters
    ----------
    plane : `numpy.ndarray`
        Contiguous and read-only: that is what kernels are compiled for.
    column, row : `numpy.ndarray`
        First column and row of each box in the plane, int64 (N,).
    height, width : `int`
        Size of the boxes.
    kernel : `str`, optional
        How to copy pixels: "cut_variances" makes those NaN that tell
        nothing, "cut_masks" makes words of bytes (H, W, K).

    Returns
    -------
    boxes : `numpy.ndarray`
        (N, height, width); 0 outside of the plane.
    """
    from . import _cut_numba

    dtype = np.uint32 if kernel == "cut_masks" else plane.dtype
    out = np.empty((len(column), height, width), dtype=dtype)
    corner = (np.ascontiguousarray(v, dtype=np.int64) for v in (column, row))
    getattr(_cut_numba, kernel)(plane, *corner, out)
    return out


class LazyStamps(StampSet):
    """Cut-outs of planes that are copied when they are asked for.

    Parameters
    ----------
    planes : `Planes`
        What is cut.
    x0, y0 : `numpy.ndarray`
        PARENT column and row of the first pixel of each box, int64 (N,).
    width, height : `int`
        Size of the boxes.
    """

    def __init__(self, planes: Planes, x0: IntArray, y0: IntArray, width: int, height: int) -> None:
        self._source = planes
        self._column, self._row = x0 - planes.origin[0], y0 - planes.origin[1]
        self._size = height, width
        self._cut: dict[str, np.ndarray] = {}
        self.x0, self.y0 = x0, y0
        self.planes = planes.bits
        self.valid = self._find_valid()

    def _find_valid(self) -> npt.NDArray[np.bool_] | None:
        """Return where the boxes are within planes; `None` if everywhere."""
        inside = []
        for start, size, limit in zip(
            (self._row, self._column), self._size, self._source.image.shape, strict=True
        ):
            pixels = start[:, None] + np.arange(size)
            inside.append((pixels >= 0) & (pixels < limit))
        rows, columns = inside
        return None if rows.all() and columns.all() else rows[:, :, None] & columns[:, None, :]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of stamps, their height and their width."""
        return len(self.x0), *self._size

    def _get(self, name: str, kernel: str) -> np.ndarray:
        """Return a plane's boxes, which are cut once."""
        if name not in self._cut:
            plane = getattr(self._source, name)
            self._cut[name] = cut_boxes(plane, self._column, self._row, *self._size, kernel)
        return self._cut[name]

    @property
    def image(self) -> Any:
        """Pixels, float32 (N, height, width)."""
        return self._get("image", "cut_pixels")

    @image.setter
    def image(self, value: np.ndarray) -> None:
        self._cut["image"] = value

    @property
    def variance(self) -> Any:
        """Variances, float32 (N, height, width); NaN if not positive."""
        return self._get("variance", "cut_variances")

    @variance.setter
    def variance(self, value: np.ndarray) -> None:
        self._cut["variance"] = value

    @property
    def mask(self) -> Any:
        """Masks, uint32 (N, height, width)."""
        return self._get("mask", "cut_masks")

    @mask.setter
    def mask(self, value: np.ndarray) -> None:
        self._cut["mask"] = value
