# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import KDTree

from lsst.images import Box
from lsst.images.fields import ChebyshevField
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.quality import (
    StarColumns,
    field_range,
    largest_gap,
    largest_gaps,
    psf_statistics,
    select_stars,
)
from lsst.meas.finalize.quality._psf_statistics import grid_nodes, grid_ranges

from .conftest import read_golden, tiny_exposure


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


def test_masked_points_do_not_count(tiny: Path) -> None:
    """Give what upstream's code gives with the mask of the image."""
    exposure = tiny_exposure(tiny)
    planes = ("BAD", "COSMIC_RAY", "DETECTION_EDGE", "INTERPOLATED", "NO_DATA", "SATURATED", "SUSPECT")
    mask = np.any([exposure.mask.get(name) for name in planes], axis=0)
    stars, catalog = read_golden(tiny)
    columns, record = StarColumns.from_table(stars), catalog[0]
    rows = select_stars(columns) & columns.samples["used"] & (columns.detector == record.id)
    found = psf_statistics(as_batch_psf(record.psf), exposure.bbox, mask=mask)
    found["maxDistToNearestPsf"] = largest_gap(columns.x[rows], columns.y[rows], exposure.bbox, mask=mask)
    correction = field_range(record.ap_corr_map["base_PsfFlux_instFlux"], exposure.bbox, mask=mask)
    found["psfApCorrSigmaScaledDelta"] = correction / found["psfSigma"]
    expected = json.loads((tiny / "psf_summary.json").read_text())["tiny/0/used/real_mask"]
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-6), name


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


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a large detector."""
    x, y = np.meshgrid(np.arange(0, 4000, 96.0), np.arange(0, 4000, 96.0))
    return x.ravel(), y.ravel()


def ranges(evaluate: Callable, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranges of functions on a grid."""
    nodes = grid_nodes(x, y)
    return grid_ranges(evaluate, x, y, evaluate(x[nodes], y[nodes]))


def test_range_of_many_points() -> None:
    """Find the extremes of smooth functions without asking everywhere."""
    asked = 0

    def evaluate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(x)
        cubic = 2 + 1e-4 * x + 1e-8 * (y - 1500) ** 2 + 1e-12 * (x - 300) ** 3
        return np.stack([cubic, np.sqrt(3 + 0.5 * np.cos(x / 900) * np.sin(y / 1100))])

    low, high = ranges(evaluate, *grid())
    assert asked < 1764 / 4
    expected = evaluate(*grid())
    np.testing.assert_array_equal(low, expected.min(axis=1))
    np.testing.assert_array_equal(high, expected.max(axis=1))


def test_range_of_what_isnt_smooth() -> None:
    """Ask everywhere where polynomials don't help."""
    x, y = grid()
    noise = np.random.default_rng(2).normal(size=len(x))

    def evaluate(px: np.ndarray, py: np.ndarray) -> np.ndarray:
        peak = np.exp(-(((px - 1234) / 200) ** 2) - ((py - 2345) / 200) ** 2)
        rows = (px / 96 + py / 96 * 42).round().astype(int)
        return np.stack([peak, noise[rows]])

    low, high = ranges(evaluate, x, y)
    expected = evaluate(x, y)
    np.testing.assert_array_equal(low, expected.min(axis=1))
    np.testing.assert_array_equal(high, expected.max(axis=1))


def test_range_with_nan_is_nan() -> None:
    """Pass on that a function isn't finite somewhere."""
    assert np.isnan(ranges(lambda x, y: np.where(x < 100, np.nan, x)[None], *grid())).all()


def test_gaps_of_many_detectors() -> None:
    """Keep detectors apart, with different boxes and some without."""
    rng = np.random.default_rng(4)
    boxes = [Box.factory[0:500, 0:300], None, Box.factory[100:900, -200:800], Box.factory[0:50, 0:50]]
    group = rng.integers(0, 3, 30)
    x, y = rng.uniform(0, 500, (2, 30))
    gaps = largest_gaps(x, y, group, boxes)
    assert np.isnan(gaps[[1, 3]]).all()
    for i in (0, 2):
        assert gaps[i] == largest_gap(x[group == i], y[group == i], boxes[i])
