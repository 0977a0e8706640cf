# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of the conversion of mask planes, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.images import Box, get_legacy_visit_image_mask_planes
from lsst.meas.finalize.afw.exposure._mask import make_mask

KNOWN = get_legacy_visit_image_mask_planes()


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.sampled_from([*KNOWN, *(f"OTHER{i}" for i in range(20))]), unique=True, max_size=32),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_plane_has_its_bits(names: list[str], seed: int) -> None:
    """Number planes at random, and compare each with its bit."""
    rng = np.random.default_rng(seed)
    planes = dict(zip(names, rng.permutation(32)[: len(names)].tolist(), strict=True))
    array = rng.integers(-(2**31), 2**31, size=(11, 7)).astype(np.int32)
    rows = [slice(0, 4), slice(4, 11)]
    mask = make_mask([(r, array[r]) for r in rows], planes, Box.factory[3:14, 5:12])
    expected = {KNOWN[name].name if name in KNOWN else name: bit for name, bit in planes.items()}
    assert set(expected) <= set(mask.schema.names)
    for name in mask.schema.names:
        bits = (
            (array >> expected[name] & 1).astype(bool) if name in expected else np.zeros((11, 7), dtype=bool)
        )
        np.testing.assert_array_equal(mask.get(name), bits, err_msg=name)


def test_no_rows_are_zeros() -> None:
    """Make a mask that isn't there."""
    mask = make_mask((), {"SAT": 1}, Box.factory[0:2, 0:3])
    assert not mask.array.any()


@pytest.mark.parametrize("bit", [0, 15, 16, 31])
def test_single_planes(bit: int) -> None:
    """Set one bit, at the edges of the halves."""
    array = np.array([[0, np.int64(1) << bit, -1]]).astype(np.int32)
    mask = make_mask([(slice(0, 1), array)], {"MINE": bit}, Box.factory[0:1, 0:3])
    assert mask.get("MINE").tolist() == [[False, True, True]]


def test_planes_of_both_names_are_one() -> None:
    """Join what the stack and lsst.images call differently."""
    array = np.array([[0, 1, 2, 3, 4]], dtype=np.int32)
    planes = {"CR": 0, "COSMIC_RAY": 1, "SATURATED": 2}
    mask = make_mask([(slice(0, 1), array)], planes, Box.factory[0:1, 0:5])
    names = [plane.name for plane in mask.schema if plane is not None]
    assert len(names) == len(set(names)) == len({plane.name for plane in KNOWN.values()})
    assert mask.get("COSMIC_RAY").tolist() == [[False, True, True, True, False]]
    assert mask.get("SATURATED").tolist() == [[False, False, False, False, True]]
