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
import sys
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher

import lsst.meas.finalize
from lsst.meas.finalize import check
from lsst.meas.finalize.check import Findings, _inspect_stack, _kernel_sources


@pytest.mark.parametrize(
    ("afw", "overlay", "variable", "problem"),
    [
        (True, True, "0", "the butler overlay is on, so that butlers return other types"),
        (True, False, "0", ""),
        (False, False, "0", "the butler overlay is off, so that butlers can't read"),
        (False, False, "1", ""),
        (False, True, "0", ""),
    ],
)
def test_overlay_must_fit_what_is_there(
    monkeypatch: pytest.MonkeyPatch, afw: bool, overlay: bool, variable: str, problem: str
) -> None:
    """Warn of an overlay beside afw, and of none where there is no afw."""
    there = {"starlink.Ast": Path("/x/Ast.py")} | ({"lsst.afw": Path("/x/afw/__init__.py")} if afw else {})
    monkeypatch.setattr(check, "_origin", there.get)
    finder = type("StackNameFinder", (), {"find_spec": staticmethod(lambda *_: None)})
    others = [f for f in sys.meta_path if getattr(f, "__name__", "") != "StackNameFinder"]
    monkeypatch.setattr(sys, "meta_path", [*others, *([finder] if overlay else [])])
    monkeypatch.setenv("MEAS_FINALIZE_NO_OVERLAY", variable)
    findings = Findings()
    _inspect_stack(findings)
    assert len(findings.problems) == bool(problem)
    assert problem in "".join(findings.problems)
    assert ("butler overlay", "on" if overlay else "off") in findings.facts


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
