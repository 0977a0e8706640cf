# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Checks of compressed tiles that are left to astropy.

Its compiled decoders believe the sizes that a tile or the header tells, and
read or write beyond their memory if these are wrong.
"""

from __future__ import annotations

__all__ = ("check_stream", "is_valid_rice")

import zlib
from typing import Any

import numpy as np

_RICE_BLOCKS = (16, 32)
_RICE_PIXELS = (1, 2, 4)
_MAX_PIXEL_BYTES = 8
_CHUNK = 2**20
_HCOMPRESS_MAGIC = b"\xdd\x99"


def is_valid_rice(block: Any, pixel_bytes: Any) -> bool:
    """Return whether settings of Rice's method are those of the FITS standard
    (4.0, section 10.4.1).

    Parameters
    ----------
    block
        Pixels per block.
    pixel_bytes
        Bytes per pixel; 8 bytes, which the standard has, are read by nobody.
    """
    return block in _RICE_BLOCKS and pixel_bytes in _RICE_PIXELS


def check_stream(kind: str, data: bytes, shape: tuple[int, int]) -> None:
    """Check what a compressed tile tells of its size.

    Parameters
    ----------
    kind
        ``ZCMPTYPE`` of the tile.
    data
        The tile.
    shape
        Its height and width.

    Raises
    ------
    ValueError
        If it is of another size, or goes on beyond its end.
    """
    if kind.startswith("GZIP"):
        _check_gzip(data, shape[0] * shape[1] * _MAX_PIXEL_BYTES)
    elif kind == "HCOMPRESS_1":
        found = int.from_bytes(data[2:6]), int.from_bytes(data[6:10])
        if data[:2] != _HCOMPRESS_MAGIC or found != shape:
            raise ValueError(f"a tile of {shape} pixels was compressed as one of {found}")
    elif kind == "PLIO_1":
        _check_plio(data)


def _check_gzip(data: bytes, limit: int) -> None:
    stream = zlib.decompressobj(wbits=31)
    n_bytes = 0
    while data and not stream.eof:
        n_bytes += len(stream.decompress(data, _CHUNK))
        data = stream.unconsumed_tail
        if n_bytes > limit:
            raise ValueError(f"a tile expands to more than {limit} bytes")


def _check_plio(data: bytes) -> None:
    """Check where a list of pixels starts and ends, in words of 16 bits."""
    words = np.frombuffer(data[: len(data) // 2 * 2], dtype=">i2").astype(np.int64)
    if len(words) > 2 and words[2] > 0:  # the short form of the head
        first, length = 3, words[2]
    elif len(words) > 4:
        first, length = words[1], (words[4] << 15) + words[3]
    else:
        first, length = 0, 1
    if first < 3 or length > len(words):
        raise ValueError(f"a tile has {len(words)} of {length} words")
