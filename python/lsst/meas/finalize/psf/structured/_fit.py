# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The fit, from Piff stars to a fitted Piff PSF."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._errors import PsfUnsolvableError
from ._design import Design, make_design
from ._interpolant import grid_weights
from ._outliers import reject_by_chisq
from ._preconditioner import MAX_DENSE_UNKNOWNS, Preconditioner
from ._reflux import Reflux, center_shifts, initial_flux_center, reflux
from ._result import fill_psf
from ._setup import basis_terms, check_covered, count_unknowns, initial_profile, make_psf
from ._solver import NormalEquations, solve_minimum_norm, solve_normal_equations
from ._stars import NotCoveredError, extract_stars
from ._state import FitState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import galsim
    import piff

__all__ = ("fit_structured",)

_LOG = logging.getLogger(__name__)

_SAFE_REDUNDANCY = 4
"""Pixels per unknown above which the rank is probed only once."""


def fit_structured(
    stars: Sequence[piff.Star],
    piff_config: Mapping[str, Any],
    wcs: Mapping[int, galsim.BaseWCS],
    pointing: galsim.CelestialCoord | None,
    *,
    logger: logging.Logger | None = None,
) -> piff.SimplePSF | None:
    """Fit a PixelGrid and BasisPolynomial PSF as Piff would.

    Parameters
    ----------
    stars
        Stars with float64 images and weights.  They aren't changed.
    piff_config
        Configuration of the PSF, what Piff calls the ``psf`` field.
    wcs
        GalSim coordinate systems by chip number.
    pointing
        Pointing of the telescope, needed with celestial coordinates.
    logger
        Gets Piff's own messages.

    Returns
    -------
    psf
        What ``piff.PSF.process(piff_config).fit(stars)`` leaves behind, but
        the stars' ``fit.A`` and ``fit.b`` are `None`; `None` if Piff has to
        do this fit itself, for a reason told to this module's logger.

    Raises
    ------
    PsfUnsolvableError
        Raised if Piff would have to, but has too many unknowns for that.
    RuntimeError
        Raised, with Piff's text, if no star is left to fit.
    Exception
        Raised by Piff for an invalid configuration.
    """
    logger = _LOG if logger is None else logger
    psf = make_psf(piff_config, logger)
    try:
        check_covered(psf)
        psf.set_context(wcs, pointing)
        if not stars:
            raise NotCoveredError("there are no stars")
        return _fit(psf, stars, logger)
    except NotCoveredError as error:
        unknowns = count_unknowns(psf)
        if unknowns > MAX_DENSE_UNKNOWNS:
            raise PsfUnsolvableError(str(error), unknowns, MAX_DENSE_UNKNOWNS) from error
        _LOG.info("Leaving the PSF fit to Piff: %s.", error)
        return None


def _fit(psf: piff.SimplePSF, stars: Sequence[piff.Star], logger: logging.Logger) -> piff.SimplePSF:
    """Run Piff's sequence of iterations."""
    arrays = extract_stars(stars)
    model = psf.model
    design = make_design(arrays, grid_weights(model.interp), model.size, model.scale)
    terms = basis_terms(psf.interp, stars)
    recenter = np.array([psf.fit_center and not s.data.properties.get("trust_pos", False) for s in stars])
    state = _initial_state(psf, stars, design, recenter, logger)
    # Every iteration starts from the one before it.
    for iteration in range(psf.max_iter):
        logger.info("Iteration %d: Fitting %d stars", iteration + 1, np.count_nonzero(state.used))
        first_params = _first_used(state)
        _improve_model(state, design, terms)
        removed = _improve_stars(state, design, recenter, stars, logger)
        if psf.outliers and iteration > 0:
            for outliers in psf.outliers:
                state.flagged, count = reject_by_chisq(
                    outliers, state.chisq, state.dof, state.flagged, state.reserved
                )
                removed += count
        previous = state.total_chisq
        _total(state, removed)
        logger.info("             Total chisq = %.2f / %d dof", state.total_chisq, state.total_dof)
        if (
            removed == 0
            and previous > 0
            and previous - state.total_chisq < psf.chisq_thresh * state.total_dof
            and state.iterations >= psf.min_iter
        ):
            break
    else:
        logger.warning("PSF fit did not converge.  Max iterations = %d reached.", psf.max_iter)
    fill_psf(psf, stars, state, first_params)
    return psf


def _initial_state(
    psf: piff.SimplePSF,
    stars: Sequence[piff.Star],
    design: Design,
    recenter: npt.NDArray[np.bool_],
    logger: logging.Logger,
) -> FitState:
    """Set fluxes, centres and a constant model from the stars themselves."""
    center = np.array([s.fit.center for s in stars], dtype=np.float64)
    flux, center = initial_flux_center(design, center, recenter)
    profile, flagged, removed = initial_profile(psf, stars, design.stars, logger)
    q = profile[:, np.newaxis] * psf.interp.constant(1.0)[np.newaxis, :]
    return FitState(
        q=q,
        params=np.tile(profile, (len(stars), 1)),
        flux=flux,
        center=center,
        chisq=np.full(len(stars), np.nan),
        dof=np.zeros(len(stars), dtype=np.int64),
        flagged=flagged,
        reserved=np.array([bool(s.is_reserve) for s in stars]),
        removed=removed,
        in_place=q.size > MAX_DENSE_UNKNOWNS,
    )


def _first_used(state: FitState) -> npt.NDArray[np.float64]:
    """Return the parameters of the first fitted star.

    From these Piff's model derives the extent it remembers in Fourier space.
    """
    used = np.flatnonzero(state.used)
    if len(used) == 0:
        raise RuntimeError("No stars left to fit.  Cannot find PSF model.")
    return state.params[used[0]].copy()


def _normalised(params: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Return grids of sum 1."""
    total = params.sum(axis=1)
    if not (np.isfinite(total).all() and (total != 0.0).all()):
        raise NotCoveredError("the model of a star has no flux")
    return (params / total[:, np.newaxis]).reshape(-1, size, size)


def _improve_model(state: FitState, design: Design, terms: npt.NDArray[np.float64]) -> None:
    """Update the coefficients, and from them the parameters of all stars."""
    used = np.flatnonzero(state.used)
    part = design.take(used)
    center = state.center[used]
    flux = state.flux[used, np.newaxis, np.newaxis]
    support = part.support(center)
    part.set_center(center, support)
    weight = np.where(support, part.stars.weight, 0.0) * flux
    data = part.pack(weight * part.stars.image)
    weight = part.pack(weight * flux)
    # A star's weight as if none of its pixels were masked.
    pixels = np.maximum(np.count_nonzero(support, axis=(1, 2)), 1)
    star_weight = weight.reshape(len(used), -1).sum(axis=1) / pixels
    profile = _normalised(state.params[used], design.size)
    residual = data - weight * np.concatenate([part.draw(profile[block], block) for block in part.blocks()])
    _keep_model_chisq(state, used, residual, weight)
    equations = NormalEquations(design=part, terms=terms[used], weight=weight)
    state.q = state.q + _solve(state, equations, residual, data, star_weight)
    state.params = terms @ state.q.T


def _solve(
    state: FitState,
    equations: NormalEquations,
    residual: npt.NDArray[np.float64],
    data: npt.NDArray[np.float64],
    star_weight: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Solve for the coefficients, whether they are determined or not."""
    if not state.undetermined:
        # Well-determined systems can't lose rank by a few rejected stars.
        redundant = int(np.count_nonzero(equations.weight)) >= _SAFE_REDUNDANCY * state.q.size
        probe = state.preconditioner is None or not redundant
        try:
            if state.preconditioner is None:
                state.preconditioner = Preconditioner.from_design(equations.design, star_weight)
            return solve_normal_equations(
                equations,
                residual,
                data,
                star_weight,
                state.preconditioner,
                probe=probe,
                reduce=state.in_place,
            )
        except NotCoveredError as error:
            if not state.in_place:
                raise
            _LOG.info("Looking for the least change of the PSF model: %s.", error)
            state.undetermined = True
    return solve_minimum_norm(equations, residual, star_weight)


def _keep_model_chisq(
    state: FitState,
    used: npt.NDArray[np.intp],
    residual: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64],
) -> None:
    """Keep the chi-squares before the fit, for stars that reflux loses."""
    residual = residual.reshape(len(used), -1)
    weight = weight.reshape(len(used), -1)
    positive = weight > 0.0
    chisq = np.divide(residual**2, weight, out=np.zeros_like(weight), where=positive).sum(axis=1)
    state.chisq[used] = chisq
    state.dof[used] = np.count_nonzero(positive, axis=1)


def _improve_stars(
    state: FitState,
    design: Design,
    recenter: npt.NDArray[np.bool_],
    stars: Sequence[piff.Star],
    logger: logging.Logger,
) -> int:
    """Update fluxes, centres and chi-squares; return how many stars failed."""
    profile = _normalised(state.params, design.size)
    shifts = center_shifts(design, state.center)
    result = Reflux.join(
        reflux(
            design.take(block),
            profile[block],
            state.flux[block],
            state.center[block],
            recenter[block],
            tuple(array[block] for array in shifts),
        )
        for block in design.blocks()
    )
    finite = np.isfinite(np.column_stack([result.flux, result.center, result.chisq])).all(axis=1)
    if state.in_place:
        # Whether Piff would call these stars singular is up to rounding.
        result.singular |= result.unstable | ~finite
    elif (result.unstable & ~state.flagged).any():
        raise NotCoveredError("the center of a star depends on rounding errors")
    good = ~result.singular
    if not finite[good].all():
        raise NotCoveredError("a flux, center or chi-square isn't finite")
    state.flux = np.where(good, result.flux, state.flux)
    state.center = np.where(good[:, np.newaxis], result.center, state.center)
    state.chisq = np.where(good, result.chisq, state.chisq)
    state.dof = np.where(good, result.dof, state.dof)
    failed = np.flatnonzero(result.singular & ~state.flagged)
    for i in failed:
        logger.warning("Failed trying to reflux star at %s.  Excluding it.", stars[int(i)].image_pos)
    state.flagged = state.flagged | result.singular
    return len(failed)


def _total(state: FitState, removed: int) -> None:
    """Sum up an iteration."""
    used = state.used
    previous = state.total_chisq
    state.total_chisq = float(state.chisq[used].sum())
    state.last_delta_chisq = previous - state.total_chisq
    state.total_dof = int(state.dof[used].sum())
    state.removed += removed
    state.iterations += 1
