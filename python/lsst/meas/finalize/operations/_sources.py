# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Where final characterization ran: collections, graphs, submit folders."""

from __future__ import annotations

__all__ = ("CollectionSource", "GraphSource", "NoRunError", "RunSource", "RunTask", "TaskKind")

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from lsst.daf.butler import Butler, DataCoordinate, DatasetRef, QuantumBackedButler
from lsst.pipe.base import PipelineTaskConfig
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

from ..tasks import (
    ConsolidateFinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationConfig,
    FinalizeCharacterizationDetectorConfig,
    FitVisitPsfConfig,
    GatherPsfStarsConfig,
    PrepareIsolatedStarsConfig,
)


class NoRunError(Exception):
    """There is no final characterization where it was looked for."""


class TaskKind(enum.Enum):
    """What a quantum of a task makes."""

    STEP = "step"
    """What detectors need."""
    DETECTOR = "detector"
    VISIT = "visit"
    MERGE = "merge"


# By configuration: the kind, and the connections of inputs and of outputs.
_TASKS: dict[type[PipelineTaskConfig], tuple[TaskKind, tuple[str, ...], str]] = {
    PrepareIsolatedStarsConfig: (TaskKind.STEP, (), "prepared_isolated_stars"),
    GatherPsfStarsConfig: (TaskKind.STEP, (), "psf_stars"),
    FitVisitPsfConfig: (TaskKind.STEP, (), "visit_psf_catalog"),
    FinalizeCharacterizationDetectorConfig: (
        TaskKind.DETECTOR,
        ("src", "calexp"),
        "finalized_psf_ap_corr_detector_cat",
    ),
    FinalizeCharacterizationConfig: (TaskKind.VISIT, ("srcs", "calexps"), "finalized_psf_ap_corr_cat"),
    ConsolidateFinalizeCharacterizationDetectorConfig: (TaskKind.MERGE, (), "finalized_psf_ap_corr_cat"),
}


@dataclass(frozen=True)
class RunTask:
    """A task of a run and its dataset types.

    Parameters
    ----------
    kind
        What a quantum makes.
    label
        Label in the pipeline.
    inputs
        Inputs that a detector must have.
    outputs
        The exposure catalogue that it writes, or what a step does.
    """

    kind: TaskKind
    label: str
    inputs: tuple[str, ...]
    outputs: str

    @property
    def metadata(self) -> str:
        """What a quantum writes that ends without an exception."""
        return f"{self.label}_metadata"

    @property
    def log(self) -> str:
        """What a quantum writes that ends at all."""
        return f"{self.label}_log"


def _describe(label: str, config: Any) -> RunTask | None:
    """Return a task if it is one of this package."""
    for config_class, (kind, inputs, outputs) in _TASKS.items():
        if isinstance(config, config_class):
            names = tuple(getattr(config.connections, name) for name in inputs)
            return RunTask(kind, label, names, getattr(config.connections, outputs))
    return None


Key = tuple[Any, ...]
"""Instrument, visit and, for datasets of detectors, detector."""


def _key(data_id: DataCoordinate) -> Key:
    names = ("instrument", "visit", "detector")
    return tuple(data_id[name] for name in names if name in data_id.dimensions.required)


class RunSource(ABC):
    """Where the datasets of one or more runs are found."""

    tasks: list[RunTask]
    """Tasks of this package that were run or are to be run."""

    @abstractmethod
    def expected(self) -> Iterable[tuple[str, int, int]]:
        """Return instrument, visit and number of detectors with inputs."""

    @abstractmethod
    def find(self, name: str) -> Mapping[Key, DatasetRef]:
        """Return the datasets of a type that exist.

        Parameters
        ----------
        name
            Dataset type.
        """

    @abstractmethod
    def get(self, name: str, key: Key) -> Any:
        """Read a dataset.

        Parameters
        ----------
        name
            Dataset type.
        key
            Its place.
        """


class CollectionSource(RunSource):
    """Datasets of a collection in a repository.

    Parameters
    ----------
    butler
        Butler of the repository.
    collection
        Output collection, be it a run or a chain of runs and inputs.
    inputs
        Collections of the inputs if the output collection hasn't them.
    where
        Expression that restricts data, as that of ``pipetask``.

    Raises
    ------
    NoRunError
        Raised if no task of this package was run in the collection.
    """

    def __init__(
        self, butler: Butler, collection: str, *, inputs: Iterable[str] = (), where: str = ""
    ) -> None:
        self._butler = butler
        self._collections = [collection, *inputs]
        self._where = where
        self._found: dict[str, dict[Key, DatasetRef]] = {}
        self.tasks = self._find_tasks()
        if not self.tasks:
            raise NoRunError(f"No final characterization was run in {collection!r}.")

    def _find_tasks(self) -> list[RunTask]:
        infos = self._butler.collections.query_info(
            self._collections, include_summary=True, flatten_chains=True
        )
        names = {name for info in infos for name in info.dataset_types or () if name.endswith("_config")}
        tasks = []
        for name in sorted(names):
            for ref in self._butler.query_datasets(name, self._collections, explain=False, limit=1):
                task = _describe(name.removesuffix("_config"), self._butler.get(ref))
                tasks += [task] if task else []
        return tasks

    def expected(self) -> Iterable[tuple[str, int, int]]:
        result: set[Key] = set()
        for task in self.tasks:
            if task.inputs:
                result |= set.intersection(*(set(self.find(name)) for name in task.inputs))
        return result

    def find(self, name: str) -> Mapping[Key, DatasetRef]:
        if name not in self._found:
            refs: list[DatasetRef] = []
            if self._butler.registry.queryDatasetTypes(name):
                refs = self._butler.query_datasets(
                    name, self._collections, where=self._where, explain=False, limit=None
                )
            self._found[name] = {_key(ref.dataId): ref for ref in refs}
        return self._found[name]

    def get(self, name: str, key: Key) -> Any:
        return self._butler.get(self.find(name)[key])


class GraphSource(RunSource):
    """Datasets that a quantum graph predicts, in the registry or not.

    Parameters
    ----------
    repo
        URI of the repository.
    graph
        File of the graph, or a submit directory of BPS with it.

    Raises
    ------
    NoRunError
        Raised if the directory has no graph, or the graph no task of this
        package.
    """

    def __init__(self, repo: str, graph: str) -> None:
        try:
            with PredictedQuantumGraph.open(_find_graph(graph)) as reader:
                reader.read_all()
                self._graph = reader.finish()
        except FileNotFoundError as error:
            raise NoRunError(f"There is no quantum graph {graph}.") from error
        except (ValueError, BadZipFile) as error:
            raise NoRunError(f"{graph} is not a quantum graph of this version: {error}") from error
        nodes = self._graph.pipeline_graph.tasks
        described = (_describe(label, node.config) for label, node in nodes.items())
        self.tasks = [task for task in described if task]
        if not self.tasks:
            raise NoRunError(f"{graph} has no task of final characterization.")
        names = {name for task in self.tasks for name in (task.outputs, task.metadata, task.log)}
        self._refs = {name: self._predicted(name) for name in names}
        self._butler = QuantumBackedButler.from_predicted(
            config=repo,
            predicted_inputs=[],
            predicted_outputs=[ref.id for refs in self._refs.values() for ref in refs.values()],
            dimensions=self._graph.pipeline_graph.universe,
            datastore_records={},
            dataset_types={ref.datasetType.name: ref.datasetType for ref in self._all_refs()},
        )
        self._found: dict[str, dict[Key, DatasetRef]] = {}

    def _all_refs(self) -> Iterable[DatasetRef]:
        return (ref for refs in self._refs.values() for ref in refs.values())

    def _predicted(self, name: str) -> dict[Key, DatasetRef]:
        dataset_type = self._graph.pipeline_graph.dataset_types[name].dataset_type
        identifiers = self._graph.datasets_by_type[name]
        attacher = self._graph.dimension_data
        # The names of files need dimension records.
        expanded = attacher.attach(dataset_type.dimensions, identifiers) if attacher else list(identifiers)
        run = self._graph.header.output_run
        return {
            _key(data_id): DatasetRef(dataset_type, data_id, run=run, id=identifier)
            for data_id, identifier in zip(expanded, identifiers.values(), strict=True)
        }

    def expected(self) -> Iterable[tuple[str, int, int]]:
        found: set[Key] = set()
        for task in self.tasks:
            if task.kind is TaskKind.DETECTOR:
                found |= {_key(data_id) for data_id in self._graph.quanta_by_task[task.label]}
            elif task.kind is TaskKind.VISIT:
                found |= {_key(data_id) for data_id in self._graph.datasets_by_type[task.inputs[0]]}
        return found

    def find(self, name: str) -> Mapping[Key, DatasetRef]:
        if name not in self._found:
            refs = self._refs[name]
            stored = self._butler.stored_many(refs.values())
            self._found[name] = {key: ref for key, ref in refs.items() if stored[ref]}
        return self._found[name]

    def get(self, name: str, key: Key) -> Any:
        return self._butler.get(self._refs[name][key])


def _find_graph(graph: str) -> str:
    path = Path(graph)
    if not path.is_dir():
        return graph
    graphs = sorted(path.rglob("*.qg"))
    if len(graphs) != 1:
        raise NoRunError(f"{graph} has {len(graphs)} quantum graphs (*.qg); give the file.")
    return str(graphs[0])
