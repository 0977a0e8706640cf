# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Heights of the detectors' surfaces that a fit finds, against known ones."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace

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
from lsst.meas.finalize.psf.hierarchical._height_fields import (
    _average,
    _mixture,
    _widened,
    average_with_heights,
)
from lsst.meas.finalize.psf.hierarchical._height_model import HeightModel
from lsst.meas.finalize.psf.hierarchical._height_search import find_heights

_NOISE = 0.15


def _frame(x: float, y: float) -> DetectorFrame:
    return DetectorFrame((0.0, 3999.0, 0.0, 2999.0), (x, y), ((0.01, 0.0), (0.0, 0.013)), ((1, 0), (0, 1)))


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
        x, y = (c.ravel() for c in np.meshgrid(np.linspace(100, 3900, 5), np.linspace(100, 2900, 5)))
        residual = np.stack([model.values(d, x, y) - self.truth(d, x, y) for d in range(16)])
        return residual, np.stack([model.variances(d, x, y) for d in range(16)])


@pytest.fixture(scope="module")
def made() -> _Made:
    """Make stars on 4 x 4 detectors, of which one has one and one has none."""
    rng = np.random.default_rng(4)
    frames = [_frame(127.0 * i - 20.0, 127.0 * j - 20.0) for i in range(-2, 2) for j in range(-2, 2)]
    detector = np.repeat(np.arange(16), 25)
    detector = np.concatenate([detector[(detector != 5) & (detector != 6)], [5]])
    x, y = rng.uniform(0.0, 1.0, (2, len(detector))) * [[3999.0], [2999.0]]
    stars = StarPlaces(frames, detector, x, y)
    made = _Made(stars, _scores(np.zeros((0, 3)), 1.0), 0.5 * rng.normal(size=(16, 6)))
    values = rng.normal(0.0, _NOISE, (len(x), 3))
    for d in range(16):
        mine = detector == d
        values[mine] += made.truth(d, x[mine], y[mine])
    made.scores = _scores(values, _NOISE)
    return made


@pytest.fixture(scope="module")
def found(made: _Made) -> tuple[FieldModel, list[HeightModel]]:
    """Fit without heights, and find heights."""
    base = fit_fields(
        made.scores, made.stars, made.everything(), FieldBasis(tuple(made.stars.frames), 4, 3), 8
    )
    return base, find_heights(made.scores, made.stars, made.everything(), base, 4, 8)


@pytest.fixture(scope="module")
def models(found: tuple[FieldModel, list[HeightModel]]) -> tuple[FieldModel, FieldModel]:
    """Fit without and with heights."""
    return found[0], average_with_heights(*found)


def test_heights_help_size_and_ellipticity(made: _Made, models: tuple[FieldModel, FieldModel]) -> None:
    """A height that all of them share is known better than each of them."""
    full = [d for d in range(16) if d not in (5, 6)]
    without, with_them = (np.sqrt((made.residuals(m)[0][full] ** 2).mean(axis=(0, 1))) for m in models)
    assert (with_them < 0.85 * without).all()
    assert models[1].basis.detector_order == 4
    assert models[0].basis.detector_order == 3


@pytest.mark.parametrize("order", [0, 1])
def test_simple_heights_are_no_harm(
    made: _Made, found: tuple[FieldModel, list[HeightModel]], order: int
) -> None:
    """Detectors differ by all polynomials of the fields, however flat."""
    base = found[0]
    solutions = find_heights(made.scores, made.stars, made.everything(), base, order, 2)
    simple = average_with_heights(base, solutions)
    assert simple.basis.detector_order == 3
    assert solutions[0].height.shape[1] == (order + 1) * (order + 2) // 2
    full = [d for d in range(16) if d not in (5, 6)]
    without, with_them = (made.residuals(m) for m in (base, simple))
    ratio = np.sqrt((with_them[0][full] ** 2).mean(axis=(0, 1)) / (without[0][full] ** 2).mean(axis=(0, 1)))
    assert (ratio < 1.1).all()
    pull = np.sqrt((with_them[0] ** 2 / with_them[1]).mean(axis=(0, 1)))
    assert (pull < 1.3).all()


def test_errors_are_right(made: _Made, models: tuple[FieldModel, FieldModel]) -> None:
    """Residuals are as large as the errors say, with and without stars."""
    residual, variance = made.residuals(models[1])
    pull = np.sqrt((residual**2 / variance).mean(axis=(0, 1)))
    assert (np.abs(pull - 1.0) < 0.3).all()
    assert variance[6].mean() > 3.0 * variance[7].mean()


def test_fields_are_the_average(found: tuple[FieldModel, list[HeightModel]]) -> None:
    """Values and variances at a place are those of the weights, by hand."""
    base, solutions = found
    # With degrees that hold the products of polynomials.
    average = average_with_heights(_widened(base, 8), solutions)
    x, y = np.array([900.0, 2000.0]), np.array([2100.0, 1500.0])
    weight = np.exp((solutions[1].evidence - solutions[0].evidence) / 5.0)
    weight = np.array([1.0, weight]) / (1.0 + weight)
    assert 0.5 <= weight[0] < 1.0
    for d in (0, 5, 6, 15):
        parts = [s.posterior(d, x, y) for s in solutions]
        values = np.stack([v for v, _ in parts])
        variances = np.stack([np.diagonal(c, axis1=1, axis2=2) for _, c in parts])
        mean = np.einsum("s,skn->nk", weight, values)
        variance = np.einsum("s,skn->nk", weight, variances + values**2) - mean**2
        before = base.values(d, x, y), base.variances(d, x, y)
        better = before[1] / (before[1] + variance)
        expected = (1.0 - better) * before[0] + better * mean
        error = (1.0 - better) * (before[1] + before[0] ** 2) + better * (variance + mean**2) - expected**2
        distance = (average.values(d, x, y) - expected) / np.sqrt(error)
        assert np.abs(distance).max() < 0.06
        np.testing.assert_allclose(average.variances(d, x, y), error, rtol=0.06)
    # The fields without heights stay as they were.
    assert base.own.shape[2] == 10
    assert (base.focal_covariance != 0.0).any()


def test_the_best_solutions_go_on(made: _Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of most evidence do, each with stars of its own, best first."""
    base = fit_fields(
        made.scores, made.stars, made.everything(), FieldBasis(tuple(made.stars.frames), 2, 2), 4
    )
    evidence, started, continued = iter([3.0, np.nan, 7.0, 5.0, 1.0, 2.0]), [], []

    def learn(model: HeightModel, *_: int, **__: object) -> HeightModel:
        model.evidence = next(evidence)
        started.append(model)
        return model

    def go_on(coarse: HeightModel, fine: HeightModel) -> None:
        continued.append((coarse, fine))

    monkeypatch.setattr(search, "learn", learn)
    monkeypatch.setattr(search, "_continue", go_on)
    best = find_heights(made.scores, made.stars, made.everything(), base, 3, 4)
    assert [c.evidence for c, _ in continued] == [7.0, 5.0]
    assert best == [continued[1][1], continued[0][1]]
    assert best[0].stars[0].values is not best[1].stars[0].values
    assert not np.allclose(started[0].effects, started[1].effects)


def test_a_solution_goes_on_where_it_was(found: tuple[FieldModel, list[HeightModel]]) -> None:
    """More polynomials change nothing until they are fitted."""
    base, solutions = found
    coarse = solutions[0]
    basis = FieldBasis(base.basis.frames, 4, 6)
    terms = [basis.detector_terms(f.scaled(np.array([5.0]), np.array([7.0]))) for f in basis.frames]
    stars = [
        replace(s, terms=np.zeros((len(s.terms), terms[0].shape[1])), values=s.values.copy())
        for s in coarse.stars
    ]
    fine = HeightModel(stars, base, basis, 1)
    # Halved for each degree that the fields have no variance of.
    ratio = fine.own_variance / base.prior.detector[:, -1:]
    np.testing.assert_allclose(ratio[:, 4:] / ratio[:, 3:4], [[0.5, 0.25, 0.125]] * 3)
    search._continue(coarse, fine)
    np.testing.assert_array_equal(fine.effects, coarse.effects)
    np.testing.assert_array_equal(fine.effect_variance, coarse.effect_variance)
    for d in range(16):
        frame = basis.frames[d]
        old = coarse.basis.detector_terms(frame.scaled(np.array([5.0]), np.array([7.0])))
        np.testing.assert_allclose(terms[d] @ fine.height[d], old @ coarse.height[d])
    np.testing.assert_array_equal(fine.law[:5], coarse.law)
    np.testing.assert_array_equal(fine.own_variance[:, :5], coarse.own_variance)
    assert (fine.law[5:] == 1e-4).all()


def test_a_fit_can_be_repeated(
    made: _Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Starts are the same each time, and few where detectors are many."""
    base = fit_fields(
        made.scores, made.stars, made.everything(), FieldBasis(tuple(made.stars.frames), 2, 2), 4
    )
    with caplog.at_level(logging.INFO):
        first, second = (
            find_heights(made.scores, made.stars, made.everything(), base, 2, 2) for _ in range(2)
        )
    assert re.fullmatch(r"Heights of 16 detectors: log evidence \[[-\d., ]+\]\.", caplog.messages[-1])
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
