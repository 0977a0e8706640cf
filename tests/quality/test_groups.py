# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from lsst.meas.finalize.quality._groups import Groups, maritz_jarrett_weights


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(0, 300))
def test_medians_and_scatters_equal_numpy(seed: int, number: int, n: int) -> None:
    """Compare with NumPy and SciPy group by group; some values are NaN."""
    rng = np.random.default_rng(seed)
    group = np.minimum(rng.geometric(0.4, n) - 1, number - 1)
    values = rng.normal(size=n) * np.where(rng.random(n) < 0.1, np.nan, 1)
    groups = Groups(group, number)
    median, scatter = groups.median(values), groups.scatter(values)
    for i in range(number):
        chosen = values[(group == i) & np.isfinite(values)]
        if not len(chosen):
            assert np.isnan([median[i], scatter[i]]).all()
        else:
            assert median[i] == np.median(chosen)
            expected = median_abs_deviation(chosen, scale="normal")
            assert scatter[i] == pytest.approx(expected, rel=1e-14, abs=1e-15)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 51])
def test_weights_are_those_of_the_bootstrap(n: int) -> None:
    """Compare with the frequencies of many resampled medians."""
    rng = np.random.default_rng(n)
    weights = maritz_jarrett_weights(n)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-14)
    draws = np.sort(rng.integers(0, n, (20000, n)), axis=1)
    middle = np.concatenate([draws[:, (n - 1) // 2], draws[:, n // 2]])
    found = np.bincount(middle, minlength=n) / len(middle)
    np.testing.assert_allclose(weights, found, atol=5 * np.sqrt(0.25 / 20000))


def test_error_of_a_median_is_its_scatter() -> None:
    """Find the scatter of medians of 100 normal values, 0.125 sigma."""
    values = np.random.default_rng(1).normal(size=(400, 100))
    median, error = Groups(np.repeat(np.arange(400), 100), 400).median_and_error(values.ravel())
    assert error.mean() == pytest.approx(median.std(), rel=0.1)
    assert np.isnan(Groups([0], 1).median_and_error(np.array([1.0]))[1]).all()
