# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Detectors that are nothing but a place on a flat focal plane."""

from __future__ import annotations

__all__ = ("flat_detector",)

import astropy.units as u
import numpy as np

from lsst.images import Box
from lsst.images._transforms import _ast
from lsst.images.cameras import CameraFrameSet, Detector, DetectorAttributes, DetectorType, Orientation


def flat_detector(
    number: int,
    shape: tuple[int, int],
    *,
    visit: int,
    pixel_scale: float,
    pixel_size: float = 0.01,
    offset: tuple[float, float] = (0.0, 0.0),
    quarter_turns: int = 0,
    name: str = "",
    camera: str = "Arrays",
    physical_type: str = "simulated",
) -> Detector:
    """Make a detector without amplifiers.

    Parameters
    ----------
    number
        Detector number.
    shape
        Height and width in pixels.
    visit
        Visit number.
    pixel_scale
        Size of a pixel in arcsec.
    pixel_size
        Size of a pixel in mm.
    offset
        Place of the detector's center on the focal plane, x and y, in mm.
    quarter_turns
        How often it is turned by 90 degrees, from x to y, in that plane.
    name
        Its name; made of the number if not given.
    camera
        Name of the instrument.
    physical_type
        Kind of sensor.
    """
    height, width = shape
    x, y = offset
    middle = [(width - 1) / 2, (height - 1) / 2]
    attributes = DetectorAttributes(
        name=name or f"D{number:03d}",
        id=number,
        type=DetectorType.SCIENCE,
        serial=f"SIM{number:03d}",
        bbox=Box.from_shape(shape),
        orientation=Orientation(
            focal_plane_x=x,
            focal_plane_y=y,
            focal_plane_z=0.0,
            pixel_reference_x=middle[0],
            pixel_reference_y=middle[1],
            yaw=90.0 * (quarter_turns % 4) * u.deg,
        ),
        pixel_size=pixel_size,
        physical_type=physical_type,
    )
    # lsst.images takes the top as exclusive (spec 02 §10).
    pixels = _ast.Frame(
        2,
        f"Ident=DETECTOR_{number:03d},Unit(1)=pix,Unit(2)=pix,"
        f"Bottom(1)=0,Top(1)={width},Bottom(2)=0,Top(2)={height}",
    )
    to_pixels: _ast.Mapping = _ast.ShiftMap([-x, -y])
    if quarter_turns % 4:
        turn_back = np.linalg.matrix_power(np.array([[0.0, 1.0], [-1.0, 0.0]]), quarter_turns % 4)
        to_pixels = to_pixels.then(_ast.MatrixMap(turn_back))
    to_pixels = to_pixels.then(_ast.ZoomMap(2, 1 / pixel_size)).then(_ast.ShiftMap(middle))
    radians_per_mm = np.deg2rad(pixel_scale / 3600) / pixel_size
    frames = _ast.FrameSet(_ast.Frame(2, "Ident=FOCAL_PLANE,Unit(1)=mm,Unit(2)=mm"))
    frames.addFrame(
        1, _ast.ZoomMap(2, radians_per_mm), _ast.Frame(2, "Ident=FIELD_ANGLE,Unit(1)=rad,Unit(2)=rad")
    )
    frames.addFrame(1, to_pixels, pixels)
    return Detector(attributes, [], CameraFrameSet(camera, frames), visit=visit)
