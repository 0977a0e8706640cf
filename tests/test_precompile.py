# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lsst.meas.finalize.precompile import main, portions
from lsst.pipe.tasks.finalizeCharacterization import FinalizeCharacterizationDetectorConfig

# A detector is simulated as in production, and finalized.
_SCRIPT = """
import sys
from lsst.meas.finalize.afw import compile_reading, read_exposure
from numba.core.dispatcher import Dispatcher
from lsst.meas.finalize.precompile import compile_plugins, portions
from lsst.meas.finalize.simulate import VisitSimulation, simulate_detector
from lsst.meas.finalize.simulate._associations import associate_stars
from lsst.pipe.base import InMemoryDatasetHandle
from lsst.pipe.tasks.finalizeCharacterization import (
    FinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationDetectorTask,
)

def compiled():
    return {
        (name, signature)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("lsst.meas.finalize.")
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher)
        for signature in value.signatures
    }

compile_reading()
for names in portions():
    compile_plugins(names)
before = compiled()
read_exposure(sys.argv[1])
simulation = VisitSimulation(n_detectors=1, size=600, n_stars=90)
made = simulate_detector(simulation, 0)
cats, sources = (
    {t: InMemoryDatasetHandle(pair[i], storageClass="ArrowAstropy") for t, pair in tables.items()}
    for tables in [associate_stars(simulation, {0: made.truth})] for i in (0, 1)
)
task = FinalizeCharacterizationDetectorTask(config=FinalizeCharacterizationDetectorConfig())
result = task.run(simulation.visit, simulation.band, 0, cats, sources, made.src, made.calexp)
assert result.psf_ap_corr_cat[0].ap_corr_map, "no aperture corrections"
assert len(before) > 10
assert {"decode_tiles", "convert_bits", "_follow"} <= {name for name, _ in before}
print(sorted(compiled() - before))
"""


def test_nothing_is_left_to_compile(tiny: Path) -> None:
    """Find no new specialisation after a detector has been finalized."""
    calexp = next(tiny.glob("export/**/calexp_*_S00_*.fits"))
    result = subprocess.run([sys.executable, "-c", _SCRIPT, calexp], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


def test_portions_are_the_default_plugins() -> None:
    """Leave no default plugin out."""
    names = FinalizeCharacterizationDetectorConfig().measurement.plugins.names
    assert sorted(sum(portions(), [])) == sorted(names)


def test_bad_number_of_processes(capsys: pytest.CaptureFixture[str]) -> None:
    """Name the option."""
    with pytest.raises(SystemExit):
        main(["--jobs", "0"])
    assert "--jobs" in capsys.readouterr().err
