# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of what is told about an installation."""

from __future__ import annotations

import importlib
from pathlib import Path

from numba.core.dispatcher import Dispatcher

import lsst.meas.finalize
from lsst.meas.finalize.check import _kernel_sources


def test_modules_with_code_to_keep_are_counted() -> None:
    """Find the modules with kernels that aren't only inlined into others."""
    package = Path(lsst.meas.finalize.__path__[0])
    expected = set()
    for path in package.rglob("*_numba.py"):
        name = ".".join(["lsst.meas.finalize", *path.relative_to(package).with_suffix("").parts])
        for kernel in vars(importlib.import_module(name)).values():
            own = isinstance(kernel, Dispatcher) and kernel.py_func.__module__ == name
            if own and kernel.targetoptions.get("inline", "never") == "never":
                expected.add(path)
    assert len(expected) > 10
    assert set(_kernel_sources()) == expected
