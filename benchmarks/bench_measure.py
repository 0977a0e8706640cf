# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Time every measurement plugin, per star, beside the stack's.

Stars are simulated, the PSF is that of a golden detector.  The stack's times
come from the golden set's ``timings.json``, divided by its number of stars and
scaled by the calibration figure nearest in kind (GalSim's adaptive moments),
which is measured there and again here (common.py).  The first run of a
plugin, which may compile, doesn't count.

Usage: python benchmarks/bench_measure.py [--stars 100 400 1000]
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

import numpy as np
from common import GOLDEN, print_table, read_stack_times

from lsst.meas.finalize.afw import read_exposure_catalog
from lsst.meas.finalize.catalogs import SourceCatalog
from lsst.meas.finalize.measure import SingleFrameMeasurementTask
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.simulate import VisitSimulation, simulate_detector
from lsst.meas.finalize.tasks import FinalizeCharacterizationDetectorConfig
from lsst.meas.finalize.tasks._output import OutputSchema


def make_stars(n_stars: int) -> tuple[Any, SourceCatalog, np.ndarray]:
    """Simulate an image; return it, its sources and rows of good stars."""
    size = int(np.sqrt(n_stars) * 75) + 200
    simulation = VisitSimulation(
        n_detectors=1, size=size, n_stars=int(1.5 * n_stars), n_galaxies=0, n_blends=0, seed=5
    )
    made = simulate_detector(simulation, 0)
    src = made.src
    good = (src["deblend_nChild"] == 0) & (src["parent"] == 0) & ~src["base_SdssCentroid_flag"]
    good &= ~src["base_PixelFlags_flag_edge"] & ~src["base_PixelFlags_flag_interpolatedCenter"]
    x, y = src["slot_Centroid_x"], src["slot_Centroid_y"]
    good &= (np.minimum(x, y) > 40) & (np.maximum(x, y) < size - 40)
    return made.calexp, src, np.flatnonzero(good)[:n_stars]


def time_plugins(n_stars: int, psf: Any) -> tuple[int, dict[str, float]]:
    """Measure stars with the default plugins; return seconds by plugin."""
    calexp, src, rows = make_stars(n_stars)
    config = FinalizeCharacterizationDetectorConfig()
    selector = config.source_selector["science"].signalToNoise
    runs = []
    for _ in range(3):
        output = OutputSchema(src.schema, selection_fields=(selector.fluxField, selector.errField))
        task = SingleFrameMeasurementTask(config=config.measurement.value, schema=output.schema)
        catalog = output.make_catalog(src[rows])
        times: dict[str, float] = {}
        original = task._run_plugin

        def run_timed(plugin: Any, batch: Any, times: dict = times, original: Any = original) -> None:
            start = time.process_time()
            original(plugin, batch)
            times[plugin.name] = time.process_time() - start

        task._run_plugin = run_timed
        start = time.process_time()
        task.run(catalog, calexp, footprints=src, psf=psf)
        times["whole measurement"] = time.process_time() - start
        runs.append(times)
    # The first run is a warm-up.
    return len(rows), {name: min(run[name] for run in runs[1:]) for name in runs[0]}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, nargs="+", default=[100, 400, 1000])
    parser.add_argument("--golden", type=Path, default=GOLDEN / "visit")
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    key = "default/0"
    path = args.golden / "expected/default/detector_0/finalized_psf_ap_corr_detector_catalog.fits"
    psf = as_batch_psf(read_exposure_catalog(path).psfs[0])
    stack = read_stack_times(args.golden, key)
    runs = [time_plugins(n, psf) for n in args.stars]
    header = ("ms per star", *(f"N={n}" for n, _ in runs), "stack, scaled", "ratio at last N")
    rows = [header]
    n_last, last = runs[-1]
    for name in last:
        stage = "measurement" if name == "whole measurement" else f"plugin:{name}"
        cells = [f"{1e3 * times[name] / n:.3f}" for n, times in runs]
        if stage in stack.times:
            reference = 1e3 * stack.scaled(stage) / stack.times["n_rows"]
            ratio = reference / (1e3 * last[name] / n_last)
            rows.append((name, *cells, f"{reference:.3f}", f"{ratio:.1f}"))
        else:
            rows.append((name, *cells, "", ""))
    print_table(rows)


if __name__ == "__main__":
    main()
