# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Columns of text as bytes."""

from __future__ import annotations

__all__ = ("encode_texts",)

import numpy as np
import numpy.typing as npt


def encode_texts(values: npt.NDArray[np.str_]) -> npt.NDArray[np.bytes_]:
    """Encode texts as UTF-8, those of ASCII only all at once.

    Parameters
    ----------
    values
        Texts [N].

    Returns
    -------
    encoded
        Their bytes [N].

    Raises
    ------
    UnicodeEncodeError
        Raised if a text can't be encoded.
    """
    codes = np.ascontiguousarray(values).view(np.uint32).reshape(len(values), values.itemsize // 4)
    if (codes < 128).all():
        return codes.astype(np.uint8).view(f"S{codes.shape[1]}").reshape(len(values))
    return np.strings.encode(values, "utf-8")
