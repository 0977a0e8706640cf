# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Robust statistics of many groups of values at once."""

from __future__ import annotations

__all__ = ("Groups", "maritz_jarrett_weights")

from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

from .._robust import MAD_TO_SIGMA

type Floats = npt.NDArray[np.float64]
type Integers = npt.NDArray[np.int64]


@cache
def maritz_jarrett_weights(n: int) -> Floats:
    """Return the bootstrap's probability that the median is a given value.

    Parameters
    ----------
    n
        Number of values, at least 1.

    Returns
    -------
    `numpy.ndarray`
        Probability, for each of the n sorted values, that the median of n
        values drawn with replacement is that value; shape (n,).

    Notes
    -----
    This is the limit of infinitely many resamplings (Maritz & Jarrett 1978,
    J. Am. Stat. Assoc. 73, 194).  For even n, as there, the two central
    order statistics count half each.
    """
    edges = np.arange(n + 1) / n
    if n % 2:
        middle = (n + 1) / 2
        return np.diff(betainc(middle, middle, edges))
    lower = np.diff(betainc(n / 2, n / 2 + 1, edges))
    return (lower + lower[::-1]) / 2


class Groups:
    """Rows of an array that belong to groups.

    Parameters
    ----------
    group
        Group of each row, shape (N,), integers in the range of ``number``.
    number
        Number of groups.

    Notes
    -----
    Values are sorted in blocks of groups of similar size, padded by NaN, so
    that memory is at most twice that of the values however unequal the
    groups are.
    """

    def __init__(self, group: npt.ArrayLike, number: int) -> None:
        group = np.asarray(group, dtype=np.int64)
        self.number = number
        self.group = group
        self.counts: Integers = np.bincount(group, minlength=number)
        order = np.argsort(group, kind="stable")
        starts = np.cumsum(self.counts) - self.counts
        self._blocks = []
        size_class = np.where(self.counts > 0, np.ceil(np.log2(np.maximum(self.counts, 1))), -1)
        for size in np.unique(size_class[size_class >= 0]):
            members = np.flatnonzero(size_class == size)
            width = int(self.counts[members].max())
            column = np.arange(width)
            inside = column < self.counts[members, None]
            rows = np.where(inside, starts[members, None] + column, 0)
            self._blocks.append((members, order[rows], inside))

    def sum(self, values: Floats) -> Floats:
        """Return the sum of the values of each group.

        Parameters
        ----------
        values
            Finite values, shape (N,).
        """
        return np.bincount(self.group, weights=values, minlength=self.number)

    def count(self, chosen: npt.NDArray[np.bool_]) -> Integers:
        """Return how many rows of each group are chosen.

        Parameters
        ----------
        chosen
            Shape (N,).
        """
        return np.bincount(self.group[chosen], minlength=self.number)

    def median(self, values: Floats) -> Floats:
        """Return the median of the finite values of each group.

        Parameters
        ----------
        values
            Shape (N,).

        Returns
        -------
        `numpy.ndarray`
            Shape (number,); NaN for groups without finite values.
        """
        return self._medians(values, with_errors=False)[0]

    def median_and_error(self, values: Floats) -> tuple[Floats, Floats]:
        """Return medians and their bootstrap errors.

        Parameters
        ----------
        values
            Shape (N,).

        Returns
        -------
        median, error : `numpy.ndarray`
            Shape (number,); the error is NaN for fewer than two values (see
            `maritz_jarrett_weights`).
        """
        return self._medians(values, with_errors=True)

    def scatter(self, values: Floats) -> Floats:
        """Return 1.4826 times the median absolute deviation of each group.

        Parameters
        ----------
        values
            Shape (N,).

        Returns
        -------
        `numpy.ndarray`
            Shape (number,); NaN for groups without finite values.
        """
        return MAD_TO_SIGMA * self.median(np.abs(values - self.median(values)[self.group]))

    def _medians(self, values: Floats, with_errors: bool) -> tuple[Floats, Floats]:
        median, error = np.full((2, self.number), np.nan)
        # A handful of blocks: one for each power of two.
        for members, rows, inside in self._blocks:
            block = np.where(inside, values[rows], np.nan)
            block[~np.isfinite(block)] = np.nan
            block.sort(axis=1)  # NaN last
            n = np.count_nonzero(block == block, axis=1)
            lines = np.arange(len(block))
            last = np.maximum(n - 1, 0)
            # With n = 0 both are element 0, which is NaN.
            median[members] = (block[lines, last // 2] + block[lines, (last + 1) // 2]) / 2
            if with_errors:
                error[members] = _bootstrap_errors(block, n)
        return median, error


def _bootstrap_errors(block: Floats, n: Integers) -> Floats:
    """Return Maritz and Jarrett's errors; ``block`` is sorted, NaN last."""
    error = np.full(len(block), np.nan)
    for number in np.unique(n[n > 1]):  # weights depend on the number
        lines = n == number
        values, weights = block[lines, :number], maritz_jarrett_weights(int(number))
        centre = values @ weights
        error[lines] = np.sqrt((values - centre[:, None]) ** 2 @ weights)
    return error
