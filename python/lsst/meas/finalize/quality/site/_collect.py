# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What a report is made of, read from a butler repository."""

from __future__ import annotations

__all__ = ("NothingToReportError", "SurveyPage", "VisitPage", "collect_surveys", "collect_visits")

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import astropy.table

from lsst.daf.butler import Butler, DatasetRef, MissingDatasetTypeError

_VISIT_PLOT = "finalized_visit_plot_"
_PLOT_TITLES = {
    "whiskers_focal_plane": "Ellipticity on the focal plane",
    "whiskers_sky": "Ellipticity on the sky",
    "size_map": "Residuals in size",
    "histograms": "Distributions of residuals",
    "trends": "Trends of residuals",
    "rho": "Rho statistics",
    "psf_images": "PSF models",
    "residual_stacks": "Images of stars minus model",
    "maps": "Mean residuals on the focal plane",
}


class NothingToReportError(RuntimeError):
    """A collection has no metrics of visits."""


@dataclass(frozen=True)
class VisitPage:
    """What the page of a visit shows.

    Parameters
    ----------
    instrument, visit, band
        What it is.
    metrics
        ``finalized_visit_metrics``.
    maps
        ``finalized_visit_residual_maps``, for the detectors' places, if it is
        there.
    rho
        ``finalized_visit_rho``, if it is there.
    plots
        Title and PNG file of each plot.
    """

    instrument: str
    visit: int
    band: str
    metrics: astropy.table.Table
    maps: astropy.table.Table | None
    rho: astropy.table.Table | None
    plots: dict[str, bytes]


@dataclass(frozen=True)
class SurveyPage:
    """What the page of a survey shows.

    Parameters
    ----------
    instrument, band
        What it is.
    tables
        ``finalized_survey_…`` tables by the last part of their names.
    plots
        Title and PNG file of each plot.
    """

    instrument: str
    band: str
    tables: Mapping[str, astropy.table.Table]
    plots: dict[str, bytes]


def _find(butler: Butler, name: str, collection: str, **data_id: Any) -> list[DatasetRef]:
    try:
        refs = butler.query_datasets(
            name, collection, data_id=data_id or None, find_first=True, explain=False, limit=None
        )
    except MissingDatasetTypeError:
        return []
    return sorted(refs, key=lambda ref: str(ref.dataId))


def _get_one(butler: Butler, name: str, collection: str, data_id: Any) -> Any:
    refs = _find(butler, name, collection, **data_id)
    return butler.get(refs[0]) if refs else None


def _plots(butler: Butler, names: list[str], prefix: str, collection: str, data_id: Any) -> dict[str, bytes]:
    result = {}
    for name in names:
        for ref in _find(butler, prefix + name, collection, **data_id)[:1]:
            content = butler.getURI(ref).read()
            if content.startswith(b"\x89PNG"):
                result[_PLOT_TITLES[name]] = content
    return result


def collect_visits(butler: Butler, collection: str) -> Iterator[VisitPage]:
    """Read the visits of a collection, one after the other.

    Parameters
    ----------
    butler
        Butler of the repository.
    collection
        Collection with outputs of `AnalyzeFinalizedVisitTask`.

    Raises
    ------
    NothingToReportError
        Raised if it has none.
    """
    refs = _find(butler, "finalized_visit_metrics", collection)
    if not refs:
        raise NothingToReportError(
            f"Collection {collection!r} has no finalized_visit_metrics: run the subset 'analyze' of the "
            "pipeline FinalizeCharacterization.yaml first."
        )
    names = [name for name in _PLOT_TITLES if name != "maps"]
    for ref in sorted(refs, key=lambda ref: (str(ref.dataId["instrument"]), int(ref.dataId["visit"]))):
        data_id = {"instrument": ref.dataId["instrument"], "visit": ref.dataId["visit"]}
        metrics = butler.get(ref)
        yield VisitPage(
            instrument=str(data_id["instrument"]),
            visit=int(data_id["visit"]),
            band=str(metrics["band"][0]) if len(metrics) else "",
            metrics=metrics,
            maps=_get_one(butler, "finalized_visit_residual_maps", collection, data_id),
            rho=_get_one(butler, "finalized_visit_rho", collection, data_id),
            plots=_plots(butler, names, _VISIT_PLOT, collection, data_id),
        )


def collect_surveys(butler: Butler, collection: str) -> Iterator[SurveyPage]:
    """Read the surveys of a collection.

    Parameters
    ----------
    butler
        Butler of the repository.
    collection
        Collection with outputs of `AnalyzeFinalizedSurveyTask`; there may be
        none.
    """
    for ref in _find(butler, "finalized_survey_metrics", collection):
        data_id = {"instrument": ref.dataId["instrument"], "band": ref.dataId["band"]}
        tables = {"metrics": butler.get(ref)}
        for name in ("verdicts", "worst", "rho"):
            table = _get_one(butler, f"finalized_survey_{name}", collection, data_id)
            if table is not None:
                tables[name] = table
        yield SurveyPage(
            instrument=str(data_id["instrument"]),
            band=str(data_id["band"]),
            tables=tables,
            plots=_plots(butler, ["rho", "maps"], "finalized_survey_plot_", collection, data_id),
        )
