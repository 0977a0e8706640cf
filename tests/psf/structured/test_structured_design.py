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

from lsst.meas.finalize.psf.structured._design import (
    Design,
    GeneralDesign,
    SeparableDesign,
    make_design,
)
from lsst.meas.finalize.psf.structured._interpolant import grid_weights
from lsst.meas.finalize.psf.structured._stars import extract_stars

_SIZE = 7
_SCALE = 0.25
_ALL = slice(None)

_FRAMES = {
    "straight": galsim.AffineTransform(0.2, 0.0, 0.0, 0.21),
    "exchanged": galsim.AffineTransform(0.0, -0.2, 0.19, 0.0),
    "sheared": galsim.AffineTransform(0.2, 0.03, -0.01, 0.19),
}


@pytest.mark.parametrize("frame", _FRAMES)
@pytest.mark.parametrize("interp", [galsim.Lanczos(5), galsim.Quintic(), galsim.Linear(), galsim.Nearest()])
def test_same_matrix_as_piff(
    frame: str, interp: galsim.Interpolant, make_star_list: Callable[..., list[piff.Star]]
) -> None:
    """Form the rows of Piff's own design matrices."""
    rng = np.random.default_rng(5)
    stars = make_star_list(4, stamp=10, wcs=_FRAMES[frame])
    center = rng.normal(scale=0.05, size=(4, 2))
    arrays = extract_stars(stars)
    design = make_design(arrays, grid_weights(interp), _SIZE, _SCALE)
    assert isinstance(design, GeneralDesign if frame == "sheared" else SeparableDesign)
    support = design.support(center)
    design.set_center(center, support)
    grid = rng.normal(size=(4, _SIZE, _SIZE))
    image = rng.normal(size=arrays.image.shape)
    drawn = design.draw(grid, _ALL)
    projected = design.adjoint(design.pack(np.where(support, image, 0.0)), _ALL)
    model = piff.PixelGrid(_SCALE, _SIZE, interp=interp)
    for i, star in enumerate(stars):
        fit = piff.StarFit(np.full(_SIZE**2, 1.0 / _SIZE**2), flux=2.0, center=tuple(center[i]))
        dense = model.chisq(piff.Star(star.data, fit)).fit.A / 2.0
        used = support[i] & (arrays.weight[i] > 0.0)
        dense /= np.sqrt(arrays.weight[i][used])[:, np.newaxis]
        expected = design.pack(np.zeros_like(image))[i]
        full = np.zeros(arrays.image.shape)
        full[i][used] = dense @ grid[i].ravel()
        expected = design.pack(full)[i]
        selected = design.pack(np.where(support & (arrays.weight > 0.0), 1.0, 0.0))[i] > 0.0
        np.testing.assert_allclose(drawn[i][selected], expected[selected], atol=1e-13)
        masked = support[i] & ~used
        remainder = projected[i].ravel() - dense.T @ image[i][used]
        assert masked.any() or np.abs(remainder).max() < 1e-12


@pytest.mark.parametrize("frame", _FRAMES)
def test_adjoint(frame: str, make_star_list: Callable[..., list[piff.Star]]) -> None:
    """Transpose the map exactly."""
    rng = np.random.default_rng(6)
    arrays = extract_stars(make_star_list(5, stamp=9, wcs=_FRAMES[frame]))
    design = make_design(arrays, grid_weights(galsim.Lanczos(3)), _SIZE, _SCALE)
    center = rng.normal(scale=0.1, size=(5, 2))
    support = design.support(center)
    design.set_center(center, support)
    grid = rng.normal(size=(5, _SIZE, _SIZE))
    image = design.pack(np.where(support, rng.normal(size=support.shape), 0.0))
    np.testing.assert_allclose(
        np.vdot(design.draw(grid, _ALL), image), np.vdot(grid, design.adjoint(image, _ALL))
    )


@pytest.mark.parametrize("frame", _FRAMES)
def test_draw_like_galsim(frame: str, make_star_list: Callable[..., list[piff.Star]]) -> None:
    """Draw the images GalSim draws, also of shifted stars."""
    rng = np.random.default_rng(7)
    stars = make_star_list(3, stamp=10, wcs=_FRAMES[frame])
    design = make_design(extract_stars(stars), grid_weights(galsim.Lanczos(5)), _SIZE, _SCALE)
    center = rng.normal(scale=0.05, size=(3, 2))
    grid = rng.uniform(0.5, 1.0, size=(3, _SIZE, _SIZE))
    grid /= grid.sum(axis=(1, 2), keepdims=True)
    images = np.empty((3, 3, 10, 10))
    design.draw_shifted(grid, design.shifts(center, 0.01), 0.01, images)
    model = piff.PixelGrid(_SCALE, _SIZE, interp=galsim.Lanczos(5))
    for image, shift in zip(images.swapaxes(0, 1), [(0.0, 0.0), (0.01, 0.0), (0.0, 0.01)], strict=True):
        for i, star in enumerate(stars):
            fit = piff.StarFit(grid[i].ravel(), center=tuple(center[i] + shift))
            expected = model.draw(piff.Star(star.data, fit)).image.array
            np.testing.assert_allclose(image[i], expected, atol=1e-13 * expected.max())


def _mean_gram(design: Design, support: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Average the normal matrices of stars, column by column."""
    count = len(weight)
    gram = np.zeros((_SIZE**2, _SIZE**2))
    for k, node in enumerate(np.eye(_SIZE**2).reshape(-1, _SIZE, _SIZE)):
        image = design.draw(np.repeat(node[np.newaxis], count, axis=0), _ALL)
        image *= design.pack(support.astype(float))
        gram[k] = np.tensordot(weight / weight.sum(), design.adjoint(image, _ALL), axes=1).ravel()
    return gram


def test_mean_gram(make_star_list: Callable[..., list[piff.Star]]) -> None:
    """Average the normal matrices of the stars."""
    rng = np.random.default_rng(8)
    arrays = extract_stars(make_star_list(6, stamp=10, wcs=_FRAMES["sheared"]))
    design = GeneralDesign(arrays, grid_weights(galsim.Lanczos(5)), _SIZE, _SCALE)
    center = rng.normal(scale=0.05, size=(6, 2))
    support = design.support(center)
    design.set_center(center, support)
    weight = rng.uniform(1.0, 2.0, size=6)
    expected = _mean_gram(design, support, weight)
    np.testing.assert_allclose(design.mean_gram(weight), expected, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("frame", ["straight", "exchanged"])
def test_mean_factors(frame: str, make_star_list: Callable[..., list[piff.Star]]) -> None:
    """Factorise the normal matrix of one star exactly."""
    arrays = extract_stars(make_star_list(1, stamp=10, wcs=_FRAMES[frame]))
    design = SeparableDesign(arrays, grid_weights(galsim.Lanczos(5)), _SIZE, _SCALE)
    center = np.array([[0.03, -0.04]])
    support = design.support(center)
    design.set_center(center, support)
    expected = _mean_gram(design, support, np.array([2.0]))
    product = np.kron(*design.mean_factors(np.array([2.0])))
    np.testing.assert_allclose(product, expected, atol=1e-13 * np.abs(expected).max())
