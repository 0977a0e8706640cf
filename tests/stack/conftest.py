# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lsst

DOUBLES = Path(__file__).parent / "doubles"
_NAMES = ("lsst.afw", "lsst.geom")


def _is_double(name: str) -> bool:
    return any(name == known or name.startswith(f"{known}.") for known in _NAMES)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put the stand-in for lsst.afw on the path, and return its modules."""
    assert not [name for name in sys.modules if _is_double(name)]
    monkeypatch.setattr(lsst, "__path__", [*lsst.__path__, str(DOUBLES / "lsst")])
    yield SimpleNamespace(**{name: import_module(f"lsst.afw.{name}") for name in ("fits", "image", "table")})
    for name in [name for name in sys.modules if _is_double(name)]:
        del sys.modules[name]
    for name in ("afw", "geom"):
        vars(lsst).pop(name, None)


@pytest.fixture(scope="session")
def calexp_path(tiny: Path) -> Path:
    """Return the file of an exposure."""
    return next((tiny / "export/golden/inputs").glob("calexp/**/*S01*.fits"))


@pytest.fixture(scope="session")
def src_path(tiny: Path) -> Path:
    """Return the file of a source catalogue."""
    return next((tiny / "export/golden/inputs").glob("src/**/*S01*.fits"))
