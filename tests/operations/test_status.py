# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of what is told about a run."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lsst.daf.butler import Butler, CollectionType, DatasetType
from lsst.daf.butler.logging import ButlerLogRecord, ButlerLogRecords
from lsst.meas.finalize.afw import read_exposure_catalog
from lsst.meas.finalize.catalogs import ExposureCatalog, ExposureRecord
from lsst.meas.finalize.cli import finalize_status
from lsst.meas.finalize.operations import CollectionSource, VisitStatus, find_status, format_status
from lsst.meas.finalize.simulate import VisitSimulation
from lsst.meas.finalize.simulate._registry import register_visits
from lsst.meas.finalize.tasks import GatherPsfStarsConfig, PrepareIsolatedStarsConfig
from lsst.pipe.base import TaskMetadata
from lsst.pipe.tasks.finalizeCharacterization import (
    ConsolidateFinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationConfig,
    FinalizeCharacterizationDetectorConfig,
)

VISIT = 20260304001
DETECTOR_TASK, VISIT_TASK = "finalizeCharacterizationDetector", "finalizeCharacterization"
MERGE_TASK = "consolidateFinalizeCharacterization"
"""Labels of the pipelines."""


class FakeRun:
    """A run whose datasets a test puts."""

    golden: ExposureCatalog

    def __init__(self, repo: Path) -> None:
        self.repo = str(repo)
        self.butler = Butler.from_config(self.repo, writeable=True, run="run1")

    def prepare(self, n_detectors: int) -> None:
        """Register visits and a chain of collections, and put inputs."""
        register_visits(
            self.butler, [VisitSimulation(n_detectors=n_detectors, visit=VISIT + i) for i in (0, 1)]
        )
        self.butler.collections.register("inputs")

    def put(
        self, name: str, storage_class: str, value: Any, dimensions: Iterable[str], **data_id: Any
    ) -> None:
        dataset_type = DatasetType(name, dimensions, storage_class, universe=self.butler.dimensions)
        self.butler.registry.registerDatasetType(dataset_type)
        self.butler.put(value, name, **data_id)

    def put_config(self, label: str, config: Any) -> None:
        self.put(f"{label}_config", "Config", config, ())

    def put_inputs(
        self, visit: int, detectors: Iterable[int], names: Iterable[str] = ("src", "calexp")
    ) -> None:
        """Put placeholders where images and sources would be."""
        for name in names:
            dataset_type = DatasetType(
                name,
                ("instrument", "visit", "detector"),
                "StructuredDataDict",
                universe=self.butler.dimensions,
            )
            self.butler.registry.registerDatasetType(dataset_type)
            for detector in detectors:
                self.butler.put({}, name, run="inputs", instrument="SynthCam", visit=visit, detector=detector)

    def put_traces(
        self,
        label: str,
        *,
        finished: bool,
        reason: str = "",
        message: str = "",
        level: int = logging.ERROR,
        **data_id: int,
    ) -> None:
        """Put log and, for what didn't fail, metadata of a quantum."""
        dimensions, data_id = ("instrument", *data_id), {"instrument": "SynthCam", **data_id}
        records = ButlerLogRecords([])
        if message:
            record = logging.LogRecord("x", level, "f", 1, message, (), None)
            records.append(ButlerLogRecord.from_record(record))
        if reason:
            name, _, text = reason.partition(": ")
            records.extra["exception"] = {"type_name": f"builtins.{name}", "message": text, "metadata": {}}
        self.put(f"{label}_log", "ButlerLogRecords", records, dimensions, **data_id)
        if finished:
            self.put(f"{label}_metadata", "TaskMetadata", TaskMetadata(), dimensions, **data_id)

    def put_catalog(self, name: str, detectors: Iterable[int], *, bare: bool = False, **data_id: int) -> None:
        catalog = ExposureCatalog(self.golden.schema)
        for detector in detectors:
            values = {"id": detector, "visit": VISIT}
            first = self.golden[0]
            attached = () if bare else (first.psf, first.ap_corr_map)
            catalog.append(ExposureRecord(values, *attached))
        dimensions = ("instrument", *data_id)
        self.put(name, "ExposureCatalog", catalog, dimensions, instrument="SynthCam", **data_id)

    def status(self, *collections: str, **options: Any) -> list[VisitStatus]:
        with Butler.from_config(self.repo) as butler:
            return find_status([CollectionSource(butler, *collections, **options)])

    def command(self, *arguments: str) -> Result:
        return CliRunner().invoke(finalize_status, [self.repo, *arguments])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository with inputs of six detectors, which tests copy."""
    repo = tmp_path_factory.mktemp("status") / "repo"
    Butler.makeRepo(str(repo))
    run = FakeRun(repo)
    run.prepare(6)
    run.put_inputs(VISIT, range(6))
    run.butler.collections.register("out", CollectionType.CHAINED)
    run.butler.collections.redefine_chain("out", ["run1", "inputs"])
    run.butler.close()
    return repo


@pytest.fixture
def run(template: Path, tmp_path: Path, tiny: Path) -> FakeRun:
    """Return a run with inputs of six detectors, which has done nothing."""
    result = FakeRun(shutil.copytree(template, tmp_path / "repo"))
    result.golden = read_exposure_catalog(tiny / "expected/default/finalized_psf_ap_corr_catalog.fits")
    return result


@pytest.fixture
def detector_run(run: FakeRun) -> FakeRun:
    """Return a run of the detector task with detectors of each kind."""
    run.put_config(DETECTOR_TASK, FinalizeCharacterizationDetectorConfig())
    run.put_config(MERGE_TASK, ConsolidateFinalizeCharacterizationDetectorConfig())
    outputs = "finalized_psf_ap_corr_detector_catalog"
    run.put_catalog(outputs, [0], visit=VISIT, detector=0)
    run.put_catalog(outputs, [1], bare=True, visit=VISIT, detector=1)
    for detector in (0, 1):
        run.put_traces(DETECTOR_TASK, finished=True, visit=VISIT, detector=detector)
    run.put_traces(DETECTOR_TASK, finished=True, reason="NoWorkFound: No good stars", visit=VISIT, detector=2)
    run.put_traces(DETECTOR_TASK, finished=False, reason="ValueError: first\nsecond", visit=VISIT, detector=3)
    run.put_traces(DETECTOR_TASK, finished=False, message="\n  It burns.\nmore", visit=VISIT, detector=4)
    return run


def test_detectors_are_told_apart(detector_run: FakeRun) -> None:
    """Find done, bare, idle, failed and missing detectors."""
    (status,) = detector_run.status("out")
    assert status.expected == set(range(6))
    assert status.done == {0, 1}
    assert status.without_psf == status.without_ap_corr == {1}
    assert status.no_work == {2: "NoWorkFound: No good stars"}
    assert status.failed == {3: "ValueError: first", 4: "It burns."}
    assert status.missing == {5}
    assert not status.merged
    assert not status.is_complete


@pytest.mark.parametrize("by_detector", [False, True])
def test_failed_steps_tell_why_detectors_were_not_begun(detector_run: FakeRun, by_detector: bool) -> None:
    """Give the reason of a step before the detectors, and forget it where a
    later attempt has made it good.
    """
    run = detector_run
    run.put_inputs(VISIT, [6])
    run.put_inputs(VISIT + 1, [0])
    run.put_config("prepare", PrepareIsolatedStarsConfig())
    run.put_config("gather", GatherPsfStarsConfig())
    if by_detector:
        run.put_traces("gather", finished=False, reason="ValueError: no place", visit=VISIT, detector=6)
        run.put_traces("gather", finished=True, reason="NoWorkFound: no star", visit=VISIT, detector=5)
        expected = "gather of detector 6: ValueError: no place"
    else:
        run.put_traces("prepare", finished=False, reason="KeyError: no column\nmore", visit=VISIT)
        expected = "prepare: KeyError: no column"
    status, other = run.status("out")
    assert status.failed == {3: "ValueError: first", 4: "It burns.", 5: expected, 6: expected}
    assert not status.missing
    assert other.missing == {0}
    assert f"visit {VISIT}: detectors 5-6 failed: {expected}" in run.command("out").output
    run.butler.collections.register("run2")
    run.butler.collections.redefine_chain("out", ["run2", "run1", "inputs"])
    run.butler = Butler.from_config(run.repo, writeable=True, run="run2")
    if by_detector:
        run.put_traces("gather", finished=True, visit=VISIT, detector=6)
    else:
        run.put_traces("prepare", finished=True, visit=VISIT)
    assert run.status("out")[0].missing == {5, 6}


def test_lack_of_an_input_is_explained(detector_run: FakeRun) -> None:
    """Give the reason of the step that made nothing, or name the input."""
    run = detector_run
    skipped = (
        "Nothing to do for task 'a' on quantum {visit: 3}; saving metadata and skipping: ('a', 'stars', "
        "Input(name='finalize_isolated_stars', storageClass='ArrowAstropy', doc='Stars.'))"
    )
    idle: dict[str, Any] = {"finished": True, "message": skipped, "level": logging.INFO}
    run.put_traces(DETECTOR_TASK, visit=VISIT, detector=5, **idle)
    assert run.status("out")[0].no_work[5] == "there is no input finalize_isolated_stars"
    run.put_config("prepare", PrepareIsolatedStarsConfig())
    run.put_config("gather", GatherPsfStarsConfig())
    ended = "Task 'prepare' on quantum {visit: 3} exited early with no work found: No star of visit 3.."
    run.put_traces("prepare", finished=True, message=ended, level=logging.INFO, visit=VISIT)
    run.put_traces("gather", visit=VISIT, detector=5, **idle)
    status = run.status("out")[0]
    assert status.no_work[5] == "prepare: No star of visit 3."
    assert status.no_work[2] == "NoWorkFound: No good stars"


def test_table_and_json_tell_the_same(detector_run: FakeRun) -> None:
    """Print both, with an exit code that tells that something is missing."""
    result = detector_run.command("out")
    assert result.exit_code == 1, result.output
    header, row, *reasons = result.output.splitlines()
    assert row.split() == [str(VISIT), "6", "2", "1", "1", "1", "2", "1", "no"]
    assert header.split()[0] == "visit"
    assert f"visit {VISIT}: detector 3 failed: ValueError: first" in reasons
    assert f"visit {VISIT}: detector 5 missing" in reasons
    result = detector_run.command("out", "--json")
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert not report["complete"]
    (visit,) = report["visits"]
    assert visit["expected"] == list(range(6))
    assert visit["failed"] == {"3": "ValueError: first", "4": "It burns."}
    assert visit["missing"] == [5]


def test_later_run_makes_failures_good(detector_run: FakeRun) -> None:
    """Look at all runs of a chain, and end with exit code 0."""
    run = detector_run
    run.butler.collections.register("run2")
    run.butler.collections.redefine_chain("out", ["run2", "run1", "inputs"])
    run.butler = Butler.from_config(run.repo, writeable=True, run="run2")
    for detector in (3, 4, 5):
        run.put_catalog("finalized_psf_ap_corr_detector_catalog", [detector], visit=VISIT, detector=detector)
    (status,) = run.status("out")
    assert not status.failed
    assert not status.missing
    # The detectors have yet to be merged.
    assert run.command("out").exit_code == 1
    run.put_traces(MERGE_TASK, finished=False, reason="TypeError: columns differ", visit=VISIT)
    assert run.status("out")[0].merge_failure == "TypeError: columns differ"
    run.butler.collections.register("run3")
    run.butler.collections.redefine_chain("out", ["run3", "run2", "run1", "inputs"])
    run.butler = Butler.from_config(run.repo, writeable=True, run="run3")
    run.put_catalog("finalized_psf_ap_corr_catalog", range(6), visit=VISIT)
    result = run.command("out")
    assert result.exit_code == 0, result.output
    assert "not merged" not in result.output
    # Where the failure is looked for last, too.
    with Butler.from_config(run.repo) as butler:
        failed = CollectionSource(butler, "run2", inputs=["run1", "inputs"])
        (status,) = find_status([failed])
        assert status.merge_failure
        (status,) = find_status([CollectionSource(butler, "out"), failed])
        assert status.merged
        assert not status.merge_failure
        first = CollectionSource(butler, "run1", inputs=["inputs"])
        assert set(find_status([first])[0].failed) == {3, 4}
        assert not find_status([first, CollectionSource(butler, "out")])[0].failed


def test_visits_without_any_trace_are_missing(detector_run: FakeRun) -> None:
    """Expect all visits with inputs, or those that are asked for."""
    detector_run.put_inputs(VISIT + 1, range(3))
    # An image without sources isn't expected to be finalized.
    detector_run.put_inputs(VISIT + 1, [4], ["calexp"])
    first, second = detector_run.status("out")
    assert first.visit == VISIT
    assert second.missing == {0, 1, 2}
    (only,) = detector_run.status("out", where=f"instrument='SynthCam' AND visit={VISIT + 1}")
    assert only.visit == VISIT + 1
    result = detector_run.command("out", "-d", f"visit={VISIT + 1}")
    assert result.output.splitlines()[1].split() == [str(VISIT + 1), "3", *["0"] * 5, "3", "no"]
    # Without the inputs, what is missing can't be known.
    assert detector_run.status("run1")[0].expected == set(range(5))
    assert detector_run.status("run1", inputs=["inputs"])[0].expected == set(range(6))


@pytest.mark.parametrize("outcome", ["done", "no work", "failed", "missing"])
def test_visit_task_is_understood(run: FakeRun, outcome: str) -> None:
    """Tell of the detectors of a quantum that is a visit."""
    run.put_config(VISIT_TASK, FinalizeCharacterizationConfig())
    if outcome == "done":
        run.put_catalog("finalized_psf_ap_corr_catalog", [0, 1, 3], visit=VISIT)
    if outcome != "missing":
        reason = "" if outcome == "done" else "RuntimeError: alas"
        run.put_traces(VISIT_TASK, finished=outcome != "failed", reason=reason, visit=VISIT)
    (status,) = run.status("out")
    done = {0, 1, 3} if outcome == "done" else set()
    assert status.done == done
    assert status.merged == (outcome == "done")
    rest = set(range(6)) - done
    assert status.no_work.keys() == (rest if outcome in ("done", "no work") else set())
    assert status.failed.keys() == (rest if outcome == "failed" else set())
    assert status.missing == (rest if outcome == "missing" else set())
    assert status.is_complete == (outcome in ("done", "no work"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "No collection with name 'nowhere'"),
        (["inputs"], "No final characterization was run in 'inputs'"),
        ([], "Give a collection, a quantum graph, or both"),
        (["--graph", "nothing.qg"], "There is no quantum graph nothing.qg"),
        (["--graph", "."], "quantum graphs (*.qg)"),
        (["out", "-d", "visit=("], "Failed to parse expression"),
        (["out", "-d", "visit=1"], "No detector with inputs or outputs was found"),
    ],
)
def test_what_is_not_there_has_another_exit_code(
    detector_run: FakeRun, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tell in one line that nothing can be found out."""
    monkeypatch.chdir(tmp_path)
    result = detector_run.command(*arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit), result.exception
    assert message in result.output


@pytest.mark.parametrize("text", ["", "x"])
def test_damaged_outputs_are_failures_of_their_detectors(detector_run: FakeRun, text: str) -> None:
    """Name the detectors whose outputs or logs can't be read."""
    for name, detector in (("finalized_psf_ap_corr_detector_catalog", 1), (f"{DETECTOR_TASK}_log", 3)):
        uri = detector_run.butler.getURI(name, instrument="SynthCam", visit=VISIT, detector=detector)
        size = Path(uri.ospath).stat().st_size
        # Too short, or of the right length with other contents.
        Path(uri.ospath).write_text(text * size)
    result = detector_run.command("out", "--json")
    assert result.exit_code == 1, result.output
    (status,) = json.loads(result.output)["visits"]
    assert status["done"] == [0]
    assert list(status["no_work"]) == ["2"]
    assert status["failed"]["1"].startswith("finalized_psf_ap_corr_detector_catalog can't be read: ")
    assert status["failed"]["3"].startswith(f"{DETECTOR_TASK}_log can't be read: ")
    assert status["missing"] == [5]


def test_damaged_outputs_of_a_visit_are_failures(run: FakeRun) -> None:
    """Fail all detectors of a visit whose outputs can't be read."""
    run.put_config(VISIT_TASK, FinalizeCharacterizationConfig())
    run.put_catalog("finalized_psf_ap_corr_catalog", [0, 1], visit=VISIT)
    Path(
        run.butler.getURI("finalized_psf_ap_corr_catalog", instrument="SynthCam", visit=VISIT).ospath
    ).unlink()
    (status,) = run.status("out")
    assert status.failed.keys() == set(range(6))
    assert "FileNotFoundError" in status.failed[0]
    assert not status.is_complete


def test_outputs_of_failures_are_not_done(detector_run: FakeRun) -> None:
    """Fail what wrote one output and not the next, as on a full disk."""
    names = {"visit": VISIT, "detector": 5}
    detector_run.put_catalog("finalized_psf_ap_corr_detector_catalog", [5], **names)
    detector_run.put_traces(DETECTOR_TASK, finished=False, reason="OSError: No space left", **names)
    detector_run.put_catalog("finalized_psf_ap_corr_catalog", [0, 1], visit=VISIT)
    (status,) = detector_run.status("out")
    assert status.done == {0, 1}
    assert status.failed[5] == "OSError: No space left"
    assert status.merged
    detector_run.put_traces(MERGE_TASK, finished=False, reason="OSError: No space", visit=VISIT)
    (status,) = detector_run.status("out")
    assert not status.merged
    assert status.merge_failure == "OSError: No space"


def test_damaged_configuration_has_another_exit_code(detector_run: FakeRun) -> None:
    """Tell in one line that it can't be found out which tasks were run."""
    Path(detector_run.butler.getURI(f"{DETECTOR_TASK}_config").ospath).write_text("config = ")
    result = detector_run.command("out")
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    assert f"{DETECTOR_TASK}_config" in result.output


def test_place_that_is_unknown_has_another_exit_code() -> None:
    """Tell in one line of a repository at a place of an unknown kind."""
    result = CliRunner().invoke(finalize_status, ["foo://bar", "out"])
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        "Error: Repository foo://bar: NotImplementedError: No URI support for scheme: 'foo' in foo://bar"
    ]


def test_file_that_is_no_graph_is_refused(run: FakeRun, tmp_path: Path) -> None:
    """Tell in one line of a file of another kind."""
    (tmp_path / "bad.qg").write_text("bad")
    result = run.command("--graph", str(tmp_path / "bad.qg"))
    assert result.exit_code == 2
    assert "bad.qg is not a quantum graph" in result.output


def test_many_detectors_fit_into_a_line() -> None:
    """Write ranges of detectors, and group them by reason."""
    status = VisitStatus("SynthCam", VISIT, expected=set(range(189)))
    status.no_work = dict.fromkeys([*range(5), 7, 9, 10], "no stars")
    assert format_status([status]).splitlines()[2:] == [
        f"visit {VISIT}: detectors 5-6, 8, 11-188 missing",
        f"visit {VISIT}: detectors 0-4, 7, 9-10 no work: no stars",
    ]
