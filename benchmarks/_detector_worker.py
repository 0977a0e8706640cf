# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""One detector quantum in a process of its own, for bench_detector.py."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLOCK: dict[str, float] = {}


def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that adds its CPU time to a stage."""

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            CLOCK[stage] = CLOCK.get(stage, 0.0) + time.process_time() - start

    return call


def import_all() -> None:
    """Import what the task needs."""
    import pyarrow.parquet  # noqa: F401

    import lsst.pipe.tasks.finalizeCharacterization  # noqa: F401


def instrument() -> None:
    """Time the stages of the task."""
    from lsst.meas.finalize.apcorr import ApplyApCorrTask, MeasureApCorrTask
    from lsst.meas.finalize.measure import SingleFrameMeasurementTask
    from lsst.meas.finalize.psf import PiffPsfDeterminerTask
    from lsst.meas.finalize.stars import MakePsfCandidatesTask
    from lsst.meas.finalize.tasks import FinalizeCharacterizationTaskBase

    for cls, method, stage in (
        (FinalizeCharacterizationTaskBase, "_get_isolated_sources", "isolated"),
        (MakePsfCandidatesTask, "run", "candidates"),
        (PiffPsfDeterminerTask, "determine_psf", "psf"),
        (SingleFrameMeasurementTask, "run", "measurement"),
        (MeasureApCorrTask, "run", "measure_ap_corr"),
        (ApplyApCorrTask, "run", "apply_ap_corr"),
    ):
        setattr(cls, method, timed(stage, getattr(cls, method)))


def read_golden(golden: Path, detector: int) -> dict[str, Any]:
    """Read a golden detector's inputs."""
    import pyarrow.parquet
    from common import find_input

    from lsst.daf.butler.formatters.parquet import arrow_to_astropy
    from lsst.meas.finalize.afw import read_exposure, read_source_catalog
    from lsst.pipe.base import InMemoryDatasetHandle
    from lsst.resources import ResourcePath

    try:
        from lsst.meas.finalize.butler import StreamedTable
    except ImportError:  # checkouts that read tables whole

        def handle(path: Path) -> Any:
            table = arrow_to_astropy(pyarrow.parquet.read_table(path))
            return InMemoryDatasetHandle(table, storageClass="ArrowAstropy")
    else:

        def handle(path: Path) -> Any:
            return StreamedTable(None, ResourcePath(path))

    # As a quantum gets them.
    def tables(name: str) -> dict[int, Any]:
        folder = golden / "export/golden/inputs" / name
        return {tract: handle(next((folder / str(tract)).glob("*.parq"))) for tract in (4, 7)}

    exposure = read_exposure(find_input(golden, "calexp", detector))
    return {
        "visit": int(exposure.obs_info.visit_id or exposure.metadata["IDNUM"]),
        "band": exposure.band,
        "detector": detector,
        "exposure": exposure,
        "src": read_source_catalog(find_input(golden, "src", detector)),
        "isolated_star_cat_dict": tables("isolated_star_presource_associations"),
        "isolated_star_source_dict": tables("isolated_star_presources"),
    }


def simulate(scratch: str, size: int, n_stars: int) -> None:
    """Simulate a large detector into a repository."""
    from lsst.meas.finalize.simulate import VisitSimulation, put_simulated_visit

    simulation = VisitSimulation(n_detectors=1, size=size, n_stars=n_stars, n_galaxies=n_stars // 3)
    put_simulated_visit(f"{scratch}/repo", simulation)


def read_simulated(scratch: str) -> dict[str, Any]:
    """Read the simulated detector's inputs from its repository."""
    from lsst.daf.butler import Butler

    try:
        from lsst.meas.finalize.butler import stream
    except ImportError:  # checkouts that read tables whole

        def stream(handle: Any) -> Any:
            return handle

    # Tables come as a quantum gets them.
    butler = Butler.from_config(f"{scratch}/repo", collections="simulated/inputs", instrument="SynthCam")
    visit = 20260304001

    def tables(name: str) -> dict[int, Any]:
        return {t: stream(butler.getDeferred(name, tract=t, skymap="synth_tracts")) for t in (4, 7)}

    return {
        "visit": visit,
        "band": "r",
        "detector": 0,
        "exposure": butler.get("calexp", visit=visit, detector=0),
        "src": butler.get("src", visit=visit, detector=0),
        "isolated_star_cat_dict": tables("isolated_star_presource_associations"),
        "isolated_star_source_dict": tables("isolated_star_presources"),
    }


def write(result: Any, scratch: str) -> None:
    """Write the outputs as the checkout's butler does."""
    from lsst.meas.finalize.afw import write_exposure_catalog

    try:
        from lsst.meas.finalize.butler import write_parquet
    except ImportError:  # checkouts that leave it to daf_butler
        import pyarrow.parquet

        from lsst.daf.butler.formatters.parquet import astropy_to_arrow, compute_row_group_size

        def write_parquet(table: Any, path: str) -> None:
            arrow = astropy_to_arrow(table)
            pyarrow.parquet.write_table(arrow, path, row_group_size=compute_row_group_size(arrow.schema))

    write_exposure_catalog(result.psf_ap_corr_cat, Path(scratch) / "catalog.fits")
    write_parquet(result.output_table, f"{scratch}/table.parq")


def make_repository(golden: str, scratch: str) -> None:
    """Import a golden set into a new repository."""
    from lsst.daf.butler import Butler
    from lsst.meas.finalize.butler import SynthCam

    repo = f"{scratch}/repo"
    Butler.makeRepo(repo)
    with Butler.from_config(repo, writeable=True) as butler:
        SynthCam().register(butler.registry)
        butler.import_(directory=f"{golden}/export", filename=f"{golden}/export/export.yaml", transfer="copy")


def repeat(golden: str, detector: str, scratch: str) -> None:
    """Print CPU times of the imports, of quanta, and of the process."""
    start = time.process_time()
    import_all()
    from lsst.pipe.tasks.finalizeCharacterization import (
        FinalizeCharacterizationDetectorConfig,
        FinalizeCharacterizationDetectorTask,
    )

    imports = time.process_time() - start
    quanta = []
    for _ in range(3):
        start = time.process_time()
        task = FinalizeCharacterizationDetectorTask(config=FinalizeCharacterizationDetectorConfig())
        write(task.run(**read_golden(Path(golden), int(detector))), scratch)
        quanta.append(time.process_time() - start)
        if len(quanta) == 1:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            report = {"imports": imports, "process of one detector": usage.ru_utime + usage.ru_stime}
    report["warm quantum"] = min(quanta[1:])
    report["first quantum, beyond warm"] = quanta[0] - report["warm quantum"]
    print(json.dumps(report))


def main() -> None:
    """Run the quantum and print its times as JSON."""
    kind, *arguments = sys.argv[1:]
    if kind == "repeated":
        repeat(*arguments)
        return
    if kind == "repository":
        make_repository(*arguments)
        return
    if kind == "simulate":
        simulate(arguments[0], int(arguments[1]), int(arguments[2]))
        print(json.dumps({}))
        return
    timed("imports", import_all)()
    from lsst.pipe.tasks.finalizeCharacterization import (
        FinalizeCharacterizationDetectorConfig,
        FinalizeCharacterizationDetectorTask,
    )

    instrument()
    quanta = []
    for _ in range(2):
        if kind == "golden":
            inputs = timed("read", read_golden)(Path(arguments[0]), int(arguments[1]))
            scratch = arguments[2]
        else:
            inputs = timed("read", read_simulated)(arguments[0])
            scratch = arguments[0]
        start = time.process_time()
        task = FinalizeCharacterizationDetectorTask(config=FinalizeCharacterizationDetectorConfig())
        result = task.run(**inputs)
        stages = sum(CLOCK[name] for name in CLOCK if name not in ("imports", "read"))
        CLOCK["other"] = time.process_time() - start - stages
        timed("write", write)(result, scratch)
        quanta.append(dict(CLOCK))
        if len(quanta) == 1:
            quanta[0]["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            quanta[0]["stars"] = len(result.output_table)
        CLOCK.clear()
    # The second quantum of a process finds everything imported and loaded.
    print(json.dumps(quanta[0] | {f"later {name}": seconds for name, seconds in quanta[1].items()}))


if __name__ == "__main__":
    main()
