# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Commands in an environment whose butler makes objects of lsst.afw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from lsst.daf.butler import Butler
from lsst.meas.finalize.afw import read_exposure_catalog

from .conftest import DOUBLES

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import compare_golden

type Command = Callable[..., str]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Return a function that runs a command with the stand-in on its path."""
    environment = os.environ | {
        "PYTHONPATH": str(DOUBLES),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("DAF_BUTLER_CONFIG_PATH", None)

    def run(*arguments: str) -> str:
        result = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-4000:]
        return result.stdout

    return run


def test_pipeline_status_and_analysis(command: Command, tiny: Path, tmp_path: Path) -> None:
    """Finalize, merge and judge a detector, and tell what became of it."""
    repo = str(tmp_path / "repo")
    with Butler.from_config(Butler.makeRepo(repo), writeable=True) as butler:
        butler.import_(directory=tiny / "export", filename=tiny / "export/export.yaml", transfer="copy")
    expected = tiny / "expected/default/detector_0"
    config = tmp_path / "config.py"
    config.write_text(compare_golden.convert_config(expected.parent / "config.py")[0])
    pipeline = "resource://lsst.meas.finalize/pipelines/FinalizeCharacterization.yaml"
    command(
        *("pipetask", "run", "-b", repo, "-i", "golden/inputs", "-o", "stack", "--register-dataset-types"),
        *(
            "-p",
            f"{pipeline}#prepare,finalize,analyzeFinalizedVisit",
            "-c",
            "analyzeFinalizedVisit:doPlots=False",
        ),
        *("-C", f"{compare_golden.DETECTOR_LABEL}:{config}"),
        *("-d", "instrument='SynthCam' AND detector=0"),
    )
    (status,) = json.loads(
        command(
            "butler", "finalize-status", repo, "stack", "-d", "instrument='SynthCam' AND detector=0", "--json"
        )
    )["visits"]
    assert (status["done"], status["merged"], status["without_psf"]) == ([0], True, [])

    (run,) = tmp_path.glob("repo/stack/*")

    def output(name: str) -> Path:
        (path,) = run.glob(f"{name}/**/*.*")
        return path

    table = pyarrow.parquet.read_table(output("finalized_src_table"))
    theirs = pyarrow.parquet.read_table(expected / "finalized_src_detector_table.parquet")
    for name in ("id", "calib_psf_candidate", "calib_psf_used", "calib_psf_reserved"):
        assert table[name].to_pylist() == theirs[name].to_pylist(), name
    (record,) = read_exposure_catalog(output("finalized_psf_ap_corr_catalog"))
    with np.load(expected / "grid.npz") as grid:
        x, y = grid["points"][0]
        image = record.psf.compute_kernel_image(x=x, y=y).array
        np.testing.assert_allclose(image, grid["kernel_images"][0], rtol=0, atol=1e-10)
    metrics = pyarrow.parquet.read_table(output("finalized_visit_metrics"))
    assert set(metrics["nPsfStar"].to_pylist()) >= {np.sum(theirs["calib_psf_used"].to_numpy())}
