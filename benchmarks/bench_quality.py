# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""CPU time of judging a visit of 189 detectors, and a survey of them.

Usage: python benchmarks/bench_quality.py --detectors N --stars N --visits N

Printed beside: CPU time of a fixed calculation on this machine.
"""

from __future__ import annotations

import argparse
import copy
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import astropy.table
import numpy as np
import pyarrow.parquet

from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.images import Box
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import PiffWrapper
from lsst.meas.finalize.afw import read_exposure_catalog
from lsst.meas.finalize.butler import table_to_arrow
from lsst.meas.finalize.catalogs import ExposureCatalog, ExposureRecord, Schema
from lsst.meas.finalize.quality import (
    VISIT_PLOTS,
    AnalyzeFinalizedSurveyConfig,
    AnalyzeFinalizedSurveyTask,
    AnalyzeFinalizedVisitConfig,
    AnalyzeFinalizedVisitTask,
)

SIZE = 520
"""Of the detector whose model is used; grids are finer, to have as many points
as for 4096 pixels, and pixels larger on the sky.
"""
SAMPLING, STAR_SAMPLING = 12, 1
SCALE = np.deg2rad(0.2 * 4096 / SIZE / 3600)
TARGETS = {"visit, no plots": 3.0, "visit, all plots": 15.0, "survey, per 100 visits": 10.0}


def calibrate() -> float:
    """Time a fixed calculation."""
    start = time.process_time()
    a = np.random.default_rng(0).normal(size=(700, 700))
    for _ in range(10):
        a @ a
    sum(range(3_000_000))
    return time.process_time() - start


def make_stars(n_detectors: int, n_stars: int) -> astropy.table.Table:
    """Make a star table of detectors in a square."""
    rng = np.random.default_rng(1)
    n = n_detectors * n_stars
    detector = np.repeat(np.arange(n_detectors, dtype=np.int32), n_stars)
    x, y = rng.uniform(0, SIZE, (2, n))
    columns = int(np.ceil(np.sqrt(n_detectors)))
    focal = [
        0.01 * (v + (k - columns / 2) * (SIZE + 10))
        for v, k in zip((x, y), divmod(detector, columns)[::-1], strict=True)
    ]
    flux = 10 ** rng.uniform(4.2, 5.3, n)
    ratio = flux / 200
    psf = np.stack([3 + 1e-4 * x, np.full(n, 2.8), np.full(n, 0.1)], axis=1)
    star = psf * (1 + 2 / ratio * rng.normal(size=n))[:, None] + 3 / ratio[:, None] * rng.normal(size=(n, 3))
    table = astropy.table.Table(
        {
            "detector": detector,
            "coord_ra": 2.6 - focal[0] * 100 * SCALE,
            "coord_dec": focal[1] * 100 * SCALE,
            "slot_Centroid_x": x,
            "slot_Centroid_y": y,
            "base_FPPosition_x": focal[0],
            "base_FPPosition_y": focal[1],
            "calib_psf_candidate": np.ones(n, dtype=bool),
            "calib_psf_reserved": np.arange(n) % 5 == 0,
            "calib_psf_used": np.arange(n) % 5 != 0,
            "psf_color_value": rng.uniform(0.2, 2.5, n),
            "slot_PsfFlux_instFlux": flux,
            "slot_PsfFlux_instFluxErr": flux / ratio,
            "slot_PsfFlux_flag": np.zeros(n, dtype=bool),
            "slot_Shape_flag": np.zeros(n, dtype=bool),
            "slot_CalibFlux_instFlux": flux * (1 + 0.003 * rng.normal(size=n)),
        }
    )
    for i, moment in enumerate(("xx", "yy", "xy")):
        table[f"slot_Shape_{moment}"], table[f"slot_PsfShape_{moment}"] = star[:, i], psf[:, i]
    for order in ("03", "12", "21", "30", "04", "13", "22", "31", "40"):
        for what in ("Source", "PSF"):
            table[f"ext_shapeHSM_HigherOrderMoments{what}_{order}"] = rng.normal(0.5, 0.01, n)
    return table


def make_model() -> PiffWrapper:
    """Read a model that the stack fitted to a small detector."""
    name = "finalized_psf_ap_corr_catalog.fits"
    path = Path(__file__).parents[1] / "tests" / "data" / "tiny" / "expected" / "default" / name
    return read_exposure_catalog(path)[0].psf


def make_catalog(n_detectors: int) -> ExposureCatalog:
    """Make the models of the detectors."""
    schema = Schema()
    schema.add_field("id", "L", doc="detector")
    for name in ("min_x", "min_y", "max_x", "max_y"):
        schema.add_field(f"bbox_{name}", "I", doc="box")
    catalog, model = ExposureCatalog(schema), make_model()
    field = ChebyshevField(Box.factory[0:SIZE, 0:SIZE], np.array([[1.0, 0.01], [0.02, 0.0]]))
    box = {"bbox_min_x": 0, "bbox_min_y": 0, "bbox_max_x": SIZE - 1, "bbox_max_y": SIZE - 1}
    for detector in range(n_detectors):
        psf = copy.deepcopy(model)
        catalog.append(ExposureRecord({"id": detector, **box}, psf, {"base_PsfFlux_instFlux": field}))
    return catalog


def timed(name: str, function: Callable[[], Any], per: float = 1.0) -> Any:
    """Call and print CPU seconds beside the target."""
    start = time.process_time()
    result = function()
    seconds = (time.process_time() - start) / per
    print(
        f"{name:26s} {seconds:8.2f} CPU-s  target {TARGETS[name]:5.1f}  ratio {seconds / TARGETS[name]:.2f}"
    )
    return result


class FileHandle:
    """A table in a file that is read when it is asked for, as by a butler."""

    def __init__(self, table: astropy.table.Table, path: Path) -> None:
        self.path = path
        pyarrow.parquet.write_table(table_to_arrow(table), path)

    def get(self) -> astropy.table.Table:
        """Read the file."""
        return arrow_to_astropy(pyarrow.parquet.read_table(self.path, use_threads=False))


def resident() -> float:
    """Return how much memory is in use, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def survey(tables: Sequence[astropy.table.Table], n_visits: int) -> None:
    """Print what a survey of files of visits takes, and what of memory."""
    task = AnalyzeFinalizedSurveyTask(config=AnalyzeFinalizedSurveyConfig(doPlots=False))
    with tempfile.TemporaryDirectory() as folder:
        handles = [FileHandle(table, Path(folder) / f"{i}.parq") for i, table in enumerate(tables)]
        task.run([(0, handles)])  # loads what is loaded once per process
        before = resident()
        name = "survey, per 100 visits"
        timed(name, lambda: task.run((visit, handles) for visit in range(n_visits)), n_visits / 100)
        print(f"memory grown by {n_visits} visits: {(resident() - before) / 1e6:.1f} MB")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detectors", type=int, default=189)
    parser.add_argument("--stars", type=int, default=250, help="per detector")
    parser.add_argument("--visits", type=int, default=200)
    args = parser.parse_args()
    stars, catalog = make_stars(args.detectors, args.stars), make_catalog(args.detectors)
    small = make_stars(2, 200), make_catalog(2)

    def task(do_plots: bool) -> AnalyzeFinalizedVisitTask:
        config = AnalyzeFinalizedVisitConfig()
        config.doPlots = do_plots
        config.psfGridSampling, config.psfSampling = SAMPLING, STAR_SAMPLING
        return AnalyzeFinalizedVisitTask(config=config)

    task(False).run(*small, visit=1, band="r")  # compiled kernels are loaded once per process
    print(f"fixed calculation          {calibrate():8.2f} CPU-s")
    outputs = timed("visit, no plots", lambda: task(False).run(stars, catalog, visit=1, band="r"))

    def draw() -> None:
        drawn = task(True).run(stars, catalog, visit=1, band="r")
        for name in VISIT_PLOTS[:-1]:
            getattr(drawn, name).savefig("/dev/null", format="png")

    timed("visit, all plots", draw)
    tables = (
        outputs.finalized_visit_metrics, outputs.finalized_visit_rho, outputs.finalized_visit_residual_maps,
    )  # fmt: skip
    survey(tables, args.visits)


if __name__ == "__main__":
    main()
