# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Run the pipelines in a stack, and compare what afw reads of the results.

A golden set's butler export goes untouched into a new repository of the
stack's butler, ``pipetask run`` makes our results from ``lsst.afw`` objects
there, and the table of ``compare_golden.py`` tells how they compare: PSFs and
aperture corrections are evaluated by ``lsst.afw``.  The exit code is 1 if
they fall short, 2 if this isn't a stack that would run our tasks.

Usage: python benchmarks/in_stack.py GOLDEN_SET [--variant V]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet
from compare_golden import (
    DETECTOR_LABEL,
    VISIT_LABEL,
    Report,
    compare_ap_corr,
    compare_cmodel,
    compare_columns,
    compare_flags,
    compare_layout,
    compare_psf_images,
    convert_config,
    make_repo,
    run_pipeline,
)

from lsst.daf.butler import Butler
from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.meas.finalize.afw import read_exposure_catalog
from lsst.meas.finalize.check import inspect_environment
from lsst.pipe.tasks.finalizeCharacterization import FinalizeCharacterizationDetectorConfig


def draw(psf: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw a PSF of lsst.afw: kernel images and star images."""
    from lsst.geom import Point2D

    points = [Point2D(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    kernels = np.array([psf.computeKernelImage(point).array for point in points])
    return kernels, np.array([psf.computeImage(point).array for point in points])


def callables(ap_corr_map: Any) -> dict[str, Any]:
    """Return aperture corrections of lsst.afw as functions of x and y."""

    def evaluator(field: Any) -> Any:
        return lambda x, y: field.evaluate(np.asarray(x, dtype=float), np.asarray(y, dtype=float))

    return {name: evaluator(field) for name, field in ap_corr_map.items()}


def compare_record(report: Report, where: str, record: Any, grid: Any, variant: str) -> None:
    """Compare a row of an exposure catalogue that lsst.afw has read."""
    compare_psf_images(report, where, *draw(record.getPsf(), *grid["points"].T), grid, variant)
    compare_ap_corr(report, where, SimpleNamespace(ap_corr_map=callables(record.getApCorrMap())), grid)


def is_afw(report: Report, where: str, what: str, obj: Any) -> None:
    """Check that a dataset is of a class of lsst.afw."""
    name = f"{type(obj).__module__}.{type(obj).__name__}"
    report.add(where, what, name, name.startswith("lsst.afw."))


def data_ids(butler: Butler) -> dict[int, Any]:
    """Return the data IDs of the exposures by detector."""
    refs = butler.query_datasets("calexp", collections="golden/inputs")
    return {int(ref.dataId["detector"]): ref.dataId for ref in refs}


def compare_detector(
    report: Report, golden: Path, variant: str, detector: int, butler: Butler, run_name: str
) -> None:
    """Compare one detector."""
    expected = golden / "expected" / variant / f"detector_{detector}"
    where = f"{variant}/{detector}"
    data_id = data_ids(butler)[detector]
    is_afw(report, where, "input exposure", butler.get("calexp", data_id, collections="golden/inputs"))
    catalog = butler.get("finalized_psf_ap_corr_detector_catalog", data_id, collections=run_name)
    is_afw(report, where, "output catalog", catalog)
    ours = butler.get("finalized_src_detector_table", data_id, collections=run_name)
    theirs = arrow_to_astropy(pyarrow.parquet.read_table(expected / "finalized_src_detector_table.parquet"))
    grid = np.load(expected / "grid.npz", allow_pickle=False)
    compare_flags(report, where, ours, theirs)
    compare_record(report, where, catalog.find(detector), grid, variant)
    compare_layout(report, where, ours, theirs)
    if len(ours) == len(theirs):
        compare_columns(report, where, ours, theirs)
        stack = read_exposure_catalog(expected / "finalized_psf_ap_corr_detector_catalog.fits")
        compare_cmodel(report, where, ours, theirs, stack[0].ap_corr_map)


def compare_visit(
    report: Report, golden: Path, variant: str, detectors: list[int], butler: Butler, runs: dict[str, str]
) -> None:
    """Compare the visit's catalogues, consolidated and of the visit task."""
    data_id = next(iter(data_ids(butler).values()))
    tables = []
    for what, run_name in runs.items():
        catalog = butler.get("finalized_psf_ap_corr_catalog", data_id, collections=run_name)
        is_afw(report, variant, f"{what}: catalog", catalog)
        ids = [int(record.getId()) for record in catalog]
        report.add(variant, f"{what}: detectors", str(ids), ids == detectors)
        for detector in detectors:
            grid = np.load(
                golden / "expected" / variant / f"detector_{detector}" / "grid.npz", allow_pickle=False
            )
            compare_record(report, f"{variant}/{detector} {what}", catalog.find(detector), grid, variant)
        tables.append(butler.get("finalized_src_table", data_id, collections=run_name))
    first, *others = tables
    for other in others:
        same = [
            name
            for name in first.colnames
            if name.endswith("_time")  # how long CModel took
            or np.array_equal(first[name], other[name], equal_nan=first[name].dtype.kind == "f")
        ]
        value = f"{len(same)} of {len(first.colnames)}"
        report.add(variant, "visit task: equal columns", value, same == other.colnames)


def check_dump(report: Report, variant: str, path: Path) -> None:
    """Check that the stack's dump loads as it is, imports and all."""
    config = FinalizeCharacterizationDetectorConfig()
    try:
        config.load(str(path))
        config.validate()
    except Exception as error:
        report.add(variant, "dump of upstream's options loads", f"{type(error).__name__}: {error}", False)
    else:
        report.add(variant, "dump of upstream's options loads", path.name, True)


def compare_variant(report: Report, golden: Path, variant: str, repo: Path, jobs: int) -> None:
    """Run one variant and compare all its detectors."""
    expected = golden / "expected" / variant
    detectors = sorted(int(p.name.split("_")[1]) for p in expected.glob("detector_*"))
    check_dump(report, variant, expected / "config.py")
    config = repo.parent / f"{variant}.py"
    config.write_text(convert_config(expected / "config.py")[0])
    run_name, visit_run = f"in_stack/{variant}", f"in_stack/{variant}/visit"
    run_pipeline(
        repo,
        "FinalizeCharacterization.yaml#prepare,finalize",
        DETECTOR_LABEL,
        config,
        run_name,
        detectors,
        jobs,
    )
    is_whole = (expected / "finalized_src_table.parquet").exists()
    if is_whole:
        run_pipeline(
            repo, "FinalizeCharacterizationVisit.yaml#finalize", VISIT_LABEL, config, visit_run, None, jobs
        )
    with Butler.from_config(str(repo)) as butler:
        for detector in detectors:
            compare_detector(report, golden, variant, detector, butler, run_name)
        if is_whole:
            runs = {"consolidated": run_name, "visit task": visit_run}
            compare_visit(report, golden, variant, detectors, butler, runs)


def main() -> int:
    """Compare all variants of a golden set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("golden", type=Path, help="path of a golden set")
    parser.add_argument("--variant", action="append", help="variant to compare; all if not given")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    args = parser.parse_args()
    findings = inspect_environment()
    for name, value in findings.facts:
        print(f"{name:42s} {value}")
    if dict(findings.facts)["lsst.afw"] == "not here":
        findings.problems.append("lsst.afw can't be imported: this isn't a stack.")
    if findings.problems:
        print(*(f"PROBLEM: {problem}" for problem in findings.problems), sep="\n")
        return 2
    variants = args.variant or sorted(p.name for p in (args.golden / "expected").iterdir() if p.is_dir())
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        repo = Path(scratch) / "repo"
        make_repo(args.golden, repo)
        for variant in variants:
            compare_variant(report, args.golden, variant, repo, args.jobs)
    failed = [check for check in report.checks if not check.ok]
    print(f"\n{len(report.checks)} checks, {len(failed)} failed")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
