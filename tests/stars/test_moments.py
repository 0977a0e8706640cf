# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import astropy.units as u
import astropy.wcs
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time

from lsst.images import GeneralFrame, SkyProjection
from lsst.meas.finalize.stars import (
    altaz_moments,
    boresight_par_angle,
    local_cd_matrices,
    parallactic_angle,
    sky_moments,
)

CD = np.array([[-5e-5, 1e-5], [1.2e-5, 5.3e-5]])


def make_projection(ra: float = 30.0, dec: float = -40.0) -> SkyProjection:
    """Make a tangent-plane projection."""
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [101, 201]
    wcs.wcs.cd = CD
    return SkyProjection.from_fits_wcs(wcs, GeneralFrame(unit=u.pix))


@pytest.mark.parametrize("dec", [-40.0, 0.0, 89.9999])
def test_cd_matrix_at_the_reference_pixel(dec: float) -> None:
    """Find the matrix the projection was made with, even near the pole."""
    cd = local_cd_matrices(make_projection(dec=dec), np.array([100.0]), np.array([200.0]))
    # Central differences of float64 radians over one pixel.
    np.testing.assert_allclose(cd[0], CD, rtol=0, atol=1e-13)


def test_cd_matrix_of_bad_positions() -> None:
    """Return NaN for positions that aren't finite, and nothing for none."""
    projection = make_projection()
    cd = local_cd_matrices(projection, np.array([np.nan, 100.0]), np.array([200.0, 200.0]))
    assert np.isnan(cd[0]).all()
    assert np.isfinite(cd[1]).all()
    assert np.isnan(local_cd_matrices(projection, np.array([np.inf]), np.array([0.0]))).all()
    assert local_cd_matrices(projection, np.zeros(0), np.zeros(0)).shape == (0, 2, 2)


def test_sky_moments_of_a_rotated_and_flipped_frame() -> None:
    """Compare with the transformation of a covariance of points."""
    rng = np.random.default_rng(0)
    points = rng.multivariate_normal([0, 0], [[4, 1], [1, 3]], 50)
    m = points.T @ points / 50
    sky = (points @ CD.T) * 3600
    s = sky.T @ sky / 50
    got = sky_moments(*(np.array([v]) for v in (m[0, 0], m[1, 1], m[0, 1])), CD[None])
    assert got[0].dtype == np.float32
    # float32 results.
    np.testing.assert_allclose([float(g[0]) for g in got], [s[0, 0], s[1, 1], s[0, 1]], rtol=3e-7)


def test_sky_moments_of_bad_rows() -> None:
    """Keep NaN where any input isn't finite."""
    xx = np.array([4.0, np.nan, 4.0, 4.0])
    xy = np.array([0.0, 0.0, np.inf, 0.0])
    cd = np.stack([CD, CD, CD, CD * np.nan])
    for values in sky_moments(xx, np.full(4, 3.0), xy, cd):
        assert np.isfinite(values).tolist() == [True, False, False, False]


def test_altaz_rotation() -> None:
    """Keep trace and determinant, and upstream's labels at angle 0."""
    uu, vv, uv = (np.array([v], np.float32) for v in (3.0, 2.0, 0.5))
    assert [float(a[0]) for a in altaz_moments(uu, vv, uv, 0.0)] == [3.0, 2.0, 0.5]
    assert [float(a[0]) for a in altaz_moments(uu, vv, uv, math.pi / 2)] == pytest.approx([2.0, 3.0, -0.5])
    aa, zz, az = (float(a[0]) for a in altaz_moments(uu, vv, uv, 0.7))
    # float32 rounding.
    assert aa + zz == pytest.approx(5.0, rel=3e-7)
    assert aa * zz - az**2 == pytest.approx(5.75, rel=1e-6)


@pytest.mark.parametrize("hour_angle", [-1.0, 0.0, 0.3, 2.0])
def test_parallactic_angle_points_to_the_zenith(hour_angle: float) -> None:
    """Compare with the position angle of the zenith on a sphere."""
    latitude, dec = -0.5, -0.2
    star = SkyCoord(0.0, dec, unit="rad")
    zenith = SkyCoord(hour_angle, latitude, unit="rad")  # right ascension of the zenith
    expected = star.position_angle(zenith).rad
    assert parallactic_angle(hour_angle, dec, latitude) % (2 * math.pi) == pytest.approx(expected, abs=1e-12)


CARDS: dict[str, Any] = {
    "AVG-ERA": 63.0,
    "OBS-LONG": -70.7366,
    "BORE-RA": 52.3,
    "BORE-DEC": -27.9,
    "OBS-LAT": -30.2444,
}


def test_parallactic_angle_from_cards() -> None:
    """Use the cards of the exposure, in degrees, as numbers or strings."""
    hour_angle = math.radians(63.0 - 70.7366 - 52.3)
    expected = parallactic_angle(hour_angle, math.radians(-27.9), math.radians(-30.2444))
    exposure: Any = SimpleNamespace(metadata=CARDS | {"AVG-ERA": "63.0"}, obs_info=None)
    assert boresight_par_angle(exposure) == pytest.approx(expected, rel=1e-14)


def make_obs_info() -> Any:
    """Make what `ObservationInfo` would tell."""
    location = EarthLocation.from_geodetic(-70.7366, -30.2444, 2663)
    begin = Time("2026-03-04T05:05:52", scale="tai")
    return SimpleNamespace(
        location=location,
        tracking_radec=SkyCoord(52.3, -27.9, unit="deg"),
        datetime_begin=begin,
        datetime_end=begin + 30 * u.s,
    )


def test_parallactic_angle_from_obs_info() -> None:
    """Use time, place and pointing where there are no cards."""
    exposure: Any = SimpleNamespace(metadata={}, obs_info=make_obs_info())
    got = boresight_par_angle(exposure)
    # Independent truth: the direction of the zenith in ICRS, from astropy.
    info = exposure.obs_info
    time = info.datetime_begin + 15 * u.s
    zenith = SkyCoord(AltAz(alt=90 * u.deg, az=0 * u.deg, obstime=time, location=info.location)).icrs
    expected = info.tracking_radec.position_angle(zenith).wrap_at("180d").rad
    # VisitInfo's formula ignores precession since 2000 and aberration.
    assert got == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("missing", sorted(CARDS))
def test_incomplete_exposures_are_refused(missing: str) -> None:
    """Name the missing card and the missing information."""
    info = make_obs_info()
    info.location = None
    for bad in ({}, {missing: math.nan}, {missing: "north"}):
        cards = {k: v for k, v in CARDS.items() if k != missing} | bad
        exposure: Any = SimpleNamespace(metadata=cards, obs_info=info)
        with pytest.raises(ValueError, match=rf"{missing}.*location"):
            boresight_par_angle(exposure)
