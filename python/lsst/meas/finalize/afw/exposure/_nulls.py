# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Special numbers of pixels as the FITS library of the stack reads them."""

from __future__ import annotations

__all__ = ("replace_nulls",)

import numpy as np
import numpy.typing as npt


def replace_nulls(pixels: npt.NDArray[np.floating]) -> None:
    """Replace infinities by NaN, and denormal numbers and -0 by 0, in place.

    It is what the stack sees of uncompressed planes, and of tiles that were
    stored as they are because they couldn't be quantized.  In lossless tiles
    it sees all numbers as they are.

    Parameters
    ----------
    pixels
        Contiguous array of float32 or float64.
    """
    unsigned = f"u{pixels.itemsize}"
    exponent: npt.NDArray[np.unsignedinteger] = np.array(np.inf, dtype=pixels.dtype).view(unsigned)
    bits: npt.NDArray[np.unsignedinteger] = pixels.view(unsigned) & exponent
    pixels[bits == exponent] = np.nan
    pixels[bits == 0] = 0
