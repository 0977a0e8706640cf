# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Eigenvectors with defined signs and the trust-region sub-problem."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.measure import OptimizerConfig
from lsst.meas.finalize.measure.cmodel._optimizer_numba import (
    assemble,
    grow_or_shrink,
    solve_trust_region,
    symmetric_eigen,
    update_sr1,
)

_MATRIX = np.array([[4.0, 1, 0, -1], [1, 3, 2, 0], [0, 2, 1, 1], [-1, 0, 1, 2]])
_GRADIENT = np.array([1.0, 2.0, -1.0, 0.5])


def _eigen(f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.empty(len(f)), np.empty(f.shape)
    symmetric_eigen(f, values, vectors)
    return values, vectors


def test_signs() -> None:
    """Eigenvectors of the specification, with their signs."""
    values, vectors = _eigen(_MATRIX)
    np.testing.assert_allclose(values, [-0.534070, 1.482696, 4.0, 5.051374], atol=1e-6)
    expected = [
        (-0.036526, 0.475704, -0.822322, 0.310093),
        (0.467836, -0.383399, 0.056948, 0.794287),
        (-0.5, 0.5, 0.5, 0.5),
        (0.727870, 0.613768, 0.265599, -0.151496),
    ]
    np.testing.assert_allclose(vectors.T, expected, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6), st.floats(-8, 8))
def test_eigen_decomposition(seed: int, n: int, exponent: float) -> None:
    """Eigenvalues are NumPy's; vectors are orthonormal and diagonalise."""
    a = np.random.default_rng(seed).normal(size=(n, n)) * 10.0**exponent
    f = a + a.T
    values, vectors = _eigen(f)
    scale = np.abs(f).max()
    np.testing.assert_allclose(values, np.linalg.eigvalsh(f), atol=1e-13 * scale)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(n), atol=1e-13)
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, f, atol=1e-13 * scale)


@pytest.mark.parametrize("f", [np.zeros((3, 3)), np.diag([3.0, 1.0, 2.0]), np.full((3, 3), np.nan)])
def test_degenerate_matrices(f: np.ndarray) -> None:
    """Zero, diagonal and NaN matrices come to an end."""
    values, vectors = _eigen(f)
    if np.isnan(f).any():
        assert np.isnan(values).any()
    else:
        np.testing.assert_allclose(values, np.sort(np.diag(f)))
        np.testing.assert_allclose(np.abs(vectors).sum(axis=0), 1.0)


@pytest.mark.parametrize(
    ("f", "g", "radius", "expected"),
    [
        (_MATRIX, _GRADIENT, 1.0, (-0.10605501523, -0.61121400348, 0.72562854006, -0.29771294494)),
        # Quirk of the hard case.
        (_MATRIX, -_GRADIENT, 1.0, (0.17536942286, 0.63277278994, -0.71048754973, 0.25308418265)),
        (
            _MATRIX + 2 * np.eye(4),
            _GRADIENT,
            5.0,
            (-0.10416666667, -0.77083333333, 0.97916666667, -0.39583333333),
        ),
    ],
)
def test_trust_region_values(
    f: np.ndarray, g: np.ndarray, radius: float, expected: tuple[float, ...]
) -> None:
    """Steps of the specification."""
    step = np.empty(4)
    solve_trust_region(f, g, radius, 1e-8, step)
    np.testing.assert_allclose(step, expected, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 10))
def test_trust_region_is_optimal(seed: int, radius: float) -> None:
    """For positive definite matrices the step minimises the model."""
    rng = np.random.default_rng(seed)
    a, g = rng.normal(size=(4, 4)), rng.normal(size=4)
    f = a @ a.T + 0.1 * np.eye(4)
    step = np.empty(4)
    solve_trust_region(f, g, radius, 1e-8, step)
    length = np.linalg.norm(step)
    assert length <= radius * (1 + 2e-8)
    # F s + mu s = -g with mu >= 0, and mu = 0 inside.
    mu = -(step @ (f @ step + g)) / length**2
    np.testing.assert_allclose(f @ step + mu * step, -g, atol=1e-6)
    assert mu > -1e-9
    if length < radius * (1 - 1e-6):
        assert mu == pytest.approx(0.0, abs=1e-9)


def test_assembling() -> None:
    """Gradient and Hessian are those of half a sum of squares."""
    rng = np.random.default_rng(5)
    r, jac, gp = rng.normal(size=7), rng.normal(size=(3, 7)), rng.normal(size=3)
    hp = np.diag([1.0, 2.0, 3.0])
    j, g, h = np.empty(3), np.empty(3), np.empty((3, 3))
    assemble(r, jac, gp, hp, j, g, h)
    np.testing.assert_allclose(j, jac @ r)
    np.testing.assert_allclose(g, gp + jac @ r)
    np.testing.assert_allclose(h, hp + jac @ jac.T)


def test_sr1_update() -> None:
    """Small changes of the gradient are skipped; large ones are learned."""
    control = OptimizerConfig().pack()
    step, zero = np.array([1.0, 0.0]), np.zeros(2)
    b, h = np.zeros((2, 2)), np.eye(2)
    update_sr1(control, step, 1.0, zero, np.array([0.9, 0.0]), b, h)
    np.testing.assert_array_equal(b, 0.0)
    update_sr1(control, step, 1.0, zero, np.array([2.0, 1.0]), b, h)
    np.testing.assert_allclose(b, np.outer([2.0, 1.0], [2.0, 1.0]) / 2.0)
    np.testing.assert_allclose(h, np.eye(2) + b)
    config = OptimizerConfig()
    config.noSR1Term = True
    update_sr1(config.pack(), step, 1.0, zero, np.array([2.0, 1.0]), b, h)
    np.testing.assert_allclose(h, np.eye(2) + b)


@pytest.mark.parametrize(
    ("ratio", "length", "expected"), [(0.9, 0.9, 2.0), (0.9, 0.5, 1.0), (0.5, 1.0, 1.0), (0.1, 1.0, 1 / 3)]
)
def test_trust_radius(ratio: float, length: float, expected: float) -> None:
    """Good long steps enlarge the trust region, bad ones shrink it."""
    assert grow_or_shrink(OptimizerConfig().pack(), ratio, length, 1.0) == pytest.approx(expected)
