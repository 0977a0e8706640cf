# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import astropy.table
import numpy as np
import pyarrow.parquet
import pytest

from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.images import VisitImage
from lsst.meas.finalize.afw import read_exposure, read_source_catalog
from lsst.meas.finalize.catalogs import SourceCatalog
from lsst.pipe.base import InMemoryDatasetHandle, Struct
from lsst.pipe.tasks.finalizeCharacterization import (
    FinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationDetectorTask,
)

TRACTS = (4, 7)


@dataclass
class DetectorInputs:
    """What the detector task is given for one detector of the tiny set."""

    visit: int
    band: str
    detector: int
    src: SourceCatalog
    exposure: VisitImage
    isolated_star_cat_dict: dict[int, Any]
    isolated_star_source_dict: dict[int, Any]
    fgcm_standard_star_dict: dict[int, Any] | None = None

    def copy(self, **changes: Any) -> DetectorInputs:
        """Return inputs that a test may change."""
        fresh = {"src": self.src.copy(), "exposure": self.exposure.copy()} | changes
        return replace(self, **fresh)

    def run(self, task: FinalizeCharacterizationDetectorTask) -> Struct:
        """Run a task on these inputs."""
        return task.run(**{name: getattr(self, name) for name in self.__dataclass_fields__})


def read_table(path: Path) -> astropy.table.Table:
    """Read a Parquet file as the butler does."""
    return arrow_to_astropy(pyarrow.parquet.read_table(path))


def handle(table: astropy.table.Table) -> InMemoryDatasetHandle:
    """Return a deferred handle of a table."""
    return InMemoryDatasetHandle(table, storageClass="ArrowAstropy")


@pytest.fixture(scope="session")
def tiny_inputs(tiny: Path) -> DetectorInputs:
    """Read the inputs of detector 1 of the tiny set; tests change copies."""
    inputs = tiny / "export/golden/inputs"

    def tables(name: str) -> dict[int, Any]:
        paths = {tract: next((inputs / name / str(tract)).glob("*.parq")) for tract in TRACTS}
        return {tract: handle(read_table(path)) for tract, path in paths.items()}

    exposure = read_exposure(next(inputs.glob("calexp/**/*S01*.fits")))
    return DetectorInputs(
        visit=20260304011,
        band="r",
        detector=1,
        src=read_source_catalog(next(inputs.glob("src/**/*S01*.fits"))),
        exposure=exposure,
        isolated_star_cat_dict=tables("isolated_star_presource_associations"),
        isolated_star_source_dict=tables("isolated_star_presources"),
        fgcm_standard_star_dict=tables("fgcm_standard_star"),
    )


@pytest.fixture
def make_task() -> Callable[..., FinalizeCharacterizationDetectorTask]:
    """Return a function that makes a fast detector task."""

    def make(**options: Any) -> FinalizeCharacterizationDetectorTask:
        config = FinalizeCharacterizationDetectorConfig()
        config.psf_determiner["piff"].spatialOrder = 1
        # What these tests are about needs no more than these.
        config.measurement.plugins.names = [
            "base_FPPosition",
            "base_GaussianFlux",
            "base_PsfFlux",
            "ext_shapeHSM_HsmPsfMoments",
            "ext_shapeHSM_HsmSourceMoments",
        ]
        config.measurement.slots.modelFlux = None
        for name, value in options.items():
            setattr(config, name, value)
        config.validate()
        return FinalizeCharacterizationDetectorTask(config=config)

    return make


def positions(inputs: DetectorInputs) -> np.ndarray:
    """Return ids of the isolated sources of the detector."""
    ids = []
    for table in inputs.isolated_star_source_dict.values():
        sources = table.get()
        ids.append(np.asarray(sources["sourceId"][sources["detector"] == inputs.detector]))
    return np.concatenate(ids)
