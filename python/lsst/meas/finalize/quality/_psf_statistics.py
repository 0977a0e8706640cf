# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Statistics of a PSF model and its aperture corrections over a detector."""

from __future__ import annotations

__all__ = ("PSF_STATISTICS", "field_range", "largest_gap", "largest_gaps", "psf_statistics")

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from lsst.images import Box

from ..psf import BatchPsf, draw_and_measure
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
_DIRECT = 150
"""Up to so many points a range is that of all of them."""
_NODES = 7
_ORDER = 5
_CANDIDATES = 8


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
    coarser grid has them (see ``grid_ranges``); their values are always those
    of the model.
    """
    result = dict.fromkeys(PSF_STATISTICS, np.nan)
    x, y = _grid(box, sampling, mask)
    nodes = grid_nodes(x, y)
    centre_x, centre_y = (box.x.min + box.x.max) / 2, (box.y.min + box.y.max) / 2
    # Drawn with the nodes, as calls cost more than an image.
    images, shapes, fluxes = draw_and_measure(
        psf, np.append(centre_x, x[nodes]), np.append(centre_y, y[nodes]), _aperture
    )
    sigma = float(determinant_radius(shapes)[0])
    result["psfIxx"], result["psfIyy"], result["psfIxy"] = map(float, shapes[0])
    result["psfSigma"] = sigma
    result["psfArea"] = float(images[0].sum() ** 2 / (images[0] ** 2).sum())
    if not len(x):
        return result
    radius = _aperture(shapes)

    def evaluate(x: Floats, y: Floats) -> Floats:
        _, shapes, fluxes = draw_and_measure(psf, x, y, radius)
        return np.stack([trace_radius(shapes), fluxes])

    known = np.stack([trace_radius(shapes), fluxes])[:, 1:]
    (low_radius, low_flux), (high_radius, high_flux) = grid_ranges(evaluate, x, y, known)
    result["psfTraceRadiusDelta"] = float(high_radius - low_radius)
    if np.isfinite(sigma) and low_flux >= 0:
        result["psfApFluxDelta"] = float(high_flux - low_flux)
    return result


def _aperture(shapes: Floats) -> float:
    """Return the radius for the shape of the first, the central image."""
    sigma = float(determinant_radius(shapes)[0])
    return max(_MIN_APERTURE, _APERTURE * sigma) if np.isfinite(sigma) else _MIN_APERTURE


def grid_nodes(x: Floats, y: Floats) -> npt.NDArray[np.int64]:
    """Return which points of a grid `grid_ranges` must know first.

    Parameters
    ----------
    x, y
        Points, shape (N,).

    Returns
    -------
    `numpy.ndarray`
        Their indices: all of up to 150 points, some 49 of more.
    """
    if len(x) <= _DIRECT:
        return np.arange(len(x))
    return _interpolation(x.tobytes(), y.tobytes())[0]


def grid_ranges(
    evaluate: Callable[[Floats, Floats], Floats], x: Floats, y: Floats, values: Floats
) -> tuple[Floats, Floats]:
    """Return lowest and highest values of smooth functions on a grid.

    Parameters
    ----------
    evaluate
        Returns the values of K functions at N points, shape (K, N).
    x, y
        Points, shape (N,).
    values
        The functions' values at the points of `grid_nodes`, shape (K, nodes).

    Returns
    -------
    low, high : `numpy.ndarray`
        Shape (K,); all NaN if a value that was looked at isn't finite.

    Notes
    -----
    With more than 150 points polynomials of fifth order in both coordinates
    are fitted to values at some 49 of them, the functions are evaluated where
    those have their extremes, and then at the points that could be more
    extreme still by twice the polynomials' error.  What polynomials don't
    describe at these is evaluated everywhere; what is much narrower than
    their spacing isn't seen.
    """
    if len(x) <= _DIRECT:
        return values.min(axis=1), values.max(axis=1)
    nodes, terms, inverse = _interpolation(x.tobytes(), y.tobytes())
    prediction = values @ inverse.T @ terms.T
    ends = np.argpartition(prediction, [_CANDIDATES - 1, len(x) - _CANDIDATES], axis=1)
    extreme = np.unique([ends[:, :_CANDIDATES], ends[:, -_CANDIDATES:]])
    values = np.concatenate([values, evaluate(x[extreme], y[extreme])], axis=1)
    known = np.concatenate([nodes, extreme])
    error = 2 * np.abs(values - prediction[:, known]).max(axis=1, keepdims=True)
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    possible = ((prediction > high - error) | (prediction < low + error)).any(axis=0)
    possible[known] = False
    if not np.isfinite(values).all():
        return values[:, 0] * np.nan, values[:, 0] * np.nan
    if possible.sum() > len(x) // 3:
        possible[:] = True
    if possible.any():
        values = np.concatenate([values, evaluate(x[possible], y[possible])], axis=1)
    return values.min(axis=1), values.max(axis=1)


@lru_cache(maxsize=4)
def _interpolation(x_bytes: bytes, y_bytes: bytes) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return nodes among points, polynomials at all points, and the matrix
    that makes coefficients of values at the nodes.

    Detectors of a camera have the same grid.
    """
    x, y = np.frombuffer(x_bytes), np.frombuffer(y_bytes)
    positions = np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
    centre, half = np.array([(v.min() + v.max()) / 2 for v in (x, y)]), [np.ptp(x) / 2, np.ptp(y) / 2]
    wanted = np.stack(np.meshgrid(positions, positions), axis=-1).reshape(-1, 2) * half + centre
    nodes = np.unique(cKDTree(np.stack([x, y], axis=1)).query(wanted)[1])
    scaled = [(v - c) / max(h, 1.0) for v, c, h in zip((x, y), centre, half, strict=True)]
    vx, vy = (np.polynomial.chebyshev.chebvander(v, _ORDER) for v in scaled)
    terms = (vx[:, :, None] * vy[:, None, :]).reshape(len(x), -1)
    return nodes, terms, np.linalg.pinv(terms[nodes])


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
    return float(np.ptp(np.broadcast_to(np.asarray(field(x=x, y=y), dtype=float), x.shape)))


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
    """
    if mask is None:
        return float(largest_gaps(x, y, np.zeros(len(x), dtype=int), [box], sampling=sampling)[0])
    finite = np.isfinite(x) & np.isfinite(y)
    points = np.stack(_grid(box, sampling, mask), axis=1)
    if not finite.any() or not len(points):
        return np.nan
    return float(cKDTree(np.stack([x, y], axis=1)[finite]).query(points)[0].max())


def largest_gaps(
    x: Floats,
    y: Floats,
    group: npt.NDArray[np.int64],
    boxes: Sequence[Box | None],
    *,
    sampling: int = 8,
) -> Floats:
    """Return the result of `largest_gap` for many detectors at once.

    Parameters
    ----------
    x, y
        Positions of the stars in pixels, shape (N,).
    group
        Which of the boxes each star belongs to, shape (N,).
    boxes
        The detectors' pixels; `None` if they aren't known.
    sampling
        Spacing of the grids in pixels.

    Returns
    -------
    `numpy.ndarray`
        One for each box; NaN where there are no stars or no box.

    Notes
    -----
    As the distance changes by at most the length of a step, squares of the
    grid are divided only if they could hold the largest one.
    """
    best = np.full(len(boxes), np.nan)
    usable = np.array([box is not None and box.area > 0 for box in boxes], dtype=bool)
    stars = np.isfinite(x) & np.isfinite(y) & usable[group]
    usable &= np.bincount(group[stars], minlength=len(boxes)) > 0
    chosen = np.flatnonzero(usable)
    if not len(chosen):
        return best
    spans = [(box.x.start, box.y.start, box.x.size, box.y.size) if box else (0, 0, 0, 0) for box in boxes]
    start, size = np.split(np.array(spans, dtype=float), 2, axis=1)
    # In one tree: what is in other detectors is too far to be nearest.
    everything = np.concatenate([np.stack([x, y], axis=1)[stars], start, start + size])
    far = 4 * np.ptp(everything, axis=0).max() + 1
    tree = cKDTree(np.stack([x[stars], y[stars], far * group[stars]], axis=1))
    shape = -(-size.astype(int) // sampling)
    step = 1 << max(int(shape.max()) // 8, 1).bit_length() - 1
    counts = -(-int(shape.max()) // step)
    corners = np.stack(np.meshgrid(*2 * [np.arange(counts) * step]), axis=-1).reshape(-1, 2)
    owner, corners = np.repeat(chosen, len(corners)), np.tile(corners, (len(chosen), 1))
    while True:
        inside = (corners < shape[owner]).all(axis=1)
        owner, corners = owner[inside], corners[inside]
        # The middle of each square, or the last point that there is.
        middles = np.minimum(corners + step // 2, shape[owner] - 1)
        points = start[owner] + middles * float(sampling)
        distances = tree.query(np.column_stack([points, far * owner]))[0]
        np.fmax.at(best, owner, distances)
        if step == 1:
            return best
        reach = np.abs(np.stack([corners - middles, corners + step - 1 - middles])).max(axis=0)
        # Less a little, for rounding.
        worth = distances + np.hypot(*reach.T) * sampling >= best[owner] * (1 - 1e-12)
        owner, corners = owner[worth], corners[worth]
        step //= 2
        quarters = np.array([[0, 0], [0, step], [step, 0], [step, step]])
        owner, corners = np.repeat(owner, 4), (corners[:, None] + quarters).reshape(-1, 2)
