# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What the pixels of each star say about the coefficients of the model."""

from __future__ import annotations

__all__ = (
    "Shifter",
    "StarStates",
    "chisq_of_directions",
    "mean_image",
    "measure_scores",
    "refit_stars",
)

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...focal_plane import Scores
from ..structured import GridWeights
from ._basis import Basis
from ._frames import from_focal, to_focal
from ._stars import VisitStars

_BLOCK = 128
"""Stars of one detector treated at once."""

_STEP = 1e-3
"""Step of differences by the centre in pixels."""

_LONGEST_STEP = 0.5
"""Largest change of a centre at a time in pixels."""


@dataclass
class StarStates:
    """Fitted fluxes and centres."""

    flux: npt.NDArray[np.float64]
    """Fluxes [N]."""

    center: npt.NDArray[np.float64]
    """Centres relative to the middles of the stamps, pixels [N, 2]."""

    chisq: npt.NDArray[np.float64]
    """Chi-square per degree of freedom [N]."""


class Shifter:
    """Interpolation of model grids to the pixels of stars.

    Parameters
    ----------
    weights
        The interpolant.
    size
        Side of grids and stamps.
    """

    def __init__(self, weights: GridWeights, size: int) -> None:
        self._weights = weights
        self.size = size

    def factors(self, center: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return matrices [N, n, n] that shift one axis by ``center`` [N]."""
        position = np.arange(self.size) - self.size // 2 - center[:, np.newaxis]
        return self._weights(position, self.size)


def blocks(stars: VisitStars) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]]:
    """Yield indices of a few stars of one detector, with its orientation."""
    # One detector after the other, because of their orientations.
    for i, frame in enumerate(stars.frames):
        mine = np.flatnonzero(stars.detector == i)
        for start in range(0, len(mine), _BLOCK):
            yield mine[start : start + _BLOCK], np.array(frame.orientation)


def _profiles(
    basis: Basis, coefficients: npt.NDArray[np.float64] | None, index: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Return the model grids of stars in axes of the focal plane."""
    if coefficients is None:
        return np.broadcast_to(basis.mean, (len(index), *basis.mean.shape))
    return basis.mean + np.tensordot(coefficients[index], basis.vectors, axes=1)


@dataclass
class _Block:
    """A few stars with their model."""

    rows: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float64]
    gradient: npt.NDArray[np.float64]
    """Unit model and its derivatives by the centre [N, 3, n * n]."""

    image: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]


def _load(
    stars: VisitStars,
    index: npt.NDArray[np.intp],
    profile: npt.NDArray[np.float64],
    states: StarStates,
    shifter: Shifter,
    max_snr: float,
) -> _Block:
    """Draw the model of some stars and weight their pixels.

    The photon noise of the model, not of the data, enters the weights: that
    of the data would bias the fit towards low pixels.
    """
    center = states.center[index]
    rows, columns = shifter.factors(center[:, 1]), shifter.factors(center[:, 0])
    half = rows @ profile
    unit = half @ columns.swapaxes(1, 2)
    in_x = (half @ shifter.factors(center[:, 0] + _STEP).swapaxes(1, 2) - unit) / _STEP
    in_y = (shifter.factors(center[:, 1] + _STEP) @ profile @ columns.swapaxes(1, 2) - unit) / _STEP
    signal = np.maximum(unit * states.flux[index, np.newaxis, np.newaxis], 0.0)
    variance = stars.sky_variance[index, np.newaxis, np.newaxis] + stars.slope * signal
    good = stars.good[index]
    weight = good / variance
    # The cap is on the ratio against the sky alone, as the determiner's.
    ratio = (good * signal**2).sum(axis=(1, 2)) / stars.sky_variance[index]
    weight *= np.minimum(1.0, max_snr**2 / np.maximum(ratio, 1.0))[:, np.newaxis, np.newaxis]
    image = np.where(good, stars.image[index], 0.0).astype(np.float64)
    flat = (len(index), -1)
    gradient = np.stack([unit, in_x, in_y], axis=1).reshape(len(index), 3, -1)
    return _Block(rows, columns, gradient, image.reshape(flat), weight.reshape(flat))


def refit_stars(
    stars: VisitStars,
    basis: Basis,
    coefficients: npt.NDArray[np.float64] | None,
    states: StarStates,
    shifter: Shifter,
    max_snr: float,
) -> StarStates:
    """Refit the fluxes and centres of all stars for a given model.

    Parameters
    ----------
    stars
        The stars.
    basis, coefficients
        The model at the stars [N, K]; without coefficients the mean.
    states
        Current values.
    shifter
        Interpolation.
    max_snr
        Largest signal-to-noise ratio; brighter stars get less weight.

    Returns
    -------
    states
        New values.  Stars without a solution have infinite ``chisq``.
    """
    flux, center = states.flux.copy(), states.center.copy()
    chisq = np.full(len(stars), np.inf)
    # One block of stars at a time.
    for index, orientation in blocks(stars):
        profile = from_focal(_profiles(basis, coefficients, index), orientation)
        block = _load(stars, index, profile, states, shifter, max_snr)
        weighted = block.gradient * block.weight[:, np.newaxis]
        matrix = weighted @ block.gradient.swapaxes(1, 2)
        vector = (weighted @ block.image[:, :, np.newaxis])[:, :, 0]
        solvable = np.linalg.cond(matrix) < 1e12
        matrix[~solvable] = np.eye(3)
        solution = np.linalg.solve(matrix, vector[:, :, np.newaxis])[:, :, 0]
        ok = solvable & (solution[:, 0] > 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.clip(solution[:, 1:] / solution[:, :1], -_LONGEST_STEP, _LONGEST_STEP)
        residual = block.image - np.einsum("na,nap->np", solution, block.gradient)
        freedom = np.maximum(np.count_nonzero(block.weight, axis=1) - 3, 1)
        value = (residual**2 * block.weight).sum(axis=1) / freedom
        flux[index] = np.where(ok, solution[:, 0], flux[index])
        center[index] = np.where(ok[:, np.newaxis], center[index] + step, center[index])
        chisq[index] = np.where(ok, value, np.inf)
    # A centre outside of the middle third is that of something else.
    lost = (np.abs(center) > stars.size / 6.0).any(axis=1)
    center[lost] = states.center[lost]
    chisq[lost] = np.inf
    return StarStates(flux, center, chisq)


def mean_image(
    stars: VisitStars,
    basis: Basis,
    states: StarStates,
    use: npt.NDArray[np.bool_],
    shifter: Shifter,
    max_snr: float,
) -> npt.NDArray[np.float64]:
    """Average the stars, recentred and turned to axes of the focal plane.

    Pixels not to be used are taken from the current mean.

    Parameters
    ----------
    stars
        The stars.
    basis
        Current mean.
    states
        Fluxes and centres.
    use
        Stars to use [N].
    shifter
        Interpolation.
    max_snr
        Largest signal-to-noise ratio of a star.

    Returns
    -------
    mean
        Image [n, n].
    """
    total, total_weight = np.zeros((stars.size, stars.size)), 0.0
    # One block of stars at a time.
    for index, orientation in blocks(stars):
        index = index[use[index]]
        if not len(index):
            continue
        profile = from_focal(_profiles(basis, None, index), orientation)
        block = _load(stars, index, profile, states, shifter, max_snr)
        flux = states.flux[index]
        residual = block.image / flux[:, np.newaxis] - block.gradient[:, 0]
        residual = (residual * stars.good[index].reshape(len(index), -1)).reshape(-1, *total.shape)
        weight = block.weight.max(axis=1) * flux**2
        grids = block.rows.swapaxes(1, 2) @ residual @ block.columns
        total += to_focal(np.tensordot(weight, grids, axes=1), orientation)
        total_weight += weight.sum()
    return basis.mean + total / total_weight


def measure_scores(
    stars: VisitStars,
    basis: Basis,
    coefficients: npt.NDArray[np.float64] | None,
    states: StarStates,
    shifter: Shifter,
    max_snr: float,
) -> Scores:
    """Compress the pixels of each star to its normal equations.

    Parameters
    ----------
    stars
        The stars.
    basis, coefficients
        The model about which images are linear [N, K]; without coefficients
        the mean.
    states
        Fluxes and centres for this model.
    shifter
        Interpolation.
    max_snr
        Largest signal-to-noise ratio of a star.

    Returns
    -------
    scores
        Equations of the total coefficients, not of their change.
    """
    n_vectors = len(basis.vectors)
    matrix = np.zeros((len(stars), n_vectors, n_vectors))
    vector = np.zeros((len(stars), n_vectors))
    # One block of stars at a time.
    for index, orientation in blocks(stars):
        profile = from_focal(_profiles(basis, coefficients, index), orientation)
        block = _load(stars, index, profile, states, shifter, max_snr)
        vectors = np.ascontiguousarray(from_focal(basis.vectors, orientation))
        drawn = block.rows[:, np.newaxis] @ vectors @ block.columns.swapaxes(1, 2)[:, np.newaxis]
        jacobian = np.concatenate([block.gradient, drawn.reshape(len(index), n_vectors, -1)], axis=1)
        flux = np.maximum(states.flux[index], np.finfo(np.float64).tiny)
        weighted = jacobian * (block.weight * flux[:, np.newaxis] ** 2)[:, np.newaxis]
        residual = block.image / flux[:, np.newaxis] - block.gradient[:, 0]
        full = weighted @ jacobian.swapaxes(1, 2)
        side = (weighted @ residual[:, :, np.newaxis])[:, :, 0]
        with np.errstate(invalid="ignore"):
            singular = ~(np.linalg.cond(full[:, :3, :3]) < 1e12)
        full[singular], side[singular] = np.eye(n_vectors + 3), 0.0
        cross = np.linalg.solve(full[:, :3, :3], full[:, :3, 3:])
        matrix[index] = full[:, 3:, 3:] - full[:, 3:, :3] @ cross
        vector[index] = side[:, 3:] - np.einsum("nab,na->nb", cross, side[:, :3])
        matrix[index[singular]] = 0.0
    if coefficients is not None:
        vector += np.einsum("nab,nb->na", matrix, coefficients)
    return Scores(matrix, vector)


def chisq_of_directions(stars: VisitStars, scores: Scores, states: StarStates) -> npt.NDArray[np.float64]:
    """Return chi-squares of the stars' own fits of all directions of change.

    A PSF far from the mean, as of a detector out of focus, is described by
    the directions, but a blend or a trail isn't.

    Parameters
    ----------
    stars
        The stars.
    scores
        Their equations about the mean.
    states
        Fluxes, centres and chi-squares for the mean.

    Returns
    -------
    chisq
        Chi-squares per degree of freedom [N]; infinite like those of
        ``states``.
    """
    n_directions = scores.vector.shape[1]
    # Coefficients are a few tenths at most; 1 solves for what isn't measured.
    matrix = scores.matrix + np.eye(n_directions)
    solution = np.linalg.solve(matrix, scores.vector[:, :, np.newaxis])[:, :, 0]
    freedom = np.maximum(np.count_nonzero(stars.good, axis=(1, 2)) - 3, 1)
    left = states.chisq * freedom - (solution * scores.vector).sum(axis=1)
    return left / np.maximum(freedom - n_directions, 1)
