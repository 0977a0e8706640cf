# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of pausing the collector of cycles."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

from lsst.meas.finalize._collection import collection_paused


class Loop:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.loop = self


@pytest.mark.parametrize("is_enabled", [True, False])
def test_state_is_restored(is_enabled: bool) -> None:
    """Leave the collector as it was, after exceptions and inner blocks."""

    def fail() -> None:
        with collection_paused():
            with collection_paused():
                assert not gc.isenabled()
            assert not gc.isenabled()
            raise KeyError

    (gc.enable if is_enabled else gc.disable)()
    try:
        with pytest.raises(KeyError):
            fail()
        assert gc.isenabled() == is_enabled
    finally:
        gc.enable()


def test_nothing_is_collected_meanwhile() -> None:
    """Find garbage afterwards only."""
    with collection_paused():
        found = weakref.ref(Loop())
        for _ in range(3 * gc.get_threshold()[0]):
            Loop()
        assert found() is not None
    gc.collect()
    assert found() is None


def test_what_is_loaded_is_kept_once() -> None:
    """Exempt objects once, and collect later ones."""
    script = """
import gc, weakref
from lsst.meas.finalize._collection import keep_what_is_loaded
class Loop:
    def __init__(self):
        self.loop = self
assert not gc.get_freeze_count()
keep_what_is_loaded()
count = gc.get_freeze_count()
assert count > 1000
later = [Loop() for _ in range(1000)]
found = weakref.ref(later[0])
keep_what_is_loaded()
assert gc.get_freeze_count() <= count
del later
gc.collect()
assert found() is None
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_quantum_is_paused_and_kept() -> None:
    """Collect nothing during a quantum, and exempt what it loaded."""
    script = """
import gc
from lsst.meas.finalize._collection import paused_and_kept
@paused_and_kept()
def run(fails):
    assert not gc.isenabled() and not gc.get_freeze_count()
    if fails:
        raise KeyError
    return [object()]
try:
    run(True)
except KeyError:
    pass
assert gc.isenabled() and not gc.get_freeze_count()
assert len(run(False)) == 1
assert gc.isenabled() and gc.get_freeze_count() > 1000
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
