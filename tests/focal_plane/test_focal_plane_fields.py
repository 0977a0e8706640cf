# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Places of detectors, and fields, against maps and dense linear algebra."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lsst.images import Box
from lsst.meas.finalize.focal_plane import DetectorFrame, FieldBasis, Scores, StarPlaces, fit_fields, frame_of

UNIT = ((0.01, 0.0), (0.0, 0.01))
FRAMES = tuple(
    DetectorFrame((0.0, 999.0, 0.0, 799.0), (11.0 * i, 3.0 * (i % 2)), UNIT, ((1, 0), (0, 1)))
    for i in range(4)
)


def _exposure(jacobian: np.ndarray, bend: float) -> Any:
    """Return an image whose map to the focal plane is bent by a cubic."""

    def forward(x: np.ndarray, y: np.ndarray) -> SimpleNamespace:
        pixel = np.stack([x, y])
        radius = ((x - 600.0) ** 2 + (y - 250.0) ** 2) / 1e6
        focal = np.array([[7.0], [-3.0]]) + jacobian @ (pixel + bend * radius * (pixel - [[600.0], [250.0]]))
        return SimpleNamespace(x=focal[0], y=focal[1])

    detector = SimpleNamespace(to_focal_plane=SimpleNamespace(apply_forward=forward))
    # Centre (600, 250), and not at the origin.
    return SimpleNamespace(bbox=Box.factory[100:401, 100:1101], detector=detector)


@pytest.mark.parametrize("matrix", [[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[0, 1], [1, 0]], [[-1, 0], [0, 1]]])
def test_frames_are_the_map_at_the_centre(matrix: list[list[int]]) -> None:
    """Affine maps are exact, turned, mirrored and sheared; others nearly."""
    jacobian = 0.01 * np.array(matrix) @ [[1.0, 0.02], [-0.03, 1.1]]
    exposure = _exposure(jacobian, 0.0)
    frame = frame_of(exposure)
    x, y = np.array([100.0, 1100.0, 333.0]), np.array([400.0, 100.0, 222.0])
    expected = exposure.detector.to_focal_plane.apply_forward(x=x, y=y)
    np.testing.assert_allclose(frame.focal(x, y), np.stack([expected.x, expected.y], axis=1), atol=1e-12)
    np.testing.assert_array_equal(frame.orientation, matrix)
    np.testing.assert_array_equal(frame.scaled([100, 600, 1100], [100, 250, 400]), [[-1, -1], [0, 0], [1, 1]])
    bent = frame_of(_exposure(jacobian, 1e-3))
    np.testing.assert_allclose(bent.focal(600.0, 250.0), frame.focal(600.0, 250.0), atol=1e-12)
    np.testing.assert_allclose(bent.jacobian, jacobian, atol=1e-5)
    np.testing.assert_array_equal(bent.orientation, matrix)


def test_a_place_that_is_not_known_is_an_error() -> None:
    """Neither is a map that isn't finite one."""
    with pytest.raises(ValueError, match="no detector"):
        frame_of(SimpleNamespace(detector=None))
    with pytest.raises(ValueError, match="no Jacobian"):
        frame_of(_exposure(np.full((2, 2), np.nan), 0.0))


def test_terms_have_unit_variance() -> None:
    """Priors of all degrees are alike in what they mean for the fields."""
    basis = FieldBasis(FRAMES, 3, 5)
    node, weight = np.polynomial.legendre.leggauss(8)
    u, v = (c.ravel() for c in np.meshgrid(node, node))
    terms = basis.detector_terms(np.stack([u, v], axis=1))
    product = terms.T @ (np.outer(weight, weight).ravel()[:, np.newaxis] / 4.0 * terms)
    np.testing.assert_allclose(product, np.eye(21), atol=1e-12)
    assert basis.detector_degrees().tolist() == [0, 1, 1, 2, 2, 2, *[3] * 4, *[4] * 5, *[5] * 6]


def _simulate(number: int, n_values: int, scatter: float, seed: int = 0) -> tuple[StarPlaces, Scores]:
    """Simulate stars of unit noise, whose coefficients are correlated."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0.0, 999.0, number), rng.uniform(0.0, 799.0, number)
    # Not in the order of detectors.
    places = StarPlaces(list(FRAMES), rng.integers(0, 3, number), x, y)
    focal = places.focal() / 20.0
    fields = np.stack([1.5 * focal[:, 0] + places.detector, 1.0 - focal[:, 1] ** 2], axis=1)[:, :n_values]
    matrix = np.broadcast_to(
        np.array([[1.0, 0.35], [0.35, 1.0]])[:n_values, :n_values], (number, n_values, n_values)
    )
    noise = rng.normal(size=(number, n_values)) @ np.linalg.cholesky(matrix[0]).T
    values = fields + scatter * rng.normal(size=fields.shape)
    return places, Scores(matrix.copy(), np.einsum("nab,nb->na", matrix, values) + noise)


def _dense(
    model: Any, basis: FieldBasis, places: StarPlaces, scores: Scores
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Return mean and covariance of all coefficients of all fields [K (M +
    D L)] for the prior of a model, without scatter of stars.
    """

    def design(detector: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        at = StarPlaces(list(FRAMES), detector, x, y)
        own = basis.detector_terms(at.scaled())
        parts = [np.where(detector[:, np.newaxis] == d, own, 0.0) for d in range(len(FRAMES))]
        return np.concatenate([basis.focal_terms(at.focal()), *parts], axis=1)

    n_values = scores.vector.shape[1]
    terms = design(places.detector, places.x, places.y)
    prior = np.concatenate(
        [model.prior.focal[:, basis.focal_degrees()]]
        + [model.prior.detector[:, basis.detector_degrees()]] * len(FRAMES),
        axis=1,
    )
    normal = np.einsum("ni,nab,nj->aibj", terms, scores.matrix, terms)
    side = np.einsum("ni,na->ai", terms, scores.vector)
    size = n_values * terms.shape[1]
    covariance = np.linalg.inv(normal.reshape(size, size) + np.diag(1.0 / prior.ravel()))
    return (covariance @ side.ravel()).reshape(n_values, -1), covariance, design


def test_time_of_terms_is_not_that_of_all_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corners of all detectors are looked at once, not for each detector."""
    frame = DetectorFrame((0.0, 99.0, 0.0, 99.0), (0.0, 0.0), ((1.0, 0.0), (0.0, 1.0)), ((1, 0), (0, 1)))
    frames = tuple(dataclasses.replace(frame, offset=(100.0 * i, 0.0)) for i in range(5))
    basis, calls, focal = FieldBasis(frames, 2, 1), [], DetectorFrame.focal
    monkeypatch.setattr(DetectorFrame, "focal", lambda *args: calls.append(1) or focal(*args))
    first, second = (basis.focal_terms(np.array([[3.0, 4.0]])) for _ in range(2))
    assert len(calls) == 5
    np.testing.assert_array_equal(first, second)


def test_posterior_is_that_of_dense_algebra() -> None:
    """Eliminating detectors changes neither values nor variances, which hold
    for a detector without stars, too.
    """
    places, scores = _simulate(60, 1, 0.0)
    basis = FieldBasis(FRAMES, 3, 2)
    model = fit_fields(scores, places, np.ones(60, dtype=bool), basis, 3)
    # The scatter of stars adds to their noise.
    inverse = 1.0 / (1.0 + model.prior.star[0])
    weighted = Scores(scores.matrix * inverse, scores.vector * inverse)
    mean, covariance, design = _dense(model, basis, places, weighted)
    x, y = np.array([0.0, 500.0, 999.0]), np.array([799.0, 300.0, 10.0])
    for detector in range(4):
        terms = design(np.full(3, detector), x, y)
        np.testing.assert_allclose(model.values(detector, x, y)[:, 0], terms @ mean[0], rtol=1e-9)
        expected = np.einsum("ni,ij,nj->n", terms, covariance, terms)
        np.testing.assert_allclose(model.variances(detector, x, y)[:, 0], expected, rtol=1e-9)


def test_coefficients_are_solved_for_together() -> None:
    """What stars tell of one coefficient by way of another is used."""
    places, scores = _simulate(200, 2, 0.0)
    basis = FieldBasis(FRAMES, 2, 1)
    model = fit_fields(scores, places, np.ones(200, dtype=bool), basis, 8)
    mean, _, design = _dense(model, basis, places, scores)
    x, y = np.array([100.0, 500.0, 900.0]), np.array([700.0, 300.0, 100.0])
    for detector in range(3):
        expected = design(np.full(3, detector), x, y) @ mean.T
        np.testing.assert_allclose(model.values(detector, x, y), expected, atol=0.05)


def test_prior_is_where_the_evidence_is_largest() -> None:
    """Variances are the squares of coefficients over the number determined."""
    places, scores = _simulate(300, 1, 0.0)
    basis = FieldBasis(FRAMES, 2, 1)
    model = fit_fields(scores, places, np.ones(300, dtype=bool), basis, 200)
    inverse = 1.0 / (1.0 + model.prior.star[0])
    mean, covariance, _ = _dense(
        model, basis, places, Scores(scores.matrix * inverse, scores.vector * inverse)
    )
    variance = np.diag(covariance)
    degrees = np.concatenate([basis.focal_degrees(), np.tile(10 + basis.detector_degrees(), 4)])
    for degree, prior in [(1, model.prior.focal[0, 1]), (10, model.prior.detector[0, 0])]:
        mine = degrees == degree
        known = (1.0 - variance[mine] / prior).sum()
        assert prior == pytest.approx((mean[0, mine] ** 2).sum() / known, rel=0.02)


def test_scatter_of_stars_is_learnt() -> None:
    """What the fields took up of the scatter is counted, too."""
    basis, use = FieldBasis(FRAMES, 2, 3), np.ones(120, dtype=bool)
    found = []
    for seed in range(6):
        places, scores = _simulate(120, 1, 0.7, seed)
        terms = basis.detector_terms(places.scaled())
        rough = np.random.default_rng(seed).normal(size=(len(FRAMES), terms.shape[1]))
        vector = scores.vector + (terms * rough[places.detector]).sum(axis=1)[:, np.newaxis]
        found.append(fit_fields(Scores(scores.matrix, vector), places, use, basis, 20).prior.star[0])
    # Within twice the error of the mean; that of the residuals alone is 0.1.
    assert np.mean(found) == pytest.approx(0.49, abs=0.15)
