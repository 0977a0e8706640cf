# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled conversion of mask bits: import inside the function that calls."""

from __future__ import annotations

__all__ = ("convert_bits",)

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit


@njit(error_model="numpy")
def convert_bits(
    bits: npt.NDArray[np.int32], words: npt.NDArray[np.uint64], out: npt.NDArray[np.uint8]
) -> None:
    """Replace each bit of pixels by others.

    Parameters
    ----------
    bits : `numpy.ndarray`
        Bits of the pixels, int32, (N,).
    words : `numpy.ndarray`
        What stands for each bit, uint64, (32,).
    out : `numpy.ndarray`
        Receives the bytes of the new bits, from the lowest on, uint8, (N, M);
        those of pixels without bits are left as they are.
    """
    known, word = np.int32(0), np.uint64(0)
    for i in range(len(bits)):
        pixel = bits[i]
        if pixel == 0:
            continue
        if pixel != known:  # mostly it is like the one before
            known, word = pixel, np.uint64(0)
            for bit in range(32):
                if (pixel >> bit) & 1:
                    word |= words[bit]
        for byte in range(out.shape[1]):
            out[i, byte] = np.uint8(word >> np.uint64(8 * byte))
