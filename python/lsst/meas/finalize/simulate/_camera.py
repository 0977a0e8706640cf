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

from lsst.images import Box, DetectorFrame, SkyProjection
from lsst.images._transforms import _ast
from lsst.images.cameras import CameraFrameSet, Detector, DetectorAttributes, DetectorType, Orientation

from ._config import VisitSimulation

EXPOSURE_TIME = 30.0 * u.s
_CADENCE = 40.0 * u.s


def exposure_times(simulation: VisitSimulation) -> tuple[astropy.time.Time, astropy.time.Time]:
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


def _make_frame_set(simulation: VisitSimulation, detector: int) -> _ast.FrameSet:
    """Make the coordinate frames of one detector: mm, radians and pixels."""
    # lsst.images takes the top as exclusive (spec 02 §10).
    pixels = _ast.Frame(
        2,
        f"Ident=DETECTOR_{detector:03d},Unit(1)=pix,Unit(2)=pix,"
        f"Bottom(1)=0,Top(1)={simulation.size},Bottom(2)=0,Top(2)={simulation.size}",
    )
    x, y = simulation.detector_offset(detector)
    half = (simulation.size - 1) / 2
    to_pixels = (
        _ast.ShiftMap([-x, -y])
        .then(_ast.ZoomMap(2, 1 / simulation.pixel_size))
        .then(_ast.ShiftMap([half, half]))
    )
    radians_per_mm = np.deg2rad(simulation.pixel_scale / 3600) / simulation.pixel_size
    frames = _ast.FrameSet(_ast.Frame(2, "Ident=FOCAL_PLANE,Unit(1)=mm,Unit(2)=mm"))
    frames.addFrame(
        1, _ast.ZoomMap(2, radians_per_mm), _ast.Frame(2, "Ident=FIELD_ANGLE,Unit(1)=rad,Unit(2)=rad")
    )
    frames.addFrame(1, to_pixels, pixels)
    return frames


def make_detector(simulation: VisitSimulation, detector: int) -> Detector:
    """Make a detector of the synthetic camera, without amplifiers.

    Parameters
    ----------
    simulation
        The visit.
    detector
        Detector number.
    """
    x, y = simulation.detector_offset(detector)
    half = (simulation.size - 1) / 2
    attributes = DetectorAttributes(
        name="S{}{}".format(*divmod(detector, 2)),
        id=detector,
        type=DetectorType.SCIENCE,
        serial=f"SIM{detector:03d}",
        bbox=Box.from_shape((simulation.size, simulation.size)),
        orientation=Orientation(
            focal_plane_x=x,
            focal_plane_y=y,
            focal_plane_z=0.0,
            pixel_reference_x=half,
            pixel_reference_y=half,
        ),
        pixel_size=simulation.pixel_size,
        physical_type="simulated",
    )
    frames = CameraFrameSet("SynthCam", _make_frame_set(simulation, detector))
    return Detector(attributes, [], frames, visit=simulation.visit)


def make_sky_projection(
    simulation: VisitSimulation, detector: Detector, frame: DetectorFrame
) -> SkyProjection[DetectorFrame]:
    """Make a gnomonic projection about the boresight, north up.

    Parameters
    ----------
    simulation
        The visit.
    detector
        Detector the pixels belong to.
    frame
        Frame of the pixels.
    """
    x, y = simulation.detector_offset(detector.id)
    half = (simulation.size - 1) / 2
    scale = (simulation.pixel_scale * u.arcsec).to_value(u.deg)
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = list(simulation.boresight)
    wcs.wcs.crpix = [1 + half - x / simulation.pixel_size, 1 + half - y / simulation.pixel_size]
    wcs.wcs.cd = np.array([[-scale, 0.0], [0.0, scale]])
    wcs.wcs.radesys = "ICRS"
    return SkyProjection.from_fits_wcs(wcs, frame, pixel_bounds=frame.bbox)
