# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from astropy.io import fits

EditCard = Callable[[bytes, int, str, str], bytes]


@pytest.fixture(scope="session")
def edit_card() -> EditCard:
    """Return a function that replaces a card of a FITS file's bytes."""

    def edit(data: bytes, hdu: int, key: str, value: str) -> bytes:
        with fits.open(io.BytesIO(data)) as hdulist:
            info = hdulist[hdu].fileinfo()
        for start in range(info["hdrLoc"], info["datLoc"], 80):
            card = data[start : start + 80].decode("latin-1")
            if card.removeprefix("HIERARCH ").split("=")[0].strip() == key:
                prefix = f"{key:<8}" if len(key) <= 8 else f"HIERARCH {key} "
                new = f"{prefix}= {value}".ljust(80).encode()
                return data[:start] + new[:80] + data[start + 80 :]
        raise AssertionError(f"no card {key} in HDU {hdu}")

    return edit
