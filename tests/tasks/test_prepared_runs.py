# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The preparation of stars in a butler, on tables that are unfit for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lsst.daf.butler import Butler, DatasetRef, DatasetType, Quantum
from lsst.meas.finalize.simulate import VisitSimulation
from lsst.pipe.base import NoWorkFound
from lsst.pipe.base.testUtils import runTestQuantum
from lsst.pipe.tasks.finalizeCharacterization import PrepareIsolatedStarsTask

INPUTS = ("isolated_star_presource_associations", "isolated_star_presources")
PREPARED = "finalize_isolated_stars"


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
