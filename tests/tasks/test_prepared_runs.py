# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Pipelines with and without the preparation of stars."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lsst.daf.butler import Butler, DatasetRef, DatasetType, Quantum
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.simulate import VisitSimulation
from lsst.pipe.base import NoWorkFound, Pipeline
from lsst.pipe.base.simple_pipeline_executor import SimplePipelineExecutor
from lsst.pipe.base.testUtils import runTestQuantum
from lsst.pipe.tasks.finalizeCharacterization import PrepareIsolatedStarsTask

PIPELINE = Path(__file__).parents[2] / "pipelines/FinalizeCharacterization.yaml"
INPUTS = ("isolated_star_presource_associations", "isolated_star_presources")
PREPARED = "finalize_isolated_stars"
PREPARE, DETECTOR = "prepareIsolatedStars", "finalizeCharacterizationDetector"
OPTIONS = """
config.psf_determiner["piff"].spatialOrder = 1
config.measurement.plugins.names = [
    "base_FPPosition", "base_GaussianFlux", "base_PsfFlux",
    "ext_shapeHSM_HsmPsfMoments", "ext_shapeHSM_HsmSourceMoments",
]
config.measurement.slots.modelFlux = None
config.do_add_fgcm_photometry = True
"""
OUTPUTS = ("finalized_src_detector_table", "finalized_psf_ap_corr_detector_catalog")


def run(repo: Path, output: str, options: dict[str, dict[str, Any]], *labels: str) -> Butler:
    """Run the first steps of the pipeline for one detector."""
    pipeline = Pipeline.from_uri(f"{PIPELINE}#{','.join(labels)}")
    for label in labels:
        if label == DETECTOR:
            pipeline.addConfigPython(label, OPTIONS)
        for name, value in options.get(label, {}).items():
            pipeline.addConfigOverride(label, name, value)
    butler = SimplePipelineExecutor.prep_butler(str(repo), ["simulated/inputs"], output)
    where = "instrument = 'SynthCam' AND detector = 3"
    executor = SimplePipelineExecutor.from_pipeline(pipeline, butler=butler, where=where)
    executor.run(register_dataset_types=True)
    return Butler.from_config(str(repo), collections=output)


WITH_STEP = {
    PREPARE: {"match_fgcm_standard_stars": True},
    DETECTOR: {"use_prepared_stars": True, "use_prepared_photometry": True},
}


def test_pipelines_with_and_without_the_step(simulated_repo: Path, simulation: VisitSimulation) -> None:
    """Get the same bits from butler to butler."""
    data_id = {"instrument": "SynthCam", "visit": simulation.visit, "detector": 3}
    with_step = run(simulated_repo, "test/with", WITH_STEP, PREPARE, DETECTOR)
    without = run(simulated_repo, "test/without", {DETECTOR: {"use_prepared_stars": False}}, DETECTOR)
    with with_step, without:
        ours, theirs = (butler.get(OUTPUTS[0], data_id) for butler in (with_step, without))
        assert ours.colnames == theirs.colnames
        assert ours["calib_psf_reserved"].any()
        assert np.isfinite(ours["fgcm_mag_g"]).any()
        for name in ours.colnames:
            assert np.asarray(ours[name]).tobytes() == np.asarray(theirs[name]).tobytes(), name
        records = [butler.get(OUTPUTS[1], data_id)[0] for butler in (with_step, without)]
        x = y = np.array([50.0, 300.0])
        images = [as_batch_psf(record.psf).draw_kernel_images(x, y).tobytes() for record in records]
        assert images[0] == images[1]


def cut_off(path: Path) -> None:
    """Cut a file off in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    """Overwrite the values of a file, but not its footer."""
    table = pq.read_table(path)
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[300:310] = bytes(10)
    path.write_bytes(content)


def without_detector_column(path: Path) -> None:
    """Give a column another name, in a file of the same size."""
    path.write_bytes(path.read_bytes().replace(b"detector", b"DETECTOR"))


def with_text(path: Path) -> None:
    """Make text of a column."""
    table = pq.read_table(path)
    text = pa.array([f"star {i}" for i in range(len(table))])
    pq.write_table(table.set_column(table.column_names.index("obj_index"), "obj_index", text), path)


def of_another_visit(path: Path) -> None:
    """Keep no source of the visit."""
    table = pq.read_table(path)
    later = pc.add(table["visit"], 1)
    pq.write_table(table.set_column(table.column_names.index("visit"), "visit", later), path)


@pytest.fixture(scope="module")
def copied(simulated_repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository whose tables may be damaged."""
    return shutil.copytree(simulated_repo, tmp_path_factory.mktemp("damaged") / "repo")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_off, "can't be read"),
        (overwrite, "can't be read"),
        (without_detector_column, r"has no columns \['detector'\]"),
        (with_text, "must be of integers, not text"),
        (of_another_visit, "No good isolated sources found for any detectors in visit"),
    ],
)
def test_unfit_tables_leave_nothing(
    copied: Path, simulation: VisitSimulation, damage: Callable[[Path], None], message: str
) -> None:
    """Name dataset and tract, or that there is no star; write nothing."""
    if damage is not of_another_visit:
        message = rf"isolated_star_sources \(isolated_star_presources\) of tract \d+ {message}"
    task = PrepareIsolatedStarsTask()
    with Butler.from_config(
        str(copied), collections="simulated/inputs", run=f"test/{damage.__name__}"
    ) as butler:
        kind = DatasetType(PREPARED, ("instrument", "visit"), "ArrowAstropy", universe=butler.dimensions)
        butler.registry.registerDatasetType(kind)
        data_id = butler.registry.expandDataId(instrument="SynthCam", visit=simulation.visit)
        inputs = [butler.query_datasets(name) for name in INPUTS]
        outputs = {kind: [DatasetRef(kind, data_id, run=f"test/{damage.__name__}")]}
        quantum = Quantum(
            taskClass=PrepareIsolatedStarsTask,
            dataId=data_id,
            inputs={refs[0].datasetType: refs for refs in inputs},
            outputs=outputs,
        )
        paths = [Path(butler.getURI(ref).ospath) for ref in inputs[1]]
        contents = [path.read_bytes() for path in paths]
        try:
            for path in paths if damage is of_another_visit else paths[-1:]:
                damage(path)
            with pytest.raises((KeyError, OSError, ValueError, NoWorkFound), match=message):
                runTestQuantum(task, butler, quantum, mockRun=False)
        finally:
            for path, content in zip(paths, contents, strict=True):
                path.write_bytes(content)
        assert not butler.query_datasets(PREPARED, f"test/{damage.__name__}", explain=False)
    left = copied.rglob(f"*{PREPARED}*")
    assert not [path for path in left if damage.__name__ in str(path) and path.is_file()]


def test_no_stars_are_no_work(copied: Path) -> None:
    """End without outputs and without error, as without the step."""
    with Butler.from_config(str(copied), collections="simulated/inputs") as butler:
        for ref in butler.query_datasets(INPUTS[1]):
            of_another_visit(Path(butler.getURI(ref).ospath))
    with run(copied, "test/none", {}, PREPARE, DETECTOR) as butler:
        for name in (*OUTPUTS, PREPARED):
            assert not butler.query_datasets(name, "test/none", explain=False)
