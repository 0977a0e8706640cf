# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Statistics of a PSF model and its aperture corrections over a detector."""

from __future__ import annotations

__all__ = ("PSF_STATISTICS", "field_range", "largest_gap", "psf_statistics")

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from lsst.images import Box

from ..psf import BatchPsf
from ._moments import determinant_radius, trace_radius

type Floats = npt.NDArray[np.float64]
type Booleans = npt.NDArray[np.bool_]

PSF_STATISTICS = (
    "psfSigma",
    "psfIxx",
    "psfIyy",
    "psfIxy",
    "psfArea",
    "psfTraceRadiusDelta",
    "psfApFluxDelta",
)
"""Names of the results of `psf_statistics`."""

_MIN_APERTURE = 2.0  # pixels
_APERTURE = 3.0  # in units of the PSF's sigma
_DIRECT = 600
"""Up to so many points a range is that of all of them."""
_NODES = 8
_ORDER = 5
_CANDIDATES = 24


def _grid(box: Box, sampling: int, mask: Booleans | None) -> tuple[Floats, Floats]:
    """Return grid points that aren't masked (spec 07 §2).

    Upstream takes array indices for coordinates; here they are coordinates,
    which is the same for detectors whose first pixel is (0, 0).
    """
    x = np.arange(box.x.start, box.x.stop, sampling, dtype=float)
    y = np.arange(box.y.start, box.y.stop, sampling, dtype=float)
    good = np.ones((len(y), len(x)), dtype=bool) if mask is None else ~mask[::sampling, ::sampling]
    rows, columns = np.nonzero(good)
    return x[columns], y[rows]


def psf_statistics(
    psf: BatchPsf, box: Box, *, sampling: int = 96, mask: Booleans | None = None
) -> dict[str, float]:
    """Return what exposure summaries tell of a PSF model (spec 07 §2).

    Parameters
    ----------
    psf
        Model, see `lsst.meas.finalize.psf.as_batch_psf`.
    box
        The detector's pixels.
    sampling
        Spacing of the grid in pixels.
    mask
        Where no grid points should be, shape of the box; nowhere if not
        given.

    Returns
    -------
    `dict` [`str`, `float`]
        ``psfSigma`` (determinant radius in pixels), ``psfIxx``, ``psfIyy``,
        ``psfIxy`` (pixel²) and ``psfArea`` (pixel²) in the middle of the box;
        ``psfTraceRadiusDelta`` (pixel) and ``psfApFluxDelta``, the range of
        trace radii and of fluxes within max(2, 3 psfSigma) pixels on the
        grid.  The last is NaN if a flux is negative; both are if the model
        can't be evaluated on a point, or if there is none.

    Notes
    -----
    On large grids the extremes are looked for where a polynomial through a
    coarser grid has them (see ``grid_range``); their values are always those
    of the model.
    """
    result = dict.fromkeys(PSF_STATISTICS, np.nan)
    centre = np.array([(box.x.min + box.x.max) / 2]), np.array([(box.y.min + box.y.max) / 2])
    shape = psf.compute_shapes(*centre)
    sigma = float(determinant_radius(shape)[0])
    kernel = psf.draw_kernel_images(*centre)[0]
    result["psfIxx"], result["psfIyy"], result["psfIxy"] = map(float, shape[0])
    result["psfSigma"] = sigma
    result["psfArea"] = float(kernel.sum() ** 2 / (kernel**2).sum())
    x, y = _grid(box, sampling, mask)
    if not len(x):
        return result
    radius = max(_MIN_APERTURE, _APERTURE * sigma) if np.isfinite(sigma) else np.nan
    low, high = grid_range(lambda x, y: trace_radius(psf.compute_shapes(x, y)), x, y)
    result["psfTraceRadiusDelta"] = high - low
    if np.isfinite(radius):
        low, high = grid_range(lambda x, y: psf.compute_aperture_fluxes(radius, x, y), x, y)
        result["psfApFluxDelta"] = high - low if low >= 0 else np.nan
    return result


def grid_range(evaluate: Callable[[Floats, Floats], Floats], x: Floats, y: Floats) -> tuple[float, float]:
    """Return lowest and highest value of a smooth function on a grid.

    Parameters
    ----------
    evaluate
        The function of arrays x and y.
    x, y
        Points, shape (N,).

    Returns
    -------
    low, high : `float`
        NaN if a value that was looked at isn't finite.

    Notes
    -----
    With more than 600 points a polynomial of fifth order in both coordinates
    is fitted to values at 64 of them, the function is evaluated where it has
    its extremes, and then at the points that could be more extreme still by
    the polynomial's error.  What the polynomial can't describe at all is
    evaluated everywhere.
    """
    if len(x) <= _DIRECT:
        return _range(evaluate(x, y))
    nodes = _nodes(x, y)
    values = evaluate(x[nodes], y[nodes])
    if not np.isfinite(values).all():
        return np.nan, np.nan
    terms = _polynomials(x, y)
    solution = np.linalg.lstsq(terms[nodes], values, rcond=None)[0]
    prediction = terms @ solution
    order = np.argsort(prediction, kind="stable")
    extreme = np.concatenate([order[:_CANDIDATES], order[-_CANDIDATES:]])
    found = evaluate(x[extreme], y[extreme])
    if not np.isfinite(found).all():
        return np.nan, np.nan
    known = np.concatenate([values, found])
    error = 2 * np.abs(known - prediction[np.concatenate([nodes, extreme])]).max()
    open_ends = (prediction > known.max() - error) | (prediction < known.min() + error)
    open_ends[extreme] = False
    if open_ends.sum() > len(x) // 3:
        return _range(evaluate(x, y))
    return _range(np.concatenate([known, evaluate(x[open_ends], y[open_ends])]))


def _range(values: Floats) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _nodes(x: Floats, y: Floats) -> npt.NDArray[np.int64]:
    """Return points near Chebyshev's nodes, without repetitions."""
    positions = np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
    centre, half = np.array([(v.min() + v.max()) / 2 for v in (x, y)]), [np.ptp(x) / 2, np.ptp(y) / 2]
    wanted = np.stack(np.meshgrid(positions, positions), axis=-1).reshape(-1, 2) * half + centre
    return np.unique(KDTree(np.stack([x, y], axis=1)).query(wanted)[1])


def _polynomials(x: Floats, y: Floats) -> Floats:
    """Return products of Chebyshev polynomials of x and y, (N, 36)."""
    scaled = [(v - (v.min() + v.max()) / 2) / max(np.ptp(v) / 2, 1.0) for v in (x, y)]
    vx, vy = (np.polynomial.chebyshev.chebvander(v, _ORDER) for v in scaled)
    return (vx[:, :, None] * vy[:, None, :]).reshape(len(x), -1)


def field_range(field: Any, box: Box, *, sampling: int = 96, mask: Booleans | None = None) -> float:
    """Return highest minus lowest value of a field on the grid.

    Parameters
    ----------
    field
        A `lsst.images.fields.BaseField`, such as an aperture correction.
    box, sampling, mask
        As for `psf_statistics`.

    Returns
    -------
    `float`
        NaN if a value isn't finite or there is no point.
    """
    x, y = _grid(box, sampling, mask)
    if not len(x):
        return np.nan
    low, high = _range(np.broadcast_to(np.asarray(field(x=x, y=y), dtype=float), x.shape))
    return high - low


def largest_gap(x: Floats, y: Floats, box: Box, *, sampling: int = 8, mask: Booleans | None = None) -> float:
    """Return how far a grid point can be from the nearest star.

    Parameters
    ----------
    x, y
        Positions of the stars in pixels, shape (N,).
    box, sampling, mask
        As for `psf_statistics`.

    Returns
    -------
    `float`
        ``maxDistToNearestPsf`` in pixels (spec 07 §2); NaN without stars.

    Notes
    -----
    As the distance changes by at most the length of a step, squares of the
    grid are divided only if they could hold the largest one.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any() or box.area == 0:
        return np.nan
    tree = KDTree(np.stack([x[finite], y[finite]], axis=1))
    if mask is not None:
        points = np.stack(_grid(box, sampling, mask), axis=1)
        return float(tree.query(points)[0].max()) if len(points) else np.nan
    shape = -(-box.x.size // sampling), -(-box.y.size // sampling)
    start = np.array([box.x.start, box.y.start])
    step = 1 << max(max(shape) // 8, 1).bit_length() - 1
    corners = np.stack(np.meshgrid(np.arange(0, shape[0], step), np.arange(0, shape[1], step)), axis=-1)
    corners = corners.reshape(-1, 2)
    best = 0.0
    while True:
        # The middle of each square, or the last point that there is.
        middles = np.minimum(corners + step // 2, np.array(shape) - 1)
        distances = tree.query(start + middles * float(sampling))[0]
        best = max(best, float(distances.max()))
        if step == 1:
            return best
        reach = np.abs(np.stack([corners - middles, corners + step - 1 - middles])).max(axis=0)
        # Less a little, for rounding.
        corners = corners[distances + np.hypot(*reach.T) * sampling >= best * (1 - 1e-12)]
        step //= 2
        quarters = np.array([[0, 0], [0, step], [step, 0], [step, step]])
        corners = (corners[:, None] + quarters).reshape(-1, 2)
        corners = corners[(corners < shape).all(axis=1)]
