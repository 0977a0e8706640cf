# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Kernels that blur stars."""

from __future__ import annotations

import numpy as np

from lsst.meas.finalize.measure.convolution._blur import Blurring


def test_kernels() -> None:
    """Normalise kernels of different widths; none without convolution."""
    sigma = np.array([[0.05, 1.5], [3.0, np.nan]])
    half = np.array([[0, 6], [12, -1]])
    weights = Blurring.make(sigma, half, np.zeros((2, 2, 4), dtype=np.int64)).weights
    np.testing.assert_allclose(weights.sum(axis=-1)[half >= 0], 1.0, rtol=1e-6)
    assert weights.shape == (2, 2, 25)
    assert weights[0, 0, 0] == 1.0
    expected = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    np.testing.assert_allclose(weights[0, 1, :13], expected / expected.sum(), rtol=1e-6)
    assert not weights[0, 1, 13:].any()
