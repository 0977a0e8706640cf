# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
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
from ._terms import orthonormal_terms, reduced_terms

if TYPE_CHECKING:
    from ._design import Design
    from ._preconditioner import Preconditioner

__all__ = ("NormalEquations", "solve_minimum_norm", "solve_normal_equations")

_LOG = logging.getLogger(__name__)

_TOLERANCE = 1e-12
"""Residual, relative to the data, at which the iteration stops."""

_MIN_RITZ_VALUE = 1e-8
"""Least ratio of the eigenvalues of the preconditioned system.

Below it the rounding errors of Piff's solvers differ by more than a millionth
of the PSF's peak.
"""

_MAX_CONDITION = 1e8
"""Condition at which a solution of minimum norm isn't refined any further.

Piff's goes on to 1e15 for the squared matrix.
"""

_STAR_STEPS = 40
"""Stars for which a solution of minimum norm may take ``max_steps`` steps."""

_MIN_STEPS = 100
"""Steps of a solution of minimum norm, however many stars there are."""

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

    def draw(self, q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Draw the stars without their weights.

        Parameters
        ----------
        q
            Coefficients [K, n*n].

        Returns
        -------
        image
            Packed images.
        """
        size = self.design.size
        grid = self.terms @ q
        # One block of stars at a time.
        return np.concatenate(
            [self.design.draw(grid[b].reshape(-1, size, size), b) for b in self.design.blocks()]
        )

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
    preconditioner: Preconditioner,
    target: float,
    max_steps: int,
) -> npt.NDArray[np.float64]:
    """Iterate until the norm of r is below the target; changes r."""
    z = preconditioner.apply(r)
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
        z = preconditioner.apply(r)
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
    reduce: bool = False,
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
    reduce
        Whether to leave out polynomial terms that the stars don't constrain.

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
    make_terms = reduced_terms if reduce else orthonormal_terms
    terms, back = make_terms(equations.terms, star_weight)
    if terms.shape[1] < equations.terms.shape[1]:
        _LOG.debug("The stars constrain %d of %d polynomial terms", terms.shape[1], equations.terms.shape[1])
    system = dataclasses.replace(equations, terms=terms)
    if probe:
        random = np.random.default_rng(_PROBE_SEED).normal(size=(terms.shape[1], system.design.size**2))
        power = float(np.vdot(random, preconditioner.apply(random)))
        target = _PROBE_TOLERANCE**2 * power
        # The solution takes at least twice the steps of the probe.
        _conjugate_gradients(system, random, preconditioner, target, system.design.max_steps // 2)
    scale = system.right_hand_side(data)
    target = _TOLERANCE**2 * float(np.vdot(scale, preconditioner.apply(scale)))
    if not (target > 0.0 and np.isfinite(target)):
        raise NotCoveredError(f"the stars' pixels set no scale (power {target:.1e})")
    side = system.right_hand_side(residual)
    q = _conjugate_gradients(system, side, preconditioner, target, system.design.max_steps)
    return (back @ q).T


def solve_minimum_norm(
    equations: NormalEquations,
    residual: npt.NDArray[np.float64],
    star_weight: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Solve for the least change of the coefficients if there are many.

    Parameters
    ----------
    equations
        The system.
    residual
        Weighted residual images b_s, packed.
    star_weight
        Mean weight of the pixels of each star [N].

    Returns
    -------
    change
        Change of q, [n*n, K].

    Raises
    ------
    NotCoveredError
        Raised if the stars have no weight or the solution isn't finite.

    Notes
    -----
    The method is LSMR (Fong & Saunders 2011), which starts from zero and
    thus stays orthogonal to all that no star constrains.  It finds weakly
    constrained directions last; a limited number of steps leaves out those
    that would only amplify noise, and bounds the time.
    """
    # Well-determined fits, which are the rule, do without.
    import scipy.sparse.linalg

    terms, back = reduced_terms(equations.terms, star_weight)
    system = dataclasses.replace(equations, terms=terms)
    root = np.sqrt(system.weight)
    shape = (terms.shape[1], system.design.size**2)

    def forward(q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (root * system.draw(q.reshape(shape))).ravel()

    def backward(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return system.right_hand_side(root * image.reshape(root.shape)).ravel()

    operator = scipy.sparse.linalg.LinearOperator(
        shape=(root.size, shape[0] * shape[1]), matvec=forward, rmatvec=backward, dtype=np.float64
    )
    image = np.divide(residual, root, out=np.zeros_like(root), where=root > 0.0).ravel()
    steps = min(max(_STAR_STEPS * system.design.max_steps // len(root), _MIN_STEPS), system.design.max_steps)
    q, reason, taken = scipy.sparse.linalg.lsmr(
        operator, image, atol=_TOLERANCE, btol=_TOLERANCE, conlim=_MAX_CONDITION, maxiter=steps
    )[:3]
    if not np.isfinite(q).all():
        raise NotCoveredError("the least change of the model isn't finite")
    _LOG.debug("Solved with the least change in %d steps (reason %d)", taken, reason)
    return (back @ q.reshape(shape)).T
