# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exposures whose pixels are in memory and whose components are in a file."""

from __future__ import annotations

__all__ = ("ExposurePixels", "PixelsInMemory")

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from lsst.images import Box, Image, Mask

from ._mask import make_mask
from ._reader import ExposureReader

_BLOCK_ROWS = 32


@dataclasses.dataclass(frozen=True)
class ExposurePixels:
    """The planes of an exposure.

    Attributes
    ----------
    image, variance
        (height, width) arrays; those that aren't float32 are converted.
    mask
        (height, width) array of int32 bit masks.
    mask_planes
        Bit number by name in ``mask``.
    x0, y0
        Position of the first pixel, parent coordinates.
    """

    image: npt.NDArray[Any]
    mask: npt.NDArray[np.int32]
    variance: npt.NDArray[Any]
    mask_planes: Mapping[str, int]
    x0: int = 0
    y0: int = 0


class PixelsInMemory(ExposureReader):
    """Reader of an exposure file in place of whose pixels there are others.

    Parameters
    ----------
    hdulist
        Open file; the boxes and pixels of its planes don't matter.
    pixels
        The planes.  They are shared, not copied.
    data_id
        Mapping that may have ``instrument``, ``visit``, ``detector``,
        ``band`` and ``physical_filter``, for what the file doesn't tell.

    Raises
    ------
    FitsFormatError
        If the file isn't an exposure, or of an unsupported version.
    """

    def __init__(self, hdulist: fits.HDUList, pixels: ExposurePixels, data_id: Any = None) -> None:
        super().__init__(hdulist, data_id)
        self._pixels = pixels

    @cached_property
    def bbox(self) -> Box:
        """Box of the planes, parent coordinates."""
        height, width = self._pixels.image.shape
        x0, y0 = self._pixels.x0, self._pixels.y0
        return Box.factory[y0 : y0 + height, x0 : x0 + width]

    def _cut(self, array: npt.NDArray[Any], bbox: Box | None) -> tuple[npt.NDArray[Any], Box]:
        if bbox is None:
            return array, self.bbox
        if not self.bbox.contains(bbox):
            raise ValueError(f"{self.where}: the box {bbox} isn't inside the image box {self.bbox}")
        y, x = bbox.y - self._pixels.y0, bbox.x - self._pixels.x0
        return array[y.start : y.stop, x.start : x.stop], bbox

    def read_image(self, bbox: Box | None = None) -> Image:
        array, box = self._cut(self._pixels.image, bbox)
        return self._to_image(array.astype(np.float32, copy=False), box)

    def read_variance(self, bbox: Box | None = None) -> Image:
        array, box = self._cut(self._pixels.variance, bbox)
        return self._to_image(array.astype(np.float32, copy=False), box, power=2)

    def read_mask(self, bbox: Box | None = None) -> Mask:
        array, box = self._cut(self._pixels.mask, bbox)
        planes = dict(sorted(self._pixels.mask_planes.items(), key=lambda item: item[1]))
        # Block by block, to need no further array of the size of the image.
        rows = [slice(start, start + _BLOCK_ROWS) for start in range(0, len(array), _BLOCK_ROWS)]
        blocks = ((r, array[r]) for r in rows)
        return make_mask(blocks, planes, box).view(sky_projection=self._optional("sky_projection"))
