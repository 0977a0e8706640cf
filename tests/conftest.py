# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from pathlib import Path

import pytest

_DATA = Path(__file__).parent / "data"
_GOLDEN = Path(__file__).parents[2] / "shared" / "golden"


@pytest.fixture(scope="session")
def tiny() -> Path:
    """Golden set of two small detectors, written by the real stack."""
    return _DATA / "tiny"


@pytest.fixture(scope="session")
def golden_visit() -> Path:
    """Large golden set, which is kept outside the repository."""
    path = _GOLDEN / "visit"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path
