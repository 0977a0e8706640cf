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

from lsst.meas.finalize.psf.structured._interpolant import grid_weights
from lsst.meas.finalize.psf.structured._stars import NotCoveredError

_KERNELS = [
    galsim.Lanczos(11),
    galsim.Lanczos(3, conserve_dc=False),
    galsim.Cubic(),
    galsim.Quintic(),
    galsim.Linear(),
    galsim.Nearest(),
]


@pytest.mark.parametrize("kernel", _KERNELS, ids=repr)
@pytest.mark.parametrize("size", [8, 25])
def test_weights(kernel: galsim.Interpolant, size: int) -> None:
    """Evaluate the kernel at the distances of all nodes."""
    rng = np.random.default_rng(2)
    position = np.append(rng.uniform(-40.0, 40.0, size=97), [0.0, 3.0, -size // 2])
    nodes = np.arange(size) - size // 2
    expected = kernel.xval((nodes - position[:, np.newaxis]).ravel()).reshape(100, size)
    weights = grid_weights(kernel)(position.reshape(10, 10), size)
    np.testing.assert_allclose(weights, expected.reshape(10, 10, size), atol=1e-14)


@pytest.mark.parametrize("kernel", _KERNELS[:-1], ids=repr)
def test_one_node_apart(kernel: galsim.Interpolant) -> None:
    """Agree with the general evaluation, also far off the grid."""
    start = np.array([-12.3, -12.0, 0.4, -40.7, 39.2, 1e9, -1e9])
    weights = grid_weights(kernel)
    expected = weights(start[:, np.newaxis] + np.arange(20), 25)
    np.testing.assert_allclose(weights.one_node_apart(start, 20, 25), expected, atol=1e-13)


@pytest.mark.parametrize("kernel", [galsim.Delta(), galsim.SincInterpolant()], ids=repr)
def test_no_finite_kernel(kernel: galsim.Interpolant) -> None:
    """Refuse kernels without a finite smooth form."""
    with pytest.raises(NotCoveredError, match="kernel"):
        grid_weights(kernel)
