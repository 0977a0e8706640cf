# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Stars of a visit in a plane tangent to the sky at its middle."""

from __future__ import annotations

__all__ = ("SkyFrame", "moments_on_focal_plane", "project_stars")

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .._sphere import unit_vectors
from ._columns import StarColumns

type Floats = npt.NDArray[np.float64]

_ARCMIN = 60 * 180 / np.pi
_MIN_STARS = 3
_QUADRATIC = 12
"""With so many stars derivatives of a detector's projection may vary."""


@dataclass(frozen=True)
class SkyFrame:
    """Positions and moments of stars in a tangent plane.

    Parameters
    ----------
    x, y
        Positions in arcmin to the east and north of the middle of the visit,
        shape (N,), NaN where unknown.
    star, psf
        Second moments xx, yy, xy of stars and model along these axes in
        arcsec², shape (N, 3), NaN where unknown.
    center
        Right ascension and declination of the middle in radians.
    reasons
        Why some stars have no moments.
    """

    x: Floats
    y: Floats
    star: Floats
    psf: Floats
    center: tuple[float, float]
    reasons: list[str] = field(default_factory=list)


def project_stars(columns: StarColumns) -> SkyFrame:
    """Project the stars of a visit and rotate their moments.

    Parameters
    ----------
    columns
        Stars.

    Returns
    -------
    `SkyFrame`
        Positions keep their distance and direction from the middle of the
        visit (zenithal equidistant projection; across a field of 3.5 degrees
        lengths change by less than 0.02 %).

    Notes
    -----
    The derivatives of a detector's projection are those of a polynomial
    through the positions of its stars in pixels and on the sky: of second
    order, or linear for less than twelve stars.  Nothing is special at the
    pole or at right ascension 0.
    """
    x, y, center = _project(columns.ra, columns.dec)
    star, psf, poor = _rotate(columns, x, y, 60.0)
    reasons = []
    if poor:
        some = ", ".join(map(str, poor[:10])) + (", …" if len(poor) > 10 else "")
        reasons.append(f"orientation of detectors {some} isn't known from less than three stars on the sky")
    return SkyFrame(x, y, star, psf, center, reasons)


def moments_on_focal_plane(columns: StarColumns) -> tuple[Floats, Floats]:
    """Rotate moments to the axes of the focal plane.

    Parameters
    ----------
    columns
        Stars.

    Returns
    -------
    star, psf : `numpy.ndarray`
        Second moments xx, yy, xy of stars and model in mm², (N, 3); NaN
        where the orientation of the detector isn't known.
    """
    star, psf, _ = _rotate(columns, columns.focal_x, columns.focal_y, 1.0)
    return star, psf


def _rotate(columns: StarColumns, x: Floats, y: Floats, factor: float) -> tuple[Floats, Floats, list[int]]:
    """Transform moments as positions are, from pixels to (x, y) times a
    factor; tell the detectors for which that isn't known.
    """
    star, psf = np.full((2, len(columns), 3), np.nan)
    poor = []
    for detector in np.unique(columns.detector):  # each has its own orientation
        rows = np.flatnonzero(columns.detector == detector)
        jacobian = _jacobians(columns.x[rows], columns.y[rows], x[rows], y[rows])
        if jacobian is None:
            poor.append(int(detector))
            continue
        star[rows] = _transform(columns.star[rows], jacobian * factor)
        psf[rows] = _transform(columns.psf[rows], jacobian * factor)
    return star, psf, poor


def _project(ra: Floats, dec: Floats) -> tuple[Floats, Floats, tuple[float, float]]:
    with np.errstate(invalid="ignore"):  # infinite positions are unknown ones
        vectors = unit_vectors(ra, dec)
    finite = np.isfinite(vectors).all(axis=1)
    middle = vectors[finite].sum(axis=0)
    if not np.linalg.norm(middle) > 0:
        return np.full(len(ra), np.nan), np.full(len(ra), np.nan), (np.nan, np.nan)
    middle /= np.linalg.norm(middle)
    ra0, dec0 = np.arctan2(middle[1], middle[0]), np.arctan2(middle[2], np.hypot(*middle[:2]))
    east = np.array([-np.sin(ra0), np.cos(ra0), 0.0])
    north = np.array([-np.sin(dec0) * np.cos(ra0), -np.sin(dec0) * np.sin(ra0), np.cos(dec0)])
    xi, eta, zeta = vectors @ east, vectors @ north, vectors @ middle
    sine = np.hypot(xi, eta)
    with np.errstate(invalid="ignore", divide="ignore"):
        stretch = np.where(sine > 0, np.arctan2(sine, zeta) / sine, 1.0) * _ARCMIN
    return xi * stretch, eta * stretch, (float(ra0 % (2 * np.pi)), float(dec0))


def _jacobians(x: Floats, y: Floats, xi: Floats, eta: Floats) -> Floats | None:
    """Return derivatives of (xi, eta) by (x, y) at each star, (N, 2, 2)."""
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(xi) & np.isfinite(eta)
    if good.sum() < _MIN_STARS:
        return None
    center = x[good].mean(), y[good].mean()
    scale = max(np.abs(x[good] - center[0]).max(), np.abs(y[good] - center[1]).max())
    if not scale > 0:
        return None
    u, v = (x - center[0]) / scale, (y - center[1]) / scale
    one, zero = np.ones_like(u), np.zeros_like(u)
    terms, by_u, by_v = [one, u, v], [zero, one, zero], [zero, zero, one]
    if good.sum() >= _QUADRATIC:
        terms += [u * u, u * v, v * v]
        by_u += [2 * u, v, zero]
        by_v += [zero, u, 2 * v]
    design, sky = np.stack(terms, axis=1)[good], np.stack([xi, eta], axis=1)[good]
    if np.linalg.matrix_rank(design[:, :3], tol=1e-6) < 3:  # stars on a line
        return None
    solution = np.linalg.lstsq(design, sky, rcond=None)[0]
    with np.errstate(invalid="ignore"):  # infinite positions are unknown ones
        derivatives = np.stack([np.stack(by_u, axis=1) @ solution, np.stack(by_v, axis=1) @ solution], axis=2)
    return derivatives / scale


def _transform(moments: Floats, jacobian: Floats) -> Floats:
    """Return J M Jᵀ of moments xx, yy, xy."""
    xx, yy, xy = moments.T
    matrix = np.stack([np.stack([xx, xy], axis=-1), np.stack([xy, yy], axis=-1)], axis=-2)
    rotated = jacobian @ matrix @ np.swapaxes(jacobian, 1, 2)
    return np.stack([rotated[:, 0, 0], rotated[:, 1, 1], rotated[:, 0, 1]], axis=1)
