# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import galsim
import numpy as np
import piff
import pytest

from lsst.images import Box
from lsst.images.psfs import GaussianPointSpreadFunction, PiffWrapper
from lsst.meas.finalize.afw.psfs._psfs import DoubleGaussianPsf
from lsst.meas.finalize.psf import PiffPsf, as_batch_psf

_BOUNDS = Box.factory[0:400, 0:500]


def _add_stars(psf: piff.SimplePSF, colors: list[float], types: list[str]) -> None:
    psf.stars = []
    for i, (color, kind) in enumerate(zip(colors, types, strict=True)):
        star = piff.Star.makeTarget(x=100.0 + i, y=50.0 + 2 * i, scale=0.2)
        star.data.properties.update(colorValue=color, colorType=kind)
        psf.stars.append(star)


def test_images_sum_to_one(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """All images are normalised, also on stamps smaller than the PSF."""
    psf = PiffPsf(make_grid_psf(), _BOUNDS, 5)
    x, y = np.random.default_rng(1).uniform(0, 400, (2, 20))
    images, x0, y0 = psf.draw_star_images(x, y)
    for array in (images, psf.draw_kernel_images(x, y)):
        np.testing.assert_allclose(array.sum(axis=(1, 2)), 1.0, rtol=1e-14)
    # The centre of the stamp is the pixel the star is on.
    assert np.all(np.abs(x0 + 2 - x) <= 0.5)
    assert np.all(np.abs(y0 + 2 - y) <= 0.5)


def test_single_images_are_those_of_batches(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """The interface of lsst.images gives the pixels of a batch."""
    impl = make_grid_psf()
    psf = PiffPsf(impl, _BOUNDS, 15)
    wrapper = PiffWrapper(impl, _BOUNDS, 15)
    images, x0, y0 = psf.draw_star_images([12.3], [45.6])
    single = psf.compute_stellar_image(x=12.3, y=45.6)
    np.testing.assert_array_equal(single.array, images[0])
    assert single.bbox == psf.compute_stellar_bbox(x=12.3, y=45.6)
    assert (single.bbox.x.start, single.bbox.y.start) == (x0[0], y0[0])
    reference = wrapper.compute_stellar_image(x=12.3, y=45.6)
    assert reference.bbox == single.bbox
    np.testing.assert_allclose(single.array, reference.array, rtol=0, atol=1e-14)
    kernel = psf.compute_kernel_image(x=12.3, y=45.6)
    assert kernel.bbox == psf.kernel_bbox
    np.testing.assert_allclose(
        kernel.array, wrapper.compute_kernel_image(x=12.3, y=45.6).array, rtol=0, atol=1e-14
    )


def test_half_integer_boxes_hold_the_star(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """At half-integers the box is that of the pixels Piff drew."""
    psf = PiffPsf(make_grid_psf(order=0), _BOUNDS, 15)
    image = psf.compute_stellar_image(x=20.5, y=31.5)
    rows, columns = np.mgrid[image.bbox.y.start : image.bbox.y.stop, image.bbox.x.start : image.bbox.x.stop]
    # The model is symmetric up to the cut of the stamp, far below 0.01.
    assert (image.array * columns).sum() == pytest.approx(20.5, abs=0.01)
    assert (image.array * rows).sum() == pytest.approx(31.5, abs=0.01)
    assert image.bbox == psf.compute_stellar_bbox(x=20.5, y=31.5)


def test_unknown_positions(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """NaN stands for the average position, infinity for nothing."""
    impl = make_grid_psf()
    _add_stars(impl, [np.nan] * 3, [""] * 3)
    impl.stars[2] = impl.stars[2].flag_if(True)
    psf = PiffPsf(impl, _BOUNDS, 15)
    assert psf.average_position == (100.5, 51.0)
    images, x0, y0 = psf.draw_star_images([np.nan, np.inf, 100.5], [3.0, 3.0, 51.0])
    np.testing.assert_array_equal(images[0], images[2])
    assert np.isnan(images[1]).all()
    assert np.isnan(psf.compute_shapes([np.inf], [0.0])).all()
    with pytest.raises(ValueError, match="no image of a star"):
        psf.compute_stellar_bbox(x=np.inf, y=0.0)
    with pytest.raises(ValueError, match="one-dimensional"):
        psf.draw_kernel_images(1.0, 2.0)


def test_no_stars(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """A model without stars is as good as its bounds."""
    psf = PiffPsf(make_grid_psf(), _BOUNDS, 15)
    assert psf.average_position == (249.5, 199.5)
    assert np.isnan(psf.average_color)
    assert psf.color_type is None


def test_colors(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """The average colour stands in for unknown ones."""
    impl = make_grid_psf(keys=("x", "y", "colorValue"), order=1)
    with pytest.raises(ValueError, match="no color was given"):
        PiffPsf(impl, _BOUNDS, 15).draw_kernel_images([1.0], [1.0])
    _add_stars(impl, [0.5, 1.5, np.nan], ["g-i"] * 3)
    psf = PiffPsf(impl, _BOUNDS, 15)
    assert psf.average_color == 1.0
    assert psf.color_type == "g-i"
    images = psf.draw_kernel_images([9.0] * 4, [8.0] * 4, [np.nan, 1.0, 2.0, 0.0])
    np.testing.assert_array_equal(images[0], images[1])
    assert np.abs(images[2] - images[0]).max() > 1e-5
    # Matrix products of other shapes may round differently.
    np.testing.assert_allclose(psf.draw_kernel_images([9.0], [8.0])[0], images[0], rtol=1e-14)
    np.testing.assert_allclose(psf.compute_kernel_image(x=9.0, y=8.0, color=2.0).array, images[2], rtol=1e-14)
    expected = impl.draw(9.0, 8.0, stamp_size=15, center=True, colorValue=2.0).array
    np.testing.assert_allclose(images[2], expected / expected.sum(), rtol=0, atol=1e-14)
    psf.check_color_type("g-i")
    psf.check_color_type("")
    with pytest.raises(ValueError, match="'g-i', not on 'r-z'"):
        psf.check_color_type("r-z")
    _add_stars(impl, [0.5, 1.5], ["g-i", "r-i"])
    assert PiffPsf(impl, _BOUNDS, 15).color_type is None


def test_shapes_and_fluxes_of_a_gaussian(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """Moments and aperture fluxes are those of the known profile."""
    psf = PiffPsf(make_grid_psf(order=0, size=31), _BOUNDS, 31)
    shapes = psf.compute_shapes([30.0, 31.0], [40.0, 41.0])
    # A Gaussian of sigma 2; the iteration stops at 1e-4 relative.
    np.testing.assert_allclose(shapes, [[4.0, 4.0, 0.0]] * 2, rtol=0, atol=1e-3)
    # Sampled well enough that the sinc aperture is exact up to ~1e-4.
    fluxes = psf.compute_aperture_fluxes(5.0, [30.0], [40.0])
    assert fluxes[0] == pytest.approx(1.0 - np.exp(-25.0 / 8.0), abs=2e-4)
    # Larger than the stamp: zero beyond.
    assert psf.compute_aperture_fluxes(40.0, [30.0], [40.0])[0] == pytest.approx(1.0, abs=2e-3)
    assert psf.compute_shapes([], []).shape == (0, 3)


def test_copies_share_the_model(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """Copies are cheap; pickles draw the same."""
    psf = PiffPsf(make_grid_psf(), _BOUNDS, 15)
    image = psf.draw_kernel_images([3.0], [4.0])
    assert copy.deepcopy(psf).piff_psf is psf.piff_psf
    larger = psf.resized(21)
    assert larger.piff_psf is psf.piff_psf
    assert larger.draw_kernel_images([3.0], [4.0]).shape == (1, 21, 21)
    restored = pickle.loads(pickle.dumps(psf))
    np.testing.assert_array_equal(restored.draw_kernel_images([3.0], [4.0]), image)


@pytest.mark.parametrize("size", [0, -3, 14, 15.5])
def test_bad_stamp_size(make_grid_psf: Callable[..., piff.SimplePSF], size: float) -> None:
    """Stamps must have a centre."""
    with pytest.raises(ValueError, match="positive odd"):
        PiffPsf(make_grid_psf(), _BOUNDS, size)  # type: ignore[arg-type]


def test_several_chips(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """A model of several chips is refused."""
    impl = make_grid_psf()
    impl.set_context({0: galsim.PixelScale(0.2), 1: galsim.PixelScale(0.2)})
    with pytest.raises(ValueError, match="exactly one chip"):
        PiffPsf(impl, _BOUNDS, 15)


def test_batches_of_other_psfs(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """Any PSF gets the batch interface."""
    impl = make_grid_psf()
    psf = as_batch_psf(PiffWrapper(impl, _BOUNDS, 15))
    assert isinstance(psf, PiffPsf)
    assert as_batch_psf(psf) is psf
    assert psf.stamp_size == 15
    gaussian = GaussianPointSpreadFunction(2.0, bounds=_BOUNDS, stamp_size=21)
    batch = as_batch_psf(gaussian)
    assert batch.average_position == (249.5, 199.5)
    images, x0, y0 = batch.draw_star_images([30.2, np.nan], [40.0, 7.0])
    reference = gaussian.compute_stellar_image(x=30.2, y=40.0)
    np.testing.assert_array_equal(images[0], reference.array)
    assert (x0[0], y0[0]) == (reference.bbox.x.start, reference.bbox.y.start)
    kernel = gaussian.compute_kernel_image(x=1.0, y=1.0).array
    np.testing.assert_array_equal(batch.draw_kernel_images([30.0, 31.0], [40.0, np.nan]), [kernel] * 2)
    np.testing.assert_array_equal(batch.compute_shapes([30.0], [40.0]), [[4.0, 4.0, 0.0]])
    assert batch.compute_aperture_fluxes(5.0, [30.0], [40.0])[0] == pytest.approx(
        1.0 - np.exp(-25.0 / 8.0), rel=1e-14
    )
    with pytest.raises(TypeError, match="int is not a PSF"):
        as_batch_psf(3)  # type: ignore[arg-type]


def test_batches_of_psfs_that_draw_batches() -> None:
    """Drawing is left to PSFs that can do it; shapes are added."""
    kernel_psf = DoubleGaussianPsf(_BOUNDS, 21, 21, 1.5, 3.0, 0.1)
    batch = as_batch_psf(kernel_psf)
    x, y = np.array([30.2, 40.7]), np.array([20.0, 10.5])
    np.testing.assert_array_equal(batch.draw_kernel_images(x, y), kernel_psf.draw_kernel_images(x, y))
    for result, expected in zip(batch.draw_star_images(x, y), kernel_psf.draw_star_images(x, y), strict=True):
        np.testing.assert_array_equal(result, expected)
    image = galsim.Image(kernel_psf.draw_kernel_images(x, y)[0])
    expected_sigma = galsim.hsm.FindAdaptiveMom(image).moments_sigma
    # Two implementations of the same moments, each stopping at 1e-4 or so.
    assert np.sqrt(batch.compute_shapes(x, y)[0, 0]) == pytest.approx(expected_sigma, rel=1e-3)
    assert 0.8 < batch.compute_aperture_fluxes(5.0, x, y)[0] < 1.0
