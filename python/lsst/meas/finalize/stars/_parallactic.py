# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Parallactic angles."""

from __future__ import annotations

__all__ = ("boresight_par_angle", "parallactic_angle")

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsst.images import VisitImage

_CARDS = ("AVG-ERA", "OBS-LONG", "BORE-RA", "BORE-DEC", "OBS-LAT")


def parallactic_angle(hour_angle: float, dec: float, latitude: float) -> float:
    """Compute the parallactic angle.

    Parameters
    ----------
    hour_angle, dec : `float`
        Local hour angle and declination, radians.
    latitude : `float`
        Geodetic latitude of the observatory, radians.

    Returns
    -------
    angle : `float`
        Position angle of the zenith, radians, in [-pi, pi].
    """
    return math.atan2(
        math.sin(hour_angle),
        math.cos(dec) * math.tan(latitude) - math.sin(dec) * math.cos(hour_angle),
    )


def _number(value: Any) -> float:
    """Convert a header value; NaN if it isn't a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def boresight_par_angle(exposure: VisitImage) -> float:
    """Return the parallactic angle at the boresight, mid-exposure.

    Parameters
    ----------
    exposure : `lsst.images.VisitImage`
        Image with the cards ``AVG-ERA``, ``OBS-LONG``, ``BORE-RA``,
        ``BORE-DEC`` and ``OBS-LAT`` (degrees) in its ``metadata``, or else
        with location, pointing and times in its ``obs_info``.

    Returns
    -------
    angle : `float`
        Angle in radians.

    Raises
    ------
    ValueError
        Raised if neither is complete.

    Notes
    -----
    Spec 02 §5.6: hour angle = ERA + east longitude - right ascension.
    """
    metadata = exposure.metadata
    values = [_number(metadata.get(card)) for card in _CARDS]
    if not all(map(math.isfinite, values)):
        values = _from_obs_info(exposure)
    era, longitude, ra, dec, latitude = (math.radians(v) for v in values)
    return parallactic_angle(era + longitude - ra, dec, latitude)


def _from_obs_info(exposure: VisitImage) -> list[float]:
    """Return what the cards would hold, from the observation info."""
    info: Any = getattr(exposure, "obs_info", None)
    needed = ("datetime_begin", "datetime_end", "location", "tracking_radec")
    missing = [name for name in needed if info is None or getattr(info, name, None) is None]
    if missing:
        cards = [card for card in _CARDS if not math.isfinite(_number(exposure.metadata.get(card)))]
        raise ValueError(
            "The exposure doesn't tell its parallactic angle, needed for alt/az moments: its metadata lacks "
            f"{cards} and its obs_info lacks {missing}."
        )
    from astropy.utils import iers

    middle = info.datetime_begin + 0.5 * (info.datetime_end - info.datetime_begin)
    # Never download; outside the bundled table UT1 is off by less than 1 s.
    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
    ):
        era = middle.earth_rotation_angle(longitude=0).deg
    location, pointing = info.location, info.tracking_radec
    return [era, location.lon.deg, pointing.icrs.ra.deg, pointing.icrs.dec.deg, location.lat.deg]
