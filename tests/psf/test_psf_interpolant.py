# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.psf._interpolant import InterpolantTaps, banded, toeplitz_bands


@pytest.mark.parametrize(
    "interpolant",
    [
        galsim.Lanczos(1),
        galsim.Lanczos(2),
        galsim.Lanczos(3),
        galsim.Lanczos(11),
        galsim.Lanczos(11, conserve_dc=False),
        galsim.Lanczos(25),
        galsim.Quintic(),
        galsim.Cubic(),
        galsim.Linear(),
    ],
)
def test_taps_are_galsims_kernel(interpolant: galsim.Interpolant) -> None:
    """The Chebyshev series reproduce GalSim's kernel values to rounding."""
    taps = InterpolantTaps(interpolant)
    fraction = np.random.default_rng(1).uniform(size=200)
    steps = np.arange(1 - taps.half_width, taps.half_width + 1)
    expected = interpolant.xval((steps - fraction[:, None]).ravel()).reshape(200, -1)
    np.testing.assert_allclose(taps(fraction), expected, rtol=0, atol=5e-15)


@pytest.mark.parametrize(
    "interpolant", [galsim.Nearest(), galsim.Delta(), galsim.SincInterpolant(), galsim.Lanczos(0)]
)
def test_rough_kernels_are_refused(interpolant: galsim.Interpolant) -> None:
    """Kernels with jumps or without an end can't be represented."""
    assert not InterpolantTaps.supports(interpolant)
    with pytest.raises(ValueError, match="no smooth finite kernel"):
        InterpolantTaps(interpolant)


@settings(max_examples=30, deadline=None)
@given(
    start=st.lists(st.floats(-30, 40), min_size=1, max_size=4),
    step=st.integers(1, 3),
    n_out=st.integers(1, 20),
    n_grid=st.integers(1, 20),
)
def test_toeplitz_bands_are_bands(start: list[float], step: int, n_out: int, n_grid: int) -> None:
    """Shifting one row of weights gives what evaluating each pixel gives."""
    taps = InterpolantTaps(galsim.Lanczos(3))
    first = np.array(start)
    positions = first[:, None] + step * np.arange(n_out)
    expected = banded(taps, positions, n_grid)
    result = toeplitz_bands(taps, first, step, n_out, n_grid)
    # Adding whole numbers to a position costs a few ulp of the position.
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)
