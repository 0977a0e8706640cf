# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The FITS-WCS of an exposure's header, a fall-back for files without a
SkyWcs (spec 02 §2.3).
"""

from __future__ import annotations

__all__ = ("header_projection",)

import re
import warnings
from typing import Any

import astropy.wcs
import numpy as np
from astropy.io import fits

from lsst.images import Box, DetectorFrame, SkyProjection
from lsst.images._transforms import _ast

from .._errors import FitsFormatError

_SYSTEMS = frozenset(
    ("ICRS", "FK5", "FK4", "FK4-NO-E", "FK4_NO_E", "GALACTIC", "SUPERGALACTIC", "ECLIPTIC", "J2000")
)
"""Systems of AST that don't depend on where the observer is."""
_RADESYS = frozenset(("", "ICRS", "FK5", "FK4", "FK4-NO-E", "GAPPT"))
"""Values that the FITS standard has."""


def _tidy_system(header: fits.Header) -> fits.Header:
    """Return a header whose system and equinox have the standard's form.

    wcslib ignores an equinox that is text, and AST fails obscurely with
    systems in small letters, both without telling.
    """
    header = header.copy()
    for key in ("RADESYS", "RADECSYS"):
        value = header.get(key)
        if value is None or isinstance(value, fits.card.Undefined):
            continue
        name = str(value).strip().upper()
        if name not in _RADESYS:
            raise FitsFormatError(f"{key} = {value!r} isn't a reference system")
        header[key] = name
    for key in ("EQUINOX", "EPOCH"):
        value = header.get(key)
        if isinstance(value, str):
            match = re.fullmatch(r"\s*[JB]?\s*(\d+\.?\d*)\s*", value, re.IGNORECASE)
            if match is None:
                raise FitsFormatError(f"{key} = {value!r} isn't a year")
            header[key] = float(match[1])
    return header


def header_projection(
    where: str, header: fits.Header, frame: DetectorFrame, box: Box
) -> SkyProjection[DetectorFrame] | None:
    """Make a projection from the WCS cards of the image.

    Parameters
    ----------
    where
        Origin, for messages.
    header
        Header of the image.
    frame
        Pixel frame of the projection.
    box
        Box of the image; its corner is FITS pixel (1, 1).

    Returns
    -------
    projection : `lsst.images.SkyProjection` | `None`
        None if the header has no celestial WCS.

    Raises
    ------
    FitsFormatError
        If the cards can't be interpreted.

    Notes
    -----
    Coordinates of other systems and equinoxes are converted to ICRS by AST,
    as the stack does.
    """
    if "CTYPE1" not in header:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = astropy.wcs.WCS(_tidy_system(header))
            if not wcs.has_celestial:
                return None
            celestial = wcs.celestial
            projection = SkyProjection.from_fits_wcs(celestial, frame, x0=box.x.min, y0=box.y.min)
        frame_set: Any = projection.pixel_to_sky_transform._ast_mapping
        if frame_set.system not in _SYSTEMS:
            raise FitsFormatError(f"its coordinate system {frame_set.system!r} isn't supported")
        # On the set, not on its frame: that changes the mapping as well.
        frame_set.system = "ICRS"
        if celestial.wcs.lng == 1:
            swap = _ast.MatrixMap(np.array([[0.0, 1.0], [1.0, 0.0]]))
            frame_set.addFrame(frame_set.current, swap, _ast.SkyFrame("System=ICRS"))
        return SkyProjection.from_ast_frame_set(frame_set, frame)
    except Exception as error:
        # wcslib and AST have an exception class per kind of problem.
        raise FitsFormatError(
            f"{where}: can't interpret the WCS of the header: {str(error)[:200]}"
        ) from error
