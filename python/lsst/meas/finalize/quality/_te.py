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

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._correlations import make_patches
from ._moments import distortion
from ._pair_sums import PairSums, sum_close_pairs, sum_with_treecorr

type Floats = npt.NDArray[np.float64]
type Integers = npt.NDArray[np.int64]

TE_RANGES = {"TE1": (1e-6, 1.0), "TE2": (5.0, 100.0), "TE3": (1e-6, 5.0), "TE4": (5.0, 20.0)}
"""Separations in arcmin (spec 07 §4); TE3 and TE4 are within a detector."""

TE_REQUIREMENTS = {"TE1": 2e-5, "TE2": 1e-7, "TE3": 4e-5, "TE4": 2e-7}
"""Design values of LPM-17, Table 27: TE1 and TE2 for the median over many
visits, TE3 and TE4 for single ones.
"""

_COMPONENTS = ("e1", "e2", "ex")

TE_NAMES = tuple(f"{name}{component}" for name in TE_RANGES for component in _COMPONENTS)
"""The statistics: of both components of the distortion, and across them."""

_EXACT = 5000
"""More stars than that are correlated with a tolerance."""
_CLOSEST = 0.01
"""Smallest separation in arcmin that TreeCorr is asked for."""
_BLOCK = 4_000_000
"""Separations to hold at a time."""


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
    return {**_over_visit(x, y, de), **_within_detectors(x, y, de, detector)}


def _over_visit(x: Floats, y: Floats, de: Floats) -> dict[str, tuple[float, float, float]]:
    """Correlate over detectors: sums of pairs by patches of the sky."""
    result = {name: (np.nan, np.nan, 0.0) for name in TE_NAMES if name[:3] in ("TE1", "TE2")}
    if len(x) < 2:
        return result
    patch = make_patches(x, y)
    regions = np.zeros(len(x), dtype=np.int64) if patch is None else patch
    e1, e2 = de.T
    near = sum_close_pairs(x, y, [(e1, e1), (e2, e2), (e1, e2)], TE_RANGES["TE1"][1], regions)
    if near is None:
        near = _tree_pairs(x, y, de, regions, (_CLOSEST, TE_RANGES["TE1"][1]))
    far = _tree_pairs(x, y, de, regions, TE_RANGES["TE2"])
    shot = np.array([e1.std() ** 2, e2.std() ** 2, e1.std() * e2.std()])
    for name, sums in (("TE1", near), ("TE2", far)):
        n_pairs = sums.weight.sum(axis=0)
        with np.errstate(divide="ignore"):
            errors = shot / np.sqrt(n_pairs) if patch is None else sums.jackknife_error()
        for k, component in enumerate(_COMPONENTS):
            if n_pairs[k] > 0:
                found = float(sums.mean()[k]), float(errors[k]), float(n_pairs[k])
                result[name + component] = found
    return result


def _tree_pairs(x: Floats, y: Floats, de: Floats, patch: Integers, limits: tuple[float, float]) -> PairSums:
    """Let TreeCorr sum over the pairs in a range, all three components at
    once.

    With complex z = e1 + i e2, ⟨z z*⟩ is ⟨e1 e1⟩ + ⟨e2 e2⟩, and ⟨z z⟩ is
    ⟨e1 e1⟩ − ⟨e2 e2⟩ + 2i ⟨e1 e2⟩.
    """
    import treecorr

    low, high = limits
    exact = len(x) <= _EXACT
    correlation = treecorr.ZZCorrelation(
        nbins=1,
        min_sep=low,
        max_sep=high,
        bin_type="Linear" if exact else "Log",
        bin_slop=0 if exact else 0.2 / np.log(high / low),
        num_threads=1,
        verbose=0,
    )
    rows = [np.flatnonzero(patch == p) for p in range(int(patch.max()) + 1)]
    catalogs = [treecorr.Catalog(x=x[r], y=y[r], z1=de[r, 0], z2=de[r, 1]) for r in rows]
    sums = sum_with_treecorr(correlation, catalogs, None, ("xip", "xim", "xim_im"))
    plus, minus, cross = (sums[name].products for name in ("xip", "xim", "xim_im"))
    products = np.concatenate([(plus + minus) / 2, (plus - minus) / 2, cross / 2], axis=1)
    weight = np.repeat(sums["xip"].weight, len(_COMPONENTS), axis=1)
    return PairSums(sums["xip"].first, sums["xip"].second, products, weight)


def _within_detectors(
    x: Floats, y: Floats, de: Floats, detector: Integers
) -> dict[str, tuple[float, float, float]]:
    """Sum over all pairs of each detector; medians over detectors."""
    values: dict[str, list[float]] = {name: [] for name in TE_NAMES if name[:3] in ("TE3", "TE4")}
    pairs = dict.fromkeys(values, 0.0)
    order = np.argsort(detector, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(detector[order])) + 1):
        ranges = [TE_RANGES[name] for name in ("TE3", "TE4")]
        found = _sum_all_pairs(x[rows], y[rows], de[rows], ranges)
        for name, (sums, count) in zip(("TE3", "TE4"), found, strict=True):
            if not count:
                continue
            for component, (i, j) in {"e1": (0, 0), "e2": (1, 1), "ex": (0, 1)}.items():
                values[name + component].append(float(sums[i, j]) / count)
                pairs[name + component] += count / 2
    result = {}
    for name, each in values.items():
        error = np.nan
        if len(each) > 1:  # of a median of values that scatter like these
            error = 1.2533 * np.std(each, ddof=1) / np.sqrt(len(each))
        result[name] = (float(np.median(each)) if each else np.nan, float(error), pairs[name])
    return result


def _sum_all_pairs(
    x: Floats, y: Floats, de: Floats, ranges: Sequence[tuple[float, float]]
) -> list[tuple[Floats, float]]:
    """Return, for each range of separations, products summed over pairs in
    both orders, and the number of those.
    """
    sums, counts = np.zeros((len(ranges), 2, 2)), np.zeros(len(ranges))
    for rows in np.array_split(np.arange(len(x)), max(1, len(x) ** 2 // _BLOCK)):
        # Roots would take most of the time.
        square = (x[rows, None] - x) ** 2 + (y[rows, None] - y) ** 2
        for i, (low, high) in enumerate(ranges):
            near = ((square > low**2) & (square < high**2)).astype(float)
            counts[i] += near.sum()
            sums[i] += de[rows].T @ near @ de
    return list(zip(sums, counts.tolist(), strict=True))


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
