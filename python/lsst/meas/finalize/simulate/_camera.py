# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The synthetic camera: detectors and projections."""

from __future__ import annotations

__all__ = ("EXPOSURE_TIME", "exposure_times", "make_detector", "make_sky_projection")

import astropy.time
import astropy.units as u
import astropy.wcs
import numpy as np

from lsst.images import DetectorFrame, SkyProjection
from lsst.images.cameras import Detector

from ..arrays import flat_detector
from ._config import SimulatedVisit

EXPOSURE_TIME = 30.0 * u.s
_CADENCE = 40.0 * u.s


def exposure_times(simulation: SimulatedVisit) -> tuple[astropy.time.Time, astropy.time.Time]:
    """Return when the shutter opened and closed.

    Parameters
    ----------
    simulation
        The visit; the first one of a day begins at 23:00 TAI.
    """
    day = str(simulation.day_obs)
    first = astropy.time.Time(f"{day[:4]}-{day[4:6]}-{day[6:]}T23:00:00", scale="tai")
    begin = first + (simulation.visit % 1000 - 1) * _CADENCE
    return begin, begin + EXPOSURE_TIME


def make_detector(simulation: SimulatedVisit, detector: int) -> Detector:
    """Make a detector of the synthetic camera, without amplifiers.

    Parameters
    ----------
    simulation
        The visit.
    detector
        Detector number.
    """
    return flat_detector(
        detector,
        (simulation.size, simulation.size),
        visit=simulation.visit,
        pixel_scale=simulation.pixel_scale,
        pixel_size=simulation.pixel_size,
        offset=simulation.detector_offset(detector),
        quarter_turns=simulation.quarter_turns(detector),
        physical_type=simulation.sensor_type(detector),
        name="S{}{}".format(*divmod(detector, 2)),
        camera="SynthCam",
    )


def make_sky_projection(
    simulation: SimulatedVisit, detector: Detector, frame: DetectorFrame
) -> SkyProjection[DetectorFrame]:
    """Make a gnomonic projection about the boresight.

    North is along the y axis of the focal plane, and west along its x axis.

    Parameters
    ----------
    simulation
        The visit.
    detector
        Detector the pixels belong to.
    frame
        Frame of the pixels.
    """
    zero = np.zeros(1)
    x, y = simulation.plane_to_pixel(detector.id, zero, zero)
    scale = (simulation.pixel_scale * u.arcsec).to_value(u.deg)
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = list(simulation.boresight)
    wcs.wcs.crpix = [1 + x[0], 1 + y[0]]
    wcs.wcs.cd = np.diag([-scale, scale]) @ simulation.rotation(detector.id)
    wcs.wcs.radesys = "ICRS"
    return SkyProjection.from_fits_wcs(wcs, frame, pixel_bounds=frame.bbox)
