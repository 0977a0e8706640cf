# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from pathlib import Path

import astropy.table
import astropy.time
import astropy.units as u
import numpy as np
import pytest
from click.testing import CliRunner

from lsst.daf.butler import Butler, DatasetType, Timespan
from lsst.meas.finalize.butler import SynthCam
from lsst.meas.finalize.cli import finalize_report
from lsst.meas.finalize.quality import VISIT_PLOTS, AnalyzeFinalizedVisitConnections
from lsst.pipe.base import LabelSpecifier, Pipeline
from lsst.pipe.base.simple_pipeline_executor import SimplePipelineExecutor
from lsst.utils.packages import Packages

from .conftest import read_golden, tiny_exposure

PIPELINE = Path(__file__).parents[2] / "pipelines" / "FinalizeCharacterization.yaml"
DAY = 20260304
VISITS = (20260304021,)
ANALYSIS = {"analyzeFinalizedVisit", "analyzeFinalizedSurvey"}


def register(butler: Butler) -> None:
    """Insert the dimension records of a visit."""
    SynthCam().register(butler.registry)
    noon = astropy.time.Time("2026-03-04T12:00:00", scale="tai")
    timespan = Timespan(noon, noon + 1 * u.day)
    butler.registry.syncDimensionData("day_obs", {"instrument": "SynthCam", "id": DAY, "timespan": timespan})
    for visit in VISITS:
        butler.registry.syncDimensionData(
            "visit",
            {
                "instrument": "SynthCam",
                "id": visit,
                "day_obs": DAY,
                "physical_filter": "r_sim",
                "name": str(visit),
                "timespan": Timespan(noon, noon + 30 * u.s),
            },
        )
        for detector in (0, 1):
            region = {"instrument": "SynthCam", "visit": visit, "detector": detector}
            butler.registry.syncDimensionData("visit_detector_region", region)
    for name, storage_class in {
        "finalized_src_table": "ArrowAstropy",
        "finalized_psf_ap_corr_catalog": "ExposureCatalog",
    }.items():
        dataset_type = DatasetType(name, ("instrument", "visit"), storage_class, universe=butler.dimensions)
        butler.registry.registerDatasetType(dataset_type)
    dimensions = ("instrument", "visit", "detector")
    butler.registry.registerDatasetType(
        DatasetType("calexp", dimensions, "VisitImage", universe=butler.dimensions)
    )


@pytest.fixture(scope="module")
def analyzed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the subset on a visit with the stack's outputs."""
    repo = tmp_path_factory.mktemp("analyzed") / "repo"
    Butler.makeRepo(str(repo))
    stars, catalog = read_golden(tiny)
    with Butler.from_config(str(repo), writeable=True, run="u/golden/outputs") as butler:
        register(butler)
        for visit in VISITS:
            butler.put(stars, "finalized_src_table", instrument="SynthCam", visit=visit)
            butler.put(catalog, "finalized_psf_ap_corr_catalog", instrument="SynthCam", visit=visit)
            # Without that of the other detector.
            butler.put(tiny_exposure(tiny), "calexp", instrument="SynthCam", visit=visit, detector=0)
    # Versions of all packages take a second; nothing here is about them.
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(Packages, "fromSystem", classmethod(lambda cls: cls({})))
    pipeline = Pipeline.from_uri(f"{PIPELINE}#analyze")
    pipeline.addConfigOverride("analyzeFinalizedVisit", "doResidualStacks", True)
    butler = SimplePipelineExecutor.prep_butler(str(repo), ["u/golden/outputs"], "u/me/quality")
    SimplePipelineExecutor.from_pipeline(pipeline, butler=butler).run(register_dataset_types=True)
    monkeypatch.undo()
    return repo


def test_all_outputs_are_there(analyzed: Path) -> None:
    """Write tables and plots that a butler reads back."""
    with Butler.from_config(str(analyzed), collections="u/me/quality", instrument="SynthCam") as butler:
        metrics = butler.get("finalized_visit_metrics", visit=VISITS[0])
        assert metrics["nPsfStar"][metrics["sample"] == "used"].tolist() == [73, 37, 36]
        assert set(metrics["band"]) == {"r"}
        assert np.isfinite(metrics["stampReducedChi2"][:6]).all()
        assert "no stampReducedChi2: no calibrated image" in metrics["reasons"][6]
        assert isinstance(metrics, astropy.table.Table)
        survey = butler.get("finalized_survey_metrics", band="r")
        row = survey[(survey["level"] == "visit") & (survey["metric"] == "nPsfStar")]
        assert row["n"].tolist() == [1, 1, 1]
        for visit in VISITS:
            for connection in VISIT_PLOTS:
                name = getattr(AnalyzeFinalizedVisitConnections, connection).name
                (ref,) = butler.query_datasets(name, find_first=True, data_id={"visit": visit})
                assert butler.getURI(ref).read().startswith(b"\x89PNG")
        assert np.isfinite(butler.get("finalized_survey_rho", band="r")["value"]).any()


def test_command_writes_a_report(analyzed: Path, tmp_path: Path) -> None:
    """Make pages of a collection; refuse others in one line."""
    runner = CliRunner()
    output = tmp_path / "report"
    result = runner.invoke(finalize_report, [str(analyzed), "u/me/quality", "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert str(output / "index.html") in result.output
    names = {path.name for path in output.glob("*.html")}
    assert {"index.html", "detectors.html", "survey-SynthCam-r.html"} <= names
    assert len(list((output / "plots").iterdir())) == len(VISIT_PLOTS) + 2
    for collection, message in (("u/golden/outputs", "finalized_visit_metrics"), ("nowhere", "nowhere")):
        result = runner.invoke(finalize_report, [str(analyzed), collection, "--output", str(tmp_path / "x")])
        assert result.exit_code == 1
        assert message in result.output
        assert "Traceback" not in result.output
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "science"),
    [
        ("FinalizeCharacterization.yaml", "prepare,finalize"),
        ("FinalizeCharacterizationVisit.yaml", "finalize"),
        ("FinalizeCharacterizationFullVisit.yaml", "prepare,finalize"),
        ("RefitPsfModel.yaml", "refit"),
        ("LSSTComCam/FinalizeCharacterization.yaml", "prepare,finalize"),
    ],
)
def test_science_outputs_do_not_depend_on_the_analysis(name: str, science: str) -> None:
    """Have nothing that waits for metrics, and a subset without them."""
    pipeline = Pipeline.from_uri(str(PIPELINE.parent / name))
    graph = pipeline.to_graph()
    outputs = {
        edge.parent_dataset_type_name for label in ANALYSIS for edge in graph.tasks[label].outputs.values()
    }
    inputs = {
        label: {edge.parent_dataset_type_name for edge in task.inputs.values()}
        for label, task in graph.tasks.items()
    }
    made = set()
    for label in graph.tasks.keys() - ANALYSIS:
        assert not inputs[label] & outputs
        made |= {edge.parent_dataset_type_name for edge in graph.tasks[label].outputs.values()}
    # What is judged is what the pipeline makes.
    assert inputs["analyzeFinalizedVisit"] <= made
    assert len(inputs["analyzeFinalizedVisit"]) == 2
    assert pipeline.subsets["analyze"] == ANALYSIS
    subset = pipeline.subsetFromLabels(LabelSpecifier(set(science.split(","))))
    assert set(subset.task_labels) == graph.tasks.keys() - ANALYSIS


def test_images_of_the_refit_pipeline_are_its_own() -> None:
    """Read the images that the pipeline of drp_pipe's names reads."""
    pipeline = Pipeline.from_uri(str(PIPELINE.parent / "RefitPsfModel.yaml"))
    pipeline.addConfigOverride("analyzeFinalizedVisit", "doResidualStacks", True)
    tasks = pipeline.to_graph().tasks
    read = {edge.parent_dataset_type_name for edge in tasks["analyzeFinalizedVisit"].inputs.values()}
    assert read == {"refit_psf_star", "refit_psf_models", "preliminary_visit_image"}
