# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of the tasks with objects of lsst.afw."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

import lsst.pipe.base as pipeBase
from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.meas.finalize.afw import read_exposure, read_source_catalog, to_afw
from lsst.meas.finalize.catalogs import ExposureCatalog, Schema, SourceCatalog
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.tasks._stack_types import as_stored
from lsst.pipe.base import InMemoryDatasetHandle
from lsst.pipe.tasks.finalizeCharacterization import (
    ConsolidateFinalizeCharacterizationDetectorConfig,
    ConsolidateFinalizeCharacterizationDetectorTask,
    FinalizeCharacterizationConfig,
    FinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationDetectorTask,
    FinalizeCharacterizationTask,
)

VISIT, BAND, DETECTORS = 20260304011, "r", (0, 1)
KINDS = {"src": "SourceCatalog", "exposure": "ExposureF"}
PLUGINS = (
    "base_FPPosition",
    "base_GaussianFlux",
    "base_PsfFlux",
    "ext_shapeHSM_HsmPsfMoments",
    "ext_shapeHSM_HsmSourceMoments",
)


def configured(config: Any) -> Any:
    """Return a configuration of what the golden run did, with few plugins."""
    config.psf_determiner["piff"].spatialOrder = 1
    config.measurement.plugins.names = PLUGINS
    config.measurement.slots.modelFlux = None
    return config


@pytest.fixture(scope="module")
def tables(tiny: Path) -> dict[str, dict[int, Any]]:
    """Return handles of the tables of isolated stars by tract."""
    names = {
        "isolated_star_cat_dict": "isolated_star_presource_associations",
        "isolated_star_source_dict": "isolated_star_presources",
    }
    found = {}
    for argument, name in names.items():
        paths = {
            t: next((tiny / "export/golden/inputs" / name).rglob(f"*SynthCam_{t}_*.parq")) for t in (4, 7)
        }
        found[argument] = {
            tract: InMemoryDatasetHandle(
                arrow_to_astropy(pyarrow.parquet.read_table(path)), storageClass="ArrowAstropy"
            )
            for tract, path in paths.items()
        }
    return found


class Inputs:
    """Inputs of a detector as objects of both worlds."""

    def __init__(self, stack: Any, tiny: Path, detector: int) -> None:
        inputs = tiny / "export/golden/inputs"
        calexp, src = (next(inputs.glob(f"{name}/**/*S0{detector}*.fits")) for name in ("calexp", "src"))
        self.afw = {
            "exposure": stack.image.ExposureF.readFits(str(calexp)),
            "src": stack.table.SourceCatalog.readFits(str(src)),
        }
        self.ours = {"exposure": read_exposure(calexp), "src": read_source_catalog(src)}


@pytest.fixture
def inputs(stack: Any, tiny: Path) -> dict[int, Inputs]:
    """Return the inputs by detector."""
    return {detector: Inputs(stack, tiny, detector) for detector in DETECTORS}


@pytest.fixture
def task() -> FinalizeCharacterizationDetectorTask:
    """Return the detector task."""
    return FinalizeCharacterizationDetectorTask(config=configured(FinalizeCharacterizationDetectorConfig()))


def assert_same(ours: Any, theirs: Any) -> None:
    """Compare star tables."""
    assert ours.colnames == theirs.colnames
    for name in ours.colnames:
        np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(theirs[name]), err_msg=name)


def assert_golden(table: Any, tiny: Path, detector: int) -> None:
    """Compare what was measured with what the stack measured."""
    path = tiny / f"expected/default/detector_{detector}/finalized_src_detector_table.parquet"
    golden = arrow_to_astropy(pyarrow.parquet.read_table(path))
    np.testing.assert_array_equal(table["id"], golden["id"])
    np.testing.assert_array_equal(table["calib_psf_used"], golden["calib_psf_used"])
    for name in ("base_PsfFlux_instFlux", "base_GaussianFlux_instFlux", "ext_shapeHSM_HsmPsfMoments_xx"):
        np.testing.assert_allclose(table[name], golden[name], rtol=1e-6, err_msg=name)


def names(ap_corr_map: Any) -> list[str]:
    """Return the names in a map of aperture corrections."""
    return [name for name, _ in ap_corr_map.items()]


def test_detector(stack: Any, inputs: dict[int, Inputs], tables: Any, task: Any, tiny: Path) -> None:
    """Give objects of both worlds, all combinations, and handles of them."""
    from lsst.geom import Point2D

    given = {"visit": VISIT, "band": BAND, "detector": 1} | tables
    afw, ours = inputs[1].afw, inputs[1].ours
    planes = [plane.array.copy() for plane in (afw["exposure"].image, afw["exposure"].mask)]
    contents = afw["src"]._file
    expected = task.run(**given, **ours)
    assert isinstance(expected.psf_ap_corr_cat, ExposureCatalog)
    result = task.run(**given, **afw)
    assert isinstance(result.psf_ap_corr_cat, stack.table.ExposureCatalog)
    assert_same(result.output_table, expected.output_table)
    assert_golden(result.output_table, tiny, 1)
    assert task.metadata["runEndCpuTime"] >= task.metadata["runStartCpuTime"]
    record = result.psf_ap_corr_cat.find(1)
    ours_of_record = expected.psf_ap_corr_cat[0]
    assert set(names(record.getApCorrMap())) == set(ours_of_record.ap_corr_map)
    np.testing.assert_array_equal(
        record.getPsf().computeKernelImage(Point2D(30.0, 40.0)).array,
        as_batch_psf(ours_of_record.psf).draw_kernel_images([30.0], [40.0])[0],
    )
    for exposure, src in ((afw["exposure"], ours["src"]), (ours["exposure"], afw["src"])):
        mixed = task.run(**given, exposure=exposure, src=src)
        assert_same(mixed.output_table, expected.output_table)
        is_afw = isinstance(mixed.psf_ap_corr_cat, stack.table.ExposureCatalog)
        assert is_afw == (exposure is afw["exposure"])
    for plane, before in zip((afw["exposure"].image, afw["exposure"].mask), planes, strict=True):
        np.testing.assert_array_equal(plane.array, before)
    assert afw["src"]._file is contents


def handle(obj: Any, storage_class: str) -> InMemoryDatasetHandle:
    """Return a handle of an object."""
    return InMemoryDatasetHandle(obj, storageClass=storage_class, copy=False)


def test_visit_and_consolidation(
    stack: Any, inputs: dict[int, Inputs], tables: Any, task: Any, tiny: Path
) -> None:
    """Run the visit by either way with handles of the stack's objects."""
    singles = {
        detector: task.run(visit=VISIT, band=BAND, detector=detector, **tables, **inputs[detector].afw)
        for detector in DETECTORS
    }
    visit_task = FinalizeCharacterizationTask(config=configured(FinalizeCharacterizationConfig()))
    visit = visit_task.run(
        VISIT,
        BAND,
        *tables.values(),
        {detector: handle(inputs[detector].afw["src"], "SourceCatalog") for detector in DETECTORS},
        {detector: handle(inputs[detector].afw["exposure"], "ExposureF") for detector in DETECTORS},
    )
    assert isinstance(visit.psf_ap_corr_cat, stack.table.ExposureCatalog)
    assert [record.getId() for record in visit.psf_ap_corr_cat] == [0, 1]
    for detector in DETECTORS:
        rows = visit.output_table[visit.output_table["detector"] == detector]
        assert_same(rows, singles[detector].output_table)
        assert_golden(rows, tiny, detector)

    catalogs = {d: single.psf_ap_corr_cat for d, single in singles.items()}
    merged = ConsolidateFinalizeCharacterizationDetectorTask().run(
        psf_ap_corr_detector_dict={d: handle(c, "ExposureCatalog") for d, c in catalogs.items()},
        src_detector_table_dict={
            d: handle(single.output_table, "ArrowAstropy") for d, single in singles.items()
        },
    )
    assert isinstance(merged.psf_ap_corr_cat, stack.table.ExposureCatalog)
    assert_same(merged.output_table, visit.output_table)
    # The PSFs are passed on, and the inputs are as they were.
    for detector, catalog in catalogs.items():
        assert len(catalog) == 1
        assert merged.psf_ap_corr_cat.find(detector).getPsf() is catalog[0].getPsf()
        assert merged.psf_ap_corr_cat.find(detector) is not catalog[0]


def test_aperture_corrections_of_a_visit(stack: Any, inputs: dict[int, Inputs], tables: Any) -> None:
    """Correct fluxes after the detectors, as the visit task does."""

    def with_visit(config: Any) -> Any:
        config.measure_ap_corr.fitVisit = True
        config.measure_ap_corr.sourceSelector["science"].signalToNoise.minimum = 30.0
        return config

    config = with_visit(configured(FinalizeCharacterizationDetectorConfig()))
    task = FinalizeCharacterizationDetectorTask(config=config)
    singles = {d: task.run(visit=VISIT, band=BAND, detector=d, **tables, **inputs[d].afw) for d in DETECTORS}
    for single in singles.values():
        assert isinstance(single.psf_ap_corr_cat, stack.table.ExposureCatalog)
        assert np.asarray(single.output_table["base_PsfFlux_flag_apCorr"]).all()
    consolidation = ConsolidateFinalizeCharacterizationDetectorTask(
        config=with_visit(ConsolidateFinalizeCharacterizationDetectorConfig())
    )
    merged = consolidation.run(
        psf_ap_corr_detector_dict={d: single.psf_ap_corr_cat for d, single in singles.items()},
        src_detector_table_dict={d: single.output_table for d, single in singles.items()},
    )
    visit_task = FinalizeCharacterizationTask(config=with_visit(configured(FinalizeCharacterizationConfig())))
    handles = ({d: handle(i.afw[name], kind) for d, i in inputs.items()} for name, kind in KINDS.items())
    visit = visit_task.run(VISIT, BAND, *tables.values(), *handles)
    assert_same(merged.output_table, visit.output_table)
    assert np.asarray(merged.output_table["apcorr_base_PsfFlux_used"]).any()
    assert not np.asarray(merged.output_table["base_PsfFlux_flag_apCorr"]).any()
    at = np.array([30.0, 90.0]), np.array([40.0, 20.0])
    for catalog in (merged.psf_ap_corr_cat, visit.psf_ap_corr_cat):
        assert isinstance(catalog, stack.table.ExposureCatalog)
        assert "pending_ap_corr" not in catalog.schema
    for ours, theirs in zip(merged.psf_ap_corr_cat, visit.psf_ap_corr_cat, strict=True):
        assert ours.getId() == theirs.getId()
        maps = [{n: f.evaluate(*at).tolist() for n, f in r.getApCorrMap().items()} for r in (ours, theirs)]
        assert maps[0] == maps[1]
        assert "base_PsfFlux_instFlux" in maps[0]


def one_row(detector: int) -> ExposureCatalog:
    """Return a catalogue with a row for a detector."""
    schema = Schema.exposure_minimal()
    schema.add_field("visit", "L", doc="Visit number")
    catalog = ExposureCatalog(schema, 1)
    catalog["id"][0] = detector
    return catalog


def consolidate(catalogs: dict[int, Any]) -> Any:
    """Consolidate catalogues with empty tables."""
    import astropy.table

    table = astropy.table.Table({"id": np.zeros(1, dtype=np.int64)})
    task = ConsolidateFinalizeCharacterizationDetectorTask()
    return task.run(
        psf_ap_corr_detector_dict=catalogs, src_detector_table_dict=dict.fromkeys(catalogs, table)
    ).psf_ap_corr_cat


def test_consolidation_of_a_mixture(stack: Any) -> None:
    """Return what the first detector's catalogue is."""
    theirs = consolidate({0: to_afw(one_row(0)), 1: one_row(1)})
    assert isinstance(theirs, stack.table.ExposureCatalog)
    assert [record.getId() for record in theirs] == [0, 1]
    ours = consolidate({0: one_row(0), 1: to_afw(one_row(1))})
    assert isinstance(ours, ExposureCatalog)
    assert ours["id"].tolist() == [0, 1]


def test_consolidation_of_other_fields(stack: Any) -> None:
    """Refuse rows that don't fit, by detector."""
    other = ExposureCatalog(Schema.exposure_minimal(), 1)
    other["id"][0] = 1
    with pytest.raises(ValueError, match="detector 1 has other fields"):
        consolidate({0: to_afw(one_row(0)), 1: to_afw(other)})
    with pytest.raises(ValueError, match="detector 2 has no row"):
        consolidate({0: to_afw(one_row(0)), 2: to_afw(one_row(1))})


class SkippingInit(FinalizeCharacterizationTask):
    """A task with few subtasks, as in upstream's unit tests."""

    def __init__(self, **kwargs: Any) -> None:
        pipeBase.PipelineTask.__init__(self, **kwargs)
        self.makeSubtask("reserve_selection")
        self.makeSubtask("source_selector")


def test_no_sources_with_placeholders(stack: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Warn about an empty catalogue before anything else is looked at."""
    schema = Schema.source_minimal()
    for suffix in ("", "Err"):
        schema.add_field(f"base_GaussianFlux_instFlux{suffix}", "D", doc="Flux.")
    task = SkippingInit(config=FinalizeCharacterizationConfig())
    task.config.source_selector["science"].flags.bad = []
    src = to_afw(SourceCatalog(schema))
    with caplog.at_level(logging.WARNING):
        result = task.compute_psf_and_ap_corr_map(0, 0, stack.image.ExposureF(), src, None, None)
    assert result == (None, None, None)
    assert "No good sources remain after cuts for visit 0, detector 0" in caplog.text


def test_compute_returns_the_stacks_types(
    stack: Any, inputs: dict[int, Inputs], tables: Any, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Call the method that run calls, by position, and replace it."""
    _, sources = task.concat_isolated_star_cats(BAND, *tables.values(), visit=VISIT, detector=1)
    afw = inputs[1].afw
    psf, ap_corr_map, measured = task.compute_psf_and_ap_corr_map(
        VISIT, 1, handle(afw["exposure"], "ExposureF"), handle(afw["src"], "SourceCatalog"), sources
    )
    assert isinstance(measured, stack.table.SourceCatalog)
    given = {"visit": VISIT, "band": BAND, "detector": 1} | tables
    expected = task.run(**given, **afw)
    for kept in ((None, None), (psf, None), (psf, ap_corr_map)):
        monkeypatch.setattr(task, "compute_psf_and_ap_corr_map", lambda *_, kept=kept: (*kept, measured))
        replaced = task.run(**given, **afw)
        record = replaced.psf_ap_corr_cat[0]
        assert [record.getPsf() is None, record.getApCorrMap() is None] == [item is None for item in kept]
    assert names(record.getApCorrMap()) == names(ap_corr_map)
    np.testing.assert_array_equal(
        replaced.output_table["base_PsfFlux_instFlux"], expected.output_table["base_PsfFlux_instFlux"]
    )
    assert names(ap_corr_map) == names(expected.psf_ap_corr_cat[0].getApCorrMap())


def test_wrong_objects_are_refused(inputs: dict[int, Inputs], tables: Any, task: Any) -> None:
    """Give catalogue and image the wrong way round, and something else."""
    given = {"visit": VISIT, "band": BAND, "detector": 1} | tables
    afw = inputs[1].afw
    with pytest.raises(TypeError, match="src of visit 20260304011, detector 1 is a lsst.afw.image.ExposureF"):
        task.run(**given, exposure=afw["src"], src=afw["exposure"])
    with pytest.raises(TypeError, match="calexp of .* is a lsst.afw.table.SourceCatalog"):
        task.run(**given, exposure=afw["src"], src=afw["src"])
    with pytest.raises(TypeError, match="calexp of .* is a builtins.int"):
        task.run(**given, exposure=3, src=afw["src"])


def test_exposure_without_wcs_is_damaged_input(
    stack: Any, inputs: dict[int, Inputs], tables: Any, task: Any
) -> None:
    """Treat an image without WCS as its file would be."""
    exposure = inputs[1].afw["exposure"]
    exposure._file = exposure._file.replace(b"ARCHIVE_ID_SKYWCS", b"ARCHIVE_ID_NOTHING"[:17])
    exposure._file = exposure._file.replace(b"SKYWCS_ID", b"NOTHIN_ID")
    with pytest.raises(pipeBase.UnprocessableDataError, match="visit 20260304011, detector 1 .*wcs"):
        task.run(visit=VISIT, band=BAND, detector=1, **tables, exposure=exposure, src=inputs[1].afw["src"])


def test_catalogs_are_stored_as_the_storage_class_wants(stack: Any) -> None:
    """Convert an output whose dataset is of the other world."""
    ours, theirs = one_row(0), to_afw(one_row(0))
    for wanted in (ExposureCatalog, stack.table.ExposureCatalog):
        storage_class = SimpleNamespace(pytype=wanted)
        ref: Any = SimpleNamespace(datasetType=SimpleNamespace(storageClass=storage_class))
        for catalog in (ours, theirs):
            stored = as_stored(catalog, ref)
            assert isinstance(stored, wanted)
            assert (stored is catalog) == isinstance(catalog, wanted)


def test_construction_tells_whose_task_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """Log package and file at DEBUG level."""
    detector = FinalizeCharacterizationDetectorTask._DefaultName
    consolidation = ConsolidateFinalizeCharacterizationDetectorTask._DefaultName
    # Other tests of this process may have set levels of these.
    with (
        caplog.at_level(logging.DEBUG, logger=f"lsst.{detector}"),
        caplog.at_level(logging.DEBUG, logger=f"lsst.{consolidation}"),
    ):
        FinalizeCharacterizationDetectorTask(config=FinalizeCharacterizationDetectorConfig())
        ConsolidateFinalizeCharacterizationDetectorTask()
    messages = [record.message for record in caplog.records if "lsst.meas.finalize" in record.message]
    assert len(messages) == 2
    assert "FinalizeCharacterizationDetectorTask is that of lsst.meas.finalize" in messages[0]
