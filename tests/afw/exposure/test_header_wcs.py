# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import warnings
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import (
    FK4,
    FK5,
    ICRS,
    BarycentricMeanEcliptic,
    BaseCoordinateFrame,
    FK4NoETerms,
    Galactic,
    SkyCoord,
    Supergalactic,
)
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from lsst.images import Box, DetectorFrame
from lsst.meas.finalize.afw import FitsFormatError
from lsst.meas.finalize.afw.exposure._header_wcs import header_projection

_MAS = 1e-3 / 3600
_BOX = Box.factory[7:87, -20:80]


def _header(**cards: Any) -> fits.Header:
    header = fits.Header({"NAXIS": 2, "NAXIS1": 100, "NAXIS2": 80})
    header.update(
        {
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CRPIX1": 50.0,
            "CRPIX2": 40.0,
            "CRVAL1": 150.0,
            "CRVAL2": 2.0,
            "CD1_1": -5e-5,
            "CD1_2": 1e-6,
            "CD2_1": 2e-6,
            "CD2_2": 5e-5,
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            **cards,
        }
    )
    return header


def _positions(header: fits.Header) -> tuple[SkyCoord, np.ndarray, np.ndarray]:
    """Return sky positions by our projection, and world coordinates by
    wcslib.
    """
    frame = DetectorFrame(instrument="Cam", visit=1, detector=0, bbox=_BOX)
    projection = header_projection("here", header, frame, _BOX)
    assert projection is not None
    x, y = np.array([-20.0, 13.25, 79.0]), np.array([7.0, 80.5, 40.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The first pixel is (0, 0) there.
        # The systems are the cases' own.
        for key in ("EQUINOX", "EPOCH", "RADESYS", "RADECSYS"):
            header.pop(key, None)
        world = WCS(header).wcs_pix2world(x + 20, y - 7, 0)
    back = projection.sky_to_pixel(projection.pixel_to_sky(x=x, y=y))
    np.testing.assert_allclose(back.x, x, atol=1e-3)
    np.testing.assert_allclose(back.y, y, atol=1e-3)
    return projection.pixel_to_sky(x=x, y=y), *world


@pytest.mark.parametrize(
    ("cards", "frame", "tolerance"),
    [
        ({}, ICRS(), 1e-3),
        ({"RADESYS": "ICRS"}, ICRS(), 1e-3),
        ({"RADESYS": "ICRS", "EQUINOX": 1975.0}, ICRS(), 1e-3),
        ({"RADESYS": "FK5"}, FK5(equinox="J2000"), 1e-2),
        ({"RADESYS": "FK5", "EQUINOX": 2000.0}, FK5(equinox="J2000"), 1e-2),
        ({"RADECSYS": "FK5", "EQUINOX": 2000.0}, FK5(equinox="J2000"), 1e-2),
        ({"EQUINOX": 2000.0}, FK5(equinox="J2000"), 1e-2),
        ({"EPOCH": 2000.0}, FK5(equinox="J2000"), 1e-2),
        ({"EQUINOX": "2000"}, FK5(equinox="J2000"), 1e-2),
        ({"EQUINOX": " J2000.0"}, FK5(equinox="J2000"), 1e-2),
        ({"EQUINOX": "b1950"}, FK4(equinox="B1950"), 60),
        ({"RADESYS": " fk5 "}, FK5(equinox="J2000"), 1e-2),
        ({"RADECSYS": "icrs", "EQUINOX": 2000.0}, ICRS(), 1e-2),
        ({"RADESYS": ""}, ICRS(), 1e-2),
        # AST has the precession of 1976, which is about 2 mas a year off.
        ({"RADESYS": "FK5", "EQUINOX": 1975.0}, FK5(equinox="J1975"), 5),
        ({"RADESYS": "FK5", "EQUINOX": 2015.5}, FK5(equinox="J2015.5"), 40),
        ({"EQUINOX": 1990.0}, FK5(equinox="J1990"), 20),
        ({"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"}, BarycentricMeanEcliptic(), 30),
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, Galactic(), 3),
        ({"CTYPE1": "SLON-TAN", "CTYPE2": "SLAT-TAN"}, Supergalactic(), 3),
        # And other corrections of the motion of the old system.
        ({"EQUINOX": 1950.0}, FK4(equinox="B1950"), 60),
        ({"RADESYS": "FK4"}, FK4(equinox="B1950"), 60),
        ({"RADESYS": "FK4", "EQUINOX": 1975.0}, FK4(equinox="B1975"), 60),
        ({"RADESYS": "FK4-NO-E", "EQUINOX": 1950.0}, FK4NoETerms(equinox="B1950"), 60),
        (
            {"RADESYS": "FK4", "EQUINOX": 1950.0, "MJD-OBS": 57000.0},
            FK4(equinox="B1950", obstime=Time(57000, format="mjd")),
            60,
        ),
    ],
)
def test_positions_are_icrs(cards: dict[str, Any], frame: BaseCoordinateFrame, tolerance: float) -> None:
    """Convert all systems and equinoxes, as astropy does."""
    found, longitude, latitude = _positions(_header(**cards))
    expected = SkyCoord(longitude * u.deg, latitude * u.deg, frame=frame).icrs
    assert found.separation(expected).deg.max() < tolerance * _MAS


def test_swapped_axes() -> None:
    """Look at which of the axes is which."""
    cards = {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.0, "CRVAL2": 150.0}
    for system, frame in [("ICRS", ICRS()), ("FK5", FK5(equinox="J2000"))]:
        found, latitude, longitude = _positions(_header(**cards, RADESYS=system))
        expected = SkyCoord(longitude * u.deg, latitude * u.deg, frame=frame).icrs
        assert found.separation(expected).deg.max() < 1e-2 * _MAS


@pytest.mark.parametrize(
    "cards", [{"RADESYS": "GAPPT", "MJD-OBS": 57000.0}, {"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}]
)
def test_other_systems_are_refused(cards: dict[str, Any]) -> None:
    """Refuse what has no place in ICRS, and what isn't known."""
    with pytest.raises(FitsFormatError, match="can't interpret the WCS of the header"):
        _positions(_header(**cards))


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({"RADESYS": "FK6"}, "RADESYS = 'FK6' isn't a reference system"),
        ({"RADESYS": 5}, "RADESYS = 5 isn't a reference system"),
        ({"RADECSYS": "J2000"}, "RADECSYS = 'J2000' isn't a reference system"),
        ({"EQUINOX": "now"}, "EQUINOX = 'now' isn't a year"),
        ({"EPOCH": "1950/1"}, "EPOCH = '1950/1' isn't a year"),
    ],
)
def test_unknown_systems_are_named(cards: dict[str, Any], match: str) -> None:
    """Take nothing for ICRS that says something else."""
    with pytest.raises(FitsFormatError, match=match):
        _positions(_header(**cards))


def test_no_sky() -> None:
    """Find no projection where the axes aren't those of the sky."""
    frame = DetectorFrame(instrument="Cam", visit=1, detector=0, bbox=_BOX)
    for cards in ({"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, {"CTYPE1": "", "CTYPE2": ""}):
        header = _header(**cards)
        assert header_projection("here", header, frame, _BOX) is None
