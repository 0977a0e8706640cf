# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.table
import numpy as np
import pytest

from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.stars import ReserveIsolatedStarsTask
from lsst.pipe.base import InMemoryDatasetHandle, NoWorkFound, Pipeline, Struct
from lsst.pipe.base.pipelineIR import ContractError
from lsst.pipe.base.testUtils import lintConnections
from lsst.pipe.tasks.finalizeCharacterization import (
    FinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationDetectorConnections,
    FinalizeCharacterizationDetectorTask,
    PrepareIsolatedStarsConfig,
    PrepareIsolatedStarsConnections,
    PrepareIsolatedStarsTask,
)

INPUTS = ("isolated_star_cats", "isolated_star_sources", "fgcm_standard_star")


def prepare(inputs: Any, fgcm: bool = False, **options: Any) -> astropy.table.Table:
    """Run the preparation on the tables of a detector's inputs."""
    task = PrepareIsolatedStarsTask(config=PrepareIsolatedStarsConfig(**options))
    return task.run(
        inputs.visit,
        inputs.band,
        inputs.isolated_star_cat_dict,
        inputs.isolated_star_source_dict,
        inputs.fgcm_standard_star_dict if fgcm else None,
    ).prepared_isolated_stars


def run_prepared(inputs: Any, task: Any, table: Any) -> Struct:
    """Run the detector task on a prepared table."""
    fgcm = None if task.config.use_prepared_photometry else inputs.fgcm_standard_star_dict
    return task.run(
        visit=inputs.visit,
        band=inputs.band,
        detector=inputs.detector,
        isolated_star_cat_dict=None,
        isolated_star_source_dict=None,
        src=inputs.src,
        exposure=inputs.exposure,
        fgcm_standard_star_dict=fgcm,
        prepared_isolated_stars=table,
    )


def assert_identical(ours: Struct, theirs: Struct) -> None:
    """Check all columns, the PSF and the corrections bit for bit."""
    assert ours.output_table.colnames == theirs.output_table.colnames
    for name in ours.output_table.colnames:
        a, b = (np.asarray(s.output_table[name]) for s in (ours, theirs))
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), name
    x = y = np.array([10.0, 200.0])
    records = [s.psf_ap_corr_cat[0] for s in (ours, theirs)]
    images = [as_batch_psf(r.psf).draw_kernel_images(x, y).tobytes() for r in records]
    assert images[0] == images[1]
    maps = [{name: f(x=1.5, y=2.5) for name, f in r.ap_corr_map.items()} for r in records]
    assert maps[0] == maps[1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_add_sky_moments": True},
        {"do_add_fgcm_photometry": True, "fgcmPhotometryBands": ["g", "u", "y"]},
    ],
)
@pytest.mark.parametrize("photometry", [False, True])
def test_results_are_identical(
    make_task: Callable[..., Any], tiny_inputs: Any, options: dict[str, Any], photometry: bool
) -> None:
    """Get the same bits with and without the step, whichever of the tasks
    has the options.
    """
    expected = tiny_inputs.run(make_task(**options))
    table = prepare(tiny_inputs, fgcm=photometry, match_fgcm_standard_stars=photometry)
    task = make_task(use_prepared_stars=True, use_prepared_photometry=photometry, **options)
    assert_identical(run_prepared(tiny_inputs, task, table), expected)


@pytest.mark.parametrize("photometry", [False, True])
def test_colours_are_identical(make_task: Callable[..., Any], tiny_inputs: Any, photometry: bool) -> None:
    """Fit the same PSF with colours from either table."""
    tasks = [
        make_task(use_prepared_stars=flag, use_prepared_photometry=flag and photometry)
        for flag in (False, True)
    ]
    results = []
    for task in tasks:
        config = pickle.loads(pickle.dumps(task.config))
        config.psf_determiner["piff"].useColor = True
        config.psf_determiner["piff"].color = {"r": "g-i"}
        config.reserve_selection.reserve_fraction = 0.4
        fresh = type(task)(config=config)
        if config.use_prepared_stars:
            table = prepare(tiny_inputs, fgcm=photometry, match_fgcm_standard_stars=photometry)
            results.append(run_prepared(tiny_inputs, fresh, table))
        else:
            results.append(tiny_inputs.run(fresh))
    assert_identical(*results)
    assert np.isfinite(results[0].output_table["psf_color_value"]).sum() > 10
    assert results[0].output_table["calib_psf_reserved"].sum() > 10


class Odd(ReserveIsolatedStarsTask):
    """Reserve others than the preparation does."""

    def run(self, nstar: int, extra: str = "") -> np.ndarray:
        """Reserve every third star."""
        return np.arange(nstar) % 3 == len(extra) % 3


@pytest.mark.parametrize("target", [ReserveIsolatedStarsTask, Odd])
def test_options_of_the_detector_alone_hold(
    make_task: Callable[..., Any], tiny_inputs: Any, target: type
) -> None:
    """Get the same bits from a preparation that knows none of the options
    of the detector.
    """
    table = prepare(tiny_inputs, fgcm=True, match_fgcm_standard_stars=True)
    results = []
    for prepared in (False, True):
        options = {"use_prepared_stars": prepared, "use_prepared_photometry": prepared}
        config = make_task(do_add_fgcm_photometry=True, fgcmPhotometryBands=["u", "y"], **options).config
        config = type(config)(**dict(config.items()))
        config.reserve_selection.retarget(target)
        config.reserve_selection.reserve_name = "other"
        config.reserve_selection.reserve_fraction = 0.3
        config.psf_determiner["piff"].useColor = True
        config.psf_determiner["piff"].color = {"r": "r-z", "g": "g-i"}
        task = FinalizeCharacterizationDetectorTask(config=config)
        results.append(
            run_prepared(tiny_inputs, task, table) if prepared else tiny_inputs.run(task),
        )
    assert_identical(*results)
    assert set(results[0].output_table["psf_color_type"]) == {"r-z"}
    reserved = np.asarray(results[0].output_table["calib_psf_reserved"])
    assert 5 < reserved.sum() < len(reserved) / 2


# What of the detector's options has to do with the prepared table, and who
# sees to it: see the other tests.
HOLDING = {"reserve_selection", "psf_determiner", "do_add_fgcm_photometry", "fgcmPhotometryBands"}
REFUSED = {"id_column", "connections", "use_prepared_photometry", "use_prepared_stars"}
UNRELATED = {
    "source_selector",
    "make_psf_candidates",
    "measurement",
    "measure_ap_corr",
    "apply_ap_corr",
    "do_add_sky_moments",
    "saveLogOutput",
    "use_visit_psf",
}
REFUSED_CONNECTIONS = {"isolated_star_cats", "isolated_star_sources", "fgcm_standard_star"}


def test_every_option_is_known_here() -> None:
    """Make whoever adds an option think of the prepared table."""
    assert set(FinalizeCharacterizationDetectorConfig._fields) == HOLDING | REFUSED | UNRELATED
    config = FinalizeCharacterizationDetectorConfig()
    per_tract = {
        name
        for name, c in FinalizeCharacterizationDetectorConnections.allConnections.items()
        if ("tract" in getattr(c, "dimensions", ()))
    }
    assert per_tract == REFUSED_CONNECTIONS
    piff = {name for name in config.psf_determiner["piff"]._fields if "olor" in name}
    assert piff == {"useColor", "color", "colorOrder"}


@pytest.mark.parametrize("name", ["isolated_star_cats", "isolated_star_sources", "fgcm_standard_star"])
def test_subsets_refuse_tables_of_other_datasets(
    make_task: Callable[..., Any], tiny_inputs: Any, name: str
) -> None:
    """Refuse in the detector what no contract sees: that the table, made in
    another run, is of other datasets than the detector's connections name.
    """
    table = prepare(tiny_inputs, fgcm=True, match_fgcm_standard_stars=True)
    options = {"use_prepared_stars": True, "use_prepared_photometry": True, "do_add_fgcm_photometry": True}
    config = make_task(**options).config
    config = type(config)(**dict(config.items()))
    setattr(config.connections, name, "other")
    with pytest.raises(ValueError, match=f"was made with other connections than .*{name} = 'other'"):
        run_prepared(tiny_inputs, FinalizeCharacterizationDetectorTask(config=config), table)


def test_a_detector_without_stars_is_no_work(make_task: Callable[..., Any], tiny_inputs: Any) -> None:
    """Raise NoWorkFound as without the step."""
    task = make_task(use_prepared_stars=True)
    table = prepare(tiny_inputs)
    for rows in (table[:0], table[table["detector"] != tiny_inputs.detector]):
        with pytest.raises(NoWorkFound, match="No good isolated sources found for any detectors in visit"):
            run_prepared(tiny_inputs, task, rows)
    empty = {
        tract: InMemoryDatasetHandle(handle.get()[:0], storageClass="ArrowAstropy")
        for tract, handle in tiny_inputs.isolated_star_source_dict.items()
    }
    with pytest.raises(NoWorkFound, match="No good isolated sources found for any detectors in visit"):
        prepare(tiny_inputs.copy(isolated_star_source_dict=empty))


def test_tables_without_standard_stars_are_refused(make_task: Callable[..., Any], tiny_inputs: Any) -> None:
    """Refuse photometry that wasn't prepared."""
    options = {"use_prepared_stars": True, "use_prepared_photometry": True}
    table = prepare(tiny_inputs)
    with pytest.raises(KeyError, match="prepared isolated stars of visit .*fgcm_row"):
        run_prepared(tiny_inputs, make_task(do_add_fgcm_photometry=True, **options), table)
    # What isn't needed isn't missed.
    run_prepared(tiny_inputs, make_task(**options), table)


def test_connections() -> None:
    """Read tables of tracts, or the prepared one."""
    lintConnections(PrepareIsolatedStarsConnections)
    lintConnections(FinalizeCharacterizationDetectorConnections)

    def inputs(config: Any) -> set[str]:
        config.validate()
        return set(config.connections.ConnectionsClass(config=config).inputs)

    def detector(**options: Any) -> set[str]:
        return inputs(FinalizeCharacterizationDetectorConfig(**options)) - {"src", "calexp"}

    assert detector() == {*INPUTS[:2]}
    assert detector(do_add_fgcm_photometry=True) == {*INPUTS}
    assert detector(use_prepared_stars=True) == {"prepared_isolated_stars"}
    with_fgcm = {"use_prepared_stars": True, "do_add_fgcm_photometry": True}
    assert detector(**with_fgcm) == {"prepared_isolated_stars", "fgcm_standard_star"}
    assert detector(**with_fgcm, use_prepared_photometry=True) == {"prepared_isolated_stars"}
    assert inputs(PrepareIsolatedStarsConfig()) == {*INPUTS[:2]}
    assert inputs(PrepareIsolatedStarsConfig(match_fgcm_standard_stars=True)) == {*INPUTS}
    assert detector(use_prepared_photometry=True, do_add_fgcm_photometry=True) == {*INPUTS}


PIPELINES = Path(__file__).parents[2] / "pipelines"
DETECTORS = {
    "FinalizeCharacterization.yaml": "finalizeCharacterizationDetector",
    "RefitPsfModel.yaml": "refitPsfModelDetector",
    "HSC/FinalizeCharacterization.yaml": "finalizeCharacterizationDetector",
    "LSSTCam/FinalizeCharacterization.yaml": "finalizeCharacterizationDetector",
    "LSSTComCam/FinalizeCharacterization.yaml": "finalizeCharacterizationDetector",
}


@pytest.mark.parametrize("name", DETECTORS)
def test_pipelines_read_tracts_in_the_first_step_only(name: str) -> None:
    """Read no table of a tract in detectors, unless that is configured."""
    label = DETECTORS[name]
    pipeline = Pipeline.from_uri(str(PIPELINES / name))
    graph = pipeline.to_graph()
    assert list(graph.tasks)[0] == "prepareIsolatedStars"
    assert {"prepare", "finalize"} <= set(pipeline.subsets)
    assert set(graph.tasks[label].inputs) == {"src", "calexp", "prepared_isolated_stars"}
    consumers = graph.consumers_of(graph.tasks[label].inputs["prepared_isolated_stars"].dataset_type_name)
    assert [task.label for task in consumers] == [label]
    # Upstream's shape.
    pipeline = Pipeline.from_uri(f"{PIPELINES / name}#finalize")
    pipeline.addConfigOverride(label, "use_prepared_stars", False)
    graph = pipeline.to_graph()
    assert "prepareIsolatedStars" not in graph.tasks
    assert {"isolated_star_cats", "isolated_star_sources"} < set(graph.tasks[label].inputs)
    assert ("fgcm_standard_star" in graph.tasks[label].inputs) == name.startswith("LSSTComCam")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("id_column", "myId"),
        ("connections.isolated_star_cats", "other"),
        ("connections.isolated_star_sources", "other"),
        ("connections.prepared_isolated_stars", "other"),
        ("use_prepared_photometry", True),
    ],
)
@pytest.mark.parametrize("name", ["FinalizeCharacterization.yaml", "RefitPsfModel.yaml"])
def test_options_of_one_task_alone_are_refused(name: str, option: str, value: Any) -> None:
    """Refuse pipelines in which prepared stars would be others, by both
    names.
    """
    label = DETECTORS[name]
    pipeline = Pipeline.from_uri(str(PIPELINES / name))
    pipeline.addConfigOverride(label, option, value)
    with pytest.raises(
        ContractError, match=f"(?s){label}.*prepareIsolatedStars|prepareIsolatedStars.*{label}"
    ):
        pipeline.to_graph()
    if option == "use_prepared_photometry":
        option = "match_fgcm_standard_stars"
    pipeline.addConfigOverride("prepareIsolatedStars", option, value)
    assert {"prepareIsolatedStars", label} <= set(pipeline.to_graph().tasks)


def test_standard_stars_of_other_names_are_refused() -> None:
    """Refuse other standard stars than those that were matched."""
    pipeline = Pipeline.from_uri(str(PIPELINES / "LSSTComCam/FinalizeCharacterization.yaml"))
    pipeline.addConfigOverride("finalizeCharacterizationDetector", "connections.fgcm_standard_star", "other")
    with pytest.raises(ContractError, match="connections.fgcm_standard_star of prepareIsolatedStars and of"):
        pipeline.to_graph()


def test_a_tract_without_its_sources_is_named(tiny_inputs: Any) -> None:
    """Refuse stars of a tract whose table of sources isn't there."""
    sources = dict(tiny_inputs.isolated_star_source_dict)
    tract = sorted(sources)[-1]
    del sources[tract]
    with pytest.raises(KeyError, match=f"Tract {tract} has isolated stars, but no table of their sources"):
        prepare(tiny_inputs.copy(isolated_star_source_dict=sources))
