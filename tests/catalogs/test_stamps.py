# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.images import YX, Box, Image, Mask, MaskPlane, MaskSchema
from lsst.meas.finalize.catalogs import StampSet, cut_stamps, mask_planes

NAMES = ("BAD", "SATURATED", "NO_DATA", "P3", "P4", "P5", "P6", "P7", "INTERPOLATED", "P9")
HEIGHT, WIDTH = 11, 14
ORIGIN = YX(y=-3, x=50)


def make_exposure() -> SimpleNamespace:
    """Return the planes of a small image with ten mask planes."""
    rng = np.random.default_rng(2)
    box = Box.from_shape((HEIGHT, WIDTH), start=ORIGIN)
    mask = Mask(0, schema=MaskSchema([MaskPlane(name, name) for name in NAMES]), bbox=box)
    for name in NAMES:
        mask.set(name, rng.random((HEIGHT, WIDTH)) < 0.3)
    planes = rng.normal(size=(2, HEIGHT, WIDTH)).astype(np.float32)
    return SimpleNamespace(
        bbox=box, mask=mask, image=Image(planes[0], yx0=ORIGIN), variance=Image(planes[1], yx0=ORIGIN)
    )


EXPOSURE = make_exposure()


@given(
    origins=st.lists(st.tuples(st.integers(30, 80), st.integers(-30, 30)), max_size=6),
    width=st.integers(1, 17),
    height=st.integers(1, 17),
)
def test_stamps_are_the_pixels_of_the_image(origins: list[tuple[int, int]], width: int, height: int) -> None:
    """Compare with a padded image, for boxes inside, across and outside."""
    pad = 100
    x0, y0 = np.array(origins, dtype=np.int64).reshape(-1, 2).T
    stamps = cut_stamps(EXPOSURE, x0, y0, width, height)
    assert len(stamps) == len(origins)
    for i, (x, y) in enumerate(origins):
        window = np.s_[y - ORIGIN.y + pad :, x - ORIGIN.x + pad :]
        for plane, cut in ((EXPOSURE.image, stamps.image), (EXPOSURE.variance, stamps.variance)):
            expected = np.pad(plane.array, pad)[window][:height, :width]
            if plane is EXPOSURE.variance:
                # 0 is what is beyond the image.
                expected = np.where(expected < 0, np.nan, expected)
            np.testing.assert_array_equal(cut[i], expected)
        for name in NAMES:
            expected = np.pad(EXPOSURE.mask.get(name), pad)[window][:height, :width]
            np.testing.assert_array_equal(stamps.bad([name])[i], expected)
        inside = np.pad(np.ones((HEIGHT, WIDTH), dtype=bool), pad)[window][:height, :width]
        np.testing.assert_array_equal(True if stamps.valid is None else stamps.valid[i], inside)


def test_boxes_inside_need_no_valid_plane() -> None:
    """Leave out the plane of valid pixels if all boxes are inside."""
    assert cut_stamps(EXPOSURE, np.array([50, 54]), np.array([-3, 0]), 8, 7).valid is None


def test_planes_have_their_afw_names() -> None:
    """Know planes by their names in afw and in lsst.images."""
    planes = mask_planes(EXPOSURE.mask.schema)
    assert planes["SAT"] == 1
    assert planes["INTRP"] == 8
    stamps = cut_stamps(EXPOSURE, np.array([50]), np.array([-3]), 3, 3)
    assert stamps.bits(["SAT"]) == stamps.bits(["SATURATED"]) == 2
    assert stamps.bits(["CR", "DETECTED"]) == 0


def test_unknown_plane_is_named() -> None:
    """Name a plane that nobody knows."""
    stamps = cut_stamps(EXPOSURE, np.array([50]), np.array([-3]), 3, 3)
    with pytest.raises(ValueError, match="NONSENSE"):
        stamps.bits(["NONSENSE"])


def test_too_many_planes_are_refused() -> None:
    """Refuse masks whose bits don't fit into 32."""
    schema = MaskSchema([MaskPlane(f"P{i}", "") for i in range(33)])
    with pytest.raises(ValueError, match="33 planes"):
        mask_planes(schema)


def test_take_keeps_planes_together() -> None:
    """Take the same rows of every plane."""
    stamps = cut_stamps(EXPOSURE, np.array([45, 52, 60]), np.array([-3, 0, 2]), 5, 5)
    taken = stamps.take(np.array([2, 0]))
    assert isinstance(taken, StampSet)
    np.testing.assert_array_equal(taken.x0, [60, 45])
    np.testing.assert_array_equal(taken.image[1], stamps.image[0])
    np.testing.assert_array_equal(taken.valid, stamps.valid[[2, 0]])
