# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Run a simulated survey through BPS by the commands of the guide.

Five visits of nine detectors are simulated, processed and judged by Parsl on
two cores of this machine, and reported.  Fails unless every detector is there
once, and a survey of that size takes less than ten minutes of two cores.

With ``--kill`` the workers are killed at a quarter of the detectors,
everything at half of them, and the guide's command continues the run.

With ``--cluster`` compares the CPU time of a visit whose detectors share jobs
with that of one job per detector instead.

Usage: python benchmarks/run_survey.py [--kill] [--detectors N] [FOLDER]
       python benchmarks/run_survey.py --cluster [--detectors N] [FOLDER]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lsst.daf.butler import Butler
from lsst.meas.finalize.operations import CollectionSource, find_status

PROGRAMS = Path(sys.executable).parent
PAGES = Path(__file__).parents[1] / "doc/lsst.meas.finalize"
OUTPUT = "u/me/finalized"
CATALOG = "finalized_psf_ap_corr_detector_catalog"
VISIT = 20260305001
# "times" tells at the end of each job's output what its processes took.
SUBMIT_FILE = """
includeConfigs:
  - resource://lsst.meas.finalize/bps/parsl_local.yaml
site:
  local:
    commandPrefix: trap times EXIT
"""
# Of the quantum-clustering functions of ctrl_bps, the one that does nothing.
SINGLE = "clusterAlgorithm: lsst.ctrl.bps.quantum_clustering_funcs.single_quantum_clustering\n"
SIZE, LIMIT = (5, 9), 600.0  # Of this many visits and detectors at most so many s.


def adopt_orphans() -> None:
    """Become the parent of processes whose parent ends, as Parsl's workers
    do at once; what they took counts as ours then (Linux).
    """
    set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def children_seconds() -> float:
    """Wait for all processes that were started, and return their CPU s."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            return usage.ru_utime + usage.ru_stime


def documented(page: str, beginning: str) -> list[str]:
    """Return the only command of a page that begins so."""
    lines = {line.strip() for line in (PAGES / f"{page}.rst").read_text().splitlines()}
    (line,) = {line for line in lines if line.startswith(f"{beginning} ")}
    return shlex.split(line)


class Shell:
    """Runs commands in a folder, as a user would.

    Parameters
    ----------
    folder
        Where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.repo = self.folder / "REPO"
        path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.environment = os.environ | threads | {"PATH": path, "PWD": str(self.folder)}
        self.log = self.folder / "log"

    def start(self, *words: str) -> subprocess.Popen:
        """Start a command; it writes to the log."""
        print("$", shlex.join(words), flush=True)
        with open(self.log, "a") as log:
            return subprocess.Popen(words, cwd=self.folder, env=self.environment, stdout=log, stderr=log)

    def run(self, *words: str) -> float:
        """Run a command that must succeed; return wall seconds."""
        start = time.monotonic()
        if code := self.start(*words).wait():
            raise SystemExit(f"exit code {code}: {shlex.join(words)}; see {self.log}")
        return time.monotonic() - start

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


def kill_and_continue(shell: Shell, submit: list[str], n_total: int) -> None:
    """Kill workers, then everything, and continue by the guide's command."""
    process = shell.start(*submit)
    wait_for(process, shell.repo, n_total // 4)
    print(f"killing {shell.kill('run-qbb')} workers at {count_outputs(shell.repo)} detectors", flush=True)
    wait_for(process, shell.repo, n_total // 2)
    print(f"killing all {shell.kill()} processes at {count_outputs(shell.repo)} detectors", flush=True)
    while shell.kill():  # what those have started meanwhile
        time.sleep(0.1)
    process.wait()
    (submit_folder,) = (shell.folder / "submit" / OUTPUT).iterdir()
    words = documented("operating", "bps restart")
    shell.run(*words[:-1], str(submit_folder.relative_to(shell.folder)))


def check(repo: Path, n_visits: int, n_detectors: int) -> None:
    """Fail unless each detector of each visit is there exactly once."""
    with Butler.from_config(str(repo), collections=OUTPUT) as butler:
        visits = find_status([CollectionSource(butler, OUTPUT)])
        refs = butler.query_datasets(CATALOG, OUTPUT, find_first=False, limit=None)
        found = sorted((ref.dataId["visit"], ref.dataId["detector"]) for ref in refs)
        catalogs = butler.query_datasets("finalized_psf_ap_corr_catalog", OUTPUT, find_first=False)
        rows = sorted((ref.dataId["visit"], n) for ref in catalogs for n in butler.get(ref)["id"].tolist())
    expected = [(VISIT + v, d) for v in range(n_visits) for d in range(n_detectors)]
    if found != expected or rows != expected:
        raise SystemExit(f"Detectors {found} and {rows} in the merged catalogs rather than {expected}.")
    if not all(status.is_complete and not status.no_work for status in visits):
        raise SystemExit(f"Not all is done: {visits}")


def run_survey(shell: Shell, n_visits: int, n_detectors: int, *, kill: bool) -> None:
    """Simulate, submit, perhaps kill and continue, report."""
    simulate = documented("getting-started", "butler simulate-visit REPO --visit 20260305001")
    for option, number in (("--visits", n_visits), ("--detectors", n_detectors)):
        simulate[simulate.index(option) + 1] = str(number)
    submit, report = documented("operating", "bps submit"), documented("operating", "butler finalize-report")
    (shell.folder / "survey.yaml").write_text(SUBMIT_FILE)
    start, done = time.monotonic(), 0.0
    for name, words in (("simulated", simulate), ("processed", submit), ("reported", report)):
        begin = time.monotonic()
        if kill and words is submit:
            kill_and_continue(shell, submit, n_visits * n_detectors)
        else:
            shell.run(*words)
        cpu = children_seconds()
        print(f"{name}: {cpu - done:.0f} s CPU, {time.monotonic() - begin:.0f} s", flush=True)
        done = cpu
    check(shell.repo, n_visits, n_detectors)
    pages = len(list((shell.folder / "report").rglob("*.html")))
    print(f"Every one of {n_visits} × {n_detectors} detectors is there once; the report has {pages} pages.")
    print(f"{done:.0f} s CPU, {done / 2:.0f} s of two cores; took {time.monotonic() - start:.0f} s.")
    if (n_visits, n_detectors) == SIZE and done / 2 > LIMIT:
        raise SystemExit(f"That is more than {LIMIT:.0f} s.")


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


def job_seconds(folder: Path) -> list[float]:
    """Return what jobs with detectors took in CPU s, as told by "times"."""
    result = []
    for path in folder.rglob("*finalize*Detector*.stdout"):
        # The last line is of the commands that the job's shell has run.
        *_, minutes = re.findall(r"^(\d+)m([\d.]+)s (\d+)m([\d.]+)s$", path.read_text(), re.MULTILINE)
        user, user_rest, system, system_rest = map(float, minutes)
        result.append(60 * (user + system) + user_rest + system_rest)
    return result


def compare_clusters(shell: Shell, n_detectors: int) -> None:
    """Run a visit with and without clusters, and print CPU times."""
    if not shell.repo.exists():
        shell.run("butler", "simulate-visit", "REPO", "--visit", str(VISIT), "--detectors", str(n_detectors))
    print("                jobs  CPU s in all  per detector: CPU s of job  of quantum  ratio")
    totals, done = [], children_seconds()
    for name, addition in (("clusters", ""), ("single", SINGLE)):
        (shell.folder / "survey.yaml").write_text(SUBMIT_FILE + addition)
        words = documented("operating", "bps submit")
        words[words.index(OUTPUT)] = f"u/me/{name}"
        shell.run(*words)
        totals.append(children_seconds() - done)
        done += totals[-1]
        jobs = job_seconds(shell.folder / "submit/u/me" / name)
        job = sum(jobs) / n_detectors
        quantum = quantum_seconds(shell.repo, f"u/me/{name}") / n_detectors
        print(f"{name:16s}{len(jobs):4d}{totals[-1]:14.1f}{job:28.2f}{quantum:12.2f}{job / quantum:7.2f}")
        shell.run("butler", "finalize-status", "REPO", f"u/me/{name}")
        done = children_seconds()
    saved = 1 - totals[0] / totals[1]
    print(f"clusters save {saved:.0%} of the CPU time of a visit of {n_detectors} detectors")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="where; a temporary one if not given")
    parser.add_argument("--cluster", action="store_true", help="compare clusters of quanta with single ones")
    parser.add_argument("--kill", action="store_true", help="kill the run in the middle, and continue it")
    parser.add_argument("--visits", type=int, default=SIZE[0])
    parser.add_argument("--detectors", type=int)
    arguments = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.cluster:
            compare_clusters(Shell(folder), arguments.detectors or 30)
        else:
            run_survey(Shell(folder), arguments.visits, arguments.detectors or SIZE[1], kill=arguments.kill)


if __name__ == "__main__":
    main()
