# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Conjugate gradients on the structured normal equations."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.linalg

from ._stars import NotCoveredError

if TYPE_CHECKING:
    from ._design import Design

__all__ = ("NormalEquations", "Preconditioner", "solve_normal_equations")

_LOG = logging.getLogger(__name__)

_TOLERANCE = 1e-12
"""Residual, relative to the data, at which the iteration stops."""

_MIN_RECIPROCAL_CONDITION = 1e-7
"""Least reciprocal condition of the polynomial basis with unit columns.

Its square is that of the basis' Gram matrix, which Piff's direct solvers
factorise.
"""

_MIN_GRID_EIGENVALUE = 1e-9
"""Least ratio of the eigenvalues of the mean normal matrix of a star."""

_MIN_RITZ_VALUE = 1e-8
"""Least ratio of the eigenvalues of the preconditioned system.

Below it the rounding errors of Piff's solvers differ by more than a millionth
of the PSF's peak.
"""

_TRIAL_STEPS = 60
"""Steps before the solver gives up for lack of progress."""

_PROBE_SEED = 20601
"""Seed of the direction of a probe."""

_PROBE_TOLERANCE = 1e-4
"""Relative residual at which a probe of the eigenvalues stops."""


@dataclasses.dataclass
class NormalEquations:
    """Normal equations of the polynomial coefficients of a model grid.

    For design matrices A_s, pixel weights W_s and polynomial terms k_s of the
    stars s they are, for coefficients q [n*n, K],
    ``sum_s (A_s^T W_s A_s) q k_s k_s^T = sum_s (A_s^T b_s) k_s^T``.
    """

    design: Design
    """Maps A_s, with their centres set."""

    terms: npt.NDArray[np.float64]
    """Polynomial terms k_s [N, K]."""

    weight: npt.NDArray[np.float64]
    """W_s, including the squared flux; packed images."""

    def right_hand_side(self, image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return ``sum_s k_s (A_s^T b_s)^T``.

        Parameters
        ----------
        image
            Weighted images b_s, packed.

        Returns
        -------
        side
            Array [K, n*n].
        """
        side = np.zeros((self.terms.shape[1], self.design.size**2))
        # One block of stars at a time.
        for block in self.design.blocks():
            side += self._project(image[block], block)
        return side

    def _project(self, image: npt.NDArray[np.float64], block: slice) -> npt.NDArray[np.float64]:
        """Return a block's part of the right-hand side."""
        grid = self.design.adjoint(image, block)
        return self.terms[block].T @ grid.reshape(len(image), -1)

    def apply(self, q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Apply the normal matrix.

        Parameters
        ----------
        q
            Coefficients [K, n*n].

        Returns
        -------
        product
            Array [K, n*n].
        """
        size = self.design.size
        result = np.zeros_like(q)
        # One block of stars at a time.
        for block in self.design.blocks():
            image = self.design.draw((self.terms[block] @ q).reshape(-1, size, size), block)
            image *= self.weight[block]
            result += self._project(image, block)
        return result


@dataclasses.dataclass
class Preconditioner:
    """Exact inverse for stars whose normal matrices are proportional."""

    inverse: npt.NDArray[np.float64]
    """Inverse of the mean normal matrix of a star of unit weight."""

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
        mean = design.mean_gram(star_weight)
        norm = np.abs(mean).sum(axis=0).max()
        factor, info = scipy.linalg.lapack.dpotrf(mean, lower=1, overwrite_a=1)
        rcond = scipy.linalg.lapack.dpocon(factor, norm, uplo="L")[0] if info == 0 else 0.0
        if not rcond > _MIN_GRID_EIGENVALUE:
            raise NotCoveredError(f"the grid isn't constrained everywhere (reciprocal condition {rcond:.1e})")
        inverse, info = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        return cls(inverse)


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
    weighted = terms * np.sqrt(star_weight)[:, np.newaxis]
    norm = np.sqrt((weighted**2).sum(axis=0))
    if not (np.isfinite(norm).all() and (norm > 0.0).all()):
        raise NotCoveredError("a polynomial term vanishes or isn't finite")
    upper = scipy.linalg.qr(weighted / norm, mode="r")[0][: terms.shape[1]]
    singular = scipy.linalg.svdvals(upper)
    if not singular[-1] > _MIN_RECIPROCAL_CONDITION * singular[0]:
        raise NotCoveredError(
            "the stars don't constrain all polynomial terms "
            f"(reciprocal condition {singular[-1] / singular[0]:.1e})"
        )
    back = scipy.linalg.solve_triangular(upper, np.eye(len(upper))) / norm[:, np.newaxis]
    return terms @ back, back


def _ritz_ratio(diagonal: list[float], off_diagonal: list[float]) -> float:
    """Return the ratio of extreme eigenvalues seen by the iteration."""
    if not diagonal:
        return 1.0
    ritz = scipy.linalg.eigvalsh_tridiagonal(diagonal, off_diagonal[: len(diagonal) - 1])
    return float(ritz[0] / ritz[-1])


def _is_hopeless(step: int, start: float, now: float, target: float, max_steps: int) -> bool:
    """Tell whether the permitted steps won't reach the target at this pace."""
    if step < _TRIAL_STEPS:
        return False
    return np.log(start / now) * max_steps < np.log(start / target) * step


def _conjugate_gradients(
    system: NormalEquations,
    r: npt.NDArray[np.float64],
    inverse: npt.NDArray[np.float64],
    target: float,
    max_steps: int,
) -> npt.NDArray[np.float64]:
    """Iterate until ``r . inverse . r`` is below the target; changes r."""
    z = r @ inverse
    q = np.zeros_like(r)
    direction = z.copy()
    start = rz = float(np.vdot(r, z))
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    carried = 0.0
    # Each step needs the one before it.
    for step in range(max_steps):
        if rz <= target:
            break
        if _is_hopeless(step, start, rz, target, max_steps):
            raise NotCoveredError(f"no convergence in sight after {step} steps")
        product = system.apply(direction)
        curvature = float(np.vdot(direction, product))
        if not (curvature > 0.0 and np.isfinite(curvature)):
            raise NotCoveredError(f"the normal matrix isn't positive (curvature {curvature:.1e})")
        alpha = rz / curvature
        q += alpha * direction
        product *= alpha
        r -= product
        z = r @ inverse
        previous, rz = rz, float(np.vdot(r, z))
        beta = rz / previous
        direction *= beta
        direction += z
        diagonal.append(1.0 / alpha + carried)
        off_diagonal.append(np.sqrt(beta) / alpha)
        carried = beta / alpha
    else:
        raise NotCoveredError(f"no convergence in {max_steps} steps")
    ritz = _ritz_ratio(diagonal, off_diagonal)
    _LOG.debug("Solved in %d steps, Ritz values %.1e", len(diagonal), ritz)
    if not ritz > _MIN_RITZ_VALUE:
        raise NotCoveredError(f"ill-conditioned normal matrix (Ritz values {ritz:.1e})")
    return q


def solve_normal_equations(
    equations: NormalEquations,
    residual: npt.NDArray[np.float64],
    data: npt.NDArray[np.float64],
    star_weight: npt.NDArray[np.float64],
    preconditioner: Preconditioner,
    *,
    probe: bool,
) -> npt.NDArray[np.float64]:
    """Solve for the change of the coefficients.

    Parameters
    ----------
    equations
        The system.
    residual
        Weighted residual images b_s, packed.
    data
        Weighted data images, packed; they set the scale of the tolerance.
    star_weight
        Mean weight of the pixels of each star [N].
    preconditioner
        Approximate inverse.
    probe
        Whether to look for directions that no star constrains.  The data
        have no component along them, so the solution doesn't show them.

    Returns
    -------
    change
        Change of q, [n*n, K].

    Raises
    ------
    NotCoveredError
        Raised if the system is too ill-conditioned for its solution to be
        independent of the method, or if the stars have no signal.
    """
    terms, back = orthonormal_terms(equations.terms, star_weight)
    system = dataclasses.replace(equations, terms=terms)
    inverse = preconditioner.inverse
    if probe:
        random = np.random.default_rng(_PROBE_SEED).normal(size=(terms.shape[1], len(inverse)))
        power = float(np.vdot(random, random @ inverse))
        target = _PROBE_TOLERANCE**2 * power
        # The solution takes at least twice the steps of the probe.
        _conjugate_gradients(system, random, inverse, target, system.design.max_steps // 2)
    scale = system.right_hand_side(data)
    target = _TOLERANCE**2 * float(np.vdot(scale, scale @ inverse))
    if not (target > 0.0 and np.isfinite(target)):
        raise NotCoveredError(f"the stars' pixels set no scale (power {target:.1e})")
    side = system.right_hand_side(residual)
    q = _conjugate_gradients(system, side, inverse, target, system.design.max_steps)
    return (back @ q).T
