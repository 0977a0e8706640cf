# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled decoding of quantized tiles: import inside the function that
calls.

Tiles are streams of bits, of which astropy's function expands one at a time
while holding the interpreter's lock; here all of a block are expanded and
scaled in one pass over the pixels.  The format is that of the FITS standard
4.0, sections 10.2 and 10.4.1, and appendix I.
"""

from __future__ import annotations

__all__ = ("N_RANDOM", "PADDING", "decode_tiles")

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.core.cgutils import false_bit
from numba.extending import intrinsic

from ..._jit_numba import njit

PADDING = 16
"""Bytes that must follow the last tile: reading goes past the end of tiles,
which is found out afterwards."""

N_RANDOM = 10_000
"""Length of the sequence of random numbers for dithering."""

_BITS = 5  # in which blocks tell how many bits of differences are stored plainly
_PLAIN = 25  # blocks from here on store all bits of differences
_ZERO = -2147483646  # stands for 0.0 with SUBTRACTIVE_DITHER_2
_U = np.uint64


@intrinsic
def _leading_zeros(typingctx: Any, n: Any) -> Any:
    """Return the number of zeros before the first one of a uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], false_bit)

    return types.uint64(types.uint64), codegen


@njit(error_model="numpy", inline="always")
def _count_zeros(bits: np.uint64) -> Any:
    return np.int64(_leading_zeros(bits))  # type: ignore[call-arg]


@njit(error_model="numpy", inline="always")
def _word(data: npt.NDArray[np.uint8], at: int) -> np.uint64:
    """Return four bytes as a number."""
    return (
        (_U(data[at]) << _U(24))
        | (_U(data[at + 1]) << _U(16))
        | (_U(data[at + 2]) << _U(8))
        | _U(data[at + 3])
    )


@njit(error_model="numpy", inline="always")
def _unfold(value: Any, last: Any) -> Any:
    """Add a difference, whose sign is in its last bit, as 32-bit integers."""
    return np.int64(np.int32(last + ((value >> 1) ^ -(value & 1))))


@njit(error_model="numpy", inline="always")
def _refill(data: npt.NDArray[np.uint8], at: int, limit: int, bits: Any, n_bits: int) -> Any:
    """Append four bytes to at most 32 bits, which come first in ``bits``.

    Past the limit they are any bytes: that too many were taken is found out
    in the end.
    """
    return bits | (_word(data, min(at, limit)) << _U(32 - n_bits)), at + 4, n_bits + 32


# Longer than a page: one loop over bits, whose state is in local variables.
@njit(error_model="numpy")
def _expand(
    data: npt.NDArray[np.uint8], start: int, length: int, block: int, out: npt.NDArray[np.int32]
) -> bool:
    """Expand a tile; return whether it is complete."""
    if length < 5:
        return False
    end = start + length
    limit = end + PADDING // 2
    last = np.int64(np.int32(_word(data, start)))
    at = start + 4
    bits, n_bits = _U(0), np.int64(0)
    for first in range(0, len(out), block):
        if n_bits <= 32:
            bits, at, n_bits = _refill(data, at, limit, bits, n_bits)
        plain = np.int64(bits >> _U(64 - _BITS)) - 1
        bits <<= _U(_BITS)
        n_bits -= _BITS
        after = min(first + block, len(out))
        if plain < 0:
            for i in range(first, after):
                out[i] = last
            continue
        if plain >= _PLAIN:
            for i in range(first, after):
                if n_bits <= 32:
                    bits, at, n_bits = _refill(data, at, limit, bits, n_bits)
                last = _unfold(np.int64(bits >> _U(32)), last)
                bits <<= _U(32)
                n_bits -= 32
                out[i] = last
            continue
        for i in range(first, after):
            if n_bits <= 32:
                bits, at, n_bits = _refill(data, at, limit, bits, n_bits)
            # So many zeros before a one are the bits that aren't plain.
            high = np.int64(0)
            zeros = _count_zeros(bits)
            used = zeros + 1 + plain
            if used <= n_bits and used < 64:
                low = ((bits << _U(zeros)) & _U(2**63 - 1)) >> _U(63 - plain)
                bits <<= _U(used)
                n_bits -= used
            else:
                while not bits:
                    if at > limit:
                        return False
                    high += n_bits
                    bits, at, n_bits = _refill(data, at, limit, _U(0), np.int64(0))
                zeros = _count_zeros(bits)
                bits = (bits << _U(zeros)) << _U(1)
                n_bits -= zeros + 1
                if n_bits < plain:
                    bits, at, n_bits = _refill(data, at, limit, bits, n_bits)
                low = (bits >> _U(1)) >> _U(63 - plain)
                bits <<= _U(plain)
                n_bits -= plain
            last = _unfold(((high + zeros) << plain) | np.int64(low), last)
            out[i] = last
    return bool(8 * (at - end) <= n_bits)


@njit(error_model="numpy")
def _scale(
    integers: npt.NDArray[np.int32],
    scale: float,
    zero: float,
    dither: int,
    seed: int,
    random: npt.NDArray[np.float32],
    blank: int,
    out: npt.NDArray[np.float32],
) -> None:
    """Convert the integers of a tile to the numbers they stand for."""
    n = len(integers)
    if dither < 0:
        for i in range(n):
            out[i] = integers[i] * scale + zero
    else:
        row = (seed - 1) % N_RANDOM
        done = 0
        while done < n:
            first = int(random[row] * np.float32(500.0))
            m = min(n - done, N_RANDOM - first)
            for i in range(m):
                out[done + i] = (integers[done + i] - np.float64(random[first + i]) + 0.5) * scale + zero
            done += m
            row = (row + 1) % N_RANDOM
    for i in range(n):
        if integers[i] == blank:
            out[i] = np.nan
        elif dither == 2 and integers[i] == _ZERO:
            out[i] = 0.0


@njit(error_model="numpy")
def decode_tiles(
    data: npt.NDArray[np.uint8],
    spans: npt.NDArray[np.int64],
    block: int,
    scales: npt.NDArray[np.float64],
    zeros: npt.NDArray[np.float64],
    dither: int,
    seed: int,
    random: npt.NDArray[np.float32],
    blank: int,
    integers: npt.NDArray[np.int32],
    out: npt.NDArray[np.float32],
) -> int:
    """Expand tiles of quantized pixels.

    Parameters
    ----------
    data : `numpy.ndarray`
        Bytes of all tiles and `PADDING` more, uint8.
    spans : `numpy.ndarray`
        First byte, number of bytes and number of pixels of each tile, (N, 3);
        tiles without bytes are left out.
    block : `int`
        Pixels that share a number of bits.
    scales, zeros : `numpy.ndarray`
        What the integers of each tile are multiplied with, and what is added,
        (N,).
    dither : `int`
        Method of dithering: 1 or 2; none if negative.
    seed : `int`
        Number of the first tile in the sequence of seeds, from 1 on.
    random : `numpy.ndarray`
        The sequence of random numbers, (`N_RANDOM`,) float32.
    blank : `int`
        Integer that stands for no value; none if it isn't one of 32 bits.
    integers : `numpy.ndarray`
        Space for the pixels of the largest tile, int32.
    out : `numpy.ndarray`
        Receives the pixels of all tiles, one after the other, float32.

    Returns
    -------
    bad : `int`
        Number of a tile that isn't complete; -1 if all are.
    """
    stop = 0
    # Each tile is a stream of its own.
    for tile in range(len(spans)):
        n = spans[tile, 2]
        start, stop = stop, stop + n
        if spans[tile, 1] == 0:
            continue
        if not _expand(data, spans[tile, 0], spans[tile, 1], block, integers[:n]):
            return tile
        _scale(integers[:n], scales[tile], zeros[tile], dither, seed + tile, random, blank, out[start:stop])
    return -1
