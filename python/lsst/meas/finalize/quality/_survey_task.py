# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The task that stacks the metrics of many visits."""

from __future__ import annotations

__all__ = (
    "SURVEY_PLOTS",
    "AnalyzeFinalizedSurveyConfig",
    "AnalyzeFinalizedSurveyConnections",
    "AnalyzeFinalizedSurveyTask",
)

from collections.abc import Iterable
from typing import Any, ClassVar

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT

from ._survey import SurveyAccumulator

SURVEY_PLOTS = ("plotRho", "plotMaps")
"""Connections of plots, in the order of reports."""

_VISIT_TABLES = ("metrics", "rho", "residual_maps")


def _visit_table(name: str, doc: str) -> cT.Input:
    return cT.Input(
        doc=doc,
        name=f"finalized_visit_{name}",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        deferLoad=True,
        multiple=True,
    )


def _output(name: str, doc: str, storage_class: str = "ArrowAstropy") -> cT.Output:
    return cT.Output(
        doc=doc,
        name=f"finalized_survey_{name}",
        storageClass=storage_class,
        dimensions=("instrument", "band"),
    )


class AnalyzeFinalizedSurveyConnections(
    pipeBase.PipelineTaskConnections,
    dimensions=("instrument", "band"),
    defaultTemplates={},
):
    """Connections of `AnalyzeFinalizedSurveyTask`."""

    visit_metrics = _visit_table("metrics", "Metrics of the PSF models of visits.")
    visit_rho = _visit_table("rho", "Correlations of residuals of visits.")
    visit_residual_maps = _visit_table("residual_maps", "Mean residuals in bins of detectors of visits.")
    finalized_survey_metrics = _output("metrics", "Distributions of every metric over visits and detectors.")
    finalized_survey_verdicts = _output("verdicts", "Numbers of visits and detectors that pass and fail.")
    finalized_survey_worst = _output("worst", "The worst visits and detectors by each metric.")
    finalized_survey_rho = _output("rho", "Rho statistics and TE over all visits.")
    finalized_survey_residual_maps = _output("residual_maps", "Mean residuals in bins of each detector.")
    plotRho = _output("plot_rho", "Rho statistics.", "Plot")
    plotMaps = _output("plot_maps", "Mean residuals on the focal plane.", "Plot")

    def __init__(self, *, config: AnalyzeFinalizedSurveyConfig | None = None) -> None:
        super().__init__(config=config)
        if config is not None and not config.doPlots:
            for name in SURVEY_PLOTS:
                delattr(self, name)


class AnalyzeFinalizedSurveyConfig(
    pipeBase.PipelineTaskConfig, pipelineConnections=AnalyzeFinalizedSurveyConnections
):
    """Configuration of `AnalyzeFinalizedSurveyTask`."""

    doPlots: pexConfig.Field = pexConfig.Field(doc="Draw plots?", dtype=bool, default=True)


class AnalyzeFinalizedSurveyTask(pipeBase.PipelineTask):
    """Stack what `AnalyzeFinalizedVisitTask` found in many visits."""

    ConfigClass: ClassVar = AnalyzeFinalizedSurveyConfig
    _DefaultName: ClassVar[str] = "analyzeFinalizedSurvey"
    config: AnalyzeFinalizedSurveyConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        inputs = butlerQC.get(inputRefs)
        by_visit: dict[int, list[Any]] = {}
        for i, name in enumerate(_VISIT_TABLES):
            for handle in inputs[f"visit_{name}"]:
                by_visit.setdefault(int(handle.dataId["visit"]), [None] * len(_VISIT_TABLES))[i] = handle
        data_id = butlerQC.quantum.dataId
        assert data_id is not None  # a quantum of a band has one
        label = f"{data_id['instrument']}, {data_id['band']} ({outputRefs.finalized_survey_metrics.run})"
        visits = ((visit, handles) for visit, handles in sorted(by_visit.items()))
        butlerQC.put(self.run(visits, label=label), outputRefs)

    def run(self, visits: Iterable[tuple[int, Iterable[Any]]], *, label: str = "") -> pipeBase.Struct:
        """Stack visits.

        Parameters
        ----------
        visits
            For each visit its number and its tables of metrics, correlations
            and residual maps, or handles of them; read one visit at a time.
        label
            What they are, for plots.

        Returns
        -------
        `lsst.pipe.base.Struct`
            See `SurveyAccumulator`: ``finalized_survey_metrics``,
            ``finalized_survey_verdicts``, ``finalized_survey_worst``,
            ``finalized_survey_rho``, ``finalized_survey_residual_maps``; and
            the plots ``plotRho`` and ``plotMaps``.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            Raised if there is no visit with usable tables.
        """
        accumulator = SurveyAccumulator()
        for visit, tables in visits:
            try:
                read = [table.get() if hasattr(table, "get") else table for table in tables]
                if any(table is None for table in read):
                    raise ValueError("a table is missing")
                accumulator.add_visit(*read)
            except (ValueError, KeyError, TypeError, OSError) as error:
                self.log.warning("Visit %d is left out: %s", visit, error)
        if not accumulator.n_visits:
            raise pipeBase.NoWorkFound("There are no visits with tables of metrics.")
        outputs = {
            "finalized_survey_metrics": accumulator.metrics_table(),
            "finalized_survey_verdicts": accumulator.verdict_table(),
            "finalized_survey_worst": accumulator.worst_table(),
            "finalized_survey_rho": accumulator.rho_table(),
            "finalized_survey_residual_maps": accumulator.map_table(),
        }
        if self.config.doPlots:
            from .plots import plot_rho, plot_survey_maps

            text = f"{label}, {accumulator.n_visits} visits"
            outputs["plotRho"] = plot_rho(outputs["finalized_survey_rho"], text)
            outputs["plotMaps"] = plot_survey_maps(outputs["finalized_survey_residual_maps"], text)
        return pipeBase.Struct(**outputs)
