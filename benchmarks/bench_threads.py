# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Time the visit task with several threads beside one.

Detectors of a golden set are repeated under other numbers.  The two take
turns, and the shortest times count; they are wall-clock times, which only mean
something while nothing else runs on the machine, so CPU times, which may be
compared at any time, and the load are printed, too.

Usage: python benchmarks/bench_threads.py [--threads 2 --detectors 8]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import logging
import time
from pathlib import Path
from typing import Any

from _detector_worker import read_golden
from common import GOLDEN, find_input, print_table

from lsst.meas.finalize.afw import read_exposure, read_source_catalog
from lsst.meas.finalize.tasks import FinalizeCharacterizationConfig, FinalizeCharacterizationTask


class _Handle:
    """A deferred dataset of a file, as far as the task uses it."""

    def __init__(self, read: Any, path: Path) -> None:
        self._read = read
        self._path = path

    def get(self) -> Any:
        return self._read(self._path)


def make_task(n_threads: int) -> FinalizeCharacterizationTask:
    """Make a task of the default configuration but for the threads."""
    config = FinalizeCharacterizationConfig()
    config.n_threads = n_threads
    config.validate()
    return FinalizeCharacterizationTask(config=config)


def make_inputs(golden: Path, n_detectors: int) -> dict[str, Any]:
    """Return what the task runs on: handles of files, and tables."""
    first = read_golden(golden, 0)
    common = ("visit", "band", "isolated_star_cat_dict", "isolated_star_source_dict")
    inputs = {name: first[name] for name in common}
    # Detector 2 of the set has no PSF stars.
    paths = {d: [find_input(golden, name, d % 2) for name in ("calexp", "src")] for d in range(n_detectors)}
    inputs["calexp_dict"] = {d: _Handle(read_exposure, calexp) for d, (calexp, _) in paths.items()}
    inputs["src_dict"] = {d: _Handle(read_source_catalog, src) for d, (_, src) in paths.items()}
    return inputs


def time_run(task: FinalizeCharacterizationTask, inputs: dict[str, Any]) -> tuple[float, float]:
    """Return wall-clock and CPU seconds of a visit."""
    wall, cpu = time.perf_counter(), time.process_time()
    task.run(**inputs)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--detectors", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--golden", type=Path, default=GOLDEN / "visit")
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    tasks = {n: make_task(n) for n in (1, args.threads)}
    inputs = make_inputs(args.golden, args.detectors)
    # Imports, compilation and first calls don't count.
    time_run(tasks[1], make_inputs(args.golden, 2))
    times: dict[int, list[tuple[float, float]]] = {n: [] for n in tasks}
    for _ in range(args.repeats):
        for n, task in tasks.items():
            times[n].append(time_run(task, inputs))
    best = {n: [min(column) for column in zip(*found, strict=True)] for n, found in times.items()}
    rows = [(f"{args.detectors} detectors", "wall s", "CPU s", "wall ratio")]
    for n, (wall, cpu) in best.items():
        rows.append((f"{n} thread(s)", f"{wall:.2f}", f"{cpu:.2f}", f"{best[1][0] / wall:.2f}"))
    print_table(rows)
    print(f"\n{os.cpu_count()} cores, load {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
