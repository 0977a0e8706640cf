# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
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

from lsst.meas.finalize.psf.structured._design import GeneralDesign, make_design
from lsst.meas.finalize.psf.structured._interpolant import grid_weights
from lsst.meas.finalize.psf.structured._preconditioner import Preconditioner
from lsst.meas.finalize.psf.structured._solver import (
    NormalEquations,
    solve_minimum_norm,
    solve_normal_equations,
)
from lsst.meas.finalize.psf.structured._stars import NotCoveredError, extract_stars
from lsst.meas.finalize.psf.structured._terms import orthonormal_terms, reduced_terms

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
        equations.design.block_length = 32  # type: ignore[misc]

        def draw(
            grid: np.ndarray, block: slice, original: Callable[..., np.ndarray] = equations.design.draw
        ) -> np.ndarray:
            drawn.append(len(grid))
            return original(grid, block)

        equations.design.draw = draw  # type: ignore[method-assign]
        equations.apply(np.zeros((order + 1, _SIZE**2)))
    assert drawn == [32, 8, 32, 8]


_POSITIONS = np.random.default_rng(4).uniform(0.0, 4000.0, (2, 12))
_DEPENDENT = {
    "one colour": np.column_stack([np.ones(12), *_POSITIONS, np.full(12, 0.7)]),
    "no colour": np.column_stack([np.ones(12), *_POSITIONS, np.zeros(12)]),
    "one row": np.column_stack([np.ones(12), _POSITIONS[0], np.full(12, 500.0), _POSITIONS[0] * 500.0]),
    "few stars": np.column_stack(
        [_POSITIONS[0, :4] ** i * _POSITIONS[1, :4] ** j for i, j in np.ndindex(3, 2)]
    ),
}


@pytest.mark.parametrize("case", _DEPENDENT)
def test_reduced_terms(case: str) -> None:
    """Represent the model at the stars by the least coefficients."""
    terms = _DEPENDENT[case]
    weight = np.random.default_rng(5).uniform(0.1, 3.0, len(terms))
    new, back = reduced_terms(terms, weight)
    rank = {"one colour": 3, "no colour": 3, "one row": 2, "few stars": 4}[case]
    assert new.shape == (len(terms), rank)
    np.testing.assert_allclose((new * weight[:, np.newaxis]).T @ new, np.eye(rank), atol=1e-11)
    scale = np.abs(terms).max(axis=1)
    np.testing.assert_allclose((terms @ back) / scale[:, np.newaxis], new / scale[:, np.newaxis], atol=1e-11)
    # In exact arithmetic the pseudo-inverse of the terms gives the same.
    rows = np.linalg.svd(terms / np.linalg.norm(terms, axis=1)[:, np.newaxis], full_matrices=False)[2][:rank]
    outside = back - rows.T @ (rows @ back)
    np.testing.assert_allclose(outside / np.abs(back).max(axis=0), 0.0, atol=1e-9)


def test_full_rank_is_not_reduced() -> None:
    """Keep all terms that the stars tell apart."""
    terms = np.column_stack([np.ones(12), *_POSITIONS])
    new, back = reduced_terms(terms, np.ones(12))
    np.testing.assert_allclose(terms @ back, new, atol=1e-11)
    assert new.shape == terms.shape


def test_no_weight() -> None:
    """Refuse stars without weight."""
    with pytest.raises(NotCoveredError, match="no weight"):
        reduced_terms(np.ones((4, 2)), np.zeros(4))


def _dense(equations: NormalEquations) -> np.ndarray:
    """Return the weighted design matrix for the transposed coefficients."""
    columns = np.eye(equations.terms.shape[1] * _SIZE**2).reshape(-1, equations.terms.shape[1], _SIZE**2)
    root = np.sqrt(equations.weight)
    return np.array([(root * equations.draw(column)).ravel() for column in columns]).T


@pytest.mark.parametrize("count", [2, 12])
def test_minimum_norm(count: int, make_star_list: Callable[..., list[piff.Star]]) -> None:
    """Find the least solution if pixels or stars are missing."""
    equations, image, star_weight = _equations(make_star_list(count, stamp=7), np.ones((count, 1)))
    equations.weight[:, 3:5, :] = 0.0
    image[:, 3:5, :] = 0.0
    q = solve_minimum_norm(equations, image, star_weight)
    data = np.divide(image, np.sqrt(equations.weight), out=np.zeros_like(image), where=equations.weight > 0.0)
    expected = np.linalg.lstsq(_dense(equations), data.ravel(), rcond=1e-12)[0]
    np.testing.assert_allclose(q[:, 0], expected, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("transposed", [False, True])
def test_factors(transposed: bool, make_star_list: Callable[..., list[piff.Star]]) -> None:
    """Precondition by the factors of the normal matrix as by the matrix."""
    wcs = galsim.AffineTransform(0.0, 0.2, 0.2, 0.0) if transposed else galsim.PixelScale(0.2)
    arrays = extract_stars(make_star_list(3, stamp=7, wcs=wcs))
    design = make_design(arrays, grid_weights(galsim.Lanczos(5)), _SIZE, 0.2)
    # Equal centres make the mean of products the product of means.
    center = np.tile([0.03, -0.05], (3, 1)) - arrays.pixel_uv(0)[:, 3:4, 3, np.newaxis][:, 0] * [1.0, 0.0]
    center[:, 1] -= arrays.pixel_uv(1)[:, 3, 3]
    center *= [-1.0, -1.0]
    design.set_center(center, design.support(center))
    weight = np.array([1.0, 2.0, 0.5])
    factors = Preconditioner.from_design(design, weight)
    assert factors.inverse is None
    general = GeneralDesign(arrays, design.weights, _SIZE, 0.2)
    general.set_center(center, general.support(center))
    dense = Preconditioner.from_design(general, weight)
    assert dense.factors is None
    r = np.random.default_rng(1).normal(size=(2, _SIZE**2))
    np.testing.assert_allclose(factors.apply(r), dense.apply(r), rtol=1e-6)
