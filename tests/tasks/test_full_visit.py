# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The parallel pipeline of the fit of a whole visit against the visit task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.table
import numpy as np
import pytest

from lsst.daf.butler import Butler
from lsst.meas.finalize.psf import as_batch_psf, stars_from_table
from lsst.meas.finalize.simulate import VisitSimulation
from lsst.meas.finalize.tasks import (
    ConsolidateFinalizeCharacterizationDetectorConfig,
    ConsolidateFinalizeCharacterizationDetectorTask,
    FinalizeCharacterizationDetectorConfig,
    FitVisitPsfConfig,
    FitVisitPsfTask,
    GatherPsfStarsConfig,
    GatherPsfStarsTask,
)
from lsst.pipe.base import NoWorkFound, Pipeline
from lsst.pipe.base.pipelineIR import ContractError
from lsst.pipe.base.simple_pipeline_executor import SimplePipelineExecutor

PIPELINES = Path(__file__).parents[2] / "pipelines"
DETERMINER = """
config.psf_determiner.name = "hierarchical"
config.psf_determiner["hierarchical"].spatialOrder = 5
config.psf_determiner["hierarchical"].maxCandidates = 18
config.psf_determiner["hierarchical"].predictWithoutStars = True
"""
MEASUREMENT = """
config.measurement.plugins.names = [
    "base_FPPosition", "base_GaussianFlux", "base_PsfFlux",
    "ext_shapeHSM_HsmPsfMoments", "ext_shapeHSM_HsmSourceMoments",
]
config.measurement.slots.modelFlux = None
"""
APCORR = """
config.measure_ap_corr.fitVisit = True
config.measure_ap_corr.sourceSelector["science"].signalToNoise.minimum = 60.0
"""


def _stars(butler: Butler, simulation: VisitSimulation, detector: int) -> astropy.table.Table:
    return butler.get(
        "finalize_psf_stars_detector",
        {"instrument": "SynthCam", "visit": simulation.visit},
        detector=detector,
        parameters={"strip_astropy_meta_yaml": False},
    )


def _run(repo: Path, name: str, output: str, options: dict[str, str]) -> Butler:
    pipeline = Pipeline.from_uri(str(PIPELINES / name))
    for label, text in options.items():
        pipeline.addConfigPython(label, text)
    butler = SimplePipelineExecutor.prep_butler(str(repo), ["simulated/inputs"], output)
    executor = SimplePipelineExecutor.from_pipeline(pipeline, where="detector < 3", butler=butler)
    executor.run(register_dataset_types=True)
    return Butler.from_config(str(repo), collections=output)


@pytest.fixture(scope="module")
def parallel(simulated_repo: Path) -> Butler:
    """Run the pipeline that fits the visit between its detectors."""
    options = {
        "gatherPsfStars": DETERMINER,
        "fitVisitPsf": DETERMINER,
        "finalizeCharacterizationDetector": DETERMINER + MEASUREMENT + APCORR,
        "consolidateFinalizeCharacterization": APCORR,
    }
    name = "FinalizeCharacterizationFullVisit.yaml#prepare,finalize"
    return _run(simulated_repo, name, "test/full/detectors", options)


def test_visit_task_gives_the_same(
    parallel: Butler, simulated_repo: Path, simulation: VisitSimulation
) -> None:
    """Tables, PSFs and aperture corrections are those of the visit task."""
    options = {"finalizeCharacterization": DETERMINER + MEASUREMENT + APCORR}
    visit = _run(simulated_repo, "FinalizeCharacterizationVisit.yaml#finalize", "test/full/visit", options)
    data_id = {"instrument": "SynthCam", "visit": simulation.visit}
    ours, theirs = (b.get("finalized_src_table", data_id) for b in (parallel, visit))
    assert ours.colnames == theirs.colnames
    assert np.asarray(ours["calib_psf_used"]).sum() > 25
    assert np.asarray(ours["calib_psf_fewStars"]).all()
    for name in ours.colnames:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    catalogs = [b.get("finalized_psf_ap_corr_catalog", data_id) for b in (parallel, visit)]
    x, y = np.array([100.0, 300.0]), np.array([250.0, 40.0])
    assert catalogs[0]["id"].tolist() == catalogs[1]["id"].tolist() == [0, 1, 2]
    for a, b in zip(*catalogs, strict=True):
        images = [as_batch_psf(record.psf).draw_kernel_images(x, y) for record in (a, b)]
        np.testing.assert_array_equal(*images)
        fields = [{n: f(x=1.0, y=2.0) for n, f in record.ap_corr_map.items()} for record in (a, b)]
        assert fields[0] == fields[1]


def test_aperture_corrections_of_the_visit(parallel: Butler, simulation: VisitSimulation) -> None:
    """What is stored is what was applied, in columns of aliases, too."""
    data_id = {"instrument": "SynthCam", "visit": simulation.visit}
    table = parallel.get("finalized_src_table", data_id)
    catalog = parallel.get("finalized_psf_ap_corr_catalog", data_id)
    assert "pending_ap_corr" not in catalog.schema
    for record in catalog:
        stars = table[np.asarray(table["detector"]) == record.id]
        single = parallel.get("finalized_src_detector_table", data_id, detector=record.id)
        correction = record.ap_corr_map["base_PsfFlux_instFlux"]
        assert correction.coefficients.shape == (7, 7)
        factor = correction(x=np.asarray(stars["slot_Centroid_x"]), y=np.asarray(stars["slot_Centroid_y"]))
        assert np.isnan(single["base_PsfFlux_apCorr"]).all()
        assert single["base_PsfFlux_flag_apCorr"].all()
        assert not stars["base_PsfFlux_flag_apCorr"].any()
        assert stars["apcorr_base_PsfFlux_used"].sum() > 5
        for name in ("base_PsfFlux", "slot_PsfFlux"):
            np.testing.assert_array_equal(stars[f"{name}_apCorr"], factor)
            np.testing.assert_array_equal(stars[f"{name}_instFlux"], single[f"{name}_instFlux"] * factor)


def test_pending_corrections_are_never_forgotten(parallel: Butler, simulation: VisitSimulation) -> None:
    """Consolidation refuses detectors whose task had the other option."""
    data_id = {"instrument": "SynthCam", "visit": simulation.visit, "detector": 1}
    names = ("finalized_psf_ap_corr_detector_catalog", "finalized_src_detector_table")
    catalog, table = (parallel.get(name, data_id) for name in names)
    config = ConsolidateFinalizeCharacterizationDetectorConfig()
    task = ConsolidateFinalizeCharacterizationDetectorTask(config=config)
    with pytest.raises(ValueError, match="1 of 1 detectors are pending"):
        task.run(psf_ap_corr_detector_dict={1: catalog}, src_detector_table_dict={1: table})


def test_stars_survive_the_table(parallel: Butler, simulation: VisitSimulation) -> None:
    """What the fit needs is in the table, stamps and all; no other is read."""
    table = _stars(parallel, simulation, 1)
    stars = stars_from_table(table, "The table")
    assert stars.total >= 14
    assert stars.stamps.image.shape == stars.good.shape == stars.weight.shape
    peak = stars.stamps.image.reshape(len(stars.id), -1).argmax(axis=1)
    side = stars.stamps.image.shape[1]
    assert (abs(stars.stamps.x0 + peak % side - stars.x) < 2.0).all()
    assert (abs(stars.stamps.y0 + peak // side - stars.y) < 2.0).all()
    with pytest.raises(ValueError, match=r"The table lacks the columns \['good'\]"):
        stars_from_table(table[[n for n in table.colnames if n != "good"]], "The table")
    table.meta["format_version"] = 0
    with pytest.raises(ValueError, match="format_version 0"):
        stars_from_table(table, "The table")


def test_detector_without_stars_is_predicted(parallel: Butler, simulation: VisitSimulation) -> None:
    """A table without rows gives a PSF with the flag, if configured."""
    tables = {d: _stars(parallel, simulation, d) for d in range(3)}
    tables[1] = tables[1][:0]
    for predict in (True, False):
        config = FitVisitPsfConfig()
        config.psf_determiner["hierarchical"].predictWithoutStars = predict
        result = FitVisitPsfTask(config=config).run(simulation.visit, tables)
        record = result.visit_psf_catalog.find(1)
        assert (record is not None) == predict
        assert 1 not in result.visit_psf_stars["detector"]
        if predict:
            assert record["fewStars"]
            at = np.array([9.0])
            assert np.isfinite(as_batch_psf(record.psf).draw_kernel_images(at, at)).all()


def _gather(
    butler: Butler, simulation: VisitSimulation, detector: int, number: int | None = None, **options: int
) -> astropy.table.Table:
    """Gather a detector's stars, of its first sources only."""
    config = GatherPsfStarsConfig()
    config.make_psf_candidates.update(**options)
    data_id = {"instrument": "SynthCam", "visit": simulation.visit}
    return (
        GatherPsfStarsTask(config=config)
        .run(
            simulation.visit,
            simulation.band,
            detector,
            butler.get("src", data_id, detector=detector)[slice(number)],
            butler.get("calexp", data_id, detector=detector),
            butler.getDeferred("finalize_isolated_stars", data_id),
        )
        .psf_stars
    )


@pytest.fixture(scope="module")
def inputs(parallel: Butler, simulated_repo: Path) -> Butler:
    """Return a butler that finds the inputs, too."""
    return Butler.from_config(str(simulated_repo), collections=["test/full/detectors", "simulated/inputs"])


def test_detector_without_sources_is_gathered(inputs: Butler, simulation: VisitSimulation) -> None:
    """What a detector without any source has to do with the visit is its
    place, where the others predict.
    """
    table = _gather(inputs, simulation, 1, 0)
    assert len(table) == 0
    tables = {d: _stars(inputs, simulation, d) for d in (0, 2)} | {1: table}
    config = FitVisitPsfConfig()
    config.psf_determiner["hierarchical"].predictWithoutStars = True
    record = FitVisitPsfTask(config=config).run(simulation.visit, tables).visit_psf_catalog.find(1)
    assert record["fewStars"]


def test_pixels_to_use_are_unmasked(parallel: Butler, simulation: VisitSimulation) -> None:
    """Masked pixels, and those without variance, have no weight."""
    stars = stars_from_table(_stars(parallel, simulation, 1), "The table")
    config = FitVisitPsfConfig().psf_determiner["hierarchical"]
    masked = stars.stamps.bad(config.zeroWeightMaskBits)
    assert masked.any()
    np.testing.assert_array_equal(stars.good, ~masked & (stars.stamps.variance > 0.0))
    assert (stars.weight[~stars.good] == 0.0).all()


def test_candidates_of_even_size_have_odd_stamps(inputs: Butler, simulation: VisitSimulation) -> None:
    """The model needs a middle pixel whatever the size of the candidates."""
    table = _gather(inputs, simulation, 1, kernelSize=24)
    assert len(table) > 10
    assert table.meta["size"] == 23
    expected = _gather(inputs, simulation, 1, kernelSize=23)
    np.testing.assert_array_equal(table["image"], expected["image"])


def test_detector_without_place_is_left_to_itself(
    inputs: Butler,
    simulation: VisitSimulation,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It isn't an error, which would leave the visit without a fit."""

    def no_place(exposure: object) -> None:
        raise ValueError("no place")

    monkeypatch.setattr("lsst.meas.finalize.psf.hierarchical._determiner.frame_of", no_place)
    with pytest.raises(NoWorkFound, match=r"No PSF stars could be gathered from visit \d+, detector 1"):
        _gather(inputs, simulation, 1)
    assert "The fit of the visit does without visit" in caplog.text


@pytest.mark.parametrize(
    "damage", ["x", "kept", "size", "scale", "image", "variance", "weight", "orientation"]
)
def test_damaged_stars_are_named(parallel: Butler, simulation: VisitSimulation, damage: str) -> None:
    """Nothing that the fit couldn't have been given gets into it."""
    table = _stars(parallel, simulation, 1)
    stars_from_table(table, "The table")
    if damage in ("size", "orientation"):
        del table.meta[damage]
    elif damage == "scale":
        table.meta[damage] = np.nan
    else:
        table[damage] = np.full_like(table[damage], -1 if damage == "kept" else np.nan)
    with pytest.raises(ValueError, match="The table is damaged: "):
        stars_from_table(table, "The table")


@pytest.mark.parametrize(
    "config_class", [GatherPsfStarsConfig, FitVisitPsfConfig, FinalizeCharacterizationDetectorConfig]
)
def test_determiner_must_fit_visits(config_class: type) -> None:
    """Piff's own determiner, which fits detectors, is refused."""
    config = config_class()
    config.psf_determiner.name = "piff"
    if hasattr(config, "use_visit_psf"):
        config.validate()
        config.use_visit_psf = True
    with pytest.raises(ValueError, match="can't fit all detectors"):
        config.validate()


@pytest.mark.parametrize(
    ("option", "value", "labels"),
    [
        ("psf_determiner['hierarchical'].spatialOrder", 3, ("gatherPsfStars", "fitVisitPsf")),
        ("psf_determiner['hierarchical'].interpolant", "Lanczos(5)", ("gatherPsfStars", "fitVisitPsf")),
        ("source_selector['science'].signalToNoise.minimum", 60.0, ("gatherPsfStars",)),
        ("reserve_selection.reserve_fraction", 0.3, ("gatherPsfStars",)),
        ("make_psf_candidates.kernelSize", 25, ("gatherPsfStars",)),
    ],
)
def test_options_of_one_task_alone_are_refused(option: str, value: Any, labels: tuple[str, ...]) -> None:
    """Refuse pipelines whose tasks fit and select differently."""
    detectors = "finalizeCharacterizationDetector"
    pipeline = Pipeline.from_uri(str(PIPELINES / "FinalizeCharacterizationFullVisit.yaml"))
    setting = f"config.{option} = {value!r}"
    pipeline.addConfigPython(detectors, setting)
    with pytest.raises(ContractError, match=f"set {option.split('.')[0].split('[')[0]} of gatherPsfStars.*"):
        pipeline.to_graph()
    for label in labels:
        pipeline.addConfigPython(label, setting)
    assert {detectors, *labels} <= set(pipeline.to_graph().tasks)
