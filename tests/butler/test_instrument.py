# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of the synthetic instrument."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsst.daf.butler import Butler
from lsst.daf.butler.registry import ConflictingDefinitionError
from lsst.meas.finalize.butler import SynthCam
from lsst.pex.config import Config
from lsst.pipe.base import Instrument


def test_register_inserts_all_records(butler: Butler) -> None:
    """Insert the instrument, its detectors and its filters."""
    SynthCam().register(butler.registry)
    (record,) = butler.query_dimension_records("instrument")
    assert record.name == "SynthCam"
    assert record.class_name == "lsst.meas.finalize.butler.SynthCam"
    detectors = butler.query_dimension_records("detector", instrument="SynthCam")
    names = {detector.id: detector.full_name for detector in detectors}
    assert len(names) == record.detector_max
    assert [names[0], names[1], names[2], names[9]] == ["S00", "S01", "S10", "S41"]
    filters = butler.query_dimension_records("physical_filter", instrument="SynthCam")
    assert {f.name: f.band for f in filters} == {f"{band}_sim": band for band in "ugrizy"}


def test_registering_twice_changes_nothing(butler: Butler) -> None:
    """Accept records that are there already."""
    SynthCam().register(butler.registry)
    SynthCam().register(butler.registry)
    assert len(butler.query_dimension_records("detector", instrument="SynthCam")) == 10


@pytest.mark.parametrize("registered_first", [True, False])
def test_golden_export_has_the_same_records(butler: Butler, tiny: Path, registered_first: bool) -> None:
    """Import an export of the stack before or after registration."""
    if registered_first:
        SynthCam().register(butler.registry)
    butler.import_(directory=str(tiny / "export"), filename="export.yaml", transfer="direct")
    SynthCam().register(butler.registry)
    assert len(butler.query_dimension_records("detector", instrument="SynthCam")) == 10


def test_conflicting_record_is_refused(butler: Butler) -> None:
    """Insert nothing if a record differs, unless told to update."""
    SynthCam().register(butler.registry)
    other = {"instrument": "SynthCam", "id": 3, "full_name": "other", "purpose": "SCIENCE"}
    butler.registry.syncDimensionData("detector", other, update=True)
    with pytest.raises(ConflictingDefinitionError, match="full_name"):
        SynthCam().register(butler.registry)
    SynthCam().register(butler.registry, update=True)
    (record,) = butler.query_dimension_records("detector", instrument="SynthCam", detector=3)
    assert record.full_name == "S11"


def test_instrument_is_found_by_name(butler: Butler) -> None:
    """Make the instrument from what the registry says."""
    SynthCam().register(butler.registry)
    instrument = Instrument.fromName("SynthCam", butler.registry)
    assert isinstance(instrument, SynthCam)
    assert instrument.makeCollectionName("runs", "a") == "SynthCam/runs/a"


def test_no_task_has_overrides_by_default() -> None:
    """Leave a config unchanged when there is no override file for it."""
    config = Config()
    SynthCam().applyConfigOverrides("finalizeCharacterizationDetector", config)
    assert config == Config()


def test_raw_images_are_refused() -> None:
    """Say that there are no raw images."""
    with pytest.raises(NotImplementedError, match="SynthCam has no raw images"):
        SynthCam().getRawFormatter({"exposure": 1, "detector": 0})


def test_camera_is_refused() -> None:
    """Say that there is no camera geometry, to tasks of the stack."""
    with pytest.raises(NotImplementedError, match="SynthCam has no camera geometry"):
        SynthCam().getCamera()
