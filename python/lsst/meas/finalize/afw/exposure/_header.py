# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What the headers of an exposure file say about filter, calibration and
visit (spec 02 §2.2, §10).
"""

from __future__ import annotations

__all__ = ("filter_from_header", "make_obs_info", "photo_calib_from_header", "read_unit")

import logging
import re
from collections.abc import Mapping
from typing import Any

import astropy.units as u
from astro_metadata_translator import ObservationInfo
from astropy.io import fits

from lsst.images.fits import parse_legacy_bunit

from .._errors import FitsFormatError
from ..components import VISIT_INFO_KEYS, FilterLabel, PhotoCalib

_LOG = logging.getLogger(__name__)

_BANDS = re.compile(r"[ugrizy]|SH|PH|VR|white|N\d+|I\d{2,}")
_FILTERS = {
    "r2": FilterLabel("r", "HSC-R2"),
    "i2": FilterLabel("i", "HSC-I2"),
    "SOLID": FilterLabel(None, "solid plate 0.0 0.0"),
}


def filter_from_header(header: Mapping[str, Any]) -> FilterLabel | None:
    """Interpret the filter name of versions 0 and 1.

    Parameters
    ----------
    header
        Header of the file.

    Returns
    -------
    label : `FilterLabel` | `None`
        None if the filter isn't known.
    """
    name = header.get("FILTER")
    if not isinstance(name, str) or not name.strip() or name.strip() == "_unknown_":
        return None
    name = name.rstrip()
    if name in _FILTERS:
        return _FILTERS[name]
    return FilterLabel(band=name) if _BANDS.fullmatch(name) else FilterLabel(physical=name)


def photo_calib_from_header(header: Mapping[str, Any]) -> PhotoCalib | None:
    """Interpret the calibration of version 0.

    Parameters
    ----------
    header
        Header of the file.

    Returns
    -------
    calib : `PhotoCalib` | `None`
        None if there is none.
    """
    flux, error = header.get("FLUXMAG0"), header.get("FLUXMAG0ERR")
    if isinstance(flux, bool) or not isinstance(flux, int | float):
        return None
    return PhotoCalib.from_zero_flux(float(flux), float(error) if isinstance(error, int | float) else 0.0)


def read_unit(header: fits.Header, instrumental_unit: u.UnitBase | None, where: str) -> u.UnitBase | None:
    """Interpret the unit of the pixels.

    Parameters
    ----------
    header
        Header of the image.
    instrumental_unit
        Unit the instrument-signature removal is known to make, which
        corrects files that say adu.
    where
        Origin, for messages.

    Returns
    -------
    unit : `astropy.units.UnitBase` | `None`
        None if the header has no unit.

    Raises
    ------
    FitsFormatError
        If the unit can't be parsed.
    """
    text = header.get("BUNIT")
    if not isinstance(text, str) or not text.strip():
        return None
    try:
        return parse_legacy_bunit(text.strip(), instrumental_unit)
    except (ValueError, TypeError) as error:
        raise FitsFormatError(f"{where}: BUNIT = {text!r} isn't a unit: {str(error)[:100]}") from None


def make_obs_info(header: fits.Header, overrides: Mapping[str, Any], where: str) -> ObservationInfo:
    """Make the standardised description of the observation.

    Parameters
    ----------
    header
        Primary header.
    overrides
        Properties known better from elsewhere; None values are ignored.
    where
        Origin, for messages.

    Returns
    -------
    obs_info : `astro_metadata_translator.ObservationInfo`
        From the flattened one in the header if there, else from the cards
        about the visit, else with ``overrides`` only.
    """
    from astro_metadata_translator import VisitInfoTranslator

    given = {key: value for key, value in overrides.items() if value is not None}
    flat = {"prefix": "OBS_INFO", "sep": " "}
    result: ObservationInfo | None = None
    try:
        if ObservationInfo.has_flat_dict(header, **flat):
            result = ObservationInfo.from_flat_dict(header, **flat)
            # Written when the file was, from the original header.
            given = {key: value for key, value in given.items() if getattr(result, key) is None}
        elif any(key in header for key in VISIT_INFO_KEYS):
            # The translation notes corrections in what it is given.
            result = ObservationInfo.from_header(
                header.copy(), translator_class=VisitInfoTranslator, quiet=True
            )
    except Exception as error:
        # The translators raise whatever their parsers do.
        _LOG.warning("%s: can't interpret the visit information: %s", where, str(error)[:200])
    if result is None:
        return ObservationInfo(**given)
    with result.edit_copy() as edited:
        for key, value in given.items():
            setattr(edited, key, value)
    return edited
