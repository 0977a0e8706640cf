# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Clipped statistics (spec 03 §8.1)."""

from __future__ import annotations

__all__ = ("clipped_mean_std", "clipped_mean_std_rows")

import numpy as np
import numpy.typing as npt

from ..._robust import IQR_TO_SIGMA

_N_KEYS = 1 << 16


def _count_keys(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Count finite values by the upper halves of their bits, ascending."""
    from ._stats_numba import count_keys

    counts = np.zeros(_N_KEYS, dtype=np.int64)
    count_keys(values.view(np.uint32), counts)
    return counts


def _selected(
    values: npt.NDArray[np.float32], counts: npt.NDArray[np.int64], ranks: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the finite values of some ranks, given the counts of keys."""
    from ._stats_numba import collect

    before = np.cumsum(counts) - counts
    keys = np.searchsorted(before + counts, ranks, side="right")
    wanted = np.zeros(_N_KEYS, dtype=np.bool_)
    wanted[keys] = True
    found = np.empty(int(counts[wanted].sum()), dtype=np.uint32)
    collect(values.view(np.uint32), wanted, found)
    # Only values that share their key with a wanted one are sorted.
    kept = np.where(wanted, counts, 0)
    return np.sort(found.view(np.float32))[(np.cumsum(kept) - kept)[keys] + ranks - before[keys]]


def _quantiles(values: np.ndarray, quantiles: tuple[float, ...]) -> list[float]:
    """Return quantiles of the finite values by linear interpolation."""
    is_single = values.dtype == np.float32
    counts = _count_keys(values) if is_single else np.isfinite(values)
    last = int(counts.sum()) - 1
    if last < 0:
        raise ValueError("Clipped statistics need at least one finite value.")
    positions = np.array(quantiles) * last
    below = np.floor(positions).astype(np.int64)
    ranks, which = np.unique([below, np.minimum(below + 1, last)], return_inverse=True)
    found = _selected(values, counts, ranks) if is_single else np.partition(values[counts], ranks)[ranks]
    low, high = found.astype(np.float64)[which.reshape(2, -1)]
    return [float(v) for v in low + (positions - below) * (high - low)]


def _moments_within(values: np.ndarray, centre: float, width: float) -> tuple[float, float]:
    """Return mean and variance of the values within a distance."""
    from ._stats_numba import sums_within

    n, total, squares = sums_within(values, centre, width)
    if n == 0:
        return np.nan, np.nan
    mean = total / n
    variance = (squares - n * mean**2) / (n - 1) if n > 1 else np.nan
    return centre + mean, variance


def clipped_mean_std(values: npt.ArrayLike, n_sigma: float = 3.0, n_iter: int = 3) -> tuple[float, float]:
    """Compute the clipped mean and standard deviation of an array.

    Parameters
    ----------
    values : `numpy.ndarray`
        Values of any shape; those that aren't finite are skipped.
    n_sigma : `float`, optional
        Half-width of the accepted range in standard deviations.
    n_iter : `int`, optional
        Number of iterations; always all of them are done.

    Returns
    -------
    mean, std : `float`
        Mean, and standard deviation with ``n - 1``.

    Raises
    ------
    ValueError
        Raised if no value is finite.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    flat = flat if flat.dtype == np.float32 else flat.astype(np.float64)
    # One kind of array, for which the kernels are compiled.
    flat = flat.view()
    flat.flags.writeable = False
    q25, median, q75 = _quantiles(flat, (0.25, 0.5, 0.75))
    centre, width = median, n_sigma * IQR_TO_SIGMA * (q75 - q25)
    mean, variance = np.nan, np.nan
    for _ in range(n_iter):
        mean, variance = _moments_within(flat, centre, width)
        centre, width = mean, n_sigma * float(np.sqrt(np.maximum(variance, 0.0)))
    return mean, float(np.sqrt(np.maximum(variance, 0.0)))


def clipped_mean_std_rows(
    values: npt.NDArray[np.floating], good: npt.NDArray[np.bool_], n_sigma: float = 3.0, n_iter: int = 3
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute clipped means and standard deviations of many samples.

    Parameters
    ----------
    values : `numpy.ndarray`
        Samples, shape (N, M).
    good : `numpy.ndarray`
        Which values to use, shape (N, M).
    n_sigma, n_iter
        As for `clipped_mean_std`.

    Returns
    -------
    mean, std : `numpy.ndarray`
        float64 arrays of shape (N,), NaN where there are no values.
    """
    x = values.astype(np.float64)
    good = good & np.isfinite(x)
    n_good = good.sum(axis=1)
    ordered = np.sort(np.where(good, x, np.inf), axis=1)
    rows = np.arange(len(x))
    last = np.maximum(n_good - 1, 0)

    def quantile(q: float) -> npt.NDArray[np.float64]:
        position = q * last
        below = np.floor(position).astype(np.int64)
        low, high = ordered[rows, below], ordered[rows, np.minimum(below + 1, last)]
        return np.asarray(low + (position - below) * (high - low))

    with np.errstate(invalid="ignore", divide="ignore"):
        centre = quantile(0.5)
        width = n_sigma * IQR_TO_SIGMA * (quantile(0.75) - quantile(0.25))
        mean = variance = np.full(len(x), np.nan)
        for _ in range(n_iter):
            used = good & (np.abs(x - centre[:, None]) <= width[:, None])
            n = used.sum(axis=1)
            mean = np.where(used, x, 0.0).sum(axis=1) / n
            offset = np.where(used, x - mean[:, None], 0.0)
            variance = (offset**2).sum(axis=1) / (n - 1)
            centre, width = mean, n_sigma * np.sqrt(np.maximum(variance, 0.0))
        empty = n_good == 0
        return (
            np.where(empty, np.nan, mean),
            np.where(empty, np.nan, np.sqrt(np.maximum(variance, 0.0))),
        )
