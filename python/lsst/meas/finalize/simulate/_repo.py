# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Simulated visits in butler repositories."""

from __future__ import annotations

__all__ = ("put_simulated_visit", "put_simulated_visits")

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from typing import Any

from lsst.daf.butler import Butler, CollectionType, DatasetRef, MissingCollectionError
from lsst.daf.butler.registry import ConflictingDefinitionError
from lsst.resources import ResourcePath

from .._progress import progress_bar
from ._config import SimulatedVisit
from ._psf_truth import describe_psf_truth
from ._registry import (
    DETECTOR_DATASETS,
    INSTRUMENT,
    VISIT_DATASETS,
    register_dataset_types,
    register_visits,
)
from ._space import refuse_full_disk, refuse_read_only_registry, refuse_run_name, refuse_unwritable
from ._star_tables import associated_visits, put_star_tables
from ._visit import simulate_detector

_LOG = logging.getLogger(__name__)


def put_simulated_visit(repo: str, simulation: SimulatedVisit, *, run: str = "simulated/inputs") -> None:
    """Simulate a visit into a butler repository.

    Parameters
    ----------
    repo, run
        As for `put_simulated_visits`.
    simulation
        The visit.

    Raises
    ------
    lsst.daf.butler.registry.ConflictingDefinitionError
        Raised if the run has this visit already, or the repository another
        visit of this number.
    OSError
        Raised if the repository can't be written, or has no space.
    ValueError
        Raised if ``run`` is empty.
    """
    put_simulated_visits(repo, [simulation], run=run)


def put_simulated_visits(
    repo: str,
    simulations: Sequence[SimulatedVisit],
    *,
    run: str = "simulated/inputs",
    jobs: int = 1,
) -> None:
    """Simulate visits of one field into a butler repository.

    What can be refused is refused before the first pixel. A visit that can't
    be finished is taken out again; those before it stay. The stars of all
    simulated visits in the repository are associated anew. A progress bar is
    shown if standard error is a terminal.

    Parameters
    ----------
    repo
        URI of the repository; one with an SQLite registry is made if there
        is none.
    simulations
        The visits.
    run
        Output run collection.
    jobs
        Number of processes.

    Raises
    ------
    lsst.daf.butler.registry.ConflictingDefinitionError
        Raised if the run has such a visit already, or the repository another
        visit of such a number.
    OSError
        Raised if the repository can't be written, or has no space.
    ValueError
        Raised if ``run`` is empty, if there is no visit, or one is given
        twice.
    """
    if not run.strip():
        raise ValueError("The name of the output run is empty.")
    refuse_run_name(run)
    if not simulations:
        raise ValueError("There is no visit to simulate.")
    twice = [visit for visit, count in Counter(s.visit for s in simulations).items() if count > 1]
    if twice:
        raise ValueError(f"Visit {twice[0]} is given twice.")
    if not Butler.has_repo_config(repo):
        refuse_full_disk([ResourcePath(repo, forceDirectory=True)], simulations)
        _LOG.info("Creating the butler repository %s", repo)
        Butler.makeRepo(repo)
    refuse_read_only_registry(repo)
    with Butler.from_config(repo, writeable=True) as butler:
        left_over = _refuse_second_time(butler, simulations, run)
        roots = [root for root in butler.get_datastore_roots().values() if root is not None]
        refuse_unwritable(root.join(run, forceDirectory=True) for root in roots)
        refuse_full_disk(roots, simulations)
        register_dataset_types(butler)
        butler.collections.register(run)
        register_visits(butler, simulations, left_over)
        _prune(butler, left_over)
        current = simulations[0]
        n = sum(simulation.n_detectors for simulation in simulations)
        try:
            with progress_bar("Simulating", n) as bar, _putter(repo, run, butler, jobs) as put_detectors:
                for current in simulations:
                    _put_visit(butler, current, run, put_detectors, bar)
        except BaseException:
            # Half a visit is of no use, and in the way of a second attempt.
            _prune(butler, _datasets(butler, current, run))
            raise


# Puts detectors of a visit, one after the other or several at a time.
_PutDetectors = Callable[[SimulatedVisit], Iterator[int]]


def _put_visit(
    butler: Butler,
    simulation: SimulatedVisit,
    run: str,
    put_detectors: _PutDetectors,
    bar: Any,
) -> None:
    data_id = {"instrument": INSTRUMENT, "visit": simulation.visit}
    (name,) = VISIT_DATASETS
    butler.put(describe_psf_truth(simulation), name, data_id, run=run)
    for detector in put_detectors(simulation):
        _LOG.info("Simulated detector %d of visit %d", detector, simulation.visit)
        bar.update(1)
    _LOG.info("Associating the isolated stars")
    put_star_tables(butler, simulation, run)


@contextmanager
def _putter(repo: str, run: str, butler: Butler, jobs: int) -> Iterator[_PutDetectors]:
    """Give a function that puts detectors, here or in other processes."""
    if jobs == 1:
        yield lambda simulation: (
            _put_detector(butler, run, simulation, detector) for detector in range(simulation.n_detectors)
        )
        return
    # Spawned processes have no butler of their parent in an unknown state.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:

        def submit(simulation: SimulatedVisit) -> Iterator[int]:
            n = simulation.n_detectors
            return pool.map(
                _put_elsewhere, *zip(*((repo, run, simulation, d) for d in range(n)), strict=True)
            )

        try:
            yield submit
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@cache
def _open(repo: str) -> Butler:
    """Open a repository once in a process."""
    return Butler.from_config(repo, writeable=True)


def _put_elsewhere(repo: str, run: str, simulation: SimulatedVisit, detector: int) -> int:
    return _put_detector(_open(repo), run, simulation, detector)


def _put_detector(butler: Butler, run: str, simulation: SimulatedVisit, detector: int) -> int:
    made = simulate_detector(simulation, detector)
    data_id = {"instrument": INSTRUMENT, "visit": simulation.visit, "detector": detector}
    with butler.transaction():
        for name, dataset in zip(DETECTOR_DATASETS, (made.calexp, made.src, made.truth), strict=True):
            butler.put(dataset, name, data_id, run=run)
    return detector


def _refuse_second_time(butler: Butler, simulations: Sequence[SimulatedVisit], run: str) -> list[DatasetRef]:
    """Refuse visits that the run has; return what interrupted ones left."""
    try:
        if butler.collections.get_info(run).type is not CollectionType.RUN:
            raise ConflictingDefinitionError(f"Collection {run!r} is not a run; give another run.")
    except MissingCollectionError:
        return []
    associated = associated_visits(butler, run)
    left_over = []
    for simulation in simulations:
        found = _datasets(butler, simulation, run)
        if found and (simulation.visit in associated or not simulation.n_stars):
            raise ConflictingDefinitionError(
                f"Run {run!r} has visit {simulation.visit} already; give another run or another visit."
            )
        left_over += found
    return left_over


def _datasets(butler: Butler, simulation: SimulatedVisit, run: str) -> list[DatasetRef]:
    data_id = {"instrument": INSTRUMENT, "visit": simulation.visit}
    # Reading the run itself, so that one that failed half-way counts, too.
    return [
        ref
        for name in (*DETECTOR_DATASETS, *VISIT_DATASETS)
        if butler.registry.queryDatasetTypes(name)
        for ref in butler.query_datasets(
            name, run, data_id=data_id, explain=False, find_first=False, limit=None
        )
    ]


def _prune(butler: Butler, refs: Sequence[DatasetRef]) -> None:
    butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
