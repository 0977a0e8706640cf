# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of the BPS submit files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lsst.pipe.base import Pipeline

ROOT = Path(__file__).parents[2]
SUBMIT_FILES = sorted((ROOT / "bps").glob("*.yaml"))


def load(path: Path) -> dict[str, Any]:
    """Load a file, and what it includes."""
    config = yaml.safe_load(path.read_text())
    for name in config.get("includeConfigs", ()):
        config = load(path.parent / name) | config
    return config


@pytest.mark.parametrize("path", SUBMIT_FILES, ids=lambda path: path.stem)
def test_submit_file_names_a_site(path: Path) -> None:
    """Check that a submit file configures the site that it chooses."""
    config = load(path)
    site = config["site"][config["computeSite"]]
    if config["wmsServiceClass"] == "lsst.ctrl.bps.parsl.ParslService":
        assert site["class"].startswith("lsst.ctrl.bps.parsl.sites.")
    else:
        assert config["wmsServiceClass"] == "lsst.ctrl.bps.htcondor.HTCondorService"
        assert site["profile"]["condor"]["getenv"] == "True"


@pytest.mark.parametrize("path", SUBMIT_FILES, ids=lambda path: path.stem)
def test_submit_file_runs_our_pipeline(path: Path) -> None:
    """Check that resources are asked for tasks that the pipeline has."""
    config = load(path)
    pipeline = Pipeline.from_uri(config["pipelineYaml"])
    assert set(config["pipetask"]) == set(pipeline.task_labels)
    clustered = {cluster["pipetasks"] for cluster in config["cluster"].values()}
    assert clustered == {"finalizeCharacterizationDetector"}


def test_slurm_quanta_fit_into_a_node() -> None:
    """Check that all cores of a node can work at the same time."""
    config = load(ROOT / "bps/parsl_slurm.yaml")
    site = config["site"]["slurm"]
    assert site["cores_per_node"] * config["requestMemory"] <= site["mem_per_node"] * 1024
