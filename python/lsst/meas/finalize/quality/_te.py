# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Correlations of residual ellipticity that the requirements are about."""

from __future__ import annotations

__all__ = ("TE_NAMES", "TE_RANGES", "TE_REQUIREMENTS", "te_statistics", "te_statistics_in_plane")

from typing import Any

import numpy as np
import numpy.typing as npt

from ._correlations import make_patches, residual_correlation
from ._moments import distortion

type Floats = npt.NDArray[np.float64]
type Integers = npt.NDArray[np.int64]

TE_RANGES = {"TE1": (1e-6, 1.0), "TE2": (5.0, 100.0), "TE3": (1e-6, 5.0), "TE4": (5.0, 20.0)}
"""Separations in arcmin (spec 07 §4); TE3 and TE4 are within a detector."""

TE_REQUIREMENTS = {"TE1": 2e-5, "TE2": 1e-7, "TE3": 4e-5, "TE4": 2e-7}
"""Design values of LPM-17, Table 27: TE1 and TE2 for the median over many
visits, TE3 and TE4 for single ones.
"""

TE_NAMES = tuple(f"{name}{component}" for name in TE_RANGES for component in ("e1", "e2", "ex"))
"""The statistics: of both components of the distortion, and across them."""

_EXACT = 5000
"""More stars than that are correlated with a tolerance."""


def te_statistics_in_plane(
    x: Floats, y: Floats, star: Floats, psf: Floats, detector: Integers
) -> dict[str, tuple[float, float, float]]:
    """Measure TE1 to TE4 of stars on the sky.

    Parameters
    ----------
    x, y
        Positions in arcmin in a plane, shape (N,).
    star, psf
        Second moments xx, yy, xy of stars and model along its axes,
        shape (N, 3).
    detector
        Detector numbers, shape (N,).

    Returns
    -------
    `dict` [`str`, `tuple`]
        Value, error and number of pairs by name (``TE_NAMES``).  The errors of
        TE1 and TE2 are from a jackknife over patches, those of TE3 and TE4
        from the scatter over detectors, whose median the value is.

    Notes
    -----
    Correlations of residual distortions, star minus model, without a mean
    subtracted (spec 07 §4), but with components along the sky's axes rather
    than the detectors', and exact sums over pairs for up to 5000 stars.
    """
    with np.errstate(invalid="ignore"):
        de = distortion(star) - distortion(psf)
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(de).all(axis=1)
    x, y, de, detector = x[good], y[good], de[good], detector[good]
    patch = make_patches(x, y)
    exact = len(x) <= _EXACT
    result = {}
    for name in ("TE1", "TE2"):
        low, high = TE_RANGES[name]
        limits = (low, high) if exact else (max(low, 0.01), high)
        for component, (a, b) in _components(de).items():
            result[name + component] = residual_correlation(x, y, a, b, limits, patch=patch, exact=exact)
    return {**result, **_within_detectors(x, y, de, detector)}


def _components(de: Floats) -> dict[str, tuple[Floats, Floats | None]]:
    return {"e1": (de[:, 0], None), "e2": (de[:, 1], None), "ex": (de[:, 0], de[:, 1])}


def _within_detectors(
    x: Floats, y: Floats, de: Floats, detector: Integers
) -> dict[str, tuple[float, float, float]]:
    """Sum over all pairs of each detector; medians over detectors."""
    values: dict[str, list[float]] = {name: [] for name in TE_NAMES if name[:3] in ("TE3", "TE4")}
    pairs = dict.fromkeys(values, 0.0)
    for number in np.unique(detector):  # matrices of the pairs of one detector
        rows = detector == number
        distance = np.hypot(x[rows, None] - x[rows], y[rows, None] - y[rows])
        e = de[rows]
        for name in ("TE3", "TE4"):
            low, high = TE_RANGES[name]
            near = ((distance > low) & (distance < high)).astype(float)
            count = near.sum()
            if not count:
                continue
            sums = e.T @ near @ e
            for component, (i, j) in {"e1": (0, 0), "e2": (1, 1), "ex": (0, 1)}.items():
                values[name + component].append(sums[i, j] / count)
                pairs[name + component] += count / 2
    result = {}
    for name, found in values.items():
        error = np.nan
        if len(found) > 1:  # of a median of values that scatter like these
            error = 1.2533 * np.std(found, ddof=1) / np.sqrt(len(found))
        result[name] = (float(np.median(found)) if found else np.nan, float(error), pairs[name])
    return result


def te_statistics(
    ra: Floats, dec: Floats, de1: Floats, de2: Floats, detector: Integers, *, bin_slop: float | None = None
) -> dict[str, float]:
    """Return ``psfTE1e1`` to ``psfTE4ex`` of exposure summaries.

    Parameters
    ----------
    ra, dec
        Positions in radians, shape (N,).
    de1, de2
        Residual distortions, star minus model, in pixel axes, shape (N,).
    detector
        Detector numbers, shape (N,).
    bin_slop
        TreeCorr's tolerance at the limits of separation; `None` is upstream's,
        some 5 % of the range, 0 gives exact sums over pairs.

    Returns
    -------
    `dict` [`str`, `float`]
        NaN for fewer than two finite stars.

    Notes
    -----
    Spec 07 §4, with upstream's options for TreeCorr (3-d chords).  TE3 and
    TE4 are medians over detectors.
    """
    values = np.stack([ra, dec, de1, de2])
    good = np.isfinite(values).all(axis=0)
    ra, dec, de1, de2 = values[:, good]
    detector = detector[good]
    result = _upstream(ra, dec, de1, de2, ("TE1", "TE2"), bin_slop)
    single: list[dict[str, float]] = []
    for number in np.unique(detector):  # TreeCorr has no groups
        rows = detector == number
        single.append(_upstream(ra[rows], dec[rows], de1[rows], de2[rows], ("TE3", "TE4"), bin_slop))
    for name in TE_NAMES[6:]:
        found = np.array([values[f"psf{name}"] for values in single])
        found = found[np.isfinite(found)]
        result[f"psf{name}"] = float(np.median(found)) if len(found) else np.nan
    return result


def _upstream(
    ra: Floats, dec: Floats, de1: Floats, de2: Floats, names: tuple[str, ...], bin_slop: float | None
) -> dict[str, float]:
    import treecorr

    result = {f"psf{name}{component}": np.nan for name in names for component in ("e1", "e2", "ex")}
    if len(ra) < 2:
        return result
    where = {"ra": ra, "dec": dec, "ra_units": "rad", "dec_units": "rad"}
    first, second = (treecorr.Catalog(**where, k=values) for values in (de1, de2))
    for name in names:
        low, high = TE_RANGES[name]
        options: dict[str, Any] = {
            "nbins": 1,
            "bin_type": "Linear",
            "min_sep": low / 60,
            "max_sep": high / 60,
            "sep_units": "degree",
            "metric": "Euclidean",
            "bin_slop": bin_slop,
            "num_threads": 1,
            "verbose": 0,
        }
        for component, catalogs in (("e1", (first,)), ("e2", (second,)), ("ex", (first, second))):
            correlation = treecorr.KKCorrelation(**options)
            correlation.process(*catalogs)
            result[f"psf{name}{component}"] = float(correlation.xi[0])
    return result
