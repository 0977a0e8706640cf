# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Headers without the cards that can't be parsed."""

from __future__ import annotations

__all__ = ("read_clean_header",)

import logging

from astropy.io import fits

from ..fits import FitsFile, hdu_label, read_header

_LOG = logging.getLogger(__name__)


def read_clean_header(file: fits.HDUList | FitsFile, number: int) -> fits.Header:
    """Read a header without cards that can't be parsed.

    Parameters
    ----------
    file
        Open file.
    number
        HDU to read.

    Returns
    -------
    header : `astropy.io.fits.Header`
        Header as in the file, except for unparsable cards, which are warned
        about: they may be left-overs that nobody needs.
    """
    header = read_header(file, number)
    bad = []
    for index, card in enumerate(header.cards):
        try:
            _ = card.value
        except (fits.VerifyError, ValueError):
            bad.append(index)
    if bad:
        _LOG.warning("%s: ignoring %d unparsable cards.", hdu_label(file, number), len(bad))
        good = set(range(len(header.cards))) - set(bad)
        header = fits.Header([card for index, card in enumerate(header.cards) if index in good])
    return header
