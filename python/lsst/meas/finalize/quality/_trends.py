# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Trends of PSF residuals with properties of the stars."""

from __future__ import annotations

__all__ = ("COVARIATES", "RESIDUALS", "local_density", "measure_slopes", "trend_statistics")

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ._columns import StarColumns
from ._groups import Groups
from ._moments import distortion
from ._sky_frame import SkyFrame
from ._star_statistics import size_residuals

type Floats = npt.NDArray[np.float64]
type Integers = npt.NDArray[np.int64]

RESIDUALS = ("DeltaTOverT", "DeltaE1", "DeltaE2")
"""Residuals whose trends are measured, as in names of columns."""

COVARIATES = {
    "Magnitude": ("1 / mag", "magnitude"),
    "Color": ("1 / mag", "color"),
    "X": ("1 / (1000 pix)", "x in the detector"),
    "Y": ("1 / (1000 pix)", "y in the detector"),
    "Density": ("arcmin2", "number of candidates per arcmin2 around"),
}
"""What trends are with, by the last part of the column's name: unit of the
slope, description.
"""

_RADIUS = 2.0
"""Of the circle in arcmin in which stars are counted."""
_FLOOR = 0.003
"""Scatter of residuals of bright stars, for the weights."""
_CLIP = 5.0
_ENOUGH_COLORS = 0.8


def local_density(x: Floats, y: Floats, radius: float = _RADIUS) -> Floats:
    """Count stars around each star.

    Parameters
    ----------
    x, y
        Positions in arcmin, shape (N,).
    radius
        Of the circle in arcmin.

    Returns
    -------
    `numpy.ndarray`
        Other stars per arcmin², shape (N,); NaN where the position is.
    """
    density = np.full(len(x), np.nan)
    good = np.isfinite(x) & np.isfinite(y)
    if good.any():
        points = np.stack([x, y], axis=1)[good]
        tree = cKDTree(points)
        density[good] = (tree.query_ball_point(points, radius, return_length=True) - 1) / (np.pi * radius**2)
    return density


def measure_slopes(
    values: Floats, covariates: Floats, weights: Floats, group: npt.ArrayLike, number: int, *, pooled: bool
) -> tuple[Floats, Floats]:
    """Fit values linearly in several covariates at once.

    Parameters
    ----------
    values
        Values, shape (N, K), finite.
    covariates
        Covariates, shape (N, P), finite.
    weights
        Inverse squares of the values' scatters, shape (N,).
    group
        Group of each row, shape (N,), integers below ``number``; each has its
        own offset.
    number
        Number of groups.
    pooled
        Whether the slopes are common to all groups.

    Returns
    -------
    slopes, errors : `numpy.ndarray`
        Shape (groups, P, K), with one group if pooled.  NaN where there are
        fewer than P + 3 rows, or a covariate is constant.

    Notes
    -----
    Weighted least squares; errors are those of the delete-one jackknife,
    which for a linear fit needs no refits (Wu 1986, Ann. Stat. 14, 1261), so
    they are right whatever the values' scatters really are.
    """
    group = np.asarray(group, dtype=np.int64)
    order = np.argsort(group, kind="stable")
    group, weights = group[order], weights[order]
    groups = _slices(np.bincount(group, minlength=number))
    total = np.bincount(group, weights=weights, minlength=number)
    z, v = (_centered(a[order], weights, group, groups, total) for a in (covariates, values))
    parts = [slice(0, len(group))] if pooled else groups
    count = np.array([part.stop - part.start for part in parts])[:, None, None]
    inverse, varies = _inverse_normals(z, weights, np.abs(covariates).max(axis=0, initial=0.0), parts)
    slopes = inverse @ _products(weights[:, None] * z, v, parts)
    residual = v - _apply(z, slopes, parts)
    influence = _apply(z, inverse, parts) * weights[:, None]
    leverage = np.einsum("np,np->n", influence, z) + weights / total[group]
    change = residual / np.maximum(1 - leverage, 1e-3)[:, None]
    some = np.maximum(count, 1)
    mean = _products(influence, change, parts) / some
    square = _products(influence**2, change**2, parts) - some * mean**2
    errors = np.sqrt(np.maximum(square, 0.0) * (some - 1) / some)
    unknown = (count[:, :, 0] < z.shape[1] + 3) | ~varies
    slopes[unknown] = errors[unknown] = np.nan
    return slopes, errors


def _slices(counts: Integers) -> list[slice]:
    ends = np.cumsum(counts)
    return [slice(int(end - n), int(end)) for n, end in zip(counts, ends, strict=True)]


def _centered(
    values: Floats, weights: Floats, group: Integers, groups: Sequence[slice], total: Floats
) -> Floats:
    """Subtract the weighted mean of each group."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.stack([weights[rows] @ values[rows] for rows in groups]) / total[:, None]
    return values - means[group]


def _products(a: Floats, b: Floats, parts: Sequence[slice]) -> Floats:
    """Sum products of the columns of a and b over the rows of each part."""
    return np.stack([a[rows].T @ b[rows] for rows in parts])


def _apply(a: Floats, matrices: Floats, parts: Sequence[slice]) -> Floats:
    """Multiply the rows of each part by its matrix."""
    return np.concatenate([a[rows] @ matrix for rows, matrix in zip(parts, matrices, strict=True)])


def _inverse_normals(
    z: Floats, weights: Floats, size: Floats, parts: Sequence[slice]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the inverse of each part's normal matrix, and which covariates
    vary there.
    """
    normal = _products(weights[:, None] * z, z, parts)
    variance = np.diagonal(normal, axis1=1, axis2=2)
    weight = np.array([weights[rows].sum() for rows in parts])
    varies = variance > (1e-9 * size) ** 2 * weight[:, None]
    scale = np.where(varies, np.sqrt(np.where(varies, variance, 1.0)), 1.0)
    scales = scale[:, :, None] * scale[:, None, :]
    used = varies[:, :, None] & varies[:, None, :]
    inverse = np.linalg.pinv(np.where(used, normal, 0) / scales, rcond=1e-9, hermitian=True)
    return inverse / scales, varies


def trend_statistics(
    columns: StarColumns, frame: SkyFrame, density: Floats, rows: Integers, group: Integers, number: int
) -> tuple[dict[str, Floats], list[str]]:
    """Measure the trends of residuals with magnitude, color and so on.

    Parameters
    ----------
    columns, frame
        Stars.
    density
        Result of `local_density` for all of them.
    rows
        Stars of the sample, shape (N,).
    group
        Group of each of them, the detector.
    number
        Number of groups.

    Returns
    -------
    statistics : `dict` [`str`, `numpy.ndarray`]
        ``slopeDeltaTOverTMagnitude``, its error ``…Err``, and so on for all
        ``RESIDUALS`` and ``COVARIATES``; shape (number + 1,): first of the
        whole visit, whose detectors have offsets of their own.
    reasons : `list` [`str`]
        Why some are NaN.

    Notes
    -----
    Slopes are partial ones, of a fit in all covariates at once; if less than
    80 % of the stars have a color, those with the others are of all stars and
    don't allow for it.  Stars more than five scatters from the median of
    their detector don't count.
    """
    star, psf = columns.star[rows], columns.psf[rows]
    de = distortion(star) - distortion(psf)
    values = np.column_stack([size_residuals(star, psf), de])
    groups = Groups(group, number)
    keep = np.isfinite(values).all(axis=1)
    for value in values.T:
        limit = _CLIP * groups.scatter(value)[group]
        with np.errstate(invalid="ignore"):
            keep &= np.abs(value - groups.median(value)[group]) <= limit
    given = {
        "Magnitude": columns.magnitude[rows],
        "Color": columns.color[rows],
        "X": columns.x[rows] / 1000,
        "Y": columns.y[rows] / 1000,
        "Density": density[rows],
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = 1 / (_FLOOR**2 + (2 / columns.signal_to_noise[rows]) ** 2)
    keep &= np.isfinite(weights)
    known = [name for name, column in given.items() if np.isfinite(column[keep]).any()]
    reasons = [f"no trend with {COVARIATES[n][1]}: unknown" for n in given if n not in known and len(rows)]
    result = {}
    for name in given:
        for residual in RESIDUALS:
            for suffix in ("", "Err"):
                result[f"slope{residual}{name}{suffix}"] = np.full(number + 1, np.nan)
    for names, reported in _fits(known, given, keep):
        _fit(values, given, names, reported, weights, keep, group, number, result)
    return result, reasons


def _fits(
    known: Sequence[str], given: dict[str, Floats], keep: npt.NDArray[np.bool_]
) -> list[tuple[list[str], list[str]]]:
    """Return which covariates to fit together, and which to report then."""
    if "Color" not in known or np.isfinite(given["Color"][keep]).mean() >= _ENOUGH_COLORS:
        return [(list(known), list(known))]
    others = [name for name in known if name != "Color"]
    return [(others, others), (list(known), ["Color"])]


def _fit(
    values: Floats,
    given: dict[str, Floats],
    names: list[str],
    reported: list[str],
    weights: Floats,
    keep: npt.NDArray[np.bool_],
    group: Integers,
    number: int,
    result: dict[str, Floats],
) -> None:
    if not names:
        return
    covariates = np.stack([given[name] for name in names], axis=1)
    good = keep & np.isfinite(covariates).all(axis=1)
    if not good.any():
        return
    fitted = [
        measure_slopes(values[good], covariates[good], weights[good], group[good], number, pooled=pooled)
        for pooled in (True, False)
    ]
    slopes, errors = (np.concatenate(parts) for parts in zip(*fitted, strict=True))
    for i, name in enumerate(names):
        if name in reported:
            for k, residual in enumerate(RESIDUALS):
                result[f"slope{residual}{name}"] = slopes[:, i, k]
                result[f"slope{residual}{name}Err"] = errors[:, i, k]
