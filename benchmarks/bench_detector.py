# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Time one detector quantum by stage, from files to files, with memory.

Everything runs in fresh single-threaded processes: interpreter start-up,
imports, reading, the stages of the task, writing, then all but the first two
once more.  Times are CPU times.  With ``--golden`` the
stack's times of the same job stand beside ours, scaled by the calibration
figures measured here and there (common.py).

Usage: python benchmarks/bench_detector.py [--golden PATH --detector D]
       python benchmarks/bench_detector.py --simulate SIZE --stars N
       python benchmarks/bench_detector.py --against CHECKOUT

With ``--against`` the CPU times of importing the task, of ``pipetask run``, of
the first quantum of a process and of a warm one stand beside those of another
checkout with an environment of its own (``.venv``); the two take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from common import GOLDEN, print_table, read_stack_times

_WORKER = Path(__file__).with_name("_detector_worker.py")
_TASK = "lsst.pipe.tasks.finalizeCharacterization.FinalizeCharacterizationDetectorTask"
_IMPORTS = {
    "import of pipe_base": "lsst.pipe.base, numpy, astropy.table",
    "import of the task": "lsst.pipe.tasks.finalizeCharacterization",
}


def run_worker(arguments: list[str]) -> dict[str, float]:
    """Run the quantum in a fresh process and return its report."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    result = subprocess.run(
        [sys.executable, str(_WORKER), *arguments], env=environment, capture_output=True, text=True
    )
    if result.returncode:
        sys.exit(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def child_seconds(command: list[str]) -> tuple[float, str]:
    """Run a command; return its CPU time and what it printed."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode:
        sys.exit(result.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result.stdout


def measure(python: str, golden: Path, detector: int, scratch: str, run: int) -> dict[str, float]:
    """Return CPU times of one checkout by what is run."""
    report = {
        name: child_seconds([python, "-c", f"import {modules}"])[0] for name, modules in _IMPORTS.items()
    }
    pipetask = [str(Path(python).with_name("pipetask")), "run", "-b", f"{scratch}/repo"]
    report["pipetask run"], _ = child_seconds(
        [*pipetask, "-i", "golden/inputs", "-o", f"bench/{run}", "-t", _TASK, "--register-dataset-types"]
        + ["-d", f"instrument='SynthCam' AND detector={detector}"]
    )
    _, printed = child_seconds([python, str(_WORKER), "repeated", str(golden), str(detector), scratch])
    return report | json.loads(printed.splitlines()[-1])


def compare(golden: Path, detector: int, checkout: Path, repeats: int) -> None:
    """Print CPU times here and with another checkout, and their ratios."""
    pythons = {"here": sys.executable, "there": str(checkout / ".venv/bin/python")}
    reports: dict[str, list[dict[str, float]]] = {side: [] for side in pythons}
    with ExitStack() as stack:
        scratch = {side: stack.enter_context(tempfile.TemporaryDirectory()) for side in pythons}
        for side, python in pythons.items():
            child_seconds([python, str(_WORKER), "repository", str(golden), scratch[side]])
        for run in range(repeats):
            # In turns, so that other load of the machine concerns both.
            for side, python in pythons.items():
                reports[side].append(measure(python, golden, detector, scratch[side], run))
    rows = [("CPU-s", "here", str(checkout), "ratio")]
    best = {side: {k: min(r[k] for r in found) for k in found[0]} for side, found in reports.items()}
    for stage, here in best["here"].items():
        there = best["there"][stage]
        rows.append((stage, f"{here:.2f}", f"{there:.2f}", f"{there / here:.2f}"))
    relative = {side: t["import of the task"] / t["import of pipe_base"] for side, t in best.items()}
    rows.append(("import of the task, relative", *(f"{relative[side]:.2f}" for side in pythons), ""))
    print_table(rows)


def time_startup() -> float:
    """Return the shortest time to start and end an interpreter."""
    return min(child_seconds([sys.executable, "-c", "pass"])[0] for _ in range(5))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", type=Path, default=GOLDEN / "visit")
    parser.add_argument("--detector", type=int, default=0)
    parser.add_argument("--simulate", type=int, metavar="SIZE", help="simulate a detector of this size")
    parser.add_argument("--stars", type=int, default=600, help="stars to simulate")
    parser.add_argument("--repeats", type=int, default=2, help="runs; the best counts")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with this checkout")
    args = parser.parse_args()
    if args.against:
        if args.simulate:
            parser.error("--against works on golden inputs only")
        compare(args.golden, args.detector, args.against, args.repeats)
        return
    startup = time_startup()
    with tempfile.TemporaryDirectory() as scratch:
        if args.simulate:
            arguments = ["simulated", scratch, str(args.simulate), str(args.stars)]
            run_worker(["simulate", *arguments[1:]])
        else:
            arguments = ["golden", str(args.golden), str(args.detector), scratch]
        reports = [run_worker(arguments) for _ in range(args.repeats)]
    best = {key: min(report[key] for report in reports) for key in reports[0]}
    stack = None if args.simulate else read_stack_times(args.golden, f"default/{args.detector}")
    print_report(best, startup, stack)


def print_report(best: dict[str, float], startup: float, stack) -> None:
    """Print times by stage, ratios to the stack, and memory."""
    rows = [("stage", "first, s", "later, s", "stack, scaled", "ratio")]
    rows.append(("interpreter start", f"{startup:.3f}", "", "", ""))
    total = 0.0
    for stage, seconds in best.items():
        if stage in ("peak MB", "stars") or stage.startswith("later"):
            continue
        later = best.get(f"later {stage}")
        cells = (stage, f"{seconds:.3f}", "" if later is None else f"{later:.3f}")
        if later is None or stack is None or stage not in stack.times:
            rows.append((*cells, "", ""))
        else:
            reference = stack.scaled(stage)
            rows.append((*cells, f"{reference:.2f}", f"{reference / max(later, 1e-6):.1f}"))
        total += 0.0 if stage in ("imports", "read", "write") else later or 0.0
    if stack is not None:
        names = ("isolated", "candidates", "psf", "measurement", "measure_ap_corr", "apply_ap_corr")
        reference = sum(stack.scaled(name) for name in names)
        rows.append(("whole task", "", f"{total:.3f}", f"{reference:.2f}", f"{reference / total:.1f}"))
    print_table(rows)
    print(f"\n{best['stars']:.0f} stars, peak memory {best['peak MB']:.0f} MB")


if __name__ == "__main__":
    main()
