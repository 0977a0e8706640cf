# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Simulated visits in butler repositories."""

from __future__ import annotations

__all__ = ("put_simulated_visit",)

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import astropy.table
import astropy.time
import astropy.units as u
import numpy as np

from lsst.daf.butler import Butler, DatasetType, Timespan
from lsst.daf.butler.registry import ConflictingDefinitionError
from lsst.images import VisitImage
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from ..butler import SynthCam
from ._associations import associate_stars, make_standard_stars
from ._config import VisitSimulation
from ._visit import simulate_detector

SKYMAP = "synth_tracts"
_TRACT_HALF_SIZE = 1.5  # degrees, more than the largest camera's

_DETECTOR_DATASETS = {
    "calexp": "VisitImage",
    "src": "SourceCatalog",
    "simulated_truth": "ArrowAstropy",
}
_TRACT_DATASETS = {
    "isolated_star_presource_associations": "ArrowAstropy",
    "isolated_star_presources": "ArrowAstropy",
    "fgcm_standard_star": "ArrowAstropy",
}


def put_simulated_visit(
    repo: str,
    simulation: VisitSimulation,
    *,
    run: str = "simulated/inputs",
    progress: Callable[[str], None] = lambda message: None,
) -> None:
    """Simulate a visit into a butler repository.

    Parameters
    ----------
    repo
        URI of the repository; one with an SQLite registry is made if there
        is none.
    simulation
        The visit.
    run
        Output run collection.
    progress
        Called with a line of text before each step.

    Raises
    ------
    lsst.daf.butler.registry.ConflictingDefinitionError
        Raised if the run has this visit already, or the repository another
        visit of this number.
    ValueError
        Raised if ``run`` is empty.
    """
    if not run.strip():
        raise ValueError("The name of the output run is empty.")
    if not Butler.has_repo_config(repo):
        progress(f"Creating the butler repository {repo}")
        Butler.makeRepo(repo)
    with Butler.from_config(repo, writeable=True, run=run) as butler:
        try:
            _register(butler, simulation)
        except ConflictingDefinitionError as error:
            raise ConflictingDefinitionError(
                f"Visit {simulation.visit} differs from one of that number; give another visit. "
                f"({str(error).partition(':')[0]}.)"
            ) from error
        _refuse_second_time(butler, simulation, run)
        truths = {}
        for detector in range(simulation.n_detectors):
            progress(f"Simulating detector {detector} ({detector + 1} of {simulation.n_detectors})")
            made = simulate_detector(simulation, detector)
            data_id = {"instrument": "SynthCam", "visit": simulation.visit, "detector": detector}
            _sync_detector_region(butler, data_id, made.calexp)
            with butler.transaction():
                butler.put(made.calexp, "calexp", data_id)
                butler.put(made.src, "src", data_id)
                butler.put(made.truth, "simulated_truth", data_id)
            truths[detector] = made.truth
        progress("Associating the isolated stars")
        _put_stars(butler, simulation, truths)


def _refuse_second_time(butler: Butler, simulation: VisitSimulation, run: str) -> None:
    data_id = {"instrument": "SynthCam", "visit": simulation.visit}
    # Reading the run itself, so that one that failed half-way counts, too.
    if butler.query_datasets("calexp", run, data_id=data_id, explain=False, find_first=False, limit=1):
        raise ConflictingDefinitionError(
            f"Run {run!r} has visit {simulation.visit} already; give another run or another visit."
        )


def _put_stars(
    butler: Butler, simulation: VisitSimulation, truths: Mapping[int, astropy.table.Table]
) -> None:
    for tract, (isolated, sources) in associate_stars(simulation, truths).items():
        data_id = {"instrument": "SynthCam", "skymap": SKYMAP, "tract": tract}
        butler.put(isolated, "isolated_star_presource_associations", data_id)
        butler.put(sources, "isolated_star_presources", data_id)
        butler.put(make_standard_stars(isolated, truths), "fgcm_standard_star", data_id)


def _register(butler: Butler, simulation: VisitSimulation) -> None:
    """Insert the dimension records and dataset types of a visit."""
    instrument = SynthCam()
    instrument.register(butler.registry)
    registry = butler.registry
    region = _polygon(_box_corners(simulation, _field_half_size(simulation)))
    # The tracts are the same for all visits, and overlap.
    tract_region = _polygon(_box_corners(simulation, _TRACT_HALF_SIZE))
    registry.syncDimensionData(
        "skymap",
        {
            "name": SKYMAP,
            "hash": hashlib.sha1(SKYMAP.encode()).digest(),
            "tract_max": 100,
            "patch_nx_max": 1,
            "patch_ny_max": 1,
        },
    )
    for tract in simulation.tracts:
        registry.syncDimensionData("tract", {"skymap": SKYMAP, "id": tract, "region": tract_region})
    day = str(simulation.day_obs)
    noon = astropy.time.Time(f"{day[:4]}-{day[4:6]}-{day[6:]}T12:00:00", scale="tai")
    registry.syncDimensionData(
        "day_obs",
        {"instrument": "SynthCam", "id": simulation.day_obs, "timespan": Timespan(noon, noon + 1 * u.day)},
    )
    begin = noon + 11 * u.hour
    registry.syncDimensionData(
        "visit",
        {
            "instrument": "SynthCam",
            "id": simulation.visit,
            "day_obs": simulation.day_obs,
            "physical_filter": f"{simulation.band}_sim",
            "name": str(simulation.visit),
            "exposure_time": 30.0,
            "region": region,
            "timespan": Timespan(begin, begin + 30 * u.s),
        },
    )
    for names, dimensions in (
        (_DETECTOR_DATASETS, ("instrument", "visit", "detector")),
        (_TRACT_DATASETS, ("instrument", "skymap", "tract")),
    ):
        for name, storage_class in names.items():
            registry.registerDatasetType(
                DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
            )


def _sync_detector_region(butler: Butler, data_id: dict[str, Any], calexp: VisitImage) -> None:
    box = calexp.bbox
    x = np.array([box.x.min, box.x.max, box.x.max, box.x.min]) + [-0.5, 0.5, 0.5, -0.5]
    y = np.array([box.y.min, box.y.min, box.y.max, box.y.max]) + [-0.5, -0.5, 0.5, 0.5]
    sky = calexp.sky_projection.pixel_to_sky(x=x, y=y)
    region = _polygon(list(zip(sky.ra.deg, sky.dec.deg, strict=True)))
    butler.registry.syncDimensionData("visit_detector_region", {**data_id, "region": region})


def _field_half_size(simulation: VisitSimulation) -> float:
    """Half the size of a square that holds all detectors, in degrees."""
    half = max(
        abs(offset) + simulation.size * simulation.pixel_size
        for detector in range(simulation.n_detectors)
        for offset in simulation.detector_offset(detector)
    )
    return half / simulation.pixel_size * simulation.pixel_scale / 3600


def _box_corners(simulation: VisitSimulation, half_size: float) -> list[tuple[float, float]]:
    """Corners of a box around the boresight, in degrees."""
    ra, dec = simulation.boresight
    d_ra, d_dec = half_size / np.cos(np.deg2rad(dec)), half_size
    return [
        (ra - d_ra, dec - d_dec),
        (ra + d_ra, dec - d_dec),
        (ra + d_ra, dec + d_dec),
        (ra - d_ra, dec + d_dec),
    ]


def _polygon(corners: list[tuple[float, float]]) -> ConvexPolygon:
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(ra, dec)) for ra, dec in corners])
