# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of the submit files with the systems that they are for."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from lsst.daf.butler import Butler
from lsst.meas.finalize.operations import CollectionSource, GraphSource, find_status
from lsst.meas.finalize.simulate import VisitSimulation

PAGE = Path(__file__).parents[2] / "doc/lsst.meas.finalize/operating.rst"
WHERE = "instrument='SynthCam' AND detector IN (0, 1, 2)"
CATALOG = "finalized_psf_ap_corr_detector_catalog"
SLOW = pytest.mark.skipif(
    not os.environ.get("MEAS_FINALIZE_SLOW_TESTS"), reason="MEAS_FINALIZE_SLOW_TESTS is not set (a minute)"
)


def write_survey(folder: Path, name: str, options: str) -> None:
    """Write a user's file: two detectors in a job, few plugins, no plots."""
    plots = " ".join(
        f"-c {task}:doPlots=False" for task in ("analyzeFinalizedVisit", "analyzeFinalizedSurvey")
    )
    (folder / "survey.yaml").write_text(
        f"includeConfigs:\n  - resource://lsst.meas.finalize/bps/{name}.yaml\n"
        f"extraQgraphOptions: '-C {options} {plots}'\n"
        "cluster:\n  finalizeDetectors:\n    partitionMaxSize: 2\n"
    )


def documented(beginning: str, **replaced: str) -> list[str]:
    """Return a command of the operators' page with other names."""
    lines = map(str.strip, PAGE.read_text().splitlines())
    (line,) = {line for line in lines if line.startswith(f"{beginning} ")}
    for old, new in replaced.items():
        assert old in line
        line = line.replace(old, new)
    return shlex.split(line)


def submit_command(repo: Path, output: str) -> list[str]:
    """Return how a user submits three detectors."""
    words = documented("bps submit", REPO=str(repo))
    words[words.index("u/me/finalized")] = output
    return [*words[:-1], WHERE]


def run(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command, which must succeed."""
    result = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{words}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"


def kill_all_in(folder: Path, what: str = "") -> int:
    """Kill the processes that work in a folder, by their ids."""
    killed = 0
    for process in Path("/proc").iterdir():
        try:
            here = process.name.isdigit() and Path(os.readlink(process / "cwd")) == folder
            if here and what in (process / "cmdline").read_text().replace("\0", " "):
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
        except (OSError, ProcessLookupError):
            continue
    return killed


@SLOW
def test_killed_parsl_run_is_repeated(
    simulated_repo: Path,
    simulation: VisitSimulation,
    tmp_path: Path,
    environment: dict[str, str],
    options: str,
) -> None:
    """Kill workers, then everything, and submit again: nothing is lost or
    doubled.
    """
    pytest.importorskip("lsst.ctrl.bps.parsl", reason="the extra parsl isn't installed")
    if not Path("/proc/self/cwd").exists():
        pytest.skip("processes are found by /proc")
    write_survey(tmp_path, "parsl_local", options)
    with open(tmp_path / "log", "w") as log:
        program = submit_command(simulated_repo, "parsl")
        process = subprocess.Popen(program, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            # When the first detector is done, its job is at the second.
            while not list(simulated_repo.glob(f"parsl/*/{CATALOG}/**/*.fits")):
                assert process.poll() is None, (tmp_path / "log").read_text()[-4000:]
                time.sleep(0.2)
            assert kill_all_in(tmp_path, "run-qbb")
        finally:
            while kill_all_in(tmp_path):  # and what those have started meanwhile
                time.sleep(0.1)
            process.wait()
    (submit_folder,) = (tmp_path / "submit/parsl").iterdir()
    (status,) = find_status([GraphSource(str(simulated_repo), str(submit_folder))])
    assert status.done
    assert not status.is_complete
    # The same command again; benchmarks/run_survey.py continues with another.
    run(submit_command(simulated_repo, "parsl"), tmp_path, environment)
    with Butler.from_config(str(simulated_repo), collections="parsl") as butler:
        (status,) = find_status([CollectionSource(butler, "parsl", where=WHERE)])
        assert status.done == status.expected == {0, 1, 2}
        assert status.merged
        refs = butler.query_datasets(CATALOG, butler.collections.get_info("parsl").children, find_first=False)
        assert len(refs) == 3
        catalog = butler.get("finalized_psf_ap_corr_catalog", instrument="SynthCam", visit=simulation.visit)
        assert catalog["id"].tolist() == [0, 1, 2]


@dataclass
class Dag:
    """A workflow of HTCondor, as ``bps prepare`` wrote it."""

    descriptions: dict[str, Mapping[str, str]]
    """What HTCondor's own parser makes of the files of the jobs, by job."""
    order: list[str]
    """Jobs after those that they wait for."""

    @classmethod
    def read(cls, path: Path) -> Dag:
        """Read it and the files that it names."""
        from htcondor2 import Submit

        descriptions, parents = {}, TopologicalSorter[str]()
        last = ""
        for keyword, *words in map(shlex.split, path.read_text().splitlines()):
            if keyword in ("JOB", "FINAL"):
                name, file, _, folder = words
                descriptions[name] = Submit((path.parent / folder / file).read_text())
                last = name if keyword == "FINAL" else last
            elif keyword == "PARENT":
                parent, _, child = words
                parents.add(child, parent)
        order = [*parents.static_order(), last]
        assert sorted(order) == sorted(descriptions)
        return cls(descriptions, order)

    def count(self, name: str) -> int:
        """Count the jobs with a name."""
        return sum(name in job for job in self.descriptions)


@SLOW
def test_htcondor_workflow_is_prepared(
    simulated_repo: Path, tmp_path: Path, environment: dict[str, str], options: str
) -> None:
    """Make the files of a DAG, and run its jobs one by one as HTCondor would.

    Its daemons are in no package that could be installed for a test; what
    they would read, and the commands that they would give, are all here.
    """
    pytest.importorskip("lsst.ctrl.bps.htcondor", reason="the extra htcondor isn't installed")
    from classad2 import ExprTree

    write_survey(tmp_path, "htcondor", options)
    run(["bps", "prepare", *submit_command(simulated_repo, "condor")[2:]], tmp_path, environment)
    (path,) = tmp_path.glob("submit/condor/*/*.dag")
    dag = Dag.read(path)
    # Two detectors in a job, and the visit after them.
    assert dag.count("finalizeDetectors") == 2
    assert dag.count("consolidateFinalizeCharacterization") == 1
    for name in dag.order:
        description = dag.descriptions[name]
        memory = ExprTree(description["request_memory"]).eval()
        assert memory == (
            4096 if re.search("consolidate|AnalyzeFinalizedVisit|finalJob", name, re.I) else 2048
        )
        assert description["request_cpus"] == "1"
        assert description["getenv"] == "True"
        # Each in a folder of its own, in which there is nothing.
        folder = tmp_path / f"scratch-{name}"
        folder.mkdir()
        run(
            [description["executable"], *shlex.split(description["arguments"].strip('"'))],
            folder,
            environment,
        )
    with Butler.from_config(str(simulated_repo)) as butler:
        (status,) = find_status([CollectionSource(butler, "condor", where=WHERE)])
    assert status.done == status.expected == {0, 1, 2}
    assert status.merged
