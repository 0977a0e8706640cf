# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
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

import numpy as np
from astropy.io import fits

from .._errors import FitsFormatError
from ..fits import header_cards, parse_layout, raw_file
from ._clean_header import read_clean_header

_MAX_SIDE = 200_000
_MAX_COMPRESSION = 2000
"""A row of equal pixels shrinks by a factor of about 1000 with GZIP."""


def _integer(header: fits.Header, key: str, where: str, low: int = 0, high: int = _MAX_SIDE) -> int:
    value = header.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise FitsFormatError(f"{where}: {key} = {value!r} isn't an integer from {low} to {high}")
    return value


def _check_tiles(hdulist: fits.HDUList, number: int, header: fits.Header, tile_bytes: int) -> None:
    """Check that no compressed tile is much longer than its pixels: GZIP
    could expand it without end.
    """
    file, info, where = raw_file(hdulist, number)
    layout = parse_layout(header_cards(header), where)
    file.seek(info["datLoc"])
    rows = np.frombuffer(file.read(layout.n_rows * layout.row_bytes), dtype=np.uint8)
    rows = rows.reshape(-1, layout.row_bytes)[: layout.n_rows]
    for column in layout.columns:
        if column.variable:
            dtype = ">i8" if column.variable == "Q" else ">i4"
            pairs = rows[:, column.offset : column.offset + column.width].copy().view(dtype)
            longest = int(pairs[:, 0].max()) * column.item_size
            if longest > 2 * tile_bytes + 1024:
                raise FitsFormatError(
                    f"{where}: a tile of {tile_bytes} bytes of pixels is compressed to {longest} bytes"
                )


def check_size(hdulist: fits.HDUList, number: int) -> tuple[fits.Header, tuple[int, int]]:
    """Check that the file has the data its header announces, before anything
    is allocated; return header and shape.
    """
    header = read_clean_header(hdulist, number)
    file, info, where = raw_file(hdulist, number)
    file.seek(0, 2)
    available = max(file.tell() - info["datLoc"], 0)
    compressed = header.get("ZIMAGE") is True
    prefix = "Z" if compressed else ""
    n_axes = _integer(header, f"{prefix}NAXIS", where, 2, 3)
    shape = [_integer(header, f"{prefix}NAXIS{n}", where, 1) for n in range(n_axes, 0, -1)]
    if n_axes == 3 and shape[0] != 1:
        raise FitsFormatError(f"{where}: the image has {shape[0]} planes instead of 1")
    bitpix = header.get(f"{prefix}BITPIX")
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise FitsFormatError(f"{where}: {prefix}BITPIX is {bitpix!r}")
    n_bytes = math.prod(shape) * abs(bitpix) // 8
    if compressed:
        stored = _integer(header, "NAXIS1", where, 0) * _integer(header, "NAXIS2", where, 0, 2**31)
        stored += _integer(header, "PCOUNT", where, 0, 2**40)
        n_tiles, tile_bytes = 1, max(abs(bitpix) // 8, 4)
        for axis, length in enumerate(reversed(shape), start=1):
            key = f"ZTILE{axis}"
            default = length if axis == 1 else 1
            tile = _integer(header, key, where, 1) if key in header else default
            n_tiles *= -(-length // tile)
            tile_bytes *= min(length, tile)
        if n_bytes > _MAX_COMPRESSION * stored or n_tiles != header["NAXIS2"]:
            raise FitsFormatError(
                f"{where}: {stored} bytes in {header['NAXIS2']} rows can't hold {n_bytes} bytes of pixels "
                f"in {n_tiles} tiles"
            )
        _check_tiles(hdulist, number, header, tile_bytes)
    else:
        stored = n_bytes
    if stored > available:
        raise FitsFormatError(
            f"{where}: the header announces {stored} bytes of data, but the file has only {available} more"
        )
    return header, (shape[-2], shape[-1])
