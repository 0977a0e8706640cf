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
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from lsst.ctrl.mpexec.cli.pipetask import cli as pipetask
from lsst.daf.butler.cli.butler import cli as butler
from lsst.daf.butler.cli.utils import LogCliRunner, clickResultMsg

# Fewer plugins, so that tests spend their time on what they are about.
OPTIONS = """
config.psf_determiner["piff"].spatialOrder = 1
config.measurement.plugins.names = [
    "base_FPPosition", "base_GaussianFlux", "base_PsfFlux",
    "ext_shapeHSM_HsmPsfMoments", "ext_shapeHSM_HsmSourceMoments",
]
config.measurement.slots.modelFlux = None
"""

Command = Callable[..., Result]


@pytest.fixture(scope="session")
def options(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the argument that configures few plugins."""
    path = tmp_path_factory.mktemp("options") / "options.py"
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


def _run(program: str, *arguments: str, code: int = 0) -> Result:
    result = LogCliRunner().invoke({"butler": butler, "pipetask": pipetask}[program], arguments)
    assert result.exit_code == code, f"{program} {arguments}\n{clickResultMsg(result)}"
    return result


@pytest.fixture(scope="session")
def command() -> Command:
    """Return a function that runs ``butler`` or ``pipetask``, which must
    succeed; in this process, as importing takes longer than most of them.
    """
    return _run
