# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The search for the heights of detectors, from random starts."""

from __future__ import annotations

__all__ = ("find_heights",)

import dataclasses
import logging

import numpy as np
import numpy.typing as npt

from ...focal_plane import FieldBasis, FieldModel, Scores, StarPlaces
from ._height_model import N_LEADING, HeightModel, StarsOfDetector
from ._height_steps import learn

type _Array = npt.NDArray[np.float64]

_LOG = logging.getLogger(__name__)

_SEED = 7
"""Of the starts, so that a fit can be repeated."""

_FIRST_DEGREE, _FIRST_STARS = 3, 40
"""Degree of heights, and stars per detector, of the search."""

_MOST_STARS = 300
"""Stars per detector after the search; the time grows with their square."""

_FIRST_ITERATIONS, _ITERATIONS = 6, 6
"""Iterations of the search, and after it."""

_FIRST_FLIPS, _FLIPS = (2,), (1, 4)
"""Of these iterations those in which heights beyond focus are tried."""

_KEPT = 2
"""Solutions that are iterated with all stars."""

_MANY_DETECTORS, _FEWEST_STARTS = 60, 4
"""Above so many detectors fewer starts are made, down to so many: with more
detectors one solution is ever more likely to be the others' best."""

_LEAST_DETECTORS = 3
"""Detectors with stars that tell what a height changes."""

_BEND_DEGREE = 1
"""Degree over the focal plane of what the squares of heights do."""


def find_heights(
    scores: Scores,
    stars: StarPlaces,
    use: npt.NDArray[np.bool_],
    base: FieldModel,
    order: int,
    starts: int,
) -> list[HeightModel]:
    """Find heights of the detectors' surfaces, and how they change the PSF.

    Parameters
    ----------
    scores, stars
        Normal equations of the stars, and where they are.
    use
        Stars to use [N].
    base
        Fit of the fields without heights.
    order
        Degree of the heights' polynomials over a detector.
    starts
        Number of random starts.

    Returns
    -------
    found
        Solutions, that of most evidence first; none for fewer than three
        detectors with stars.
    """
    if len(np.unique(stars.detector[use])) < _LEAST_DETECTORS:
        return []
    rng = np.random.default_rng(_SEED)
    basis = base.basis
    # What heights don't explain has at least the degree of the fields.
    highest = max(order, basis.detector_order)
    first = FieldBasis(basis.frames, basis.focal_order, min(_FIRST_DEGREE, highest))
    full = FieldBasis(basis.frames, basis.focal_order, highest)
    number = len(basis.frames)
    if number > _MANY_DETECTORS:
        starts = min(starts, max(_FEWEST_STARTS, starts * _MANY_DETECTORS // number))
    some, coarse = _stars(scores, stars, use, base, first, _FIRST_STARS), []
    for _ in range(starts):
        model = HeightModel(_copies(some), base, first, 0, min(_FIRST_DEGREE, order))
        _start(model, rng)
        coarse.append(learn(model, _FIRST_ITERATIONS, flips=_FIRST_FLIPS))
    most, found = _stars(scores, stars, use, base, full, _MOST_STARS), []
    for best in _by_evidence(coarse)[:_KEPT]:
        model = HeightModel(_copies(most), base, full, _BEND_DEGREE, order)
        _continue(best, model)
        found.append(learn(model, _ITERATIONS, flips=_FLIPS))
    found = _by_evidence(found)
    if found:
        _LOG.info("Heights of %d detectors: log evidence %s.", number, [round(f.evidence, 1) for f in found])
    return found


def _copies(stars: list[StarsOfDetector]) -> list[StarsOfDetector]:
    """Copy what is changed by a solution."""
    return [dataclasses.replace(s, values=s.values.copy()) for s in stars]


def _by_evidence(models: list[HeightModel]) -> list[HeightModel]:
    finite = [m for m in models if np.isfinite(m.evidence)]
    return sorted(finite, key=lambda m: -m.evidence)


def _stars(
    scores: Scores,
    stars: StarPlaces,
    use: npt.NDArray[np.bool_],
    base: FieldModel,
    basis: FieldBasis,
    most: int,
) -> list[StarsOfDetector]:
    """Take the stars of each detector that tell most, at most so many."""
    result = []
    # One detector at a time.
    for d, frame in enumerate(stars.frames):
        mine = np.flatnonzero(use & (stars.detector == d))
        mine = np.sort(mine[np.argsort(-scores.matrix[mine, 0, 0], kind="stable")[:most]])
        x, y = stars.x[mine], stars.y[mine]
        result.append(
            StarsOfDetector(
                basis.focal_terms(frame.focal(x, y)),
                basis.detector_terms(frame.scaled(x, y)),
                scores.matrix[mine],
                scores.vector[mine],
                base.values(d, x, y),
                base.prior.star[:N_LEADING],
            )
        )
    return result


def _start(model: HeightModel, rng: np.random.Generator) -> None:
    """Draw slopes s as strong as the detectors' deviations.

    Most of a slope is constant or linear over the focal plane, and a fifth
    of the power in size is that of the square of heights.
    """
    base = model.base
    degrees = model.focal_degrees[model.in_slope]
    power = base.prior.detector[:N_LEADING][:, base.basis.detector_degrees()].sum(axis=1)
    usual = np.where(degrees == 0, 0.7, 0.5 ** np.maximum(degrees - 1, 0) / np.sqrt(degrees + 1))
    slope = rng.normal(size=(N_LEADING, len(degrees))) * usual
    slope *= np.sqrt(power / (slope**2).sum(axis=1))[:, np.newaxis]
    slope[0] *= np.sqrt(0.6)
    model.effects[:, model.slope] = slope
    model.effects[0, model.bend.start] = np.sqrt(0.2 * power[0])
    model.effects[:, : model.slope.start] = base.focal[:N_LEADING]
    # The mean of the squares is 1.
    model.effects[:, 0] -= model.effects[:, model.bend.start]
    least = 0.01 * (slope**2).sum(axis=1)
    for group in np.unique(model.group):
        mine = model.group == group
        variance = np.maximum((model.effects[:, mine] ** 2).mean(axis=1), least)
        model.effect_variance[:, mine] = variance[:, np.newaxis]


def _continue(coarse: HeightModel, fine: HeightModel) -> None:
    """Start from a solution of lower degrees."""
    number, orders, terms = coarse.effects.shape[1], len(coarse.law), coarse.height.shape[1]
    own_orders = coarse.own_variance.shape[1]
    fine.effects[:, :number] = coarse.effects
    fine.effect_variance[:, :number] = coarse.effect_variance
    fine.effect_variance[:, number:] = 0.1 * coarse.effect_variance[:, -1:]
    fine.law[:] = 1e-4
    fine.law[:orders] = coarse.law
    fine.own_variance[:, :own_orders] = coarse.own_variance
    fine.height[:, :terms] = coarse.height
