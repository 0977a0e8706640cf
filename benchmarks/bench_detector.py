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
imports, reading, the stages of the task, writing.  With ``--golden`` the
stack's times of the same job stand beside ours, scaled by the calibration
figures measured here and there (common.py).

Usage: python benchmarks/bench_detector.py [--golden PATH --detector D]
       python benchmarks/bench_detector.py --simulate SIZE --stars N
       python benchmarks/bench_detector.py --against CHECKOUT

With ``--against`` the CPU time of the first quantum of a process, of a warm
one, and of the whole process stand beside those of another checkout with an
environment of its own (``.venv``); the two take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import GOLDEN, print_table, read_stack_times

_WORKER = Path(__file__).with_name("_detector_worker.py")


def run_worker(arguments: list[str]) -> dict[str, float]:
    """Run the quantum in a fresh process and return its report."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, str(_WORKER), *arguments], env=environment, capture_output=True, text=True
    )
    wall = time.perf_counter() - start
    if result.returncode:
        sys.exit(result.stderr)
    report = json.loads(result.stdout.splitlines()[-1])
    report["whole process"] = wall
    return report


def compare(arguments: list[str], checkout: Path, repeats: int) -> None:
    """Print CPU times here and with another checkout, and their ratios."""
    pythons = {"here": sys.executable, "there": str(checkout / ".venv/bin/python")}
    reports: dict[str, list[dict[str, float]]] = {side: [] for side in pythons}
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    for _ in range(repeats):
        # In turns, so that other load of the machine concerns both.
        for side, python in pythons.items():
            command = [python, str(_WORKER), "repeated", *arguments]
            result = subprocess.run(command, env=environment, capture_output=True, text=True)
            if result.returncode:
                sys.exit(result.stderr)
            reports[side].append(json.loads(result.stdout.splitlines()[-1]))
    rows = [("CPU-s", "here", str(checkout), "ratio")]
    for stage in reports["here"][0]:
        here, there = (min(report[stage] for report in reports[side]) for side in pythons)
        rows.append((stage, f"{here:.2f}", f"{there:.2f}", f"{there / here:.2f}"))
    print_table(rows)


def time_startup() -> float:
    """Return the shortest time to start and end an interpreter."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        times.append(time.perf_counter() - start)
    return min(times)


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
        with tempfile.TemporaryDirectory() as scratch:
            compare([str(args.golden), str(args.detector), scratch], args.against, args.repeats)
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
    rows = [("stage", "s", "stack, scaled", "ratio")]
    rows.append(("interpreter start", f"{startup:.3f}", "", ""))
    total = 0.0
    for stage, seconds in best.items():
        if stage in ("peak MB", "whole process", "stars"):
            continue
        total += 0.0 if stage in ("imports", "read", "write") else seconds
        if stack is not None and stage in stack.times:
            reference = stack.scaled(stage)
            rows.append((stage, f"{seconds:.3f}", f"{reference:.2f}", f"{reference / seconds:.1f}"))
        else:
            rows.append((stage, f"{seconds:.3f}", "", ""))
    if stack is not None:
        names = ("isolated", "candidates", "psf", "measurement", "measure_ap_corr", "apply_ap_corr")
        reference = sum(stack.scaled(name) for name in names)
        rows.append(("whole task", f"{total:.3f}", f"{reference:.2f}", f"{reference / total:.1f}"))
    rows.append(("whole process", f"{best['whole process']:.3f}", "", ""))
    print_table(rows)
    print(f"\n{best['stars']:.0f} stars, peak memory {best['peak MB']:.0f} MB")


if __name__ == "__main__":
    main()
