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

from lsst.meas.finalize.measure.pixels import clipped_mean_std
from lsst.meas.finalize.measure.pixels._stats import _quantiles


@pytest.mark.parametrize("count", [1, 2, 3, 10, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantiles_are_those_of_sorted_values(count: int, dtype: type) -> None:
    """Find ranks among finite values of either sign, with ties."""
    rng = np.random.default_rng(count)
    values = rng.normal(0, 10.0 ** rng.uniform(-30, 30, count)).astype(dtype)
    values[: count // 3] = np.round(values[: count // 3], 1)
    values[count // 2] = -0.0
    spoilt = np.concatenate([values, np.array([np.nan, np.inf, -np.inf, -np.nan], dtype=dtype)])
    wanted = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    found = _quantiles(rng.permutation(spoilt), wanted)
    np.testing.assert_allclose(found, np.quantile(values.astype(np.float64), wanted), rtol=1e-12)


def test_large_images() -> None:
    """Clip a million pixels as arrays of doubles are clipped."""
    rng = np.random.default_rng(2)
    image = rng.normal(300, 20, (1000, 1000)).astype(np.float32)
    image[:40] += 1e4
    image[::9, ::50] = np.nan
    before = image.copy()
    mean, std = clipped_mean_std(image)
    values = image[np.isfinite(image)].astype(np.float64)
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    center, width = middle, 3 * 0.741301109252802 * (high - low)
    for _ in range(3):
        kept = values[np.abs(values - center) <= width]
        center, width = kept.mean(), 3 * kept.std(ddof=1)
    assert mean == pytest.approx(center, rel=1e-12)
    assert std == pytest.approx(width / 3, rel=1e-12)
    np.testing.assert_array_equal(image, before)


def test_equal_values() -> None:
    """Have no width."""
    assert clipped_mean_std(np.full(50, -2.5, dtype=np.float32)) == (-2.5, 0.0)
