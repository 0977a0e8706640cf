# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lsst.daf.butler import Butler
from lsst.meas.finalize.afw import read_source_catalog, write_source_catalog
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.simulate import VisitSimulation
from lsst.pipe.base import Pipeline
from lsst.pipe.base.simple_pipeline_executor import SimplePipelineExecutor

PIPELINES = Path(__file__).parents[2] / "pipelines"
LABELS = {
    "FinalizeCharacterization.yaml": "finalizeCharacterizationDetector",
    "FinalizeCharacterizationVisit.yaml": "finalizeCharacterization",
}
OPTIONS = """
config.psf_determiner["piff"].spatialOrder = 1
config.measurement.plugins.names = [
    "base_FPPosition", "base_GaussianFlux", "base_PsfFlux",
    "ext_shapeHSM_HsmPsfMoments", "ext_shapeHSM_HsmSourceMoments",
]
config.measurement.slots.modelFlux = None
"""


def run_pipeline(repo: Path, name: str, output: str) -> Butler:
    """Run a pipeline on everything in a repository."""
    subset = "#prepare,finalize" if name == "FinalizeCharacterization.yaml" else "#finalize"
    pipeline = Pipeline.from_uri(str(PIPELINES / name) + subset)
    pipeline.addConfigPython(LABELS[name], OPTIONS)
    butler = SimplePipelineExecutor.prep_butler(str(repo), ["simulated/inputs"], output)
    executor = SimplePipelineExecutor.from_pipeline(pipeline, butler=butler)
    executor.run(register_dataset_types=True)
    return Butler.from_config(str(repo), collections=output)


@pytest.fixture(scope="module")
def consolidated(simulated_repo: Path) -> Butler:
    """Run the pipeline of the detector task."""
    return run_pipeline(simulated_repo, "FinalizeCharacterization.yaml", "test/detectors")


def test_consolidation_has_all_detectors(consolidated: Butler, simulation: VisitSimulation) -> None:
    """Merge five detectors in order, each with PSF and corrections."""
    data_id = {"instrument": "SynthCam", "visit": simulation.visit}
    catalog = consolidated.get("finalized_psf_ap_corr_catalog", data_id)
    table = consolidated.get("finalized_src_table", data_id)
    assert catalog["id"].tolist() == [0, 1, 2, 3, 4]
    assert all(record.psf is not None and record.ap_corr_map for record in catalog)
    assert catalog.metadata["COMMENT"][1] == "Only one detector with data has an entry."
    detectors = np.asarray(table["detector"])
    assert np.unique(detectors).tolist() == [0, 1, 2, 3, 4]
    assert np.all(np.diff(detectors) >= 0)


def test_visit_task_equals_consolidated_detectors(
    consolidated: Butler, simulated_repo: Path, simulation: VisitSimulation
) -> None:
    """Get the same from the visit task as from its detectors."""
    data_id = {"instrument": "SynthCam", "visit": simulation.visit}
    visit = run_pipeline(simulated_repo, "FinalizeCharacterizationVisit.yaml", "test/visit")
    ours, theirs = (b.get("finalized_src_table", data_id) for b in (visit, consolidated))
    assert ours.colnames == theirs.colnames
    for name in ours.colnames:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    catalogs = [b.get("finalized_psf_ap_corr_catalog", data_id) for b in (visit, consolidated)]
    x = y = np.array([100.0, 300.0])
    for a, b in zip(*catalogs, strict=True):
        np.testing.assert_array_equal(
            as_batch_psf(a.psf).draw_kernel_images(x, y), as_batch_psf(b.psf).draw_kernel_images(x, y)
        )
        assert {n: f(x=1.0, y=2.0) for n, f in a.ap_corr_map.items()} == {
            n: f(x=1.0, y=2.0) for n, f in b.ap_corr_map.items()
        }


def test_upstreams_shape_gives_the_same(
    consolidated: Butler, simulated_repo: Path, simulation: VisitSimulation
) -> None:
    """Get the same bits from a detector that reads the tables of tracts."""
    pipeline = Pipeline.from_uri(
        f"{PIPELINES}/FinalizeCharacterization.yaml#finalizeCharacterizationDetector"
    )
    pipeline.addConfigPython("finalizeCharacterizationDetector", OPTIONS)
    pipeline.addConfigOverride("finalizeCharacterizationDetector", "use_prepared_stars", False)
    butler = SimplePipelineExecutor.prep_butler(str(simulated_repo), ["simulated/inputs"], "test/upstream")
    where = "instrument = 'SynthCam' AND detector = 3"
    SimplePipelineExecutor.from_pipeline(pipeline, butler=butler, where=where).run(
        register_dataset_types=True
    )
    data_id = {"instrument": "SynthCam", "visit": simulation.visit, "detector": 3}
    with Butler.from_config(str(simulated_repo), collections="test/upstream") as without:
        butlers = (consolidated, without)
        ours, theirs = (b.get("finalized_src_detector_table", data_id) for b in butlers)
        ours_psf, theirs_psf = (
            b.get("finalized_psf_ap_corr_detector_catalog", data_id)[0].psf for b in butlers
        )
    assert ours.colnames == theirs.colnames
    assert 0 < ours["calib_psf_reserved"].sum() < len(ours)
    for name in ours.colnames:
        assert np.asarray(ours[name]).tobytes() == np.asarray(theirs[name]).tobytes(), name
    x = y = np.array([50.0, 300.0])
    ours_images, theirs_images = (as_batch_psf(p).draw_kernel_images(x, y) for p in (ours_psf, theirs_psf))
    assert ours_images.tobytes() == theirs_images.tobytes()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("FinalizeCharacterization.yaml", "truncated"),
        ("FinalizeCharacterization.yaml", "duplicate ids"),
        ("FinalizeCharacterizationVisit.yaml", "overwritten"),
        ("FinalizeCharacterizationVisit.yaml", "duplicate ids"),
    ],
)
def test_damaged_detector_leaves_the_others(
    simulated_repo: Path, simulation: VisitSimulation, tmp_path: Path, name: str, damage: str
) -> None:
    """Finalize and merge four detectors if a source catalogue is damaged."""
    repo = tmp_path / "repo"
    shutil.copytree(simulated_repo, repo)
    data_id = {"instrument": "SynthCam", "visit": simulation.visit}
    with Butler.from_config(str(repo), collections="simulated/inputs") as butler:
        path = Path(butler.getURI("src", data_id, detector=2).ospath)
    if damage == "duplicate ids":
        catalog = read_source_catalog(path)
        catalog["id"][:] = np.sort(catalog["id"])[0]
        write_source_catalog(catalog, path)
    else:
        content = path.read_bytes()
        if damage == "truncated":
            path.write_bytes(content[: len(content) // 2])
        else:
            path.write_bytes(content[:3000] + bytes(len(content) - 3000))
    butler = run_pipeline(repo, name, "test/damaged")
    catalog = butler.get("finalized_psf_ap_corr_catalog", data_id)
    assert catalog["id"].tolist() == [0, 1, 3, 4]
    assert np.unique(butler.get("finalized_src_table", data_id)["detector"]).tolist() == [0, 1, 3, 4]
    if name == "FinalizeCharacterization.yaml":
        refs = butler.query_datasets("finalized_psf_ap_corr_detector_catalog", "test/damaged")
        assert sorted(ref.dataId["detector"] for ref in refs) == [0, 1, 3, 4]
