# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from collections.abc import Callable

import galsim
import numpy as np
import piff
import pytest

from lsst.meas.finalize.psf.structured._design import make_design
from lsst.meas.finalize.psf.structured._interpolant import grid_weights
from lsst.meas.finalize.psf.structured._solver import (
    NormalEquations,
    Preconditioner,
    orthonormal_terms,
    solve_normal_equations,
)
from lsst.meas.finalize.psf.structured._stars import NotCoveredError, extract_stars

_SIZE = 5


def _equations(stars: list[piff.Star], terms: np.ndarray) -> tuple[NormalEquations, np.ndarray, np.ndarray]:
    """Make a small system with masked pixels; return it with both sides."""
    rng = np.random.default_rng(3)
    arrays = extract_stars(stars)
    design = make_design(arrays, grid_weights(galsim.Lanczos(5)), _SIZE, 0.2)
    center = rng.normal(scale=0.05, size=(len(stars), 2))
    support = design.support(center)
    design.set_center(center, support)
    weight = np.where(support & (rng.uniform(size=support.shape) > 0.1), arrays.weight, 0.0)
    image = weight * arrays.image
    return NormalEquations(design=design, terms=terms, weight=weight), image, weight.mean(axis=(1, 2))


def test_dense_solution(make_star_list: Callable[..., list[piff.Star]]) -> None:
    """Solve the system that the dense normal matrix gives."""
    stars = make_star_list(20, stamp=7)
    terms = np.column_stack([np.ones(20), [s.x for s in stars], [s.y for s in stars]])
    equations, image, star_weight = _equations(stars, terms)
    preconditioner = Preconditioner.from_design(equations.design, star_weight)
    q = solve_normal_equations(equations, image, image, star_weight, preconditioner, probe=True)
    columns = np.eye(3 * _SIZE**2).reshape(-1, 3, _SIZE**2)
    dense = np.array([equations.apply(column).ravel() for column in columns])
    np.testing.assert_allclose(dense, dense.T, atol=1e-12 * np.abs(dense).max())
    side = equations.right_hand_side(image).ravel()
    expected = np.linalg.solve(dense, side).reshape(3, -1).T
    scale = np.abs(expected).max(axis=0)
    np.testing.assert_allclose(q / scale, expected / scale, atol=1e-9)


def test_undetermined_grid(make_star_list: Callable[..., list[piff.Star]]) -> None:
    """Notice directions that no star constrains."""
    equations, image, star_weight = _equations(make_star_list(1, stamp=7), np.ones((1, 1)))
    preconditioner = Preconditioner.from_design(equations.design, star_weight)
    equations.weight[:, 2:6, :] = 0.0
    image[:, 2:6, :] = 0.0
    # 21 pixels for 25 unknowns.
    with pytest.raises(NotCoveredError):
        solve_normal_equations(equations, image, image, star_weight, preconditioner, probe=True)


def test_orthonormal_terms() -> None:
    """Make terms orthonormal, and lead back."""
    rng = np.random.default_rng(4)
    x, weight = rng.uniform(0.0, 4000.0, 30), rng.uniform(0.1, 3.0, 30)
    terms = np.column_stack([np.ones(30), x, x**2])
    new, back = orthonormal_terms(terms, weight)
    np.testing.assert_allclose((new * weight[:, np.newaxis]).T @ new, np.eye(3), atol=1e-11)
    np.testing.assert_allclose(terms @ back, new)


@pytest.mark.parametrize(
    ("terms", "match"),
    [
        (np.ones((2, 3)), "2 stars for 3"),
        (np.ones((5, 2)), "constrain all polynomial terms"),
        (np.column_stack([np.ones(5), np.zeros(5)]), "vanishes"),
        (np.column_stack([np.ones(5), np.full(5, 1e200)]), "isn't finite"),
    ],
)
def test_dependent_terms(terms: np.ndarray, match: str) -> None:
    """Refuse terms that the stars don't tell apart."""
    with pytest.raises(NotCoveredError, match=match), np.errstate(over="ignore"):
        orthonormal_terms(terms, np.ones(len(terms)))


def test_cost_of_a_step(make_star_list: Callable[..., list[piff.Star]]) -> None:
    """Draw each star once per step, whatever the number of terms."""
    stars = make_star_list(40, stamp=7)
    drawn: list[int] = []
    for order in (1, 3):
        terms = np.column_stack([np.array([s.x for s in stars]) ** k for k in range(order + 1)]) / 1e3
        equations, _, _ = _equations(stars, terms)

        def draw(
            grid: np.ndarray, block: slice, original: Callable[..., np.ndarray] = equations.design.draw
        ) -> np.ndarray:
            drawn.append(len(grid))
            return original(grid, block)

        equations.design.draw = draw  # type: ignore[method-assign]
        equations.apply(np.zeros((order + 1, _SIZE**2)))
    assert drawn == [32, 8, 32, 8]
