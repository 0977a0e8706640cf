# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of keeping threads from pixels that another one works with."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lsst.meas.finalize import _exclusive
from lsst.meas.finalize._exclusive import exclusive_pixels


def test_parts_of_an_image_exclude_each_other() -> None:
    """Wait for who has pixels of the same memory, however they are seen."""
    image = np.zeros((20, 30), dtype=np.float32)
    parts = [image, image[3:9, ::2], image.view(np.uint32), image.reshape(-1)[:7]]
    inside: list[int] = []

    def use(number: int) -> int:
        with exclusive_pixels(parts[number % 4]):
            inside.append(number)
            threading.Event().wait(0.002)
            return len({number, *inside[-1:]})

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(use, range(12))) == {1}
    assert sorted(inside) == list(range(12))
    assert not _exclusive._IN_USE


def test_other_images_are_free() -> None:
    """Be within blocks for two images at once, and twice for one."""
    images = [np.zeros(3), np.zeros(3)]
    barrier = threading.Barrier(2)

    def use(image: np.ndarray) -> int:
        with exclusive_pixels(image), exclusive_pixels(image[1:]):
            return barrier.wait(20)

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(use, images)) == [0, 1]


def test_exceptions_free_pixels() -> None:
    """Keep nothing after an exception."""
    image = np.zeros(3)
    with pytest.raises(KeyboardInterrupt), exclusive_pixels(image):
        raise KeyboardInterrupt
    assert not _exclusive._IN_USE
    with ThreadPoolExecutor(1) as pool:

        def use() -> bool:
            with exclusive_pixels(image):
                return True

        assert pool.submit(use).result(20)
