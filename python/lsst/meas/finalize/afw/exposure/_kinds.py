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

from astropy.io import fits

from .._errors import FitsFormatError
from ..fits import NATIVE, is_native

_READERS = {"SOURCE": "read_source_catalog", "EXPOSURE": "read_exposure_catalog"}


def check_kind(where: str, primary: fits.Header, image: fits.Header | None) -> None:
    """Check that a file may be an exposure.

    Parameters
    ----------
    where
        The primary HDU, for messages.
    primary
        Its header.
    image
        Header of the next HDU, if there is one; some components don't need
        it.

    Raises
    ------
    FitsFormatError
        If it is something else that is known.
    """
    if is_native(primary):
        raise FitsFormatError(f"{where}: {NATIVE}")
    if image is None or image.get("AFW_TYPE") is None or image.get("ZIMAGE") is True:
        return
    kind = str(image["AFW_TYPE"]).strip()
    advice = f"use {_READERS[kind]}" if kind in _READERS else "it isn't supported"
    article = "an" if kind.startswith(("E", "A")) else "a"
    raise FitsFormatError(f"{where}: this is {article} {kind} catalog of the stack; {advice}")
