# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Learning of heights, of what they change, and of their variances (EM)."""

from __future__ import annotations

__all__ = ("learn",)

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from ._height_model import N_LEADING, HeightModel, StarsOfDetector, derivatives

type _Array = npt.NDArray[np.float64]

_NEWTON_STEPS, _SHORTER = 6, 4
"""Gauss-Newton steps to a height, and how often one is made shorter."""

_ENOUGH = 1e-2
"""Steps end that gain less than this in the logarithm of the evidence."""

_FARTHEST = 5.0
"""Largest height beyond focus to start from, in standard deviations."""


def learn(model: HeightModel, iterations: int, flips: Collection[int] = ()) -> HeightModel:
    """Improve a model, and find its evidence.

    Parameters
    ----------
    model
        The model, which is changed.
    iterations
        Number of iterations.
    flips
        Iterations in which heights beyond focus are tried.

    Returns
    -------
    model
        The same.
    """
    # Each iteration needs the one before it.
    for i in range(iterations + 1):
        last = i == iterations
        model.refresh()
        evidence = _find_heights(model, i in flips)
        _solve_effects(model)
        if not last:
            _update_effect_variances(model)
            _update_own_variances(model)
            _update_law(model)
        model.update_values()
    prior = (model.effects**2 / model.effect_variance).sum() + np.log(model.effect_variance).sum()
    volume = np.linalg.slogdet(model.effect_covariance)[1].sum()
    model.evidence = float(evidence + 0.5 * (volume - prior))
    return model


def _find_heights(model: HeightModel, flips: bool) -> float:
    """Find each detector's height given the rest, and return the evidence."""
    evidence = 0.0
    for d in range(len(model.stars)):
        starts = [model.height[d]]
        if flips:
            starts += [_beyond_focus(model, d), np.zeros_like(model.height[d])]
        found = max((_fit_height(model, d, s) for s in starts), key=lambda f: f[2])
        model.height[d], model.height_covariance[d] = found[:2]
        evidence += found[2]
    return evidence


def _fit_height(model: HeightModel, d: int, start: _Array) -> tuple[_Array, _Array, float]:
    """Return coefficients of a height, their covariance and the evidence."""
    stars, precision = model.stars[d], model.precision[d]
    terms, inverse = model.height_terms(stars.terms), 1.0 / model.law[model.height_degrees]
    split = smooth, slope, bend = model.split(stars.focal_terms)

    def residuals(coefficients: _Array) -> tuple[_Array, _Array, float]:
        height = terms @ coefficients
        column = height[:, np.newaxis]
        residual = (stars.raw - smooth - slope * column - bend * column**2).T[:, :, np.newaxis]
        chisq = ((precision @ residual) * residual).sum() + (inverse * coefficients**2).sum()
        return height, residual, 0.5 * float(chisq)

    def normal(height: _Array) -> tuple[_Array, _Array]:
        jacobian = derivatives(split, height, terms)
        weighted = precision @ jacobian
        return weighted, (jacobian.swapaxes(1, 2) @ weighted).sum(axis=0) + np.diag(inverse)

    best = start
    height, residual, cost = residuals(best)
    for _ in range(_NEWTON_STEPS):
        weighted, matrix = normal(height)
        gradient = (weighted.swapaxes(1, 2) @ residual).sum(axis=0)[:, 0] - inverse * best
        step, before = np.linalg.solve(matrix, gradient), cost
        # Shorter steps where the full one fails.
        for length in 0.4 ** np.arange(_SHORTER):
            trial = residuals(best + length * step)
            if trial[2] < cost:
                best, (height, residual, cost) = best + length * step, trial
                break
        if before - cost < _ENOUGH:
            break
    covariance = np.linalg.inv(normal(height)[1])
    volume = np.linalg.slogdet(covariance)[1] + np.log(inverse).sum() - precision.log_determinant
    return best, covariance, float(0.5 * volume - cost)


def _beyond_focus(model: HeightModel, d: int) -> _Array:
    """Return the height of the same size on the other side of focus."""
    terms = model.height_terms(model.stars[d].terms)
    _, slope, bend = model.split(model.stars[d].focal_terms)
    safe = np.where(np.abs(bend[:, 0]) > 1e-12, bend[:, 0], 1e-12)
    other = np.clip(-slope[:, 0] / safe - terms @ model.height[d], -_FARTHEST, _FARTHEST)
    # The heights of stars as if measured to a fifth of their scatter.
    precise = 20.0
    matrix = precise * terms.T @ terms + np.diag(1.0 / model.law[model.height_degrees])
    return np.linalg.solve(matrix, precise * terms.T @ other)


def _solve_effects(model: HeightModel) -> None:
    """Solve for g, s and t given the first moments of heights."""
    number = len(model.group)
    matrix, side = np.zeros((N_LEADING, number, number)), np.zeros((N_LEADING, number))
    uncertain = slice(model.slope.start, model.bend.stop)
    for d, (stars, precision) in enumerate(zip(model.stars, model.precision, strict=True)):
        height, design = model.design(d, stars.focal_terms, stars.terms)
        weighted = precision @ design[np.newaxis]
        matrix += design.T @ weighted
        side += (weighted.swapaxes(1, 2) @ stars.raw.T[:, :, np.newaxis])[:, :, 0]
        # Covariances of h and h^2 between stars are those of a Gaussian.
        terms = model.height_terms(stars.terms)
        spread = terms @ model.height_covariance[d] @ terms.T
        bends = stars.focal_terms[:, model.in_bend]
        linear = np.concatenate(
            [stars.focal_terms[:, model.in_slope], 2.0 * height[:, np.newaxis] * bends], axis=1
        )
        product = precision.dense() * spread
        matrix[:, uncertain, uncertain] += linear.T @ (product @ linear)
        matrix[:, model.bend, model.bend] += 2.0 * bends.T @ ((product * spread) @ bends)
    i = np.arange(number)
    matrix[:, i, i] += 1.0 / model.effect_variance
    model.effect_covariance = np.linalg.inv(matrix)
    model.effects = (model.effect_covariance @ side[:, :, np.newaxis])[:, :, 0]


def _update_effect_variances(model: HeightModel) -> None:
    """Take the step of MacKay for the variances of g, s and t."""
    noise = model.noise()
    known = 1.0 - np.einsum("kii->ki", model.effect_covariance) / model.effect_variance
    for group in np.unique(model.group):
        mine = model.group == group
        new = (model.effects[:, mine] ** 2).sum(axis=1) / np.maximum(known[:, mine].sum(axis=1), 0.05)
        model.effect_variance[:, mine] = np.clip(new, 1e-4 * noise, 1e4 * noise)[:, np.newaxis]


def _update_own_variances(model: HeightModel) -> None:
    """Update the variances of what heights don't explain.

    Each is multiplied by ``E[p^T Q r r^T Q p] / (p^T Q p)``, summed over the
    polynomials p of a degree, with residuals r and their precision Q.
    """
    member = (model.degrees[:, np.newaxis] == np.arange(model.own_variance.shape[1])).astype(np.float64)
    found = np.zeros_like(model.own_variance)
    expected = np.zeros_like(found)
    for d, (stars, precision) in enumerate(zip(model.stars, model.precision, strict=True)):
        weighted = precision @ stars.terms[np.newaxis]
        found += _power(model, d, stars, weighted) @ member
        expected += (weighted * stars.terms).sum(axis=1) @ member
    new = model.own_variance * np.clip(found / np.maximum(expected, 1e-300), 0.2, 5.0)
    noise = model.noise()[:, np.newaxis]
    model.own_variance = np.clip(new, 1e-5 * noise, 1e4 * noise)


def _power(model: HeightModel, d: int, stars: StarsOfDetector, weighted: _Array) -> _Array:
    """Return ``E[(p^T Q r)^2]`` [3, L] from ``Q p`` [3, n, L]."""
    height, design = model.design(d, stars.focal_terms, stars.terms)
    split = model.split(stars.focal_terms)
    transposed = weighted.swapaxes(1, 2)
    residual = (stars.raw - design @ model.effects.T).T[:, :, np.newaxis]
    power = (transposed @ residual)[:, :, 0] ** 2
    # Variances of the residuals by heights, their squares, and g, s and t.
    covariance = model.height_covariance[d]
    terms = model.height_terms(stars.terms)
    by_height = transposed @ derivatives(split, height, terms)
    power += ((by_height @ covariance) * by_height).sum(axis=2)
    spread = terms @ covariance @ terms.T
    bent = weighted * split[2].T[:, :, np.newaxis]
    power += 2.0 * ((spread**2 @ bent) * bent).sum(axis=1)
    by_effects = transposed @ design
    return power + ((by_effects @ model.effect_covariance) * by_effects).sum(axis=2)


def _update_law(model: HeightModel) -> None:
    """Learn the variances of heights, between the steps of EM and MacKay."""
    have = [d for d, stars in enumerate(model.stars) if len(stars.terms)]
    squares = model.height[have] ** 2
    spread = np.einsum("dll->dl", model.height_covariance[have])
    for degree in range(len(model.law)):
        mine = model.height_degrees == degree
        known = (1.0 - spread[:, mine] / model.law[degree]).sum()
        mackay = squares[:, mine].sum() / max(known, 0.05 * len(have))
        new = np.sqrt(mackay * (squares + spread)[:, mine].mean())
        model.law[degree] = np.clip(new, 1e-5, 10.0)
    # The unit of heights is free.
    total = model.law[model.height_degrees].sum()
    model.law /= total
    model.height /= np.sqrt(total)
    model.height_covariance /= total
    for part, factor in ((model.slope, np.sqrt(total)), (model.bend, total)):
        model.effects[:, part] *= factor
        model.effect_variance[:, part] *= factor**2
