# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Run a simulated survey through BPS, kill it in the middle, and continue.

With the commands of the guide: five visits of nine detectors are simulated,
submitted with Parsl on this machine, killed (workers first, then everything),
restarted, and reported.  Fails unless every detector is there once.

With ``--cluster`` compares the CPU time of a visit whose detectors share jobs
with that of one job per detector instead.

Usage: python benchmarks/run_survey.py [--cluster] [--detectors N] [FOLDER]
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lsst.daf.butler import Butler
from lsst.meas.finalize.operations import CollectionSource, find_status

PROGRAMS = Path(sys.executable).parent
PARSL = "lsst.ctrl.bps.parsl.ParslService"
OUTPUT, INPUTS = "u/me/finalized", "simulated/inputs"
CATALOG = "finalized_psf_ap_corr_detector_catalog"
VISIT = 20260305001
SUBMIT_FILE = "includeConfigs:\n  - resource://lsst.meas.finalize/bps/parsl_local.yaml\n"
# Of the quantum-clustering functions of ctrl_bps, the one that does nothing.
SINGLE = "clusterAlgorithm: lsst.ctrl.bps.quantum_clustering_funcs.single_quantum_clustering\n"


class Shell:
    """Runs commands in a folder, as a user would.

    Parameters
    ----------
    folder
        Where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.environment = os.environ | threads | {"PATH": path, "PWD": str(self.folder)}
        self.log = self.folder / "log"

    def start(self, *words: str) -> subprocess.Popen:
        """Start a command; it writes to the log."""
        print("$", *words, flush=True)
        with open(self.log, "a") as log:
            return subprocess.Popen(words, cwd=self.folder, env=self.environment, stdout=log, stderr=log)

    def run(self, *words: str) -> float:
        """Run a command that must succeed; return CPU seconds."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if code := self.start(*words).wait():
            raise SystemExit(f"exit code {code}: {' '.join(words)}; see {self.log}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def processes(self, what: str = "") -> list[int]:
        """Return the processes that work in the folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if Path(os.readlink(process / "cwd")) == self.folder and what in (
                    process / "cmdline"
                ).read_text().replace("\0", " "):
                    found.append(int(process.name))
            except OSError:
                continue
        return [process for process in found if process != os.getpid()]

    def kill(self, what: str = "") -> int:
        """Kill processes of the folder; return how many there were."""
        killed = 0
        for process in self.processes(what):
            try:
                os.kill(process, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                continue
        return killed


def count_outputs(repo: Path) -> int:
    """Count the files of finished detectors."""
    return sum(1 for _ in repo.glob(f"{OUTPUT}/*/{CATALOG}/**/*.fits"))


def wait_for(process: subprocess.Popen, repo: Path, n: int) -> None:
    """Wait until a number of detectors is finished."""
    while count_outputs(repo) < n:
        if process.poll() is not None:
            raise SystemExit(f"bps ended before {n} detectors were done")
        time.sleep(0.5)


def submit(collection: str = OUTPUT) -> list[str]:
    """Return the command that submits everything in the repository."""
    query = "instrument='SynthCam'"
    return ["bps", "submit", "survey.yaml", "-b", "REPO", "-i", INPUTS, "-o", collection, "-d", query]


def check(repo: Path, n_visits: int, n_detectors: int) -> None:
    """Fail unless each detector of each visit is there exactly once."""
    with Butler.from_config(str(repo), collections=OUTPUT) as butler:
        visits = find_status([CollectionSource(butler, OUTPUT)])
        refs = butler.query_datasets(CATALOG, OUTPUT, find_first=False, limit=None)
        found = sorted((ref.dataId["visit"], ref.dataId["detector"]) for ref in refs)
    assert len(visits) == n_visits, visits
    assert all(status.is_complete and not status.no_work for status in visits), visits
    assert found == [(VISIT + v, d) for v in range(n_visits) for d in range(n_detectors)], found


def run_survey(shell: Shell, n_visits: int, n_detectors: int) -> None:
    """Simulate, submit, kill, continue, report."""
    repo, start = shell.folder / "REPO", time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - start:7.0f} s  {what}", flush=True)

    simulate = ["butler", "simulate-visit", "REPO", "--visit", str(VISIT), "--visits", str(n_visits)]
    cpu = shell.run(*simulate, "--bands", "gri", "--detectors", str(n_detectors), "-j", "2")
    tell(f"simulated {n_visits} visits of {n_detectors} detectors: {cpu:.0f} s CPU")
    (shell.folder / "survey.yaml").write_text(SUBMIT_FILE)
    process = shell.start(*submit())
    wait_for(process, repo, n_visits * n_detectors // 4)
    tell(f"killing {shell.kill('run-qbb')} processes of workers at {count_outputs(repo)} detectors")
    wait_for(process, repo, n_visits * n_detectors // 2)
    done = count_outputs(repo)
    tell(f"killing all {shell.kill()} processes at {done} detectors")
    process.wait()
    (submit_folder,) = (shell.folder / "submit" / OUTPUT).iterdir()
    cpu = shell.run("bps", "restart", "--wms-service-class", PARSL, "--id", str(submit_folder))
    tell(f"continued to the end: {cpu:.0f} s CPU")
    shell.run("butler", "finalize-status", "REPO", OUTPUT)
    shell.run("butler", "finalize-report", "REPO", OUTPUT, "--output", "report")
    tell("reported")
    check(repo, n_visits, n_detectors)
    tell("every detector is there once")


def quantum_seconds(repo: Path, collection: str) -> float:
    """Add up what the quanta of detectors say that they took, in CPU s."""
    label = "finalizeCharacterizationDetector"
    total = 0.0
    with Butler.from_config(str(repo), collections=collection) as butler:
        for ref in butler.query_datasets(f"{label}_metadata", find_first=True, limit=None):
            quantum = butler.get(ref)["quantum"]
            times = [float(quantum[f"{when}CpuTime"]) for when in ("start", "end")]
            total += times[1] - times[0]
    return total


def compare_clusters(shell: Shell, n_detectors: int) -> None:
    """Run a visit with and without clusters, and print CPU times."""
    shell.run("butler", "simulate-visit", "REPO", "--visit", str(VISIT), "--detectors", str(n_detectors))
    totals = {}
    for name, addition in (("clusters", ""), ("single", SINGLE)):
        (shell.folder / "survey.yaml").write_text(SUBMIT_FILE + addition)
        totals[name] = shell.run(*submit(f"u/me/{name}"))
        shell.run("butler", "finalize-status", "REPO", f"u/me/{name}")
        own = quantum_seconds(shell.folder / "REPO", f"u/me/{name}")
        print(f"{name:9s} {totals[name]:7.1f} s CPU in all, quanta of detectors {own:.1f} s", flush=True)
    saved = 1 - totals["clusters"] / totals["single"]
    print(f"clusters save {saved:.0%} of the CPU time of a visit of {n_detectors} detectors")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="where; a temporary one if not given")
    parser.add_argument("--cluster", action="store_true", help="compare clusters of quanta with single ones")
    parser.add_argument("--visits", type=int, default=5)
    parser.add_argument("--detectors", type=int)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    shell = Shell(folder)
    if arguments.cluster:
        compare_clusters(shell, arguments.detectors or 30)
    else:
        run_survey(shell, arguments.visits, arguments.detectors or 9)


if __name__ == "__main__":
    main()
