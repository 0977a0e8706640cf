# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Apertures that count whole pixels, and the choice between them and sinc."""

from __future__ import annotations

__all__ = ("aperture_flux", "naive_flux")

import numpy as np
import numpy.typing as npt

from ..pixels import CutOut, box_batches, ellipse_boxes, inside_bounds, pixel_regions
from ._sinc import ApertureFlux, quadrupole_diagonal, sinc_flux

_BOX_MARGIN = 16


def naive_flux(
    cutout: CutOut,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    theta: npt.NDArray[np.float64],
    *,
    bounds: tuple[int, int, int, int] | npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64] | None = None,
    tight: bool = False,
) -> ApertureFlux:
    """Sum the pixels whose centres are inside or on ellipses.

    Parameters
    ----------
    cutout : `CutOut`
        Gives the pixels around each star, e.g. `MeasureBatch.cutout`.
    x, y : `numpy.ndarray` of float64, (N,)
        Centres in PARENT pixels.
    a, b, theta : `numpy.ndarray` of float64, (N,)
        Semi-axes in pixels and position angles in radians.
    bounds : `tuple` of `int` or `numpy.ndarray` of int, (N, 4)
        Inclusive min x, min y, max x, max y of the image, or of each star's.
    rows : `numpy.ndarray` of int, optional
        Measure only these; the others stay NaN without a flag.
    tight : `bool`, optional
        Do only the pixels have to be on the image, not the ellipse's box?

    Returns
    -------
    result : `ApertureFlux`
        Fluxes of all N stars; truncated where the ellipse's box (or, if
        ``tight``, one of its pixels) leaves the image.

    Notes
    -----
    Spec 03 §3.8.2.
    """
    from . import _sums_numba

    count = len(x)
    rows = np.arange(count) if rows is None else np.asarray(rows, dtype=np.int64)
    result = ApertureFlux.unmeasured(count)
    ixx, iyy = quadrupole_diagonal(a, b, theta)
    with np.errstate(over="ignore", invalid="ignore"):
        ixy = (a * a - b * b) * np.cos(theta) * np.sin(theta)
    boxes = np.zeros((count, 4), dtype=np.int64)
    boxes[rows] = ellipse_boxes(x[rows], y[rows], ixx[rows], iyy[rows])
    limits = np.broadcast_to(np.asarray(bounds, dtype=np.int64), (count, 4))
    # An ellipse's pixels come close to its box, unless it's a needle.
    margin = np.array([-1, -1, 1, 1]) * (_BOX_MARGIN if tight else 0)
    fits = inside_bounds(boxes[rows], limits[rows] + margin)
    result.aperture_truncated[rows[~fits]] = True
    for part in box_batches(boxes, rows[fits]):
        members = part.rows
        stamps = cutout(part.x0, part.y0, part.width, part.height, members)
        regions = pixel_regions(
            x[members], y[members], ixx[members], iyy[members], ixy[members], part.y0, part.height
        )
        truncated = ~inside_bounds(regions.boxes(), limits[members])
        result.aperture_truncated[members[truncated]] = True
        flux, flux_var = np.empty(len(members)), np.empty(len(members))
        origin = part.x0[:, None]
        _sums_numba.naive_sums(
            stamps.image,
            stamps.variance,
            np.maximum(regions.x_low - origin, 0),
            np.minimum(regions.x_high - origin, part.width - 1),
            flux,
            flux_var,
        )
        result.flux[members] = np.where(truncated, np.nan, flux)
        with np.errstate(invalid="ignore"):
            result.flux_err[members] = np.where(truncated, np.nan, np.sqrt(flux_var))
    return result


def aperture_flux(
    cutout: CutOut,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    theta: npt.NDArray[np.float64],
    *,
    bounds: tuple[int, int, int, int],
    max_sinc_radius: float = 10.0,
    rows: npt.NDArray[np.int64] | None = None,
    order: int = 5,
    tight: bool = False,
) -> ApertureFlux:
    """Measure small apertures with sinc coefficients, large ones naively.

    Parameters
    ----------
    cutout, x, y, a, b, theta, bounds, rows, tight
        As for `naive_flux`.
    max_sinc_radius : `float`, optional
        Largest minor semi-axis (pixels) for sinc coefficients.
    order : `int`, optional
        Order of the Lanczos kernel that shifts the coefficients.

    Returns
    -------
    result : `ApertureFlux`
        Fluxes of all N stars.  A star without a centre or without finite
        axes, 0 < b <= a, stays NaN without a flag.
    """
    wanted = np.zeros(len(x), dtype=np.bool_)
    wanted[slice(None) if rows is None else rows] = True
    with np.errstate(invalid="ignore"):
        usable = ~np.isnan(x) & ~np.isnan(y) & np.isfinite(a) & np.isfinite(theta) & (b > 0) & (b <= a)
        small = wanted & usable & (b <= max_sinc_radius)
    large = np.nonzero(wanted & usable & ~small)[0]
    result = sinc_flux(cutout, x, y, a, b, theta, bounds=bounds, rows=np.nonzero(small)[0], order=order)
    naive = naive_flux(cutout, x, y, a, b, theta, bounds=bounds, rows=large, tight=tight)
    for name in ("flux", "flux_err", "aperture_truncated", "coefficients_truncated"):
        getattr(result, name)[large] = getattr(naive, name)[large]
    return result
