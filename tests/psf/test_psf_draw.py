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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.psf._draw import GridDrawer, LoopDrawer, make_drawer, stamp_origin

_ANGLES = np.random.default_rng(3).uniform(20.0, 480.0, size=(2, 12))
_POINTING = galsim.CelestialCoord(1.0 * galsim.radians, -0.4 * galsim.radians)


def _sheared() -> galsim.BaseWCS:
    return galsim.AffineTransform(0.19, 0.03, -0.02, 0.21, origin=galsim.PositionD(250, 250))


def _curved() -> galsim.BaseWCS:
    return galsim.UVFunction(lambda x, y: 0.2 * x + 1e-6 * x * y, lambda x, y: 0.2 * y + 2e-6 * x * x)


def _celestial() -> galsim.BaseWCS:
    return galsim.TanWCS(_sheared(), _POINTING)


def _agree(psf: piff.SimplePSF, size: int, **properties: np.ndarray) -> None:
    x, y = _ANGLES
    drawer = make_drawer(psf)
    assert isinstance(drawer, GridDrawer)
    for centered in (True, False):
        expected = LoopDrawer(psf).draw(x, y, properties, size, centered)
        result = drawer.draw(x, y, properties, size, centered)
        # GalSim normalises the profile to unit flux; only shape matters.
        result /= result.sum(axis=(1, 2), keepdims=True)
        expected /= expected.sum(axis=(1, 2), keepdims=True)
        # Rounding only: the same products in another order.
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12 * expected.max())


@pytest.mark.parametrize("size", [9, 15, 21])
def test_pixel_coordinates(make_grid_psf: Callable[..., piff.SimplePSF], size: int) -> None:
    """Images are those of Piff."""
    _agree(make_grid_psf(), size)


@pytest.mark.parametrize("sampling", [0.5, 0.7, 1.3])
def test_sampling(make_grid_psf: Callable[..., piff.SimplePSF], sampling: float) -> None:
    """Models whose pixels aren't the image's are drawn as by Piff."""
    _agree(make_grid_psf(sampling=sampling), 15)


@pytest.mark.parametrize("interp", [galsim.Lanczos(11), galsim.Quintic(), galsim.Cubic(), galsim.Linear()])
def test_interpolants(make_grid_psf: Callable[..., piff.SimplePSF], interp: galsim.Interpolant) -> None:
    """All smooth kernels are GalSim's."""
    _agree(make_grid_psf(interp=interp), 15)


@pytest.mark.parametrize("wcs", [_sheared(), _curved()])
def test_field_coordinates(make_grid_psf: Callable[..., piff.SimplePSF], wcs: galsim.BaseWCS) -> None:
    """A WCS with shear or curvature is followed."""
    _agree(make_grid_psf(wcs, keys=("u", "v")), 15)


def test_sky_coordinates(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """Sky coordinates are projected at the pointing."""
    _agree(make_grid_psf(_celestial(), keys=("u", "v"), pointing=_POINTING), 15)


def test_color(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """Colour is a third polynomial variable."""
    colors = np.random.default_rng(2).uniform(0, 2, size=_ANGLES.shape[1])
    _agree(make_grid_psf(keys=("x", "y", "colorValue"), order=1), 15, colorValue=colors)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(x=st.floats(-5, 500), y=st.one_of(st.floats(-5, 500), st.integers(-5, 500).map(lambda i: i + 0.5)))
def test_bounds_are_piffs(make_grid_psf: Callable[..., piff.SimplePSF], x: float, y: float) -> None:
    """Boxes are where Piff put the pixels, also at half-integers."""
    bounds = make_grid_psf(size=5).draw(x, y, stamp_size=7).bounds
    assert stamp_origin(np.array([x, y]), 7).tolist() == [bounds.xmin, bounds.ymin]


def test_even_stamps(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """Stamps of even size have Piff's centre."""
    _agree(make_grid_psf(), 14)


def test_other_models_are_left_to_piff(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """What isn't a smooth pixel grid is drawn by Piff."""
    assert isinstance(make_drawer(make_grid_psf(interp=galsim.Nearest())), LoopDrawer)
    gaussian = piff.SimplePSF(piff.Gaussian(), piff.BasisPolynomial(0, keys=("x", "y")))
    gaussian.interp.q = np.array([[0.5], [0.0], [0.0]])
    gaussian.set_context({0: galsim.PixelScale(0.2)})
    drawer = make_drawer(gaussian)
    assert isinstance(drawer, LoopDrawer)
    image = drawer.draw(np.array([10.0]), np.array([20.0]), {}, 31, True)[0]
    moments = galsim.hsm.FindAdaptiveMom(galsim.Image(image))
    assert moments.moments_sigma == pytest.approx(np.hypot(2.5, 12**-0.5), rel=1e-3)
    with pytest.raises(ValueError, match="Cannot draw SimplePSF as a pixel grid"):
        GridDrawer(gaussian)


def test_no_positions(make_grid_psf: Callable[..., piff.SimplePSF]) -> None:
    """An empty batch is drawn too."""
    empty = np.zeros(0)
    assert make_drawer(make_grid_psf()).draw(empty, empty, {}, 15, False).shape == (0, 15, 15)
