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

from lsst.meas.finalize.catalogs import StampSet
from lsst.meas.finalize.psf._weights import good_pixels, sky_variance, star_weights

_PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2}


def _stamps(n: int = 6, size: int = 15) -> StampSet:
    rng = np.random.default_rng(8)
    axis = np.arange(size) - size // 2
    profile = np.exp(-(axis[:, None] ** 2 + axis**2) / 8.0)
    signal = profile * 10.0 ** rng.uniform(1, 5, (n, 1, 1))
    variance = 50.0 + 0.7 * signal
    image = signal + rng.normal(size=signal.shape) * np.sqrt(variance)
    mask = (rng.uniform(size=signal.shape) < 0.1).astype(np.uint32) << np.uint32(2)
    zero = np.zeros(n, dtype=np.int64)
    return StampSet(
        image.astype(np.float32), variance.astype(np.float32), mask, zero, zero.copy(), dict(_PLANES)
    )


def test_good_pixels() -> None:
    """Masked, non-finite and off-image pixels are bad."""
    stamps = _stamps(1, 5)
    stamps.mask[:] = 0
    stamps.mask[0, 0, 0] = 1 << 2
    stamps.mask[0, 0, 1] = 1 << 1
    stamps.variance[0, 1, :3] = (0.0, np.inf, np.nan)
    stamps.image[0, 2, :2] = (np.nan, np.inf)
    stamps.valid = np.ones((1, 5, 5), dtype=bool)
    stamps.valid[0, 4] = False
    expected = np.ones((5, 5), dtype=bool)
    expected[0, 0] = expected[1, :3] = expected[2, :2] = expected[4] = False
    np.testing.assert_array_equal(good_pixels(stamps, ["INTRP", "NO_DATA"])[0], expected)
    with pytest.raises(ValueError, match="no mask plane 'WRONG'"):
        good_pixels(stamps, ["WRONG"])


def test_weights_are_upstreams() -> None:
    """Star by star, NumPy's straight line and the capped S/N give the same."""
    stamps = _stamps()
    good = good_pixels(stamps, ["INTRP"])
    weights = star_weights(stamps, good, 200.0)
    capped = 0
    for image, variance, use, weight in zip(stamps.image, stamps.variance, good, weights, strict=True):
        slope, intercept = np.polyfit(image[use].astype(float), variance[use].astype(float), 1)
        assert slope > 0
        expected = np.where(use, 1.0 / intercept, 0.0)
        power = (expected[use] * image[use] ** 2).sum(dtype=float)
        snr = 0.0 if power < use.sum() else (power - use.sum()) / np.sqrt(power)
        if snr > 200.0:
            expected *= (200.0 / snr) ** 2
            capped += 1
        # Rounding of float32 variances times 1/(1 - correlation²).
        np.testing.assert_allclose(weight, expected, rtol=1e-9)
    assert 0 < capped < len(weights)


def test_sky_variance_of_flat_stamps() -> None:
    """Without any slope the mean variance is the sky's."""
    image = np.full((2, 3, 3), 7.0, dtype=np.float32)
    variance = np.full((2, 3, 3), 4.0, dtype=np.float32)
    good = np.ones((2, 3, 3), dtype=bool)
    good[1] = False
    result = sky_variance(image, variance, good)
    assert result[0] == 4.0
    assert np.isnan(result[1])


def test_stars_without_positive_sky_variance_have_no_weight() -> None:
    """A negative intercept, or no good pixel at all, gives weight 0."""
    stamps = _stamps(3)
    stamps.variance[0] = stamps.image[0] - 1000.0
    good = good_pixels(stamps, [])
    good[1] = False
    weights = star_weights(stamps, good, 200.0)
    assert (weights[:2] == 0).all()
    assert (weights[2] > 0).all()
