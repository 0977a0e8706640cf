# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Reading isolated stars for all detectors of a visit, with and without the
preparation: bytes, processor time and peak memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lsst.daf.butler import Butler, DatasetType, FileDataset
from lsst.daf.butler.formatters.parquet import compute_row_group_size
from lsst.meas.finalize.stars import ReserveIsolatedStarsTask, concat_isolated_star_cats

N_TRACTS, N_DETECTORS = 4, 189
VISIT = 2026030400000
FORMATTER = "lsst.daf.butler.formatters.parquet.ParquetFormatter"
OPTIONS: dict[str, Any] = {"id_column": "sourceId", "visit": VISIT + 7}


def make_repo(repo: Path, n_sources: int, n_visits: int) -> None:
    """Make a repository with the tables of some tracts.

    All tracts have the same files: what is in them doesn't matter here.
    """
    rng = np.random.default_rng(1)
    n_stars = max(n_sources // n_visits, 1)
    star = np.arange(n_sources) // n_visits
    columns = {
        "sourceId": 2**60 + rng.permutation(n_sources),
        "obj_index": np.minimum(star, n_stars - 1).astype(np.int32),
        # Star after star, each of them in all visits.
        "visit": VISIT + np.arange(n_sources) % n_visits,
        "detector": rng.integers(0, N_DETECTORS, n_sources).astype(np.int32),
        "ra": rng.random(n_sources),
        "dec": rng.random(n_sources),
    }
    stars = {
        "nsource_r": np.full(n_stars, n_visits, np.int32),
        "source_cat_index_r": np.arange(n_stars) * n_visits,
    }
    Butler.makeRepo(str(repo))
    with Butler.from_config(str(repo), run="run", writeable=True) as butler:
        kinds = [f"{name}{i}" for name in ("stars", "sources") for i in range(N_TRACTS)]
        for name in (*kinds, "finalize_isolated_stars"):
            kind = DatasetType(name, (), "ArrowAstropy", universe=butler.dimensions)
            butler.registry.registerDatasetType(kind)
        for name, table in (("stars", pa.table(stars)), ("sources", pa.table(columns))):
            path = repo / f"{name}.parq"
            pq.write_table(table, path, row_group_size=compute_row_group_size(table.schema))
            for i in range(N_TRACTS):
                refs = butler.registry.insertDatasets(f"{name}{i}", [{}], run="run")
                butler.ingest(FileDataset(path, refs, formatter=FORMATTER), transfer="direct")


class Usage:
    """What this process has used since a point in time."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        self._cpu, self._read = time.process_time(), self._proc("io", "rchar")
        self._memory = self._proc("status", "VmRSS")

    @staticmethod
    def _proc(file: str, name: str) -> int:
        lines = Path("/proc/self", file).read_text().splitlines()
        return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])

    def since(self) -> dict[str, float]:
        """Return seconds, bytes, and peak memory in MB: all and the growth."""
        peak = self._proc("status", "VmHWM")
        return {
            "cpu": time.process_time() - self._cpu,
            "bytes": self._proc("io", "rchar") - self._read,
            "peak": peak / 1024,
            "extra": (peak - self._memory) / 1024,
        }


def work(mode: str, repo: str, n_detectors: int) -> dict[str, float]:
    """Read what the quanta of a visit read, in this process."""
    with Butler.from_config(repo, run="run", writeable=True) as butler:
        stars, sources = (
            {i: butler.getDeferred(f"{name}{i}") for i in range(N_TRACTS)} for name in ("stars", "sources")
        )
        reserve = ReserveIsolatedStarsTask()
        if mode == "without":
            usage = Usage()
            for detector in range(n_detectors):
                concat_isolated_star_cats(
                    "r", stars, sources, reserve=reserve, detector=detector, star_columns=(), **OPTIONS
                )
            return usage.since()
        # An older version, which only reads without preparation, has neither.
        from lsst.meas.finalize.butler import stream
        from lsst.meas.finalize.stars import prepare_isolated_stars, read_prepared_stars

        if mode == "prepare":
            streams = [{i: stream(handle) for i, handle in handles.items()} for handles in (stars, sources)]
            usage = Usage()
            butler.put(
                prepare_isolated_stars("r", *streams, reserve=reserve, **OPTIONS), "finalize_isolated_stars"
            )
            return usage.since()
        # A quantum has its handles, and writes tables of stars in any case.
        handle = butler.getDeferred("finalize_isolated_stars")
        stream(handle)
        pq.write_table(pa.table({f"c{i}": pa.nulls(100, pa.float64()) for i in range(700)}), Path(repo, "w"))
        usage = Usage()
        for detector in range(n_detectors):
            read_prepared_stars(stream(handle), "r", reserve=reserve, detector=detector, **OPTIONS)
        return usage.since()


def run(python: str, mode: str, repo: Path, n_detectors: int) -> dict[str, float]:
    """Run `work` in a process of its own."""
    command = [python, __file__, "--worker", mode, "--repo", str(repo), "--detectors", str(n_detectors)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    values: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return values


def compare(n_sources: int, n_visits: int, python: str, n_sample: int, scratch: Path) -> None:
    """Print what a visit costs for tables of some length."""
    repo = scratch / f"repo{n_sources}"
    make_repo(repo, n_sources, n_visits)
    print(f"\n{N_TRACTS} tracts of {n_sources:,} sources in {n_visits} visits, {N_DETECTORS} detectors")
    without = run(python, "without", repo, n_sample)
    for name in ("cpu", "bytes"):
        without[name] *= N_DETECTORS / n_sample
    prepare = run(sys.executable, "prepare", repo, 0)
    detectors = run(sys.executable, "detector", repo, N_DETECTORS)
    single = run(sys.executable, "detector", repo, 1)
    rows = {
        f"detectors without the step (from {n_sample})": without,
        "preparation": prepare,
        "detectors with the step": detectors,
        "one of these": single,
    }
    for name, row in rows.items():
        print(
            f"  {name:38s} {row['cpu']:9.2f} s {row['bytes'] / 1e6:11.1f} MB read, "
            f"peak {row['peak']:7.0f} MB, {row['extra']:7.1f} MB of it for this"
        )
    for name in ("cpu", "bytes"):
        both = prepare[name] + detectors[name]
        ratios = f"{without[name] / both:8.1f} x less, {without[name] / detectors[name]:8.1f} x in detectors"
        print(f"  {name:5s} {ratios}")


def main() -> None:
    """Compare tables of several lengths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10], help="sources of a tract")
    parser.add_argument("--visits", type=int, default=200, help="visits of a tract")
    parser.add_argument("--sample", type=int, default=2, help="detectors to run without the step")
    parser.add_argument("--python", default=sys.executable, help="interpreter for reading without the step")
    parser.add_argument("--scratch", type=Path, help="folder for the tables")
    for name in ("--worker", "--repo", "--detectors"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(args.worker, args.repo, int(args.detectors))))
        return
    for millions in args.millions:
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            compare(round(millions * 1e6), args.visits, args.python, args.sample, Path(scratch))


if __name__ == "__main__":
    main()
