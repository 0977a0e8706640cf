# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable
from typing import Any

import astropy.table
import numpy as np
import pytest

from lsst.images.serialization import ArchiveReadError
from lsst.meas.finalize.catalogs import ExposureCatalog, Schema
from lsst.meas.finalize.psf import PiffPsf
from lsst.pipe.base import InMemoryDatasetHandle, NoWorkFound, UnprocessableDataError
from lsst.pipe.tasks.finalizeCharacterization import (
    ConsolidateFinalizeCharacterizationDetectorTask,
    FinalizeCharacterizationDetectorTask,
)

type MakeTask = Callable[..., FinalizeCharacterizationDetectorTask]


def with_sources(inputs: Any, change: Callable[[astropy.table.Table], astropy.table.Table]) -> dict[int, Any]:
    """Return isolated-source tables after a change."""
    return {
        tract: InMemoryDatasetHandle(change(table.get()), storageClass="ArrowAstropy")
        for tract, table in inputs.isolated_star_source_dict.items()
    }


def test_good_data_give_psf_map_and_table(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Check the row, its metadata and the table of a successful run."""
    before = tiny_inputs.exposure.image.array.copy()
    result = tiny_inputs.run(make_task())
    catalog, table = result.psf_ap_corr_cat, result.output_table
    assert catalog["id"].tolist() == [1]
    assert catalog["visit"].tolist() == [20260304011]
    assert catalog.metadata["COMMENT"][1] == "Only one detector with data has an entry."
    assert catalog.psfs[0] is not None
    assert "base_CompensatedTophatFlux_12_instFlux" in catalog.ap_corr_maps[0]
    assert np.all(table["calib_psf_candidate"])
    assert not np.any(table["calib_psf_used"] & table["calib_psf_reserved"])
    np.testing.assert_array_equal(tiny_inputs.exposure.image.array, before)


def test_no_isolated_source_of_the_visit_is_no_work(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Raise NoWorkFound for empty tables and for those of other visits."""

    def other_visit(table: astropy.table.Table) -> astropy.table.Table:
        table = table.copy()
        table["visit"] += 1
        return table

    for change in (lambda table: table[:0], other_visit):
        inputs = tiny_inputs.copy(isolated_star_source_dict=with_sources(tiny_inputs, change))
        with pytest.raises(NoWorkFound, match="No good isolated sources found for any detectors in visit"):
            inputs.run(make_task())


def test_empty_star_tables_are_no_work(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Raise NoWorkFound if no star was seen at all."""
    empty = {
        tract: InMemoryDatasetHandle(table.get()[:0], storageClass="ArrowAstropy")
        for tract, table in tiny_inputs.isolated_star_cat_dict.items()
    }
    inputs = tiny_inputs.copy(isolated_star_cat_dict=empty)
    with pytest.raises(NoWorkFound, match="No good isolated sources"):
        inputs.run(make_task())


def test_no_good_source_is_no_work(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Raise NoWorkFound if the selector leaves nothing."""
    inputs = tiny_inputs.copy()
    inputs.src["base_PixelFlags_flag_edge"] = True
    with pytest.raises(NoWorkFound, match="No good sources found for visit 20260304011 / detector 1"):
        inputs.run(make_task())


def test_no_selected_source_is_isolated(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Raise NoWorkFound if good and isolated sources don't meet."""
    inputs = tiny_inputs.copy()
    inputs.src["id"] = np.arange(len(inputs.src)) + 1
    with pytest.raises(NoWorkFound, match="No good sources found"):
        inputs.run(make_task())


def test_empty_source_catalog_is_no_work(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Raise NoWorkFound for a detector without sources."""
    inputs = tiny_inputs.copy(src=tiny_inputs.src[:0])
    with pytest.raises(NoWorkFound, match="No good sources found"):
        inputs.run(make_task())


def test_all_stars_reserved_keeps_rows_without_psf(
    make_task: MakeTask, tiny_inputs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Write rows without PSF if nothing is left for the fit."""
    task = make_task()
    task.reserve_selection.run = lambda nstar, extra="": np.ones(nstar, dtype=bool)
    with caplog.at_level(logging.ERROR):
        result = tiny_inputs.run(task)
    assert "Failed to determine PSF for visit 20260304011, detector 1" in caplog.text
    assert_unmeasured(result)
    assert np.all(result.output_table["calib_psf_reserved"])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (lambda c: c.measurement.plugins["base_PsfFlux"], "badMaskPlanes"),
        (lambda c: c.measurement.plugins["ext_shapeHSM_HsmSourceMoments"], "badMaskPlanes"),
        (lambda c: c.psf_determiner["piff"], "zeroWeightMaskBits"),
    ],
    ids=["flux", "moments", "PSF"],
)
def test_misspelled_mask_planes_are_failures(
    make_task: MakeTask, tiny_inputs: Any, options: Callable[[Any], Any], name: str
) -> None:
    """Take an option that is wrong for damage of no image: all detectors of a
    survey would have no work, or no PSF, and the exit code would be 0.
    """
    config = make_task().config.copy()
    setattr(options(config), name, ["SATURED"])
    with pytest.raises((ValueError, RuntimeError), match="There is no mask plane 'SATURED'") as info:
        tiny_inputs.run(FinalizeCharacterizationDetectorTask(config=config))
    assert re.search(r"^Plugin (base_PsfFlux|ext_shapeHSM_\w+): |^zeroWeightMaskBits of ", str(info.value))
    assert not isinstance(info.value, NoWorkFound | UnprocessableDataError)


def assert_unmeasured(result: Any) -> None:
    """Check the state of a detector whose PSF failed (spec 01 §8)."""
    record = result.psf_ap_corr_cat[0]
    assert record.id == 1
    assert record.psf is None
    assert record.ap_corr_map is None
    assert len(result.output_table)
    assert not np.any(result.output_table["calib_psf_used"])
    assert np.all(np.isnan(result.output_table["base_PsfFlux_instFlux"]))
    flags = [n for n in result.output_table.colnames if n.endswith("_flag_apCorr")]
    assert {"base_PsfFlux_flag_apCorr", "base_GaussianFlux_flag_apCorr"} <= set(flags)
    assert all(np.all(result.output_table[n]) for n in [*flags, "base_PsfFlux_flag"])


@pytest.mark.parametrize("defect", ["masked", "nan", "infinite variance", "zero variance"])
def test_unusable_pixels_keep_rows_without_psf(make_task: MakeTask, tiny_inputs: Any, defect: str) -> None:
    """Write rows without PSF if no star has good pixels."""
    inputs = tiny_inputs.copy()
    match defect:
        case "masked":
            inputs.exposure.mask.set("BAD")
        case "nan":
            inputs.exposure.image.array[...] = np.nan
        case "infinite variance":
            inputs.exposure.variance.array[...] = np.inf
        case "zero variance":
            inputs.exposure.variance.array[...] = 0.0
    assert_unmeasured(inputs.run(make_task()))


def test_some_nan_pixels_do_not_matter(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Fit and measure the other stars if one is spoilt."""
    good = tiny_inputs.run(make_task())
    table = good.output_table
    spoilt = int(np.argmax(table["base_PsfFlux_instFlux"]))
    inputs = tiny_inputs.copy()
    x, y = (round(float(table[f"slot_Centroid_{axis}"][spoilt])) for axis in "xy")
    box = inputs.exposure.bbox
    y, x = y - box.y.start, x - box.x.start
    inputs.exposure.image.array[y - 12 : y + 13, x - 12 : x + 13] = np.nan
    result = inputs.run(make_task())
    assert result.psf_ap_corr_cat.psfs[0] is not None
    assert not result.output_table["calib_psf_used"][spoilt]
    assert result.output_table["base_PsfFlux_flag"][spoilt]
    assert np.sum(result.output_table["base_PsfFlux_flag"]) <= np.sum(table["base_PsfFlux_flag"]) + 1


def test_duplicate_source_ids_are_an_error(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Name the detector whose source ids repeat."""
    inputs = tiny_inputs.copy()
    good = np.flatnonzero(~inputs.src["base_PixelFlags_flag_edge"])
    inputs.src["id"][good] = inputs.src["id"][good[0]]
    with pytest.raises(
        UnprocessableDataError, match=r"Ids of the source catalog of visit 20260304011, detector 1"
    ):
        inputs.run(make_task())


def test_id_in_two_tracts_counts_as_in_the_later(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Take ``reserved`` from the larger tract (spec 01 §1.5 step 4)."""
    reference = tiny_inputs.run(make_task()).output_table
    star = int(np.flatnonzero(reference["calib_psf_reserved"])[0])
    task = make_task()
    original = task._get_isolated_sources

    def with_duplicate(*args: Any, **kwargs: Any) -> astropy.table.Table:
        sources = original(*args, **kwargs)
        again = sources[np.asarray(sources["sourceId"]) == reference["id"][star]]
        again["reserved"] = False
        return astropy.table.vstack([sources, again])

    task._get_isolated_sources = with_duplicate
    assert not tiny_inputs.run(task).output_table["calib_psf_reserved"][star]


def test_missing_ap_corr_map_counts_as_empty(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Make a map even if the exposure has none."""
    inputs = tiny_inputs.copy()
    inputs.exposure.aperture_corrections.clear()
    names = set(inputs.run(make_task()).psf_ap_corr_cat.ap_corr_maps[0])
    assert names == {
        f"base_{p}_{f}" for p in ("PsfFlux", "GaussianFlux") for f in ("instFlux", "instFluxErr")
    }


def test_corrections_of_the_image_give_way_to_new_ones(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Carry over what was measured before, unless it is measured again."""
    inputs = tiny_inputs.copy()
    old = inputs.exposure.aperture_corrections
    carried = "base_CompensatedTophatFlux_12_instFlux"
    old["base_PsfFlux_instFlux"] = old[carried]
    made = inputs.run(make_task()).psf_ap_corr_cat.ap_corr_maps[0]
    assert made[carried] is old[carried]
    assert made["base_PsfFlux_instFlux"] is not old["base_PsfFlux_instFlux"]


def test_missing_psf_does_not_matter(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Never use the input PSF."""
    inputs = tiny_inputs.copy()
    inputs.exposure._psf = ArchiveReadError("no PSF")
    result = inputs.run(make_task())
    assert result.psf_ap_corr_cat.psfs[0] is not None
    assert not np.all(result.output_table["base_PsfFlux_flag"])


def test_missing_detector_is_a_flag(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Flag focal-plane positions if there's no detector."""
    inputs = tiny_inputs.copy()
    inputs.exposure._detector = None
    table = inputs.run(make_task()).output_table
    assert np.all(table["base_FPPosition_missingDetector_flag"])
    assert np.all(np.isnan(table["base_FPPosition_x"]))


def test_sky_moments_without_visit_info_are_an_error(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Name what alt/az moments need if it's missing."""
    inputs = tiny_inputs.copy()
    inputs.exposure.metadata = {}
    inputs.exposure._opaque_metadata = None
    with inputs.exposure.obs_info.edit_copy() as obs_info:
        obs_info.location = None
        obs_info.datetime_begin = obs_info.datetime_end = None
    inputs.exposure._obs_info = obs_info
    with pytest.raises(ValueError, match="VisitInfo|parallactic|location|time"):
        inputs.run(make_task(do_add_sky_moments=True))


def test_missing_band_column_is_named(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Name the column of a band that the star table lacks."""
    inputs = tiny_inputs.copy(band="z")
    with pytest.raises(KeyError, match="nsource_z"):
        inputs.run(make_task())


def test_missing_slot_is_named(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Name a slot that the source catalogue lacks."""
    inputs = tiny_inputs.copy()
    inputs.src.schema.drop_alias("slot_CalibFlux")
    with pytest.raises(KeyError, match="slot_CalibFlux"):
        inputs.run(make_task())


def test_missing_selector_column_is_named(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Name a column that the selector wants and the catalogue lacks."""
    task = make_task()
    config = type(task.config)()
    config.source_selector["science"].signalToNoise.fluxField = "no_such_instFlux"
    with pytest.raises(KeyError, match="no_such_instFlux"):
        tiny_inputs.run(type(task)(config=config))


@pytest.mark.parametrize(("name", "dataset"), [("exposure", "calexp"), ("src", "src")])
def test_objects_of_other_types_are_named(
    make_task: MakeTask, tiny_inputs: Any, name: str, dataset: str
) -> None:
    """Tell which dataset is of an unknown type, such as one of lsst.afw."""
    with pytest.raises(TypeError, match=rf"{dataset} of visit 20260304011, detector 1 is a builtins\.dict"):
        tiny_inputs.copy(**{name: {}}).run(make_task())


def test_psf_without_size_is_not_used(
    make_task: MakeTask, tiny_inputs: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Take no PSF whose moments have a negative determinant (spec 01 §1.5)."""
    monkeypatch.setattr(PiffPsf, "compute_shapes", lambda *args, **kwargs: np.array([[1.0, 1.0, 2.0]]))
    result = tiny_inputs.run(make_task())
    assert result.psf_ap_corr_cat[0].psf is None
    assert not result.output_table["calib_psf_used"].any()
    assert "no finite size" in caplog.text


def test_consolidation_leaves_its_inputs(make_task: MakeTask, tiny_inputs: Any) -> None:
    """Merge the same catalogues twice, with the same result."""
    result = tiny_inputs.run(make_task())
    first, second = result.psf_ap_corr_cat, copy.deepcopy(result.psf_ap_corr_cat)
    second.field_column("id")[:] = 2
    task = ConsolidateFinalizeCharacterizationDetectorTask()
    catalogs = {
        detector: InMemoryDatasetHandle(catalog, storageClass="ExposureCatalog", copy=False)
        for detector, catalog in ((1, first), (2, second))
    }
    table = InMemoryDatasetHandle(result.output_table, storageClass="ArrowAstropy")
    tables = dict.fromkeys(catalogs, table)
    for _ in range(2):
        merged = task.run(psf_ap_corr_detector_dict=catalogs, src_detector_table_dict=tables)
        assert merged.psf_ap_corr_cat["id"].tolist() == [1, 2]
    assert len(first) == 1


@pytest.mark.parametrize("detector", [1, 2])
def test_every_catalogue_must_have_its_detector(detector: int) -> None:
    """Name the detector whose catalogue is without its row, the first too."""
    catalogs = {d: ExposureCatalog(Schema.exposure_minimal(), 1) for d in (1, 2)}
    for d, catalog in catalogs.items():
        catalog["id"] = 7 if d == detector else d
    tables = {d: astropy.table.Table({"detector": [d]}) for d in catalogs}
    task = ConsolidateFinalizeCharacterizationDetectorTask()
    with pytest.raises(ValueError, match=f"PSF catalog of detector {detector} has no row with that id"):
        task.run(psf_ap_corr_detector_dict=catalogs, src_detector_table_dict=tables)


def test_failing_measurement_keeps_the_psf(
    make_task: MakeTask, tiny_inputs: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Keep the PSF if measurement or the map fails (spec 01 §8)."""
    from lsst.meas.finalize.apcorr import MeasureApCorrTask
    from lsst.meas.finalize.measure import SingleFrameMeasurementTask

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken on purpose")

    for cls in (MeasureApCorrTask, SingleFrameMeasurementTask):
        with monkeypatch.context() as patch:
            patch.setattr(cls, "run", fail)
            record = tiny_inputs.run(make_task()).psf_ap_corr_cat[0]
        assert record.psf is not None
        assert record.ap_corr_map is None
    assert "Measurement failed for visit 20260304011, detector 1" in caplog.text
    assert "Aperture corrections could not be measured for visit 20260304011" in caplog.text
