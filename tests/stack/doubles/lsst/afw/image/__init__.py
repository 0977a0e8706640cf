# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""A stand-in for ``lsst.afw.image``.

An exposure is its planes and the FITS file its components are in.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Self

import numpy as np
from astropy.io import fits

from lsst.afw.fits import MemFileManager
from lsst.geom import Box2I, Extent2I, Point2I

PARENT = object()
LOCAL = object()


class Image:
    """Pixels."""

    __slots__ = ("_array",)

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def array(self) -> np.ndarray:
        # A new view every time, as the real one.
        return self._array[:]


class Mask(Image):
    """Bits of pixels."""

    __slots__ = ("_planes",)

    def __init__(self, array: np.ndarray, planes: dict[str, int]) -> None:
        super().__init__(array)
        self._planes = planes

    def getMaskPlaneDict(self) -> dict[str, int]:
        return dict(self._planes)


class _Exposure:
    """An exposure whose components stay in the file it came from."""

    __slots__ = ("_file", "_planes", "_xy0", "image", "mask", "variance")
    _DTYPE: type

    def __init__(
        self, exposure: Any = None, bbox: Any = None, origin: Any = None, deep: bool = False
    ) -> None:
        if exposure is None:
            self._fill(b"", np.zeros((3, 0, 0)), {}, Point2I(0, 0))
            return
        assert type(exposure) is type(self)
        assert isinstance(bbox, Box2I)
        assert origin is PARENT
        assert deep is True
        x0, y0 = bbox.getMin().x - exposure._xy0.x, bbox.getMin().y - exposure._xy0.y
        height, width = exposure.image.array.shape
        assert 0 <= x0 <= x0 + bbox.getWidth() <= width
        assert 0 <= y0 <= y0 + bbox.getHeight() <= height
        window = np.s_[y0 : y0 + bbox.getHeight(), x0 : x0 + bbox.getWidth()]
        planes = [plane.array[window].copy() for plane in (exposure.image, exposure.mask, exposure.variance)]
        self._fill(exposure._file, planes, exposure.mask.getMaskPlaneDict(), bbox.getMin())

    def _fill(self, file: bytes, planes: Any, mask_planes: dict[str, int], xy0: Point2I) -> None:
        self._file = file
        self._xy0 = xy0
        with np.errstate(invalid="ignore"):
            self.image = Image(np.ascontiguousarray(planes[0], dtype=self._DTYPE))
        self.mask = Mask(np.ascontiguousarray(planes[1], dtype=np.int32), mask_planes)
        self.variance = Image(np.ascontiguousarray(planes[2], dtype=np.float32))

    def getXY0(self) -> Point2I:
        return self._xy0

    def getBBox(self) -> Box2I:
        height, width = self.image.array.shape
        return Box2I(self._xy0, Extent2I(width, height))

    @classmethod
    def readFits(cls, source: str | MemFileManager) -> Self:
        data = source.getData() if isinstance(source, MemFileManager) else Path(source).read_bytes()
        result = cls()
        with fits.open(io.BytesIO(data)) as hdulist:
            planes = [hdulist[number].data for number in (1, 2, 3)]
            header = hdulist[2].header
            bits = {key[3:]: int(value) for key, value in header.items() if key.startswith("MP_")}
            corner = [int(hdulist[1].header.get(f"CRVAL{axis}A", 0)) for axis in (1, 2)]
            result._fill(data, planes, bits, Point2I(*corner))
        return result

    def writeFits(self, target: MemFileManager) -> None:
        assert isinstance(target, MemFileManager)
        with fits.open(io.BytesIO(self._file)) as old:
            hdus = [fits.PrimaryHDU(header=old[0].header)]
            planes = (self.image.array, self.mask.array, self.variance.array)
            for number, (kind, plane) in enumerate(
                zip(("IMAGE", "MASK", "VARIANCE"), planes, strict=True), 1
            ):
                hdu = fits.ImageHDU(plane)
                hdu.header["EXTTYPE"] = kind
                for key in ("BUNIT",):
                    if key in old[number].header:
                        hdu.header[key] = old[number].header[key]
                for axis, value in ((1, self._xy0.x), (2, self._xy0.y)):
                    hdu.header[f"CRPIX{axis}A"] = 1.0
                    hdu.header[f"CRVAL{axis}A"] = float(value)
                hdus.append(hdu)
            for name, bit in self.mask.getMaskPlaneDict().items():
                hdus[2].header[f"HIERARCH MP_{name}"] = bit
            stream = io.BytesIO()
            fits.HDUList(hdus).writeto(stream, output_verify="ignore")
            archive = self._file[old[4].fileinfo()["hdrLoc"] :] if len(old) > 4 else b""
        target._store(stream.getvalue() + archive)


class ExposureF(_Exposure):
    """An exposure of float32."""

    __slots__ = ()
    _DTYPE = np.float32


class ExposureD(_Exposure):
    """An exposure of float64."""

    __slots__ = ()
    _DTYPE = np.float64


class ExposureI(_Exposure):
    """An exposure of int32."""

    __slots__ = ()
    _DTYPE = np.int32
