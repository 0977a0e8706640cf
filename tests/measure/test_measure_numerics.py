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

from lsst.meas.finalize.measure.geometry._ellipses import (
    axes_from_quadrupole,
    determinant_radius,
    distortion,
    quadrupole_from_axes,
    quadrupole_from_distortion,
    trace_radius,
    transform_covariance,
    transform_quadrupole,
)
from lsst.meas.finalize.measure.pixels._lanczos import (
    lanczos_weights,
    offset_images,
    recenter_images,
    split_shift,
)
from lsst.meas.finalize.measure.pixels._stats import clipped_mean_std, clipped_mean_std_rows

# Spec 03 §9.
_WEIGHTS = [
    0.0034795967, -0.02184257, 0.0558255106, -0.1243817395, 0.3564403011,
    0.854047683, -0.1769377418, 0.0769315637, -0.0330085608, 0.0094459571,
]  # fmt: skip


def _kernel() -> np.ndarray:
    """Return the Gaussian K of spec 03 §9."""
    y, x = np.mgrid[-12:13, -12:13]
    image = np.exp(-0.5 * (x**2 + y**2) / 2.15**2)
    return image / image.sum()


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


def test_recenter() -> None:
    """Compare a recentred kernel with the specification."""
    images, x0, y0 = recenter_images(_kernel()[None], np.array([30.3]), np.array([29.6]))
    assert (x0[0], y0[0]) == (18, 18)
    assert images.sum() == pytest.approx(0.99999887547, abs=1e-11)
    assert images.max() == pytest.approx(0.03356725888, abs=1e-11)


def test_offset_border_and_identity() -> None:
    """Leave the border as it is, and everything for whole shifts."""
    image = np.random.default_rng(5).normal(size=(1, 16, 18))
    shifted, ix, iy = offset_images(image, [3.25], [4.0])
    assert (ix[0], iy[0]) == (3, 4)
    np.testing.assert_array_equal(shifted[0, :, :5], image[0, :, :5])
    np.testing.assert_array_equal(shifted[0, :, -4:], image[0, :, -4:])
    assert np.all(shifted[0, 4:-5, 5:-4] != image[0, 4:-5, 5:-4])
    np.testing.assert_array_equal(offset_images(image, [3.0], [4.0])[0], image)


def test_offset_moves_a_band_limited_image() -> None:
    """Shift a wide Gaussian to where it should be."""
    y, x = np.mgrid[:41, :41].astype(float)
    images = np.array([np.exp(-0.5 * ((x - 20 - d) ** 2 + (y - 20) ** 2) / 9) for d in (0.0, 0.3)])
    shifted, _, _ = offset_images(images[:1], [0.3], [0.0])
    # Lanczos5 interpolates a sigma of 3 pixels to 2e-3 of the peak.
    np.testing.assert_allclose(shifted[0, 8:-8, 8:-8], images[1, 8:-8, 8:-8], atol=2e-3)


def test_offset_too_small() -> None:
    """Refuse images smaller than the kernel."""
    with pytest.raises(ValueError, match="9 × 12 pixels are smaller"):
        offset_images(np.zeros((1, 12, 9)), [0.1], [0.1])


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


@given(st.floats(0.1, 9), st.floats(0.1, 0.99), st.floats(-1.5, 1.5))
def test_ellipse_round_trip(a: float, ratio: float, theta: float) -> None:
    """Convert axes to moments and back, and moments to distortions."""
    q = quadrupole_from_axes(a, a * ratio, theta)
    # The minor axis is a small difference of large numbers.
    np.testing.assert_allclose(axes_from_quadrupole(q)[:2], (a, a * ratio), rtol=1e-9)
    assert axes_from_quadrupole(q)[2] == pytest.approx(theta, abs=1e-7)
    assert determinant_radius(q) == pytest.approx(a * ratio**0.5)
    assert trace_radius(q) == pytest.approx(a * np.sqrt(0.5 * (1 + ratio**2)))
    np.testing.assert_allclose(
        quadrupole_from_distortion(distortion(q), determinant_radius(q)), q, rtol=1e-7, atol=1e-9
    )


def test_transform() -> None:
    """Transform moments and covariances like matrices."""
    rng = np.random.default_rng(8)
    linear = rng.normal(size=(2, 2))
    matrix = linear @ np.array([[4.0, 0.5], [0.5, 3.0]]) @ linear.T
    expected = [matrix[0, 0], matrix[1, 1], matrix[0, 1]]
    np.testing.assert_allclose(transform_quadrupole([4.0, 3.0, 0.5], linear), expected)
    samples = rng.normal(size=(50, 3))
    transformed = transform_quadrupole(samples, linear)
    np.testing.assert_allclose(transform_covariance(np.cov(samples.T), linear), np.cov(transformed.T))
