# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Pixels that one thread at a time works with.

Measuring shows noise in place of neighbors in the image itself, which nobody
else who measures it must see.
"""

from __future__ import annotations

__all__ = ("exclusive_pixels",)

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

_GUARD = threading.Lock()
_IN_USE: dict[int, tuple[threading.RLock, int]] = {}
"""By id of the array that owns pixels, a lock and how many have or want it."""


@contextmanager
def exclusive_pixels(array: npt.NDArray[Any]) -> Iterator[None]:
    """Wait until no other thread is within such a block with these pixels.

    Parameters
    ----------
    array
        Pixels; others that share their memory are excluded, too.
    """
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    key = id(owner)
    with _GUARD:
        lock, n_users = _IN_USE.get(key) or (threading.RLock(), 0)
        _IN_USE[key] = lock, n_users + 1
    try:
        with lock:
            yield
    finally:
        with _GUARD:
            lock, n_users = _IN_USE.pop(key)
            if n_users > 1:
                _IN_USE[key] = lock, n_users - 1
