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
    total = np.bincount(group, weights=weights, minlength=number)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = covariates - _group_means(covariates, weights, group, total)[group]
        v = values - _group_means(values, weights, group, total)[group]
    target = np.zeros_like(group) if pooled else group
    n_targets = 1 if pooled else number
    p = z.shape[1]
    count = np.bincount(target, minlength=n_targets)
    normal = _group_sums((weights[:, None] * z)[:, :, None] * z[:, None, :], target, n_targets)
    right = _group_sums((weights[:, None] * z)[:, :, None] * v[:, None, :], target, n_targets)
    variance = np.diagonal(normal, axis1=1, axis2=2)
    size = np.abs(covariates).max(axis=0, initial=0.0)
    weight = np.bincount(target, weights=weights, minlength=n_targets)
    varies = variance > (1e-9 * size) ** 2 * weight[:, None]
    scale = np.where(varies, np.sqrt(np.where(varies, variance, 1.0)), 1.0)
    used = varies[:, :, None] & varies[:, None, :]
    inverse = np.linalg.pinv(
        np.where(used, normal, 0) / (scale[:, :, None] * scale[:, None, :]), rcond=1e-9, hermitian=True
    )
    inverse /= scale[:, :, None] * scale[:, None, :]
    slopes = inverse @ right
    residual = v - np.einsum("np,npk->nk", z, slopes[target])
    influence = np.einsum("npq,nq->np", inverse[target], z) * weights[:, None]
    leverage = np.einsum("np,np->n", influence, z) + weights / total[group]
    change = influence[:, :, None] * (residual / np.maximum(1 - leverage, 1e-3)[:, None])[:, None, :]
    mean = _group_sums(change, target, n_targets) / np.maximum(count, 1)[:, None, None]
    square = _group_sums((change - mean[target]) ** 2, target, n_targets)
    errors = np.sqrt(square * (np.maximum(count, 1) - 1)[:, None, None] / np.maximum(count, 1)[:, None, None])
    unknown = (count < p + 3)[:, None] | ~varies
    slopes[unknown] = errors[unknown] = np.nan
    return slopes, errors


def _group_sums(values: Floats, group: Integers, number: int) -> Floats:
    """Sum rows of each group."""
    if number == 1:
        return values.sum(axis=0, keepdims=True)
    flat = values.reshape(len(values), -1)
    columns = [np.bincount(group, weights=column, minlength=number) for column in flat.T]
    return np.stack(columns, axis=1).reshape(number, *values.shape[1:])


def _group_means(values: Floats, weights: Floats, group: Integers, total: Floats) -> Floats:
    return _group_sums(values * weights[:, None], group, len(total)) / total[:, None]


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
