# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Moments of stars on the sky."""

from __future__ import annotations

__all__ = ("add_sky_moments", "altaz_moments", "local_cd_matrices", "sky_moments")

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._sphere import unit_vectors
from ._parallactic import boresight_par_angle

if TYPE_CHECKING:
    from lsst.images import SkyProjection, VisitImage

    from ..catalogs import SourceCatalog

    type Floats = npt.NDArray[np.float64]
    type Floats32 = npt.NDArray[np.float32]

_ARCSEC_PER_DEGREE = 3600


def _iwc_mapping(projection: SkyProjection) -> Any | None:
    """Return the AST mapping from pixels to intermediate world coordinates.

    `None` if the projection isn't a frame set with such a frame.
    """
    frame_set: Any = projection.pixel_to_sky_transform._ast_mapping
    if not hasattr(frame_set, "nFrame"):
        return None
    for i in range(1, frame_set.nFrame + 1):
        if frame_set.getFrame(i, copy=False).domain == "IWC":
            return frame_set.getMapping(frame_set.base, i)
    return None


def _steps_in_tangent_plane(ra: Floats, dec: Floats) -> Floats:
    """Difference positions in the tangent plane between them.

    ``ra``, ``dec`` are (N, 4) in radians: left, right, below, above.  The
    result is (N, 2, 2): east and north steps in degrees, by x and y.
    """
    vectors = unit_vectors(ra, dec)
    x, y, z = np.moveaxis(vectors.sum(axis=1), -1, 0)
    ra, dec = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1)
    steps = np.stack([vectors[:, 1] - vectors[:, 0], vectors[:, 3] - vectors[:, 2]], axis=-1)
    return np.rad2deg(np.stack([east, north], axis=1) @ steps)


def local_cd_matrices(projection: SkyProjection, x: Floats, y: Floats) -> Floats:
    """Differentiate a projection at some positions.

    Parameters
    ----------
    projection : `lsst.images.SkyProjection`
        Mapping from pixels to the sky.
    x, y : `numpy.ndarray`
        Positions, (N,) float64, PARENT pixels.

    Returns
    -------
    cd : `numpy.ndarray`
        (N, 2, 2) float64: derivatives of the intermediate world coordinates
        in degrees, row 0 to the east, row 1 to the north, by x and y; NaN
        where a position isn't finite.

    Notes
    -----
    A projection that came from a ``SkyWcs`` has a frame of intermediate
    world coordinates, in the tangent plane at its CRVAL (spec 02 §5.1);
    that is differentiated.  For other projections it is the tangent plane at
    the position itself.  Derivatives are central differences over one
    pixel; the third derivative they neglect is far below 1e-9 for the
    distortions of real cameras.
    """
    cd = np.full((len(x), 2, 2), np.nan)
    good = np.isfinite(x) & np.isfinite(y)
    if not good.any():
        return cd
    px = (x[good][:, None] + [-0.5, 0.5, 0.0, 0.0]).ravel()
    py = (y[good][:, None] + [0.0, 0.0, -0.5, 0.5]).ravel()
    mapping = _iwc_mapping(projection)
    if mapping is None:
        sky = projection.pixel_to_sky_transform.apply_forward(x=px, y=py)
        cd[good] = _steps_in_tangent_plane(sky.x.reshape(-1, 4), sky.y.reshape(-1, 4))
    else:
        iwc = np.asarray(mapping.applyForward(np.stack([px, py]))).reshape(2, -1, 4)
        cd[good] = np.stack([iwc[..., 1] - iwc[..., 0], iwc[..., 3] - iwc[..., 2]], axis=-1).swapaxes(0, 1)
    return cd


def sky_moments(xx: Floats, yy: Floats, xy: Floats, cd: Floats) -> tuple[Floats32, Floats32, Floats32]:
    """Transform second moments from pixels to the sky.

    Parameters
    ----------
    xx, yy, xy : `numpy.ndarray`
        Moments, (N,) float64, pixel².
    cd : `numpy.ndarray`
        (N, 2, 2) local CD matrices in degrees per pixel, see
        `local_cd_matrices`.

    Returns
    -------
    uu, vv, uv : `numpy.ndarray`
        Moments along right ascension and declination, (N,) float32,
        arcsec²; NaN where an input isn't finite.

    Notes
    -----
    M_sky = J M Jᵀ · 3600² with the product in float64, cast to float32
    before scaling (spec 01 §1.6).
    """
    moments = np.stack([np.stack([xx, xy], axis=-1), np.stack([xy, yy], axis=-1)], axis=-2)
    good = np.isfinite(moments).all(axis=(1, 2)) & np.isfinite(cd).all(axis=(1, 2))
    sky = np.full(moments.shape, np.nan, dtype=np.float32)
    product = cd[good] @ moments[good] @ np.swapaxes(cd[good], 1, 2)
    sky[good] = product.astype(np.float32) * np.float32(_ARCSEC_PER_DEGREE**2)
    return sky[:, 0, 0], sky[:, 1, 1], sky[:, 0, 1]


def altaz_moments(
    uu: Floats32, vv: Floats32, uv: Floats32, par_angle: float
) -> tuple[Floats32, Floats32, Floats32]:
    """Rotate second moments from equatorial to horizontal axes.

    Parameters
    ----------
    uu, vv, uv : `numpy.ndarray`
        Moments along right ascension and declination, (N,) float32.
    par_angle : `float`
        Parallactic angle at the boresight, radians.

    Returns
    -------
    altalt, azaz, altaz : `numpy.ndarray`
        Moments, (N,) float32.

    Notes
    -----
    At angle 0 "altalt" equals the moment along right ascension: the labels
    are upstream's (spec 01 §1.6).
    """
    c, s = math.cos(par_angle), math.sin(par_angle)
    u, v, w = (np.asarray(a, dtype=np.float64) for a in (uu, vv, uv))
    altalt = c * c * u - 2 * c * s * w + s * s * v
    azaz = s * s * u + 2 * c * s * w + c * c * v
    altaz = c * s * (u - v) + (c * c - s * s) * w
    return altalt.astype(np.float32), azaz.astype(np.float32), altaz.astype(np.float32)


def add_sky_moments(catalog: SourceCatalog, exposure: VisitImage) -> None:
    """Fill the moments in sky and alt/az coordinates of a catalogue.

    Parameters
    ----------
    catalog : `~lsst.meas.finalize.catalogs.SourceCatalog`
        Measured stars with the fields ``shape_Iuu`` … ``psfShape_Ialtaz``,
        changed in place.
    exposure : `lsst.images.VisitImage`
        Image with a sky projection, and with what `boresight_par_angle`
        needs.

    Raises
    ------
    ValueError
        Raised if the exposure doesn't tell its parallactic angle or has no
        sky projection.
    """
    if exposure.sky_projection is None:
        raise ValueError("The exposure has no sky projection, needed for moments in sky coordinates.")
    par_angle = boresight_par_angle(exposure)
    cd = local_cd_matrices(exposure.sky_projection, catalog["slot_Centroid_x"], catalog["slot_Centroid_y"])
    for slot, prefix in (("slot_Shape", "shape"), ("slot_PsfShape", "psfShape")):
        xx, yy, xy = (np.asarray(catalog[f"{slot}_{m}"], dtype=np.float64) for m in ("xx", "yy", "xy"))
        sky = sky_moments(xx, yy, xy, cd)
        for name, values in zip(("Iuu", "Ivv", "Iuv"), sky, strict=True):
            catalog[f"{prefix}_{name}"] = values
        rotated = altaz_moments(*sky, par_angle)
        for name, values in zip(("Ialtalt", "Iazaz", "Ialtaz"), rotated, strict=True):
            catalog[f"{prefix}_{name}"] = values
