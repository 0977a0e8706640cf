# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Steps to the heights of detectors, against dense linear algebra, random
numbers and sums by hand.
"""

from __future__ import annotations

import numpy as np
import pytest

from lsst.meas.finalize.focal_plane import DetectorFrame, FieldBasis, Scores, StarPlaces, fit_fields
from lsst.meas.finalize.psf.hierarchical import _height_search as search
from lsst.meas.finalize.psf.hierarchical._height_model import HeightModel, Precision, StarsOfDetector
from lsst.meas.finalize.psf.hierarchical._height_steps import (
    _beyond_focus,
    _find_heights,
    _power,
    _solve_effects,
    _update_effect_variances,
    _update_law,
    learn,
)


def _frame(x: float, y: float) -> DetectorFrame:
    return DetectorFrame((0.0, 3999.0, 0.0, 3999.0), (x, y), ((0.01, 0.0), (0.0, 0.01)), ((1, 0), (0, 1)))


def _scores(values: np.ndarray, noise: float) -> Scores:
    matrix = np.broadcast_to(np.eye(values.shape[1]) / noise**2, (len(values), *values.shape[1:] * 2))
    return Scores(matrix.copy(), values / noise**2)


@pytest.fixture
def small() -> HeightModel:
    """Make a model of two detectors, one of which has 8 stars."""
    rng = np.random.default_rng(3)
    frames = (_frame(0.0, 0.0), _frame(50.0, 0.0))
    x, y = rng.uniform(0.0, 3999.0, (2, 8))
    places = StarPlaces(list(frames), np.zeros(8, dtype=np.int64), x, y)
    basis = FieldBasis(frames, 1, 2)
    scores = _scores(rng.normal(size=(8, 3)), 0.5)
    base = fit_fields(scores, places, np.ones(8, dtype=bool), basis, 2)
    base.prior.star[:] = [0.1, 0.2, 0.3]
    stars = search._stars(scores, places, np.ones(8, dtype=bool), base, basis, 8)
    model = HeightModel(stars, base, basis, 1)
    model.own_variance = rng.uniform(0.1, 0.5, (3, 3))
    model.law = np.array([0.5, 0.2, 0.1])
    model.effects = rng.normal(size=model.effects.shape)
    model.refresh()
    return model


def _dense(model: HeightModel) -> np.ndarray:
    """Return the covariances of stars but for heights [3, n, n]."""
    stars = model.stars[0]
    own = np.einsum("ni,ki,mi->knm", stars.terms, model.own_variance[:, model.degrees], stars.terms)
    return own + np.stack([np.diag(1.0 / w) for w in stars.weight.T])


def test_precisions_are_inverse_covariances(small: HeightModel) -> None:
    """Products, determinants and matrices are those of dense ones."""
    precision, covariance = small.precision[0], _dense(small)
    columns = np.random.default_rng(0).normal(size=(3, 8, 2))
    np.testing.assert_allclose(precision @ columns, np.linalg.solve(covariance, columns), rtol=1e-9)
    np.testing.assert_allclose(precision.dense(), np.linalg.inv(covariance), rtol=1e-9, atol=1e-12)
    assert precision.log_determinant == pytest.approx(np.linalg.slogdet(covariance)[1].sum())
    empty = small.stars[1]
    assert len(empty.terms) == 0
    nothing = Precision(empty, small.own_variance[:, small.degrees])
    assert nothing.log_determinant == pytest.approx(0.0, abs=1e-12)


def test_linear_heights_are_conditional_gaussians(small: HeightModel) -> None:
    """Without squares and with known slopes all is one Gaussian."""
    small.effects[:, small.bend] = 0.0
    # The start doesn't matter then.
    small.height[0] = 1.0
    evidence = _find_heights(small, False)
    stars, law = small.stars[0], np.diag(small.law[small.degrees])
    x, y = np.array([100.0, 3000.0, 3999.0]), np.array([200.0, 1500.0, 3999.0])
    terms = small.basis.detector_terms(small.basis.frames[0].scaled(x, y))
    smooth, slope, _ = small.split(stars.focal_terms)
    at_smooth, at_slope, _ = small.split(small.basis.focal_terms(small.basis.frames[0].focal(x, y)))
    own = np.array([np.diag(v) for v in small.own_variance[:, small.degrees]])
    # Of all coefficients [3 n], and of those at the places with them.
    by_height, at_height = (
        (s.T[:, :, None] * t).reshape(-1, 6) for s, t in ((slope, stars.terms), (at_slope, terms))
    )
    measured = by_height @ law @ by_height.T
    between, places = at_height @ law @ by_height.T, at_height @ law @ at_height.T
    for k, covariance in enumerate(_dense(small)):
        n, m = slice(8 * k, 8 * k + 8), slice(3 * k, 3 * k + 3)
        measured[n, n] += covariance
        between[m, n] += terms @ own[k] @ stars.terms.T
        places[m, m] += terms @ own[k] @ terms.T
    residual = (stars.raw - smooth).T.ravel()
    values, covariances = small.posterior(0, x, y)
    expected = at_smooth.T.ravel() + between @ np.linalg.solve(measured, residual)
    np.testing.assert_allclose(values.ravel(), expected, rtol=1e-8)
    left = places - between @ np.linalg.solve(measured, between.T)
    for k in range(3):
        m = slice(3 * k, 3 * k + 3)
        np.testing.assert_allclose(covariances[k], left[m, m], rtol=1e-8)
    likelihood = -0.5 * (np.linalg.slogdet(measured)[1] + residual @ np.linalg.solve(measured, residual))
    assert evidence == pytest.approx(likelihood)
    # Without stars the prior is left, with the squares of heights or not.
    _, prior = small.posterior(1, x, y)
    at_slope = small.split(small.basis.focal_terms(small.basis.frames[1].focal(x, y)))[1]
    expected = np.einsum("nk,ni,ij,mj,mk->knm", at_slope, terms, law, terms, at_slope) + terms @ own @ terms.T
    np.testing.assert_allclose(prior, expected, rtol=1e-8)


def _drawn(model: HeightModel, number: int) -> tuple[StarsOfDetector, np.ndarray]:
    """Draw heights [number, n] of the stars from an uncertain one."""
    rng = np.random.default_rng(1)
    root = 0.3 * rng.normal(size=(6, 6))
    model.height[0], model.height_covariance[0] = rng.normal(size=6), root @ root.T
    stars = model.stars[0]
    return stars, (model.height[0] + rng.normal(size=(number, 6)) @ root.T) @ stars.terms.T


def test_effects_are_those_of_uncertain_heights(small: HeightModel) -> None:
    """Their normal equations are averages over the heights."""
    stars, heights = _drawn(small, 20000)
    small.effect_variance[:] = 4.0
    _solve_effects(small)
    Z, S, T = (stars.focal_terms[:, m] for m in (np.ones(3, dtype=bool), small.in_slope, small.in_bend))
    for k, precision in enumerate(small.precision[0].dense()):
        design = np.concatenate(
            [np.broadcast_to(Z, (20000, *Z.shape)), S * heights[:, :, None], T * heights[:, :, None] ** 2],
            axis=2,
        )
        weighted = design.swapaxes(1, 2) @ precision
        matrix = (weighted @ design).mean(axis=0) + np.eye(design.shape[2]) / 4.0
        side = (weighted @ stars.raw[:, k]).mean(axis=0)
        scale = np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
        found = np.linalg.inv(small.effect_covariance[k])
        np.testing.assert_allclose(found / scale, matrix / scale, atol=0.03)
        np.testing.assert_allclose(found @ small.effects[k], side, atol=0.03 * np.abs(side).max())


def test_power_is_that_of_uncertain_residuals(small: HeightModel) -> None:
    """Variances are learnt from a mean over heights and effects."""
    stars, heights = _drawn(small, 40000)
    weighted = small.precision[0] @ stars.terms[np.newaxis]
    g, s, t = (e.T[:, np.newaxis] for e in small.split(stars.focal_terms))
    residual = stars.raw.T[:, np.newaxis] - g - s * heights - t * heights**2
    expected = ((residual @ weighted) ** 2).mean(axis=1)
    np.testing.assert_allclose(_power(small, 0, stars, weighted), expected, rtol=0.05)
    # Uncertain effects add their variance for the mean heights.
    certain = _power(small, 0, stars, weighted)
    small.effect_covariance[:] = 0.01 * np.eye(len(small.group))
    _, design = small.design(0, stars.focal_terms, stars.terms)
    added = 0.01 * ((weighted.swapaxes(1, 2) @ design) ** 2).sum(axis=2)
    np.testing.assert_allclose(_power(small, 0, stars, weighted) - certain, added, rtol=1e-9)


def test_coefficients_are_solved_given_the_others() -> None:
    """Each has its own equation, and the scatter of stars in its error."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 4, 4))
    matrix, vector = root @ root.swapaxes(1, 2) + np.eye(4), rng.normal(size=(5, 4))
    values, scatter = rng.normal(size=(5, 4)), np.array([0.1, 0.2, 0.3])
    stars = StarsOfDetector(np.ones((5, 1)), np.ones((5, 1)), matrix, vector, values, scatter)
    for k in range(3):
        solved = values.copy()
        solved[:, k] = stars.raw[:, k]
        np.testing.assert_allclose(np.einsum("nb,nb->n", matrix[:, k], solved), vector[:, k])
        np.testing.assert_allclose(1.0 / stars.weight[:, k], 1.0 / matrix[:, k, k] + scatter[k])


def test_each_iteration_learns_all_variances(small: HeightModel) -> None:
    """The last step only solves; stars scatter as without heights."""
    np.testing.assert_array_equal(small.stars[0].scatter, [0.1, 0.2, 0.3])
    names = ("law", "own_variance", "effect_variance")
    before = [getattr(small, n).copy() for n in names]
    learn(small, 0)
    for name, old in zip(names, before, strict=True):
        np.testing.assert_array_equal(getattr(small, name), old)
    learn(small, 1)
    for name, old in zip(names, before, strict=True):
        assert (getattr(small, name) != old).all()


def test_values_at_stars_are_the_posterior(small: HeightModel) -> None:
    """The model is evaluated at its stars as anywhere."""
    _drawn(small, 1)
    places = np.random.default_rng(3).uniform(0.0, 3999.0, (2, 8))
    expected, _ = small.posterior(0, *places)
    small.update_values()
    np.testing.assert_allclose(small.stars[0].values, expected.T)


def test_predictions_hold_all_that_is_uncertain(small: HeightModel) -> None:
    """Without stars they are moments of heights, effects and the rest."""
    rng = np.random.default_rng(2)
    x, y = np.array([100.0, 2500.0]), np.array([3000.0, 1500.0])
    root = 0.4 * rng.normal(size=(6, 6))
    small.height[1], small.height_covariance[1] = rng.normal(size=6), root @ root.T
    small.effect_covariance[:] = 0.02 * np.eye(len(small.group))
    values, covariances = small.posterior(1, x, y)
    frame, number = small.basis.frames[1], 200000
    terms, focal = small.basis.detector_terms(frame.scaled(x, y)), small.basis.focal_terms(frame.focal(x, y))
    height = ((small.height[1] + rng.normal(size=(number, 6)) @ root.T) @ terms.T)[:, :, None]
    for k in range(3):
        own = np.sqrt(small.own_variance[k, small.degrees]) * rng.normal(size=(number, 6)) @ terms.T
        parts = focal[:, small.in_slope] * height, focal[:, small.in_bend] * height**2
        design = np.concatenate([np.broadcast_to(focal, (number, *focal.shape)), *parts], axis=2)
        drawn = (design @ small.effects[k])[:, :] + own
        # To first order in what is uncertain of the effects.
        mean = design.mean(axis=0)
        expected = np.cov(drawn.T) + 0.02 * mean @ mean.T
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        np.testing.assert_allclose(values[k], drawn.mean(axis=0), atol=0.02 * scale.max() ** 0.5)
        np.testing.assert_allclose(covariances[k] / scale, expected / scale, atol=0.03)


def test_the_other_side_of_focus_is_tried(small: HeightModel) -> None:
    """Ellipticity tells on which side a detector is, if both are tried."""
    stars = small.stars[0]
    small.law[:] = [1.0, 1e-5, 1e-5]
    small.own_variance[:] = 1e-3
    small.effects[:] = 0.0
    # Size has its least at a height of 0.2, ellipticity is linear.
    small.effects[0, [small.slope.start, small.bend.start]] = [-2.0, 5.0]
    small.effects[1, small.slope.start] = 0.5
    height = 1.5
    stars.raw = np.tile([5.0 * height**2 - 2.0 * height, 0.5 * height, 0.0], (8, 1))
    stars.weight = np.full((8, 3), 1e4)
    small.refresh()
    evidence = []
    for flips in (False, True):
        # The same size on the other side.
        small.height[0] = [0.4 - height, 0.0, 0.0, 0.0, 0.0, 0.0]
        assert _beyond_focus(small, 0)[0] == pytest.approx(height, rel=0.02)
        evidence.append(_find_heights(small, flips))
        side = small.height[0, 0] > 0.2
        assert side == flips
    assert small.height[0, 0] == pytest.approx(height, rel=0.02)
    assert evidence[1] > evidence[0] + 10.0


def test_evidence_is_the_marginal_likelihood(small: HeightModel) -> None:
    """It is exact where all is linear, and slopes are known to vanish."""
    uncertain = slice(small.slope.start, small.bend.stop)
    small.effect_variance[:] = 0.7
    small.effect_variance[:, uncertain] = 1e-12
    raw = small.stars[0].raw.copy()
    expected = 0.0
    focal = small.stars[0].focal_terms
    small.effects[:] = 0.0
    for k, covariance in enumerate(_dense(small)):
        total = covariance + 0.7 * focal @ focal.T
        expected -= 0.5 * (np.linalg.slogdet(total)[1] + raw[:, k] @ np.linalg.solve(total, raw[:, k]))
    # Once for the effects, again for the evidence with them.
    learn(small, 0)
    learn(small, 0)
    assert small.evidence == pytest.approx(expected, rel=1e-6)


def test_the_unit_of_heights_is_free(small: HeightModel) -> None:
    """What heights change stays; their variances follow squares, and sum to
    1.
    """
    stars, _ = _drawn(small, 1)
    small.effect_covariance[:] = np.eye(len(small.group))
    small.effect_variance[:] = 2.0
    small.law = np.array([4.0, 3.0, 2.0])
    before = small.design(0, stars.focal_terms, stars.terms)[1] @ small.effects.T
    spread, squares = np.diag(small.height_covariance[0]).copy(), small.height[0] ** 2
    _update_law(small)
    np.testing.assert_allclose(small.design(0, stars.focal_terms, stars.terms)[1] @ small.effects.T, before)
    law = []
    for degree, old in enumerate([4.0, 3.0, 2.0]):
        mine = small.degrees == degree
        expectation = (squares + spread)[mine].mean()
        fixed_point = squares[mine].sum() / (1.0 - spread[mine] / old).sum()
        law.append(np.sqrt(expectation * fixed_point))
    total = np.array(law)[small.degrees].sum()
    np.testing.assert_allclose(small.law, np.array(law) / total)
    np.testing.assert_allclose(small.effect_variance[0, small.slope], 2.0 * total)
    np.testing.assert_allclose(small.effect_variance[0, small.bend], 2.0 * total**2)


def test_effect_variances_are_squares_of_what_is_known(small: HeightModel) -> None:
    """The sum of squares is divided by how many of them stars determine."""
    small.effect_variance[:] = 2.0
    small.effect_covariance[:] = 0.5 * np.eye(len(small.group))
    _update_effect_variances(small)
    # Degree 1 of g has two terms, each known to three quarters.
    expected = (small.effects[:, 1:3] ** 2).sum(axis=1) / 1.5
    np.testing.assert_allclose(small.effect_variance[:, 1], expected)
    np.testing.assert_allclose(small.effect_variance[:, 2], expected)
    np.testing.assert_allclose(small.effect_variance[:, 0], small.effects[:, 0] ** 2 / 0.75)
