# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import KDTree

from lsst.images import Box
from lsst.images.fields import ChebyshevField
from lsst.meas.finalize.quality import field_range, largest_gap
from lsst.meas.finalize.quality._psf_statistics import grid_range


def spec_mask() -> np.ndarray:
    """Return the mask of spec 07 §11."""
    mask = np.zeros((400, 420), dtype=bool)
    mask[:100, :150] = True
    return mask


def test_distance_of_the_spec() -> None:
    """Reproduce maxDistToNearestPsf of spec 07 §11."""
    i = np.arange(8)
    x, y = 100 + 37.0 * i, 50 + (53.0 * i) % 200
    box = Box.factory[0:400, 0:420]
    assert largest_gap(x, y, box, mask=spec_mask()) == pytest.approx(279.302703173, rel=1e-11)


def test_field_range_of_the_spec() -> None:
    """Reproduce psfApCorrSigmaScaledDelta of spec 07 §11."""
    box = Box.factory[0:400, 0:420]

    class Plane:
        def __call__(self, *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return 1 + 1e-4 * x - 5e-5 * y + 1e-7 * x * y

    assert field_range(Plane(), box, mask=spec_mask()) / 1.7 == pytest.approx(3.388235294e-2, rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_gap_equals_that_of_all_points(seed: int) -> None:
    """Find the same distance as by asking every grid point."""
    rng = np.random.default_rng(seed)
    width, height = rng.integers(9, 1500, 2)
    x, y = rng.uniform(-50, 1.1 * width, 7), rng.uniform(0, height, 7)
    x[0] = np.nan if seed == 3 else x[0]
    box = Box.factory[5 : 5 + height, -3 : -3 + width]
    gx, gy = np.meshgrid(np.arange(-3, width - 3, 8.0), np.arange(5, 5 + height, 8.0))
    tree = KDTree(np.stack([x, y], axis=1)[np.isfinite(x)])
    expected = tree.query(np.stack([gx.ravel(), gy.ravel()], axis=1))[0].max()
    assert largest_gap(x, y, box) == pytest.approx(expected, rel=1e-14)


def test_gap_without_stars_or_points_is_nan() -> None:
    """Return NaN where there is nothing to measure."""
    box = Box.factory[0:100, 0:100]
    assert np.isnan(largest_gap(np.array([]), np.array([]), box))
    assert np.isnan(largest_gap(np.array([np.nan]), np.array([1.0]), box))
    assert np.isnan(largest_gap(np.ones(1), np.ones(1), box, mask=np.ones((100, 100), dtype=bool)))
    field = ChebyshevField(box, np.ones((1, 1)))
    assert np.isnan(field_range(field, box, mask=np.ones((100, 100), dtype=bool)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: 2 + 1e-4 * x + 1e-8 * (y - 1500) ** 2 + 1e-12 * (x - 300) ** 3,
        lambda x, y: np.sqrt(3 + 0.5 * np.cos(x / 900) * np.sin(y / 1100)),
        lambda x, y: np.exp(-(((x - 1234) / 300) ** 2) - ((y - 2345) / 300) ** 2),
    ],
    ids=["cubic", "waves", "peak"],
)
def test_range_of_many_points(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Find the extremes of smooth functions without asking everywhere."""
    x, y = (v.ravel() for v in np.meshgrid(np.arange(0, 4000, 96.0), np.arange(0, 4000, 96.0)))
    asked = 0

    def evaluate(px: np.ndarray, py: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(px)
        return function(px, py)

    low, high = grid_range(evaluate, x, y)
    expected = function(x, y)
    assert (low, high) == (expected.min(), expected.max())
    # Asking for a peak of a few points everywhere is right.
    assert asked < len(x) / 2 or high > 0.9 > 100 * np.median(expected)


def test_range_of_what_isnt_smooth_or_finite() -> None:
    """Ask everywhere where a polynomial doesn't help; pass NaN on."""
    x, y = (v.ravel() for v in np.meshgrid(np.arange(0, 4000, 96.0), np.arange(0, 4000, 96.0)))
    values = dict(zip(zip(x, y, strict=True), np.random.default_rng(2).normal(size=len(x)), strict=True))

    def noise(px: np.ndarray, py: np.ndarray) -> np.ndarray:
        return np.array([values[key] for key in zip(px, py, strict=True)])

    assert grid_range(noise, x, y) == (min(values.values()), max(values.values()))
    assert np.isnan(grid_range(lambda px, py: np.where(px < 100, np.nan, px), x, y)).all()
