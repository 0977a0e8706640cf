# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""A plane of an exposure file: image, mask or variance (spec 02 §2)."""

from __future__ import annotations

__all__ = ("Plane",)

import io
import logging
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from lsst.images import Box

from .._errors import FitsFormatError
from ..fits import PRIMARY_HDU, FitsFile, data_stream, hdu_label, raw_data, raw_header
from ._clean_header import read_clean_header
from ._nulls import replace_nulls
from ._size_checks import check_size
from ._tiles import TileTable

_LOG = logging.getLogger(__name__)

_PLANE_NAMES = {1: "IMAGE", 2: "MASK", 3: "VARIANCE"}
"""HDU number to EXTTYPE of the planes of an exposure."""

_PLAIN_DTYPES = {-32: ">f4", -64: ">f8", 16: ">i2", 32: ">i4"}
_BLOCK_BYTES = 2**24
_FITS_BLOCK = 2880


def _read_origin(header: fits.Header, where: str) -> tuple[int, int]:
    """Return x and y of the first pixel (spec 02 §2.3)."""
    values = [header.get(f"{key}{axis}A") for key in ("CRPIX", "CRVAL") for axis in (1, 2)]
    if not all(isinstance(value, int | float) for value in values) or values[:2] != [1, 1]:
        return 0, 0
    if not all(abs(value) < 2**30 for value in values[2:]):
        raise FitsFormatError(f"{where}: the origin of the image is {values[2:]}")
    return math.floor(values[2] + 0.5), math.floor(values[3] + 0.5)


class Plane:
    """Pixels of one HDU, read when asked for.

    Parameters
    ----------
    file
        Open file.
    number
        HDU of the plane: 1 image, 2 mask, 3 variance.
    """

    def __init__(self, file: fits.HDUList | FitsFile, number: int) -> None:
        self._file = file
        self._number = number
        self.where = hdu_label(file, number)

    @cached_property
    def header(self) -> fits.Header:
        """Header as in the file, without cards that can't be parsed."""
        return read_clean_header(self._file, self._number)

    @cached_property
    def _size(self) -> tuple[tuple[int, int], int, TileTable | None]:
        return check_size(self._file, self._number, self.header)

    @property
    def _shape(self) -> tuple[int, int]:
        return self._size[0]

    @property
    def _tiles(self) -> TileTable | None:
        return self._size[2]

    @cached_property
    def box(self) -> Box:
        """Box of the plane, parent coordinates (`FitsFormatError` if the HDU
        isn't an image, or larger than the file).
        """
        height, width = self._shape
        x0, y0 = _read_origin(self.header, self.where)
        return Box.factory[y0 : y0 + height, x0 : x0 + width]

    def _check_type(self) -> None:
        found = self.header.get("EXTTYPE")
        name = _PLANE_NAMES[self._number]
        if not isinstance(found, str) or not found.strip():
            _LOG.warning("%s: no EXTTYPE; assuming %s.", self.where, name)
        elif found.strip().upper() != name:
            raise FitsFormatError(f"{self.where}: EXTTYPE is {found!r} instead of {name!r}")

    def read(self, dtype: npt.DTypeLike, bbox: Box | None = None) -> npt.NDArray[Any]:
        """Read pixels.

        Parameters
        ----------
        dtype
            Type to convert to.
        bbox
            Part to read, parent coordinates; all by default.

        Returns
        -------
        array : `numpy.ndarray`
            (height, width) array in native byte order.

        Raises
        ------
        FitsFormatError
            If the HDU is missing, corrupted, of wrong kind, or larger than
            the file.
        ValueError
            If ``bbox`` isn't inside the image.
        """
        box = self.box if bbox is None else bbox
        result = np.empty(box.shape, dtype=dtype)
        for rows, pixels in self.blocks(bbox):
            with np.errstate(over="ignore"):
                result[rows] = pixels
        return result

    def blocks(self, bbox: Box | None = None) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Read pixels a few rows at a time.

        Parameters
        ----------
        bbox
            Part to read, parent coordinates; all by default.

        Yields
        ------
        rows : `slice`
            Rows of the part.
        pixels : `numpy.ndarray`
            (n, width) array of a type that depends on the file.

        Raises
        ------
        FitsFormatError, ValueError
            As from `read`.
        """
        full = self.box
        self._check_type()
        box = full if bbox is None else bbox
        if not full.contains(box):
            raise ValueError(f"{self.where}: the box {box} isn't inside the image box {full}")
        first, last = box.y.start - full.y.start, box.y.stop - full.y.start
        columns = slice(box.x.start - full.x.start, box.x.stop - full.x.start)
        try:
            for row, pixels in self._rows(first, last):
                start, stop = max(row, first), min(row + len(pixels), last)
                yield slice(start - first, stop - first), pixels[start - row : stop - row, columns]
        except Exception as error:
            # Astropy and its decompressors raise all sorts of exceptions.
            raise FitsFormatError(f"{self.where}: unreadable pixels: {str(error)[:200]}") from error

    def _rows(self, first: int, last: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        if self._tiles is not None:
            return self._tiles.blocks(first, last) if self._tiles.is_fast else self._rare(first, last)
        header = self.header
        if (
            header["BITPIX"] in _PLAIN_DTYPES
            and header.get("BZERO", 0) == 0
            and header.get("BSCALE", 1) == 1
            and "BLANK" not in header
        ):
            return self._plain(first, last, np.dtype(_PLAIN_DTYPES[header["BITPIX"]]))
        return self._rare(first, last)

    def _plain(self, first: int, last: int, dtype: np.dtype[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Read rows of an uncompressed plane."""
        file, start, _ = data_stream(self._file, self._number)
        width = self._shape[1]
        step = max(1, _BLOCK_BYTES // (width * dtype.itemsize))
        for row in range(first, last, step):
            n = min(step, last - row)
            file.seek(start + row * width * dtype.itemsize)
            data = file.read(n * width * dtype.itemsize)
            pixels = np.frombuffer(data, dtype=dtype).reshape(n, width).astype(dtype.newbyteorder("="))
            if dtype.kind == "f":
                replace_nulls(pixels)
            yield row, pixels

    def _rare(self, first: int, last: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Let astropy read what is rarely met."""
        if self._tiles is not None:
            self._tiles.check_rare(first, last)
        header, _ = raw_header(self._file, self._number)
        data = bytes(raw_data(self._file, self._number, self._size[1]))
        data += bytes(-len(data) % _FITS_BLOCK)
        with fits.open(io.BytesIO(PRIMARY_HDU + header + data)) as hdulist:
            hdu = hdulist[1]
            section = hdu.section
            pixels = section[0, first:last] if len(hdu.shape) == 3 else section[first:last]
            pixels = np.array(pixels, dtype=np.asarray(pixels).dtype.newbyteorder("="), order="C")
        if pixels.dtype.kind == "f":
            for rows, columns in self._stored_as_is():
                part = np.s_[max(rows.start - first, 0) : max(rows.stop - first, 0), columns]
                values = np.ascontiguousarray(pixels[part])
                replace_nulls(values)
                pixels[part] = values
        yield first, pixels

    def _stored_as_is(self) -> Iterator[tuple[slice, slice]]:
        """List the parts of a plane in which the stack sees no special
        numbers.
        """
        height, width = self._shape
        if self._tiles is None:
            yield slice(0, height), slice(0, width)
            return
        tile_height, tile_width = self._tiles.tile_shape
        for number in self._tiles.fallback_rows().tolist():
            y, x = divmod(number, -(-width // tile_width))
            yield (
                slice(y * tile_height, (y + 1) * tile_height),
                slice(x * tile_width, (x + 1) * tile_width),
            )
