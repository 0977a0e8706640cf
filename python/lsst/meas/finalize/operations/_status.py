# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What became of each detector of each visit."""

from __future__ import annotations

__all__ = ("VisitStatus", "find_status")

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lsst.daf.butler import ButlerLogRecords, DatasetRef

from ..afw import as_ours
from ..catalogs import ExposureCatalog
from ._sources import RunSource, RunTask, TaskKind

_NO_INPUT = "there is no input"


@dataclass
class VisitStatus:
    """What became of the detectors of a visit.

    Parameters
    ----------
    instrument, visit
        The visit.
    expected
        Detectors that have inputs, or of which there is any trace.
    done
        Detectors with outputs.
    without_psf, without_ap_corr
        Those of them without a PSF or without aperture corrections.
    no_work
        Detectors for which there was nothing to do, with the reason.
    failed
        Detectors whose task failed, or that were left because a step before
        did, with the first line of the reason.
    merged
        Whether the outputs of the visit exist.
    merge_failure
        First line of the reason why not, or nothing if it isn't known.
    failed_steps
        Why steps before the detectors failed, by detector, or `None` for
        those of the whole visit.
    idle_steps
        Why steps before the detectors had nothing to do, likewise.
    """

    instrument: str
    visit: int
    expected: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    without_psf: set[int] = field(default_factory=set)
    without_ap_corr: set[int] = field(default_factory=set)
    no_work: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    merged: bool = False
    merge_failure: str = ""
    failed_steps: dict[int | None, str] = field(default_factory=dict, repr=False)
    idle_steps: dict[int | None, str] = field(default_factory=dict, repr=False)

    @property
    def missing(self) -> set[int]:
        """Detectors of which there is no trace."""
        return self.expected - self.done - self.no_work.keys() - self.failed.keys()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do.

        A visit without any detector that has work needs no outputs.
        """
        return not (self.missing or self.failed) and (self.merged or not self.done)

    def to_dict(self) -> dict[str, Any]:
        """Return what a JSON file can hold."""
        return {
            "instrument": self.instrument,
            "visit": self.visit,
            "expected": sorted(self.expected),
            "done": sorted(self.done),
            "without_psf": sorted(self.without_psf),
            "without_ap_corr": sorted(self.without_ap_corr),
            "no_work": {str(detector): self.no_work[detector] for detector in sorted(self.no_work)},
            "failed": {str(detector): self.failed[detector] for detector in sorted(self.failed)},
            "missing": sorted(self.missing),
            "merged": self.merged,
            "merge_failure": self.merge_failure,
            "complete": self.is_complete,
        }


def find_status(sources: Iterable[RunSource]) -> list[VisitStatus]:
    """Find out what became of each detector.

    Parameters
    ----------
    sources
        Where to look; an output that is in any of them is done.

    Returns
    -------
    `list` [`VisitStatus`]
        Visits in order of instrument and number.
    """
    visits: dict[tuple[str, int], VisitStatus] = {}
    for source in sources:
        for instrument, visit, detector in source.expected():
            _visit(visits, instrument, visit).expected.add(detector)
        for task in source.tasks:
            if task.kind is TaskKind.STEP:
                _add_steps(visits, source, task)
            elif task.kind is TaskKind.DETECTOR:
                whole = _whole(source, task)
                _add_detectors(visits, source, task, whole)
                _add_traces(visits, source, task, whole)
            else:
                _add_visits(visits, source, task)
    for status in visits.values():
        _settle(status)
    return [visits[key] for key in sorted(visits)]


def _visit(visits: dict[tuple[str, int], VisitStatus], instrument: str, visit: int) -> VisitStatus:
    return visits.setdefault((instrument, visit), VisitStatus(instrument, visit))


def _settle(status: VisitStatus) -> None:
    """Forget failures that a later attempt has made good."""
    status.no_work = {d: reason for d, reason in status.no_work.items() if d not in status.done}
    status.failed = {
        d: reason for d, reason in status.failed.items() if d not in status.done and d not in status.no_work
    }
    status.expected |= status.done | status.no_work.keys() | status.failed.keys()
    for detector, reason in status.no_work.items():
        if reason.startswith(_NO_INPUT):
            deeper = status.idle_steps.get(detector, status.idle_steps.get(None, reason))
            status.no_work[detector] = deeper
    if status.failed_steps:
        any_reason = next(iter(status.failed_steps.values()))
        for detector in status.missing:
            status.failed[detector] = status.failed_steps.get(detector, any_reason)
    if status.merged:
        status.merge_failure = ""


def _whole(source: RunSource, task: RunTask) -> set[tuple[Any, ...]]:
    """Return quanta with outputs, without those that failed while writing.

    Log and metadata are written after all outputs, metadata not by failures;
    those of an earlier run tell nothing.
    """
    logs, metadata = source.find(task.log), source.find(task.metadata)
    return {
        key
        for key, ref in source.find(task.outputs).items()
        if not _is_in(ref.run, logs.get(key)) or _is_in(ref.run, metadata.get(key))
    }


def _is_in(run: str, ref: DatasetRef | None) -> bool:
    return ref is not None and ref.run == run


def _add_detectors(
    visits: dict[tuple[str, int], VisitStatus], source: RunSource, task: RunTask, whole: set[tuple[Any, ...]]
) -> None:
    for instrument, visit, detector in whole:
        status = _visit(visits, instrument, visit)
        if detector not in status.done:
            catalog, reason = _read(source, task.outputs, (instrument, visit, detector))
            if catalog is None:
                status.failed[detector] = reason
                continue
            _add_rows(status, catalog)
            status.done.add(detector)


def _read(source: RunSource, name: str, key: tuple[Any, ...]) -> tuple[Any, str]:
    """Read a dataset, or tell why that can't be done.

    A file that a full disk or a crash has damaged is one detector's matter.
    """
    try:
        return source.get(name, key), ""
    except Exception as error:  # formatters raise what they like
        return None, f"{name} can't be read: {type(error).__name__}: {_first_line(str(error))}"


def _add_rows(status: VisitStatus, catalog: ExposureCatalog) -> None:
    for record in as_ours(catalog):
        status.done.add(int(record["id"]))
        if record.psf is None:
            status.without_psf.add(int(record["id"]))
        if record.ap_corr_map is None:
            status.without_ap_corr.add(int(record["id"]))


def _add_traces(
    visits: dict[tuple[str, int], VisitStatus], source: RunSource, task: RunTask, whole: set[tuple[Any, ...]]
) -> None:
    """Tell failures from lack of work, by what a quantum has left."""
    finished = set(source.find(task.metadata))
    # What has all outputs, readable or not, has had work.
    for key in (finished | set(source.find(task.log))) - whole:
        instrument, visit, detector = key
        status = _visit(visits, instrument, visit)
        if detector in status.done:
            continue
        reason = _reason(source, task.log, key)
        (status.no_work if key in finished else status.failed)[detector] = reason


def _add_steps(visits: dict[tuple[str, int], VisitStatus], source: RunSource, task: RunTask) -> None:
    """Note why detectors weren't begun, of which there is no trace then, or
    lacked an input.
    """
    finished = set(source.find(task.metadata))
    for key in sorted(set(source.find(task.log)) - _whole(source, task)):
        instrument, visit, *detector = key
        status = _visit(visits, instrument, visit)
        reason = _reason(source, task.log, key)
        if reason.startswith(_NO_INPUT):
            # The step that should have made it tells more.
            continue
        where = f"{task.label} of detector {detector[0]}" if detector else task.label
        steps = status.idle_steps if key in finished else status.failed_steps
        steps.setdefault(detector[0] if detector else None, f"{where}: {reason}")


def _add_visits(visits: dict[tuple[str, int], VisitStatus], source: RunSource, task: RunTask) -> None:
    merged, finished = _whole(source, task), set(source.find(task.metadata))
    for key in merged | finished | set(source.find(task.log)):
        instrument, visit = key
        status = _visit(visits, instrument, visit)
        if key in merged:
            status.merged = True
            if task.kind is TaskKind.VISIT:
                _add_visit_rows(status, *_read(source, task.outputs, key))
            continue
        reason = _reason(source, task.log, key)
        if task.kind is TaskKind.VISIT:
            outcome = status.no_work if key in finished else status.failed
            outcome.update(dict.fromkeys(status.expected - status.done, reason))
        status.merge_failure = reason


def _add_visit_rows(status: VisitStatus, catalog: ExposureCatalog | None, reason: str) -> None:
    if catalog is None:
        status.failed.update(dict.fromkeys(status.expected - status.done, reason))
        return
    _add_rows(status, catalog)
    # The task of a visit leaves out detectors without good stars.
    for detector in status.expected - status.done:
        status.no_work.setdefault(detector, "not in the catalog of the visit")


def _reason(source: RunSource, log: str, key: tuple[Any, ...]) -> str:
    """Return the first line of why a quantum ended without outputs."""
    if key not in source.find(log):
        return "there is no log"
    records: ButlerLogRecords | None
    records, unreadable = _read(source, log, key)
    if records is None:
        return unreadable
    exception = (records.extra or {}).get("exception")
    if isinstance(exception, Mapping):
        name = str(exception["type_name"]).rpartition(".")[2]
        return f"{name}: {_first_line(str(exception['message']))}"
    worst = [record for record in records if record.levelname in ("ERROR", "CRITICAL")]
    if worst:
        return _first_line(worst[-1].message)
    lines = [_first_line(record.message) for record in records]
    return next((reason for line in lines if (reason := _no_work(line))), "the log tells no reason")


def _no_work(line: str) -> str:
    """Return what pipe_base says why a quantum had no work, if it does."""
    if ended := re.search(r"no work found: (.+?)\.?$", line):
        return ended[1]
    if "othing to do" not in line:
        return ""
    lacking = re.search(r"skipping: .*\bInput\(name='([^']+)'", line)
    return f"{_NO_INPUT} {lacking[1]}" if lacking else line


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
