# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Checks of what the header of a plane announces against the file, before
anything is allocated.
"""

from __future__ import annotations

__all__ = ("check_size",)

import math

from astropy.io import fits

from .._errors import FitsFormatError
from ..fits import FitsFile, data_stream, hdu_label
from ._tiles import TileTable

_MAX_SIDE = 200_000
_MAX_COMPRESSION = 2000
"""A row of equal pixels shrinks by a factor of about 1000 with GZIP."""


def _integer(header: fits.Header, key: str, where: str, low: int = 0, high: int = _MAX_SIDE) -> int:
    value = header.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise FitsFormatError(f"{where}: {key} = {value!r} isn't an integer from {low} to {high}")
    return value


def _compressed_tiles(
    header: fits.Header, shape: list[int], pixel_bytes: int, where: str
) -> tuple[tuple[int, int], int]:
    """Return the shape and the bytes of the pixels of a tile, after checking
    that they can be in the file.
    """
    stored = _integer(header, "NAXIS1", where, 0) * _integer(header, "NAXIS2", where, 0, 2**31)
    stored += _integer(header, "PCOUNT", where, 0, 2**40)
    n_tiles, tile_bytes = 1, max(pixel_bytes, 4)
    tiles = []
    for axis, length in enumerate(reversed(shape), start=1):
        key = f"ZTILE{axis}"
        default = length if axis == 1 else 1
        tile = _integer(header, key, where, 1) if key in header else default
        tiles.append(min(length, tile))
        n_tiles *= -(-length // tile)
        tile_bytes *= tiles[-1]
    n_bytes = math.prod(shape) * pixel_bytes
    if n_bytes > _MAX_COMPRESSION * stored or n_tiles != header["NAXIS2"]:
        raise FitsFormatError(
            f"{where}: {stored} bytes in {header['NAXIS2']} rows can't hold {n_bytes} bytes of pixels "
            f"in {n_tiles} tiles"
        )
    return (tiles[1], tiles[0]), tile_bytes


def check_size(
    source: fits.HDUList | FitsFile, number: int, header: fits.Header
) -> tuple[tuple[int, int], int, TileTable | None]:
    """Check that the file has the data its header announces.

    Parameters
    ----------
    source
        Open file.
    number
        HDU of a plane.
    header
        Its header.

    Returns
    -------
    shape : `tuple` [`int`, `int`]
        Height and width.
    n_bytes : `int`
        Bytes of the data of the HDU.
    tiles : `TileTable` | `None`
        Table of the tiles if the plane is compressed.

    Raises
    ------
    FitsFormatError
        If it hasn't, or if the HDU is no image.
    """
    where = hdu_label(source, number)
    file, start, available = data_stream(source, number)
    compressed = header.get("ZIMAGE") is True
    if not compressed and str(header.get("XTENSION", "IMAGE")).strip() != "IMAGE":
        raise FitsFormatError(f"{where}: this is a table, no image")
    prefix = "Z" if compressed else ""
    if header.get(f"{prefix}NAXIS") == 0 or 0 in (header.get(f"{prefix}NAXIS{n}") for n in (1, 2)):
        raise FitsFormatError(f"{where}: the exposure has no pixels; only other components can be read")
    n_axes = _integer(header, f"{prefix}NAXIS", where, 2, 3)
    shape = [_integer(header, f"{prefix}NAXIS{n}", where, 1) for n in range(n_axes, 0, -1)]
    if n_axes == 3 and shape[0] != 1:
        raise FitsFormatError(f"{where}: the image has {shape[0]} planes instead of 1")
    bitpix = header.get(f"{prefix}BITPIX")
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise FitsFormatError(f"{where}: {prefix}BITPIX is {bitpix!r}")
    size = (shape[-2], shape[-1])
    table = None
    if compressed:
        tile_shape, tile_bytes = _compressed_tiles(header, shape, abs(bitpix) // 8, where)
        stored = header["NAXIS1"] * header["NAXIS2"] + header["PCOUNT"]
        table = TileTable(header, file, start, size, tile_shape, where)
    else:
        stored = math.prod(shape) * abs(bitpix) // 8
    if stored > available:
        raise FitsFormatError(
            f"{where}: the header announces {stored} bytes of data, but the file has only {available} more"
        )
    if table is not None:
        table.check(tile_bytes)
    return size, stored, table
