# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Approximate inverses of the normal equations."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.linalg

from ._design import GeneralDesign, SeparableDesign
from ._stars import NotCoveredError

if TYPE_CHECKING:
    from ._design import Design

__all__ = ("MAX_DENSE_UNKNOWNS", "Preconditioner")

MAX_DENSE_UNKNOWNS = 1000
"""Unknowns above which no system is left to Piff's dense solvers.

Its eigenvalue decomposition of 1000 unknowns takes about a second.
"""

_MAX_DENSE_NODES = 2500
"""Grid nodes above which their normal matrix isn't formed either."""

_MIN_GRID_EIGENVALUE = 1e-9
"""Least ratio of the eigenvalues of the mean normal matrix of a star."""


def _inverse(matrix: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """Invert a positive matrix, which is overwritten; also return its
    reciprocal condition.
    """
    norm = np.abs(matrix).sum(axis=0).max()
    factor, info = scipy.linalg.lapack.dpotrf(matrix, lower=1, overwrite_a=1)
    if info != 0:
        return matrix, 0.0
    rcond = float(scipy.linalg.lapack.dpocon(factor, norm, uplo="L")[0])
    # LAPACK's dpotri does this, too, but OpenBLAS's wakes all its threads for
    # the smallest matrices: 60 ms instead of 0.02 ms on two cores.
    root = np.tril(scipy.linalg.lapack.dtrtri(factor, lower=1, overwrite_c=1)[0])
    return root.T @ root, rcond


def _check_condition(rcond: float) -> None:
    """Check that stars constrain all nodes of the grid."""
    if not rcond > _MIN_GRID_EIGENVALUE:
        raise NotCoveredError(f"the grid isn't constrained everywhere (reciprocal condition {rcond:.1e})")


@dataclasses.dataclass
class Preconditioner:
    """Inverse for stars whose normal matrices are proportional."""

    inverse: npt.NDArray[np.float64] | None = None
    """Inverse of the mean normal matrix of a star of unit weight."""

    factors: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
    """Inverses of its two factors, where it is about a product of two."""

    @classmethod
    def from_design(cls, design: Design, star_weight: npt.NDArray[np.float64]) -> Preconditioner:
        """Invert the mean normal matrix.

        Parameters
        ----------
        design
            Maps of the stars, with their centres set.
        star_weight
            Mean weight of the pixels of each star [N].

        Returns
        -------
        preconditioner
            For a basis in which the weighted Gram matrix is the identity.

        Raises
        ------
        NotCoveredError
            Raised if the stars don't constrain all nodes of the grid, or if
            none has any weight.
        """
        total = star_weight.sum()
        if not (total > 0.0 and np.isfinite(total)):
            raise NotCoveredError(f"the stars have a total weight of {total}")
        small = design.size**2 <= _MAX_DENSE_NODES
        if isinstance(design, SeparableDesign):
            (along_v, rcond_v), (along_u, rcond_u) = map(_inverse, design.mean_factors(star_weight))
            # The condition of a Kronecker product is that of its factors.
            _check_condition(rcond_v * rcond_u if small else min(rcond_v, rcond_u))
            return cls(factors=(along_v, along_u))
        if isinstance(design, GeneralDesign) and small:
            inverse, rcond = _inverse(design.mean_gram(star_weight))
            _check_condition(rcond)
            return cls(inverse=inverse)
        return cls()

    def apply(self, r: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Multiply by the inverse.

        Parameters
        ----------
        r
            Residuals [K, n*n].

        Returns
        -------
        product
            Array [K, n*n].
        """
        if self.inverse is not None:
            return r @ self.inverse
        if self.factors is None:
            return r.copy()
        size = len(self.factors[0])
        return (self.factors[0] @ r.reshape(-1, size, size) @ self.factors[1]).reshape(r.shape)
