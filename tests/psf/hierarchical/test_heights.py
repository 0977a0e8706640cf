# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Heights of the detectors' surfaces, against known ones, dense linear
algebra and random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from lsst.meas.finalize.focal_plane import (
    DetectorFrame,
    FieldBasis,
    FieldModel,
    Scores,
    StarPlaces,
    fit_fields,
)
from lsst.meas.finalize.psf.hierarchical import HierarchicalOptions
from lsst.meas.finalize.psf.hierarchical import _height_search as search
from lsst.meas.finalize.psf.hierarchical._height_fields import _average, _mixture, average_with_heights
from lsst.meas.finalize.psf.hierarchical._height_model import HeightModel, Precision, StarsOfDetector
from lsst.meas.finalize.psf.hierarchical._height_search import find_heights
from lsst.meas.finalize.psf.hierarchical._height_steps import _find_heights, _power, _solve_effects

_NOISE = 0.15


def _frame(x: float, y: float) -> DetectorFrame:
    return DetectorFrame((0.0, 3999.0, 0.0, 3999.0), (x, y), ((0.01, 0.0), (0.0, 0.01)), ((1, 0), (0, 1)))


def _scores(values: np.ndarray, noise: float) -> Scores:
    matrix = np.broadcast_to(np.eye(values.shape[1]) / noise**2, (len(values), *values.shape[1:] * 2))
    return Scores(matrix.copy(), values / noise**2)


@dataclass
class _Made:
    stars: StarPlaces
    scores: Scores
    heights: np.ndarray

    def truth(self, detector: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return size and ellipticity [N, 3] of a telescope out of focus."""
        frame = self.stars.frames[detector]
        (X, Y), (u, v) = frame.focal(x, y).T / 250.0, frame.scaled(x, y).T
        terms = np.stack([np.ones_like(u), u, v, u * v, u**2 - v**2, u**2 + v**2 - 2 / 3], axis=1)
        focus = 0.8 * X - 0.6 * Y + 0.3 + terms @ self.heights[detector]
        return np.stack([0.5 * focus**2, focus * (0.7 * X + 0.4), focus * (0.5 - 0.8 * Y)], axis=1)

    def everything(self) -> np.ndarray:
        return np.ones(len(self.stars), dtype=bool)

    def residuals(self, model: FieldModel) -> tuple[np.ndarray, np.ndarray]:
        """Return residuals and variances [D, N, 3] on a lattice."""
        x, y = (c.ravel() for c in np.meshgrid(np.linspace(100, 3900, 5), np.linspace(100, 3900, 5)))
        residual = np.stack([model.values(d, x, y) - self.truth(d, x, y) for d in range(16)])
        return residual, np.stack([model.variances(d, x, y) for d in range(16)])


@pytest.fixture(scope="module")
def made() -> _Made:
    """Make stars on 4 x 4 detectors, of which one has one and one has none."""
    rng = np.random.default_rng(4)
    frames = [_frame(127.0 * i - 20.0, 127.0 * j - 20.0) for i in range(-2, 2) for j in range(-2, 2)]
    detector = np.repeat(np.arange(16), 25)
    detector = np.concatenate([detector[(detector != 5) & (detector != 6)], [5]])
    x, y = rng.uniform(0.0, 3999.0, (2, len(detector)))
    stars = StarPlaces(frames, detector, x, y)
    made = _Made(stars, _scores(np.zeros((0, 3)), 1.0), 0.5 * rng.normal(size=(16, 6)))
    values = rng.normal(0.0, _NOISE, (len(x), 3))
    for d in range(16):
        mine = detector == d
        values[mine] += made.truth(d, x[mine], y[mine])
    made.scores = _scores(values, _NOISE)
    return made


@pytest.fixture(scope="module")
def models(made: _Made) -> tuple[FieldModel, FieldModel]:
    """Fit without and with heights."""
    frames = tuple(made.stars.frames)
    base = fit_fields(made.scores, made.stars, made.everything(), FieldBasis(frames, 4, 3), 8)
    return base, average_with_heights(
        base, find_heights(made.scores, made.stars, made.everything(), base, 4, 8)
    )


def test_heights_help_size_and_ellipticity(made: _Made, models: tuple[FieldModel, FieldModel]) -> None:
    """A height that all of them share is known better than each of them."""
    full = [d for d in range(16) if d not in (5, 6)]
    without, with_them = (np.sqrt((made.residuals(m)[0][full] ** 2).mean(axis=(0, 1))) for m in models)
    assert (with_them < 0.85 * without).all()
    assert models[1].basis.detector_order == 4
    assert models[0].basis.detector_order == 3


def test_errors_are_right(made: _Made, models: tuple[FieldModel, FieldModel]) -> None:
    """Residuals are as large as the errors say, with and without stars."""
    residual, variance = made.residuals(models[1])
    pull = np.sqrt((residual**2 / variance).mean(axis=(0, 1)))
    assert (np.abs(pull - 1.0) < 0.3).all()
    assert variance[6].mean() > 3.0 * variance[7].mean()


def test_a_fit_can_be_repeated(made: _Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts are the same each time, and few where detectors are many."""
    base = fit_fields(
        made.scores, made.stars, made.everything(), FieldBasis(tuple(made.stars.frames), 2, 2), 4
    )
    first, second = (find_heights(made.scores, made.stars, made.everything(), base, 2, 2) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.height, b.height)
    started = []
    monkeypatch.setattr(search, "_MANY_DETECTORS", 8)
    monkeypatch.setattr(search, "learn", lambda model, *_, **__: started.append(model) or model)
    find_heights(made.scores, made.stars, made.everything(), base, 2, 12)
    # Half as many for twice the detectors, and none of them has an evidence.
    assert len(started) == 6


def test_two_detectors_tell_no_heights(made: _Made) -> None:
    """What a height changes is then not told from what else differs."""
    use = made.stars.detector < 2
    base = fit_fields(made.scores, made.stars, use, FieldBasis(tuple(made.stars.frames), 2, 2), 2)
    assert find_heights(made.scores, made.stars, use, base, 2, 2) == []
    use = made.stars.detector < 3
    assert len(find_heights(made.scores, made.stars, use, base, 2, 2)) == 2


def test_many_stars_are_limited(made: _Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a detector grows with the square of its stars only so far;
    those that tell most are kept.
    """
    base = fit_fields(
        made.scores, made.stars, made.everything(), FieldBasis(tuple(made.stars.frames), 2, 2), 2
    )
    monkeypatch.setattr(search, "_MOST_STARS", 20)
    weights = np.random.default_rng(0).permutation(len(made.stars)) + 1.0
    scores = Scores(made.scores.matrix * weights[:, None, None], made.scores.vector * weights[:, None])
    stars = find_heights(scores, made.stars, made.everything(), base, 2, 1)[0].stars
    assert [len(s.terms) for s in stars[:8]] == [20, 20, 20, 20, 20, 1, 0, 20]
    least = np.sort(weights[made.stars.detector == 0])[-20]
    assert stars[0].matrix[:, 0, 0].min() == pytest.approx(least / _NOISE**2)


@pytest.mark.parametrize("options", [{"height_order": 9}, {"height_order": -1}, {"height_starts": -1}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    """The message names the options."""
    with pytest.raises(ValueError, match=f"{next(iter(options))}={next(iter(options.values()))}"):
        HierarchicalOptions(**options)


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


def test_averages_follow_the_better_known(made: _Made) -> None:
    """Weights are inverse variances, and differences add to the errors."""
    first = np.array([[1.0, 1.0, 1.0]]), np.diag([1.0, 4.0, 0.0])[np.newaxis]
    second = np.array([[3.0, 3.0, 3.0]]), np.diag([1.0, 1.0, 1.0])[np.newaxis]
    mean, covariance = _average(first, second)
    np.testing.assert_allclose(mean, [[2.0, 2.6, 1.0]])
    # 0.2 of 4 and 0.8 of 1, and the variance of 1 and 3 with these weights.
    np.testing.assert_allclose(np.diag(covariance[0]), [2.0, 1.6 + 0.16 * 4.0, 0.0])
    assert np.linalg.eigvalsh(covariance[0]).min() > -1e-12
    mean, covariance = _mixture(np.array([0.25, 0.75]), [first, second])
    np.testing.assert_allclose(mean, [[2.5, 2.5, 2.5]])
    expected = 0.25 * first[1][0] + 0.75 * second[1][0] + 0.1875 * 4.0
    np.testing.assert_allclose(covariance[0], expected)


def test_heights_that_are_lost_have_no_weight() -> None:
    """Keep the fields where the variance of those with heights is none."""
    base = np.array([[1.0, 2.0, 3.0, 4.0]]), 0.5 * np.eye(4)[np.newaxis]
    variances = np.array([0.5, -1e20, np.nan, 1e300])
    mean, covariance = _average(base, (np.array([[3.0, 1e9, np.inf, 0.0]]), np.diag(variances)[np.newaxis]))
    np.testing.assert_allclose(mean[0], [2.0, 2.0, 3.0, 4.0], rtol=1e-15)
    np.testing.assert_allclose(np.diag(covariance[0]), [1.5, 0.5, 0.5, 1.0], rtol=1e-15)
