# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Judge fluxes against the truth of simulated stars.

Background-limited stars of known flux, S/N 50 to 1000, go through the detector
task.  For every flux the pull (flux - truth)/error after aperture correction
is printed, its mean and width.  The true flux is the reference flux, so that
noise of the corrections doesn't count.  Beside it stand the pulls of the
stack's own outputs for a golden visit, where photon noise of the stars and of
the reference flux enters, too: what errors leave out is upstream's.

Usage: python benchmarks/check_truth.py [--stars N] [--runs N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from pathlib import Path

import astropy.table
import numpy as np
import pyarrow.parquet
from common import GOLDEN, print_table
from scipy.spatial import cKDTree

from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.meas.finalize.simulate import VisitSimulation, make_grid_scene, simulate_detector
from lsst.meas.finalize.simulate._associations import associate_stars
from lsst.pipe.base import InMemoryDatasetHandle
from lsst.pipe.tasks.finalizeCharacterization import (
    FinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationDetectorTask,
)

SKY = 1e8  # so high that the stars' own photons don't matter


def run_task(n_stars: int, seed: int) -> tuple[astropy.table.Table, np.ndarray]:
    """Return the star table and the true fluxes."""
    size = int(np.ceil(np.sqrt(n_stars))) * 64
    simulation = VisitSimulation(
        seed=seed, n_detectors=1, size=size, n_cosmic_rays=0, n_bad_columns=0, sky=SKY, saturation=1e12
    )
    made = simulate_detector(simulation, 0, scene=make_grid_scene(simulation))
    src, truth = made.src, made.truth[made.truth["source_id"] > 0]
    src["slot_CalibFlux_instFlux"][np.searchsorted(src["id"], truth["source_id"])] = truth["flux"]
    tables = associate_stars(simulation, {0: made.truth})
    cats, sources = (
        {tract: InMemoryDatasetHandle(pair[i], storageClass="ArrowAstropy") for tract, pair in tables.items()}
        for i in (0, 1)
    )
    stars = (
        FinalizeCharacterizationDetectorTask(config=FinalizeCharacterizationDetectorConfig())
        .run(simulation.visit, simulation.band, 0, cats, sources, src, made.calexp)
        .output_table
    )
    order = np.argsort(truth["source_id"])
    row = order[np.searchsorted(truth["source_id"][order], stars["id"])]
    return stars, np.asarray(truth["flux"])[row]


def read_stack(golden: Path, detector: int) -> tuple[astropy.table.Table, np.ndarray]:
    """Return the stack's star table and the true fluxes on its scale."""
    path = golden / f"expected/default/detector_{detector}/finalized_src_detector_table.parquet"
    stars = arrow_to_astropy(pyarrow.parquet.read_table(path))
    truth = np.load(golden / "truth.npz", allow_pickle=False)[f"detector_{detector}"]
    tree = cKDTree(np.stack([truth["x"], truth["y"]], axis=1))
    distance, row = tree.query(np.stack([stars["slot_Centroid_x"], stars["slot_Centroid_y"]], axis=1))
    good = (distance < 1) & truth["star"][row]
    stars, flux = stars[good], truth["flux"][row[good]]
    bright = flux > np.median(flux)
    return stars, flux * np.mean(np.asarray(stars["slot_CalibFlux_instFlux"])[bright] / flux[bright])


def flux_pulls(stars: astropy.table.Table, flux: np.ndarray) -> dict[str, np.ndarray]:
    """Return the finite pulls of every aperture-corrected flux."""
    pulls = {}
    for column in stars.colnames:
        name = column.removesuffix("_apCorr")
        if name == column or name.startswith("slot_") or name.endswith("_flag"):
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (np.asarray(stars[f"{name}_instFlux"]) - flux) / np.asarray(stars[f"{name}_instFluxErr"])
        pulls[name] = values[np.isfinite(values) & ~np.asarray(stars[f"{name}_flag"])]
    return pulls


def collect(samples: list[tuple[astropy.table.Table, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the pulls of several samples together."""
    parts = [flux_pulls(*sample) for sample in samples]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def mean_and_width(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and half of the central 68 % range."""
    low, high = np.percentile(values, [15.87, 84.13])
    return float(values.mean()), float(high - low) / 2


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=900)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--golden", type=Path, default=GOLDEN / "visit")
    args = parser.parse_args()
    ours = collect([run_task(args.stars, seed) for seed in range(args.runs)])
    stack = collect([read_stack(args.golden, d) for d in (0, 1, 2)]) if args.golden.exists() else {}
    rows = [("flux", "stars", "mean pull", "width", "", "stack's width on golden visit")]
    for name, values in ours.items():
        mean, width = mean_and_width(values)
        verdict = "" if abs(mean) < 0.1 and abs(width - 1) < 0.1 else "*"
        theirs = f"{mean_and_width(stack[name])[1]:.2f}" if name in stack else ""
        rows.append((name, str(len(values)), f"{mean:.3f}", f"{width:.3f}", verdict, theirs))
    print_table(rows)
    print("\n* mean beyond 0.1 or width beyond 1 ± 0.1")


if __name__ == "__main__":
    main()
