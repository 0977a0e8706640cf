# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Writing of the pages of a report."""

from __future__ import annotations

__all__ = ("OccupiedDirectoryError", "write_report")

import datetime
import math
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .._fields import METRICS
from .._visit_metrics import SAMPLES, WHOLE_VISIT
from ._collect import SurveyPage, VisitPage
from ._focal_plane import place_detectors

_MARKER = ".finalize-report"
_HERE = Path(__file__).parent
_MOST_DETECTOR_ROWS = 20_000

# Column, heading, factor, decimals; residuals are in units of 0.001.
_COLUMNS = (
    ("nPsfStar", "stars", 1, 0),
    ("ellipticityResidual", "|δe| /0.001", 1000, 2),
    ("psfStarDeltaTOverTMedian", "δT/T /0.001", 1000, 2),
    ("psfStarScaledDeltaSizeScatter", "size scatter /0.001", 1000, 2),
    ("starEMedian", "star |e|", 1, 3),
    ("apCorrResidualScatter", "ap. corr. scatter /0.001", 1000, 2),
)
_MODEL_COLUMNS = (
    ("psfSigma", "σ (pixel)", 1, 3),
    ("psfTraceRadiusDelta", "ΔT (pixel)", 1, 3),
    ("psfApFluxDelta", "Δ ap. flux", 1, 3),
    ("psfApCorrSigmaScaledDelta", "Δ ap. corr./σ", 1, 4),
    ("maxDistToNearestPsf", "largest gap (pixel)", 1, 0),
)
_HELP = {
    "ellipticityResidual": "Median residual distortion, hypot(psfStarDeltaE1Median, psfStarDeltaE2Median).",
}


class OccupiedDirectoryError(FileExistsError):
    """A folder has something else than a report in it."""


def _format(value: Any, decimals: int = 4) -> str:
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return "–"
    return f"{value:.{decimals}f}" if isinstance(value, float | np.floating) else str(value)


_NOTHING = {"text": "–", "value": ""}


def _number(row: Any, name: str) -> float:
    """Return a metric; NaN if an older table doesn't have it."""
    return float(row[name]) if name in row.colnames else np.nan


def _text(row: Any, name: str, default: str = "") -> str:
    return str(row[name]) if row is not None and name in row.colnames else default


def _cell(row: Any, column: tuple[str, str, float, int]) -> dict[str, str]:
    name, _, factor, decimals = column
    if row is None:
        return _NOTHING
    if name == "ellipticityResidual":
        value = math.hypot(_number(row, "psfStarDeltaE1Median"), _number(row, "psfStarDeltaE2Median"))
    else:
        value = _number(row, name)
    sortable = repr(value) if np.isfinite(value) else ""
    return {"text": _format(value * factor, decimals), "value": sortable}


def _headings() -> list[dict[str, str]]:
    """Return the headings of the cells of `_table_row`."""
    columns = [(name, f"{text}, {sample}") for name, text, *_ in _COLUMNS for sample in SAMPLES[:2]]
    columns += [(name, text) for name, text, *_ in _MODEL_COLUMNS]
    return [
        {"text": text, "help": _HELP.get(name) or METRICS.get(name, ("", ""))[1]} for name, text in columns
    ]


def _square(row: dict[str, Any], x: float, y: float, size: float) -> dict[str, Any]:
    """Return how to draw a detector."""
    return {
        "detector": row["detector"],
        "row": row,
        "x": f"{x:.1f}",
        "y": f"{y:.1f}",
        "size": f"{size:.1f}",
        "middle": f"{x + size / 2:.1f}",
        "base": f"{y + size / 2 + size * 0.13:.1f}",
        "font": f"{size * 0.36:.1f}",
    }


def _file_name(*parts: object) -> str:
    """Return a name that is safe as a file's and in a URL."""
    return "-".join(re.sub(r"[^A-Za-z0-9_]+", "_", str(part)) for part in parts)


def _rows_of(page: VisitPage, detector: int) -> dict[str, Any]:
    rows = page.metrics[np.asarray(page.metrics["detector"]) == detector]
    return {str(row["sample"]): row for row in rows}


def _table_row(rows: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of one visit or detector."""
    used, reserved = rows.get("used"), rows.get("reserved")
    cells = []
    for column in _COLUMNS:
        cells += [_cell(row, column) for row in (used, reserved)]
    cells += [_cell(used, column) for column in _MODEL_COLUMNS]
    return {
        "cells": cells,
        "verdict": _text(used, "verdict", "unknown"),
        "verdict_text": _text(used, "verdictText"),
        "reasons": _text(used, "reasons"),
    }


class _Site:
    """Pages of a report in a folder."""

    def __init__(self, folder: Path, collection: str, repository: str) -> None:
        import jinja2

        self.folder = folder
        self.environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,  # names come from outside
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.common = {"collection": collection, "repository": repository, "made": made}
        (folder / "plots").mkdir()
        shutil.copytree(_HERE / "assets", folder / "assets")

    def write(self, name: str, template: str, **values: Any) -> None:
        text = self.environment.get_template(template).render(**self.common, **values)
        (self.folder / name).write_text(text, encoding="utf-8")

    def add_plots(self, plots: dict[str, bytes], *name: object) -> list[dict[str, str]]:
        found = []
        for title, content in plots.items():
            file = f"plots/{_file_name(*name, title)}.png"
            (self.folder / file).write_bytes(content)
            found.append({"title": title, "file": file})
        return found


def write_report(
    directory: Path,
    visits: Iterable[VisitPage],
    surveys: Iterable[SurveyPage] = (),
    *,
    collection: str = "",
    repository: str = "",
) -> Path:
    """Write a static site.

    Parameters
    ----------
    directory
        Folder to make; a report in it is replaced, anything else is left
        alone.
    visits, surveys
        What to show; read one after the other.
    collection, repository
        Where it is from, to be told on the pages.

    Returns
    -------
    `~pathlib.Path`
        The first page.

    Raises
    ------
    OccupiedDirectoryError
        Raised if the folder has something else than a report in it.
    OSError
        Raised if it can't be written; nothing is left then.
    """
    directory = directory.absolute()
    if directory.exists() and not directory.is_dir():
        raise OccupiedDirectoryError(f"{directory} is a file.")
    if directory.exists() and any(directory.iterdir()) and not (directory / _MARKER).exists():
        raise OccupiedDirectoryError(f"{directory} has something else than a report in it.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Written aside, so that there is no half a report.
    with tempfile.TemporaryDirectory(prefix=".finalize-report-", dir=directory.parent) as temporary:
        folder = Path(temporary) / "site"
        folder.mkdir()
        (folder / _MARKER).touch()
        _write_pages(_Site(folder, collection, repository), visits, surveys)
        if directory.exists():
            shutil.rmtree(directory)
        folder.rename(directory)
    return directory / "index.html"


def _write_pages(site: _Site, visits: Iterable[VisitPage], surveys: Iterable[SurveyPage]) -> None:
    visit_rows: list[dict[str, Any]] = []
    detector_rows: list[dict[str, Any]] = []
    for page in visits:
        row, detectors = _write_visit(site, page)
        visit_rows.append(row)
        detector_rows += detectors
    survey_rows = [_write_survey(site, page, visit_rows) for page in surveys]
    shown = detector_rows
    if len(shown) > _MOST_DETECTOR_ROWS:
        shown = [row for row in detector_rows if row["verdict"] != "pass"][:_MOST_DETECTOR_ROWS]
    common = {"headings": _headings(), "surveys": survey_rows}
    bands = sorted({row["band"] for row in visit_rows})
    site.write("index.html", "index.html", rows=visit_rows, bands=bands, **common)
    site.write(
        "detectors.html", "detectors.html", rows=shown, bands=bands, n_detectors=len(detector_rows), **common
    )


def _write_visit(site: _Site, page: VisitPage) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    name = _file_name("visit", page.instrument, page.visit) + ".html"
    head = {"instrument": page.instrument, "visit": page.visit, "band": page.band, "file": name}
    numbers = sorted({int(d) for d in np.asarray(page.metrics["detector"])} - {WHOLE_VISIT})
    detectors = []
    for number in numbers:
        rows = _rows_of(page, number)
        detectors.append({**head, "detector": number, "details": _details(rows), **_table_row(rows)})
    whole = _rows_of(page, WHOLE_VISIT)
    verdicts = [row["verdict"] for row in detectors]
    row = {
        **head,
        **_table_row(whole),
        "n_detectors": len(detectors),
        "n_failed": sum(v == "fail" for v in verdicts),
        "n_unknown": sum(v == "unknown" for v in verdicts),
    }
    by_number = {d["detector"]: d for d in detectors}
    placed = place_detectors(numbers, page.maps)
    squares = [_square(by_number[number], x, y, size) for number, x, y, size in placed]
    height = max((y + size for _, _, y, size in placed), default=10.0)
    site.write(
        name,
        "visit.html",
        page=head,
        row=row,
        whole=_details(whole),
        te=_te_rows(page.rho),
        detectors=detectors,
        squares=squares,
        height=f"{height + 4:.0f}",
        headings=_headings(),
        plots=site.add_plots(page.plots, page.instrument, page.visit),
    )
    # All metrics of all visits' detectors would take gigabytes.
    return row, [{**detector, "details": ()} for detector in detectors]


def _details(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every metric, with the values of the samples."""
    if not rows:
        return []
    first = next(iter(rows.values()))
    skipped = {"instrument", "visit", "band", "detector", "sample", "failedLimits"}
    result = []
    for name in first.colnames:
        if name in skipped or name.endswith("Err"):
            continue
        unit, description = METRICS.get(name, ("", ""))
        values = [_with_error(rows.get(sample), name) for sample in SAMPLES]
        result.append({"name": name, "unit": unit, "description": description, "values": values})
    return result


def _with_error(row: Any, name: str) -> str:
    if row is None:
        return "–"
    value = row[name]
    if not isinstance(value, float | np.floating):
        return str(value)
    if not np.isfinite(value):
        return "–"
    error = row[f"{name}Err"] if f"{name}Err" in row.colnames else np.nan
    return f"{value:.5g}" + (f" ± {error:.2g}" if np.isfinite(error) else "")


def _te_rows(rho: Any) -> list[dict[str, Any]]:
    if rho is None:
        return []
    rows = rho[np.char.startswith(np.asarray(rho["statistic"]).astype(str), "TE")]
    result = []
    for name in dict.fromkeys(str(n) for n in rows["statistic"]):
        both = {str(r["sample"]): r for r in rows if r["statistic"] == name}
        limit = next(iter(both.values()))["requirement"]
        values = [
            f"{both[s]['value']:.3g} ± {both[s]['error']:.1g}"
            if s in both and np.isfinite(both[s]["value"])
            else "–"
            for s in ("used", "reserved")
        ]
        result.append({"name": name, "limit": f"{limit:g}", "values": values})
    return result


def _write_survey(site: _Site, page: SurveyPage, visits: list[dict[str, Any]]) -> dict[str, Any]:
    name = _file_name("survey", page.instrument, page.band) + ".html"
    files = {(row["instrument"], row["visit"]): row["file"] for row in visits}
    worst = []
    for row in page.tables.get("worst", ()):
        entry = {key: str(row[key]) for key in ("level", "sample", "metric", "rank", "visit")}
        detector = int(row["detector"])
        file = files.get((page.instrument, int(row["visit"])))
        entry["detector"] = "" if detector == WHOLE_VISIT else str(detector)
        entry["link"] = (file + (f"#det-{detector}" if detector != WHOLE_VISIT else "")) if file else ""
        worst.append({**entry, "value": f"{row['value']:.5g}"})
    columns = ("n", "n_unknown", "mean", "std", "min", "p05", "p16", "median", "p84", "p95", "max")
    metrics = [
        {
            **{key: str(row[key]) for key in ("level", "sample", "metric")},
            "description": METRICS.get(str(row["metric"]), ("", ""))[1],
            "values": [
                f"{row[c]:.4g}" if isinstance(row[c], float | np.floating) else str(row[c]) for c in columns
            ],
        }
        for row in page.tables["metrics"]
    ]
    verdicts = [
        {key: str(row[key]) for key in ("level", "sample", "verdict", "n")}
        for row in page.tables.get("verdicts", ())
    ]
    head = {"instrument": page.instrument, "band": page.band, "file": name}
    site.write(
        name,
        "survey.html",
        page=head,
        worst=worst,
        metrics=metrics,
        columns=columns,
        verdicts=verdicts,
        te=_te_rows(page.tables.get("rho")),
        plots=site.add_plots(page.plots, "survey", page.instrument, page.band),
    )
    return head
