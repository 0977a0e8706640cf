# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Normal equations of stars, the mean, and directions against GalSim."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest

from lsst.meas.finalize.focal_plane import DetectorFrame
from lsst.meas.finalize.psf.hierarchical import VisitStars
from lsst.meas.finalize.psf.hierarchical._basis import Basis, make_basis, smooth
from lsst.meas.finalize.psf.hierarchical._fit import _centred, _interpolant
from lsst.meas.finalize.psf.hierarchical._scores import (
    Shifter,
    StarStates,
    mean_image,
    measure_scores,
    refit_stars,
)

SIZE = 25
TURNS = (((1, 0), (0, 1)), ((0, -1), (1, 0)), ((-1, 0), (0, 1)))
SLOPE = 0.8
MAX_SNR = 300.0


def _coma(g1: float = 0.0, g2: float = 0.0, dilation: float = 1.0) -> np.ndarray:
    """Draw a PSF without any symmetry."""
    profile = galsim.Kolmogorov(fwhm=3.2).shear(g1=0.08, g2=0.05) + 0.4 * galsim.Gaussian(sigma=1.8).shift(
        1.1, 0.6
    )
    profile = profile.dilate(dilation).shear(g1=g1, g2=g2)
    image = profile.drawImage(nx=SIZE, ny=SIZE, scale=1.0, dtype=float).array
    return image / image.sum()


def _to_pixels(grid: np.ndarray, turn: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray:
    """Look each pixel up where the turn sends it."""
    half = SIZE // 2
    offset = np.indices((SIZE, SIZE))[::-1].reshape(2, -1) - half
    x, y = np.array(turn) @ offset + half
    return grid[y, x].reshape(SIZE, SIZE)


def _draw(grid: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Interpolate a grid as Piff does."""
    profile = galsim.InterpolatedImage(
        galsim.Image(np.ascontiguousarray(grid), scale=1.0),
        x_interpolant=galsim.Lanczos(11),
        normalization="sb",
        use_true_center=False,
    )
    drawn = profile.drawImage(
        nx=SIZE, ny=SIZE, scale=1.0, method="no_pixel", offset=tuple(center), dtype=float
    )
    return drawn.array


class _Visit:
    """Three stars without noise on each of three detectors."""

    def __init__(self, mean: np.ndarray, basis: Basis) -> None:
        rng = np.random.default_rng(5)
        self.basis = basis
        self.turns = [turn for turn in TURNS for _ in range(3)]
        self.center = rng.uniform(-0.5, 0.5, (9, 2))
        self.flux = np.array([300.0, 3e4, 1e7] * 3)
        images = [
            f * _draw(_to_pixels(mean, t), c)
            for f, t, c in zip(self.flux, self.turns, self.center, strict=True)
        ]
        frames = [
            DetectorFrame((0.0, 99.0, 0.0, 99.0), (100.0 * i, 0.0), tuple(map(tuple, np.array(t, float))), t)
            for i, t in enumerate(TURNS)
        ]
        good = np.ones((9, SIZE, SIZE), dtype=bool)
        good[1, 3:8, 10:14] = good[5, 12, :] = False
        place = np.full(9, 30, dtype=np.int64)
        x, y = self.center.T + 30 + SIZE // 2
        self.stars = VisitStars(
            frames,
            np.repeat(np.arange(3), 3),
            x,
            y,
            place,
            place,
            np.array(images, dtype=np.float32),
            good,
            rng.uniform(80.0, 120.0, 9),
            SLOPE,
        )
        self.states = StarStates(self.flux, self.center, np.zeros(9))
        self.shifter = Shifter(_interpolant("Lanczos(11)"), SIZE)


@pytest.fixture(scope="module")
def mean() -> np.ndarray:
    """Return a mean in axes of the focal plane."""
    return _centred(smooth(_coma()))


@pytest.fixture(scope="module")
def visit(mean: np.ndarray) -> _Visit:
    """Simulate stars whose PSF isn't the mean."""
    basis = make_basis(mean, 2)
    return _Visit(mean + 0.02 * basis.vectors[1] - 0.01 * basis.vectors[2], basis)


def test_scores_are_the_normal_equations(visit: _Visit) -> None:
    """Weights, turns, and the elimination of flux and center are as said."""
    scores = measure_scores(visit.stars, visit.basis, None, visit.states, visit.shifter, MAX_SNR)
    step = 1e-3
    for i, (turn, center) in enumerate(zip(visit.turns, visit.center, strict=True)):
        grid = _to_pixels(visit.basis.mean, turn)
        unit = _draw(grid, center)
        moved = [_draw(grid, center + s) for s in ([step, 0.0], [-step, 0.0], [0.0, step], [0.0, -step])]
        columns = [unit, (moved[0] - moved[1]) / (2 * step), (moved[2] - moved[3]) / (2 * step)]
        # GalSim draws nothing whose sum is zero.
        columns += [_draw(_to_pixels(v, turn) + grid, center) - unit for v in visit.basis.vectors]
        jacobian = visit.flux[i] * np.array(columns).reshape(len(columns), -1).T
        good, sky = visit.stars.good[i], visit.stars.sky_variance[i]
        signal = visit.flux[i] * np.maximum(unit, 0.0)
        weight = good / (sky + SLOPE * signal)
        weight *= min(1.0, MAX_SNR**2 * sky / (signal[good] ** 2).sum())
        residual = (visit.stars.image[i] - visit.flux[i] * unit).ravel()
        weighted = jacobian.T * weight.ravel()
        covariance = np.linalg.inv(weighted @ jacobian)
        matrix = np.linalg.inv(covariance[3:, 3:])
        vector = matrix @ (covariance @ weighted @ residual)[3:]
        np.testing.assert_allclose(scores.matrix[i], matrix, atol=2e-3 * np.abs(matrix).max())
        np.testing.assert_allclose(scores.vector[i], vector, atol=5e-3 * np.abs(vector).max())
        solution = np.linalg.solve(scores.matrix[i], scores.vector[i])
        np.testing.assert_allclose(solution, [0, 0.02, -0.01, 0, 0, 0], atol=2e-3)


def test_scores_are_of_total_coefficients(visit: _Visit) -> None:
    """Those about another model tell the same, not the change."""
    truth = np.tile([0.0, 0.02, -0.01, 0.0, 0.0, 0.0], (9, 1))
    scores = measure_scores(visit.stars, visit.basis, truth, visit.states, visit.shifter, MAX_SNR)
    solution = np.linalg.solve(scores.matrix, scores.vector[:, :, np.newaxis])[:, :, 0]
    np.testing.assert_allclose(solution, truth, atol=1e-4)


def test_mean_is_turned_to_the_focal_plane(mean: np.ndarray) -> None:
    """Stars of turned and mirrored detectors have one mean."""
    axis = np.exp(-0.5 * ((np.arange(SIZE) - SIZE // 2) / 1.7) ** 2)
    start = np.outer(axis, axis) / axis.sum() ** 2
    visit = _Visit(mean, Basis(start, np.zeros((0, SIZE, SIZE))))
    # A star without weight is no part of it.
    visit.stars.image[4] *= -3.0
    use = np.arange(9) != 4
    found = mean_image(visit.stars, visit.basis, visit.states, use, visit.shifter, MAX_SNR)
    assert np.linalg.norm(found - mean) < 0.2 * np.linalg.norm(start - mean)


def test_stars_are_refitted(visit: _Visit, mean: np.ndarray) -> None:
    """Fluxes and centers are found from others; a star at the edge is lost."""
    stars = replace(visit.stars, image=visit.stars.image.copy())
    stars.image[2] = 1e7 * _draw(mean, np.array([6.0, 0.0]))
    stars.image[3] *= -1.0
    states = StarStates(0.7 * visit.flux, visit.center + 0.2, np.zeros(9))
    truth = np.tile([0.0, 0.02, -0.01, 0.0, 0.0, 0.0], (9, 1))
    for _ in range(12):
        states = refit_stars(stars, visit.basis, truth, states, visit.shifter, 1e9)
    kept = np.setdiff1d(np.arange(9), [2, 3])
    np.testing.assert_allclose(states.flux[kept], visit.flux[kept], rtol=1e-4)
    np.testing.assert_allclose(states.center[kept], visit.center[kept], atol=1e-4)
    assert (states.chisq[kept] < 0.1).all()
    assert np.isinf(states.chisq[[2, 3]]).all()
    assert (np.abs(states.center[2]) < SIZE / 6.0).all()


@pytest.mark.parametrize("change", [{"g1": 1e-3}, {"g2": 1e-3}, {"dilation": 1.001}])
def test_stretch_and_shears_are_directions(change: dict[str, float]) -> None:
    """Small changes of the shape are sums of the first six vectors."""
    # The gradient of a coarse image isn't that of the profile; this is fine.
    base = smooth(_coma())
    basis = make_basis(base, 2)
    difference = smooth(_coma(**change)) - base
    gauge = np.stack([base, *np.gradient(base)])
    vectors = np.concatenate([basis.vectors, gauge]).reshape(9, -1).T
    left = difference.ravel() - vectors @ np.linalg.lstsq(vectors, difference.ravel(), rcond=None)[0]
    assert np.linalg.norm(left) < 0.02 * np.linalg.norm(difference)


def test_smoothing_takes_out_what_no_telescope_passes() -> None:
    """A checkerboard vanishes, a PSF stays."""
    image = _coma()
    y, x = np.indices(image.shape)
    spoilt = image + 1e-3 * (-1.0) ** (x + y)
    inner = slice(5, -5)
    np.testing.assert_allclose(smooth(spoilt)[inner, inner], smooth(image)[inner, inner], atol=5e-5)
    np.testing.assert_allclose(smooth(image), image, atol=2e-4)


def test_means_are_centred() -> None:
    """The centroid weighted with the image itself is none."""
    offset = np.arange(SIZE) - SIZE // 2
    image = smooth(_coma())
    shift = [
        np.abs((i**2).sum(axis=a) @ offset) / (i**2).sum() for i in (image, _centred(image)) for a in (0, 1)
    ]
    assert max(shift[:2]) > 0.1
    assert max(shift[2:]) < 1e-3
