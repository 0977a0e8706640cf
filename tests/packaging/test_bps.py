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


@pytest.fixture(scope="module")
def detector_labels() -> dict[str, bool]:
    """Return the labels of all pipelines, and which have detectors' quanta."""
    graphs = [Pipeline.from_uri(str(path)).to_graph() for path in (ROOT / "pipelines").glob("*.yaml")]
    assert len(graphs) == 4
    return {
        label: "detector" in task.raw_dimensions for graph in graphs for label, task in graph.tasks.items()
    }


@pytest.mark.parametrize("path", SUBMIT_FILES, ids=lambda path: path.stem)
def test_submit_file_knows_our_pipelines(path: Path, detector_labels: dict[str, bool]) -> None:
    """Ask for resources for the tasks of every pipeline, and let detectors
    share jobs whatever their task is called.
    """
    config = load(path)
    assert set(Pipeline.from_uri(config["pipelineYaml"]).task_labels) <= detector_labels.keys()
    assert set(config["pipetask"]) == detector_labels.keys()
    clusters = [cluster["pipetasks"].split(", ") for cluster in config["cluster"].values()]
    clustered = [label for labels in clusters for label in labels]
    assert sorted(clustered) == sorted(label for label, found in detector_labels.items() if found)
    assert {(c["dimensions"], c["partitionDimensions"]) for c in config["cluster"].values()} == {
        ("visit", "detector")
    }


def test_slurm_quanta_fit_into_a_node() -> None:
    """Check that all cores of a node can work at the same time."""
    config = load(ROOT / "bps/parsl_slurm.yaml")
    site = config["site"]["slurm"]
    assert site["cores_per_node"] * config["requestMemory"] <= site["mem_per_node"] * 1024
