# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Registration of what a simulation makes."""

from __future__ import annotations

__all__ = (
    "DETECTOR_DATASETS",
    "INSTRUMENT",
    "SKYMAP",
    "TRACT_DATASETS",
    "VISIT_DATASETS",
    "register_dataset_types",
    "register_visits",
)

import hashlib
from collections.abc import Sequence
from typing import Any

import astropy.time
import astropy.units as u
import numpy as np

from lsst.daf.butler import Butler, DatasetRef, DatasetType, Timespan
from lsst.daf.butler.registry import ConflictingDefinitionError
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from ..butler import SynthCam
from ._camera import EXPOSURE_TIME, exposure_times, make_detector, make_sky_projection
from ._config import SimulatedVisit

INSTRUMENT = SynthCam.getName()
SKYMAP = "synth_tracts"
_TRACT_HALF_SIZE = 5.0  # degrees, more than the largest camera's

DETECTOR_DATASETS = {
    "calexp": "VisitImage",
    "src": "SourceCatalog",
    "simulated_truth": "ArrowAstropy",
}
VISIT_DATASETS = {"simulated_psf_truth": "StructuredDataDict"}
TRACT_DATASETS = {
    "isolated_star_presource_associations": "ArrowAstropy",
    "isolated_star_presources": "ArrowAstropy",
    "fgcm_standard_star": "ArrowAstropy",
}


def register_dataset_types(butler: Butler) -> None:
    """Register what a simulation makes.

    Parameters
    ----------
    butler
        Butler of the repository.

    Raises
    ------
    lsst.daf.butler.registry.ConflictingDefinitionError
        Raised if the repository has another dataset type of such a name.
    """
    for names, dimensions in (
        (DETECTOR_DATASETS, ("instrument", "visit", "detector")),
        (VISIT_DATASETS, ("instrument", "visit")),
        (TRACT_DATASETS, ("instrument", "skymap", "tract")),
    ):
        for name, storage_class in names.items():
            dataset_type = DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
            try:
                butler.registry.registerDatasetType(dataset_type)
            except ConflictingDefinitionError as error:
                raise ConflictingDefinitionError(
                    f"Dataset type {name!r} is another one here: simulate into a repository of its own."
                ) from error


def register_visits(
    butler: Butler, simulations: Sequence[SimulatedVisit], left_over: Sequence[DatasetRef] = ()
) -> None:
    """Insert the dimension records of visits, all or none.

    Parameters
    ----------
    butler
        Butler of the repository.
    simulations
        The visits, of one field.
    left_over
        Datasets of interrupted simulations, which will be removed.

    Raises
    ------
    lsst.daf.butler.registry.ConflictingDefinitionError
        Raised if the repository has datasets of another visit of such a
        number, or another instrument or sky map of these names.
    """
    registry = butler.registry
    with butler.transaction():
        instrument = SynthCam()
        instrument.register(registry)
        instrument.register_detectors(registry, max(s.n_detectors for s in simulations))
        _register_sky_map(butler, simulations[0])
        for simulation in simulations:
            try:
                _register_visit(butler, simulation)
            except ConflictingDefinitionError as error:
                # A butler can't remove records of what was interrupted.
                if _has_no_others(butler, simulation.visit, left_over):
                    _register_visit(butler, simulation, update=True)
                    continue
                raise ConflictingDefinitionError(
                    f"Visit {simulation.visit} differs from one of that number; give another visit. "
                    f"({str(error).partition(':')[0]}.)"
                ) from error


def _has_no_others(butler: Butler, visit: int, left_over: Sequence[DatasetRef]) -> bool:
    """Tell whether all datasets of a visit are among those given."""
    data_id = {"instrument": INSTRUMENT, "visit": visit}
    found = {
        ref.id
        for dataset_type in butler.registry.queryDatasetTypes()
        if "visit" in dataset_type.dimensions
        for ref in butler.query_datasets(
            dataset_type, "*", data_id=data_id, explain=False, find_first=False, limit=None
        )
    }
    return found <= {ref.id for ref in left_over}


def _register_sky_map(butler: Butler, simulation: SimulatedVisit) -> None:
    registry = butler.registry
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
    # The tracts are the same for all visits, and overlap.
    region = _polygon(_box_corners(simulation.field_center, _TRACT_HALF_SIZE))
    for tract in simulation.tracts:
        # An update, since tracts of earlier versions were smaller.
        registry.syncDimensionData("tract", {"skymap": SKYMAP, "id": tract, "region": region}, update=True)


def _register_visit(butler: Butler, simulation: SimulatedVisit, *, update: bool = False) -> None:
    registry = butler.registry
    day = str(simulation.day_obs)
    noon = astropy.time.Time(f"{day[:4]}-{day[4:6]}-{day[6:]}T12:00:00", scale="tai")
    timespan = Timespan(noon, noon + 1 * u.day)
    registry.syncDimensionData(
        "day_obs", {"instrument": INSTRUMENT, "id": simulation.day_obs, "timespan": timespan}
    )
    registry.syncDimensionData(
        "visit",
        {
            "instrument": INSTRUMENT,
            "id": simulation.visit,
            "day_obs": simulation.day_obs,
            "physical_filter": f"{simulation.band}_sim",
            "name": str(simulation.visit),
            "exposure_time": EXPOSURE_TIME.to_value(u.s),
            "region": _polygon(_box_corners(simulation.boresight, _field_half_size(simulation))),
            "timespan": Timespan(*exposure_times(simulation)),
        },
        update=update,
    )
    for detector in range(simulation.n_detectors):
        data_id: dict[str, Any] = {
            "instrument": INSTRUMENT,
            "visit": simulation.visit,
            "detector": detector,
        }
        region = _detector_region(simulation, detector)
        registry.syncDimensionData("visit_detector_region", {**data_id, "region": region}, update=update)


def _detector_region(simulation: SimulatedVisit, detector: int) -> ConvexPolygon:
    camera_detector = make_detector(simulation, detector)
    projection = make_sky_projection(simulation, camera_detector, camera_detector.frame)
    low, high = -0.5, simulation.size - 0.5
    sky = projection.pixel_to_sky(x=np.array([low, high, high, low]), y=np.array([low, low, high, high]))
    return _polygon(list(zip(sky.ra.deg, sky.dec.deg, strict=True)))


def _field_half_size(simulation: SimulatedVisit) -> float:
    """Half the size of a square that holds all detectors, in degrees."""
    half = max(
        abs(offset) + simulation.size * simulation.pixel_size
        for detector in range(simulation.n_detectors)
        for offset in simulation.detector_offset(detector)
    )
    return half / simulation.pixel_size * simulation.pixel_scale / 3600


def _box_corners(center: tuple[float, float], half_size: float) -> list[tuple[float, float]]:
    """Corners of a box around a position, in degrees."""
    ra, dec = center
    d_ra, d_dec = half_size / np.cos(np.deg2rad(dec)), half_size
    return [
        (ra - d_ra, dec - d_dec),
        (ra + d_ra, dec - d_dec),
        (ra + d_ra, dec + d_dec),
        (ra - d_ra, dec + d_dec),
    ]


def _polygon(corners: list[tuple[float, float]]) -> ConvexPolygon:
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(ra, dec)) for ra, dec in corners])
