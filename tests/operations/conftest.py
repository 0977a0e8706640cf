# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Fewer plugins, so that tests spend their time on what they are about.
OPTIONS = """
config.psf_determiner["piff"].spatialOrder = 1
config.measurement.plugins.names = [
    "base_FPPosition", "base_GaussianFlux", "base_PsfFlux",
    "ext_shapeHSM_HsmPsfMoments", "ext_shapeHSM_HsmSourceMoments",
]
config.measurement.slots.modelFlux = None
"""

Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def options(tmp_path: Path) -> str:
    """Return the argument that configures few plugins."""
    path = tmp_path / "options.py"
    path.write_text(OPTIONS)
    return f"finalizeCharacterizationDetector:{path}"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return variables with which our commands are found, as a shell has
    them in the folder of a test.
    """
    programs = str(Path(sys.executable).parent)
    return os.environ | {
        "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
        "VIRTUAL_ENV": str(Path(programs).parent),
        # Here, and not in the current folder, bps makes its submit folder.
        "PWD": str(tmp_path),
    }


@pytest.fixture
def command(tmp_path: Path, environment: dict[str, str]) -> Command:
    """Return a function that runs a command, which must succeed."""

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess:
        result = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == code, f"{arguments}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        return result

    return run
