# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of scatter that few outliers don't change."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import iqr, median_abs_deviation, norm

from lsst.meas.finalize._robust import IQR_TO_SIGMA, MAD_TO_SIGMA, SIGMA_TO_IQR, SIGMA_TO_MAD, robust_scatter


def test_factors_are_those_of_the_normal_distribution() -> None:
    """Compare with its quartiles."""
    assert pytest.approx(norm.ppf(0.75), rel=1e-15) == SIGMA_TO_MAD
    assert pytest.approx(norm.ppf(0.75) - norm.ppf(0.25), rel=1e-15) == SIGMA_TO_IQR
    assert pytest.approx(1, rel=1e-15) == MAD_TO_SIGMA * SIGMA_TO_MAD
    assert pytest.approx(1, rel=1e-15) == IQR_TO_SIGMA * SIGMA_TO_IQR


def test_scatter_is_that_of_scipy() -> None:
    """Measure normal values, of which few outliers change little."""
    values = np.random.default_rng(1).normal(3, 2, 4001)
    values[:40] = 1e9
    assert robust_scatter(values) == pytest.approx(median_abs_deviation(values, scale="normal"), rel=1e-14)
    assert robust_scatter(values) == pytest.approx(2, rel=0.05)
    assert iqr(values) * IQR_TO_SIGMA == pytest.approx(2, rel=0.05)
