# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The polynomial terms, made orthonormal over the stars of a fit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg

from ._stars import NotCoveredError

__all__ = ("orthonormal_terms", "reduced_terms")

_MIN_RECIPROCAL_CONDITION = 1e-7
"""Least reciprocal condition of the polynomial basis with unit columns.

Its square is that of the basis' Gram matrix, which Piff's direct solvers
factorise.
"""


def _scaled(
    terms: npt.NDArray[np.float64], star_weight: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the weighted terms and the norms of their columns."""
    weighted = terms * np.sqrt(star_weight)[:, np.newaxis]
    norm = np.sqrt((weighted**2).sum(axis=0))
    if not np.isfinite(norm).all():
        raise NotCoveredError("a polynomial term isn't finite")
    return weighted, norm


def orthonormal_terms(
    terms: npt.NDArray[np.float64], star_weight: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Make the polynomial terms orthonormal over the weighted stars.

    Parameters
    ----------
    terms
        Terms [N, K].
    star_weight
        Weights [N].

    Returns
    -------
    orthonormal
        Terms k' [N, K] with ``sum_s w_s k'_s k'_s^T = 1``.
    back
        Matrix R^-1 [K, K]; coefficients q' of k' are ``R^-1 q'`` of k.

    Raises
    ------
    NotCoveredError
        Raised if there are fewer stars than terms, or the stars don't tell
        the terms apart.
    """
    if np.count_nonzero(star_weight) < terms.shape[1]:
        raise NotCoveredError(f"{np.count_nonzero(star_weight)} stars for {terms.shape[1]} polynomial terms")
    weighted, norm = _scaled(terms, star_weight)
    if not (norm > 0.0).all():
        raise NotCoveredError("a polynomial term vanishes")
    upper = scipy.linalg.qr(weighted / norm, mode="r")[0][: terms.shape[1]]
    singular = scipy.linalg.svdvals(upper)
    if not singular[-1] > _MIN_RECIPROCAL_CONDITION * singular[0]:
        raise NotCoveredError(
            "the stars don't constrain all polynomial terms "
            f"(reciprocal condition {singular[-1] / singular[0]:.1e})"
        )
    back = scipy.linalg.solve_triangular(upper, np.eye(len(upper))) / norm[:, np.newaxis]
    return terms @ back, back


def reduced_terms(
    terms: npt.NDArray[np.float64], star_weight: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Make as many orthonormal terms as the weighted stars constrain.

    Parameters
    ----------
    terms
        Terms [N, K].
    star_weight
        Weights [N].

    Returns
    -------
    orthonormal
        Terms k' [N, r] with ``sum_s w_s k'_s k'_s^T = 1``, r <= K.
    back
        Matrix [K, r]; of all coefficients of k that are the same model at
        the stars as q' of k', ``back q'`` have the least sum of squares.

    Raises
    ------
    NotCoveredError
        Raised if a term isn't finite, or no star has any weight.
    """
    weighted, norm = _scaled(terms, star_weight)
    norm = np.where(norm > 0.0, norm, 1.0)
    left, singular, right = scipy.linalg.svd(weighted / norm, full_matrices=False)
    if not singular[0] > 0.0:
        raise NotCoveredError("the stars have no weight")
    rank = int(np.count_nonzero(singular > _MIN_RECIPROCAL_CONDITION * singular[0]))
    # k_s = R^T k'_s, whose rows differ by the powers of pixel coordinates.
    transposed = (right[:rank] * singular[:rank, np.newaxis] * norm).T
    descending = np.argsort(-np.abs(transposed).max(axis=1), kind="stable")
    # Sorted rows and pivoting keep the relative accuracy of small rows.
    q, r, pivot = scipy.linalg.qr(transposed[descending], mode="economic", pivoting=True)
    back = np.empty_like(transposed)
    back[np.ix_(descending, pivot)] = scipy.linalg.solve_triangular(r, q.T).T
    positive = star_weight > 0.0
    orthonormal = np.zeros((len(terms), rank))
    orthonormal[positive] = left[positive, :rank] / np.sqrt(star_weight[positive])[:, np.newaxis]
    return orthonormal, back
