# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.catalogs import cut_stamps
from lsst.meas.finalize.measure.pixels import LazyStamps, Planes, cut_boxes

PARTS = ("image", "variance", "mask")


@pytest.fixture
def exposure(make_exposure: Callable[..., Any]) -> Any:
    """Return a small image with all sorts of pixels."""
    rng = np.random.default_rng(8)
    made = make_exposure(rng.normal(10, 3, (40, 60)).astype(np.float32), origin=(100, 50))
    made.variance.array[...] = rng.choice([-1.0, 0.0, 2.0, np.nan, np.inf], size=(40, 60))
    made.image.array[3, 4] = np.nan
    made.mask.array[...] = rng.integers(0, 64, made.mask.array.shape)
    return made


@pytest.mark.parametrize("where", ["inside", "across edges", "outside"])
def test_boxes_are_those_of_cut_stamps(exposure: Any, where: str) -> None:
    """Cut the same pixels as index arrays do, zeros off the image."""
    corner = {
        "inside": ([0, 5, 47, 20], [0, 30, 31, 7]),
        "across edges": ([-3, 55, 10, -12, 47], [-2, 38, -8, 33, 31]),
        "outside": ([-14, 60, 200, 5], [2, 40, -300, 40]),
    }[where]
    box = exposure.bbox
    x0, y0 = np.array(corner[0]) + box.x.start, np.array(corner[1]) + box.y.start
    expected = cut_stamps(exposure, x0, y0, 13, 9)
    stamps = LazyStamps(Planes.of(exposure), x0, y0, 13, 9)
    assert len(stamps) == len(expected)
    assert stamps.shape == expected.shape == (len(x0), 9, 13)
    for part in PARTS:
        found, wanted = getattr(stamps, part), getattr(expected, part)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted, err_msg=part)
    if expected.valid is None:
        assert stamps.valid is None
    else:
        np.testing.assert_array_equal(stamps.valid, expected.valid)
    np.testing.assert_array_equal(stamps.bad(["BAD", "CR"]), expected.bad(["BAD", "CR"]))


def test_pixels_are_copied_once(exposure: Any) -> None:
    """Keep what a plugin writes, and leave the image alone."""
    before = exposure.image.array.copy()
    where = np.array([exposure.bbox.x.start]), np.array([exposure.bbox.y.start])
    stamps = LazyStamps(Planes.of(exposure), *where, 8, 8)
    for part in PARTS:
        getattr(stamps, part)[...] = 1
        assert np.all(getattr(stamps, part) == 1)
        setattr(stamps, part, np.full((1, 8, 8), 2))
        assert np.all(getattr(stamps, part) == 2)
    np.testing.assert_array_equal(exposure.image.array, before)


def test_planes_are_views(exposure: Any) -> None:
    """Copy no contiguous plane, and allow nobody to write to it."""
    planes = Planes.of(exposure)
    for part in PARTS:
        assert np.shares_memory(getattr(planes, part), getattr(exposure, part).array)
        assert not getattr(planes, part).flags.writeable


def test_no_boxes(exposure: Any) -> None:
    """Cut nothing out."""
    nowhere = np.zeros(0, dtype=np.int64)
    stamps = LazyStamps(Planes.of(exposure), nowhere, nowhere, 5, 4)
    assert len(stamps) == 0
    assert stamps.mask.shape == (0, 4, 5)
    assert stamps.valid is None


def test_masks_of_several_bytes() -> None:
    """Put byte k of a mask at bits 8 k and up."""
    planes = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    planes.flags.writeable = False
    column, row = np.array([4, -2]), np.array([3, 17])
    words = cut_boxes(planes, column, row, 5, 6, "cut_masks")
    assert words.dtype == np.uint32
    whole = planes[..., 0] + 256 * planes[..., 1].astype(np.int64) + 65536 * planes[..., 2].astype(np.int64)
    np.testing.assert_array_equal(words[0], whole[3:8, 4:10])
    np.testing.assert_array_equal(words[1, :3, 2:], whole[17:, :4])
    assert not words[1, 3:].any()
    assert not words[1, :, :2].any()
