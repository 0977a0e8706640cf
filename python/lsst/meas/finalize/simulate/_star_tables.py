# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tables of isolated stars of all visits in a repository."""

from __future__ import annotations

__all__ = ("associated_visits", "put_star_tables")

from collections import defaultdict
from collections.abc import Iterable

import astropy.table
import numpy as np

from lsst.daf.butler import Butler, CollectionType, DatasetRef
from lsst.daf.butler.registry import ConflictingDefinitionError

from ._associations import TruthsOfVisit, associate_visits
from ._config import SimulatedVisit
from ._registry import INSTRUMENT, SKYMAP, TRACT_DATASETS

_ATTEMPTS = 5


def associated_visits(butler: Butler, run: str) -> set[int]:
    """Return the visits whose stars the tables of a run have.

    Parameters
    ----------
    butler
        Butler of the repository.
    run
        Run collection.
    """
    refs = _query(butler, "isolated_star_presources", run)
    return {int(visit) for ref in refs for visit in np.unique(butler.get(ref)["visit"])}


def put_star_tables(butler: Butler, simulation: SimulatedVisit, run: str) -> None:
    """Associate the stars of all visits and replace the tables of all runs.

    The tables of a run have the visits of all runs, so that any order of
    input collections finds the stars of each visit; of a visit that is in
    several, each run has its own.

    Parameters
    ----------
    butler
        Butler of the repository.
    simulation
        The visit that is new.
    run
        Run collection that the visit is in.

    Raises
    ------
    lsst.daf.butler.registry.ConflictingDefinitionError
        Raised if other processes replaced the tables again and again.
    """
    cache: dict[DatasetRef, astropy.table.Table] = {}
    for attempt in range(_ATTEMPTS):
        try:
            _replace_tables(butler, simulation, run, cache)
            return
        except ConflictingDefinitionError:
            # Another process has put its tables meanwhile: do it over again.
            if attempt == _ATTEMPTS - 1:
                raise


def _replace_tables(
    butler: Butler, simulation: SimulatedVisit, run: str, cache: dict[DatasetRef, astropy.table.Table]
) -> None:
    present = _truths_by_run(butler)
    finished = {
        name: associated_visits(butler, name) | ({simulation.visit} if name == run else set())
        for name in present
    }
    for name in present:
        chosen: dict[int, str] = {}
        for other in [name, *(run_name for run_name in present if run_name != name)]:
            for visit in present[other].keys() & finished[other]:
                chosen.setdefault(visit, other)
        visits = [_read_visit(butler, visit, present[other][visit], cache) for visit, other in chosen.items()]
        for tract, tables in associate_visits(simulation, visits).items():
            _replace(butler, name, tract, tables)


def _replace(butler: Butler, run: str, tract: int, tables: Iterable[astropy.table.Table]) -> None:
    data_id = {"instrument": INSTRUMENT, "skymap": SKYMAP, "tract": tract}
    old = [ref for name in TRACT_DATASETS for ref in _query(butler, name, run, data_id)]
    butler.pruneDatasets(old, disassociate=True, unstore=True, purge=True)
    with butler.transaction():
        for name, table in zip(TRACT_DATASETS, tables, strict=True):
            butler.put(table, name, data_id, run=run)


def _truths_by_run(butler: Butler) -> dict[str, dict[int, list[DatasetRef]]]:
    """Return datasets of true objects by run and visit."""
    runs = butler.collections.query("*", collection_types=CollectionType.RUN)
    found: dict[str, dict[int, list[DatasetRef]]] = defaultdict(lambda: defaultdict(list))
    for ref in _query(butler, "simulated_truth", sorted(runs)):
        found[ref.run][int(ref.dataId["visit"])].append(ref)
    return found


def _read_visit(
    butler: Butler, visit: int, refs: Iterable[DatasetRef], cache: dict[DatasetRef, astropy.table.Table]
) -> TruthsOfVisit:
    band = ""
    truths = {}
    for ref in refs:
        band = str(ref.dataId["band"])
        if ref not in cache:
            cache[ref] = butler.get(ref)
        truths[int(ref.dataId["detector"])] = cache[ref]
    return TruthsOfVisit(visit, band, truths)


def _query(
    butler: Butler, name: str, collections: str | Iterable[str], data_id: dict | None = None
) -> list[DatasetRef]:
    if not butler.registry.queryDatasetTypes(name):
        return []
    return butler.query_datasets(
        name,
        collections,
        data_id=data_id or {"instrument": INSTRUMENT},
        find_first=False,
        explain=False,
        limit=None,
    )
