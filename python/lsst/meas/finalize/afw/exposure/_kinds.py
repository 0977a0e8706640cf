# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Files that aren't exposures of the stack, by what they are."""

from __future__ import annotations

__all__ = ("check_kind",)

from typing import Any

from astropy.io import fits

from .._errors import FitsFormatError
from ..fits import NATIVE, FitsFile, hdu_label, is_native
from ._clean_header import read_clean_header

_READERS = {"SOURCE": "read_source_catalog", "EXPOSURE": "read_exposure_catalog"}


def check_kind(file: fits.HDUList | FitsFile, primary: fits.Header) -> None:
    """Check that a file may be an exposure.

    Parameters
    ----------
    file
        Open file.
    primary
        Its primary header.

    Raises
    ------
    FitsFormatError
        If it is something else that is known.
    """
    where = hdu_label(file, 0)
    if is_native(primary):
        raise FitsFormatError(f"{where}: {NATIVE}")
    try:
        header = read_clean_header(file, 1)
    except FitsFormatError:
        # There are components that don't need it.
        return
    kind: Any = header.get("AFW_TYPE")
    if kind is None or header.get("ZIMAGE") is True:
        return
    kind = str(kind).strip()
    advice = f"use {_READERS[kind]}" if kind in _READERS else "it isn't supported"
    article = "an" if kind.startswith(("E", "A")) else "a"
    raise FitsFormatError(f"{where}: this is {article} {kind} catalog of the stack; {advice}")
