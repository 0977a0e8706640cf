# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Sums over pairs of stars by patches of the sky, and their jackknife."""

from __future__ import annotations

__all__ = ("PairSums", "sum_close_pairs", "sum_with_treecorr")

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

type Floats = npt.NDArray[np.float64]
type Integers = npt.NDArray[np.int64]

_MOST_PAIRS = 10_000_000


@dataclass(frozen=True)
class PairSums:
    """Sums over the pairs of stars within and between patches.

    Parameters
    ----------
    first, second
        The two patches, shape (P,).
    products
        Sums of products of the values of two stars, shape (P, K).
    weight
        Numbers of pairs, shape (P, K).
    """

    first: Integers
    second: Integers
    products: Floats
    weight: Floats

    def mean(self) -> Floats:
        """Return the mean product, shape (K,); NaN without pairs."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.products.sum(axis=0) / self.weight.sum(axis=0)

    def jackknife_error(self) -> Floats:
        """Return the error of the mean, from leaving out patch by patch.

        Returns
        -------
        `numpy.ndarray`
            Shape (K,); NaN if a single patch has all pairs.

        Notes
        -----
        Pairs across the edge of the patch that is left out count with the
        weight that makes the jackknife right for them too (Mohammad &
        Percival 2022, MNRAS 514, 1289, equation 27; TreeCorr's
        ``cross_patch_weight="match"``).
        """
        patches = np.unique([self.first, self.second])
        number = len(patches)
        across = 1 - number / (2 + np.sqrt(2) * (number - 1))
        has = (self.first == patches[:, None]).astype(int) + (self.second == patches[:, None])
        share = np.array([1.0, across, 0.0])[has]
        with np.errstate(invalid="ignore", divide="ignore"):
            left_out = (share @ self.products) / (share @ self.weight)
        variance = (1 - 1 / number) * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
        return np.sqrt(np.where(variance > 0, variance, np.nan))


def sum_with_treecorr(
    correlation: Any, first: Sequence[Any], second: Sequence[Any] | None, names: Sequence[str]
) -> dict[str, PairSums]:
    """Let TreeCorr sum over the pairs of all patches.

    Parameters
    ----------
    correlation
        A TreeCorr correlation; it is used up.
    first
        A TreeCorr catalog for each patch.
    second
        The same of another field, or `None` to correlate the first with
        itself.
    names
        Attributes of the correlation to take: ``xip`` and so on.

    Returns
    -------
    `dict` [`str`, `PairSums`]
        By name, with a column for each bin.

    Notes
    -----
    The same as ``process`` of catalogs with patches, without the copies of
    results that it keeps, which took most of the time.
    """
    number = len(first)
    pairs = [(i, j) for i in range(number) for j in range(number) if second is not None or j >= i]
    found: dict[str, list[Floats]] = {name: [] for name in (*names, "weight")}
    for one, other in pairs:  # TreeCorr takes one pair of trees at a time
        correlation.clear()
        if second is None and one == other:
            correlation.process_auto(first[one])
        else:
            correlation.process_cross(first[one], (first if second is None else second)[other])
        for name, arrays in found.items():
            arrays.append(np.array(getattr(correlation, name), dtype=float))
    i, j = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    weight = np.stack(found.pop("weight"))
    return {name: PairSums(i, j, np.stack(arrays), weight) for name, arrays in found.items()}


def sum_close_pairs(
    x: Floats, y: Floats, products: Sequence[tuple[Floats, Floats]], radius: float, patch: Integers
) -> PairSums | None:
    """Sum over exactly the pairs closer than some distance.

    Parameters
    ----------
    x, y
        Positions in a plane, shape (N,), finite.
    products
        Pairs of values at the stars to multiply, shape (N,); of different
        ones the mean of both orders counts.
    radius
        Largest separation.  Stars at the same place are no pair.
    patch
        Patches, shape (N,).

    Returns
    -------
    `PairSums` or `None`
        With a column for each of ``products``; `None` if there are more
        than 10 million pairs.
    """
    tree = cKDTree(np.stack([x, y], axis=1))
    if tree.count_neighbors(tree, radius) > 2 * _MOST_PAIRS:
        return None
    i, j = tree.query_pairs(radius, output_type="ndarray").T
    distance = np.hypot(x[i] - x[j], y[i] - y[j])
    apart = (distance > 0) & (distance < radius)
    i, j = i[apart], j[apart]
    number = int(patch.max()) + 1
    low, high = np.minimum(patch[i], patch[j]), np.maximum(patch[i], patch[j])
    keys, index = np.unique(low * number + high, return_inverse=True)
    count = np.bincount(index, minlength=len(keys)).astype(float)
    sums = [
        np.bincount(index, weights=(a[i] * b[j] + a[j] * b[i]) / 2, minlength=len(keys)) for a, b in products
    ]
    weight = np.repeat(count[:, None], len(products), axis=1)
    return PairSums(keys // number, keys % number, np.stack(sums, axis=1), weight)
