# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of Lanczos kernels and clipped statistics of stamps."""

from __future__ import annotations

import numpy as np
import pytest

from lsst.meas.finalize.measure.pixels import (
    clipped_mean_std,
    clipped_mean_std_rows,
    lanczos_weights,
    split_shift,
)

# Spec 03 §9.
_WEIGHTS = [
    0.0034795967, -0.02184257, 0.0558255106, -0.1243817395, 0.3564403011,
    0.854047683, -0.1769377418, 0.0769315637, -0.0330085608, 0.0094459571,
]  # fmt: skip


def test_lanczos_weights() -> None:
    """Compare with the table of the specification (10 digits)."""
    weights, centres = lanczos_weights([0.3, -0.3, 0.0])
    np.testing.assert_allclose(weights[0], _WEIGHTS, atol=6e-11)
    np.testing.assert_allclose(weights[1], _WEIGHTS[::-1], atol=6e-11)
    assert centres.tolist() == [5, 4, 4]
    assert weights[2].tolist() == [0.0] * 4 + [1.0] + [0.0] * 5


def test_split_shift() -> None:
    """Split shifts, with the quirk near the origin."""
    (ix, fx), (iy, fy) = split_shift([1234.567, 0.8, 0.8], [2.25, -0.7, 1.0])
    assert ix.tolist() == [1235, 0, 1]
    assert iy.tolist() == [2, 0, 1]
    assert fx[0] == -0.4329833984375
    np.testing.assert_allclose(fx[1:], [0.8, -0.2], atol=1e-7)  # float32
    np.testing.assert_allclose(fy, [0.25, -0.7, 0.0], atol=1e-7)


def test_lanczos_kernels_shift_a_wide_gaussian() -> None:
    """Shift by fractions of both signs to where it should be."""
    fractions = np.array([0.3, -0.4])
    weights, centres = lanczos_weights(fractions)
    p = np.arange(-20, 21)
    for fraction, row, centre in zip(fractions, weights, centres, strict=True):
        taps = np.exp(-0.5 * (p[:, None] + np.arange(10) - centre) ** 2 / 9)
        # Lanczos5 interpolates a sigma of 3 pixels to 2e-3 of the peak.
        np.testing.assert_allclose(taps @ row, np.exp(-0.5 * (p - fraction) ** 2 / 9), atol=2e-3)


def test_clipped_statistics() -> None:
    """Compare with the value of the specification."""
    values = np.append(np.arange(100.0), 10000.0)
    mean, std = clipped_mean_std(values)
    assert mean == 49.5
    assert std == pytest.approx(29.0114920, abs=5e-8)
    good = np.ones((2, 102), dtype=bool)
    good[:, 50] = False
    rows = np.insert(np.tile(values, (2, 1)), 50, 1e30, axis=1)
    means, stds = clipped_mean_std_rows(rows, good)
    np.testing.assert_allclose(means, 49.5, rtol=1e-14)
    np.testing.assert_allclose(stds, std, rtol=1e-14)


def test_clipped_statistics_bad_values() -> None:
    """Skip values that aren't finite; complain if nothing is left."""
    values = np.array([1.0, np.nan, 2.0, np.inf, 3.0], dtype=np.float32)
    assert clipped_mean_std(values)[0] == 2.0
    assert np.isnan(values[1])
    with pytest.raises(ValueError, match="at least one finite value"):
        clipped_mean_std(np.full(3, np.nan))
    mean, std = clipped_mean_std_rows(np.full((1, 3), np.nan), np.ones((1, 3), dtype=bool))
    assert np.isnan(mean[0])
    assert np.isnan(std[0])
