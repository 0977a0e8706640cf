# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of ellipses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.meas.finalize.measure.geometry import axes_from_quadrupole, determinant_radius, transform_quadrupole


@given(st.floats(0.1, 9), st.floats(0.1, 0.99), st.floats(-1.5, 1.5))
def test_axes_of_ellipses(a: float, ratio: float, theta: float) -> None:
    """Find the axes of a matrix that was made of them, and its radius."""
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    matrix = turn @ np.diag([a**2, (a * ratio) ** 2]) @ turn.T
    q = matrix[[0, 1, 0], [0, 1, 1]]
    # The minor axis is a small difference of large numbers.
    np.testing.assert_allclose(axes_from_quadrupole(q)[:2], (a, a * ratio), rtol=1e-9)
    assert axes_from_quadrupole(q)[2] == pytest.approx(theta, abs=1e-7)
    assert determinant_radius(q) == pytest.approx(a * ratio**0.5)


def test_transform() -> None:
    """Transform moments like matrices."""
    rng = np.random.default_rng(8)
    linear = rng.normal(size=(2, 2))
    matrix = linear @ np.array([[4.0, 0.5], [0.5, 3.0]]) @ linear.T
    expected = [matrix[0, 0], matrix[1, 1], matrix[0, 1]]
    np.testing.assert_allclose(transform_quadrupole([4.0, 3.0, 0.5], linear), expected)
