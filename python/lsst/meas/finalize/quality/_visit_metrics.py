# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The table of metrics of a visit: a row per detector and sample."""

from __future__ import annotations

__all__ = ("SAMPLES", "WHOLE_VISIT", "measure_visit")

from collections.abc import Mapping, Sequence
from typing import Any

import astropy.table
import numpy as np
import numpy.typing as npt

from ..catalogs import ExposureCatalog
from ._columns import StarColumns
from ._detector_models import DetectorModel, measure_models
from ._fields import describe_columns
from ._groups import Groups
from ._limits import PsfLimits, judge
from ._psf_statistics import largest_gaps
from ._residual_stacks import DetectorStacks
from ._sky_frame import SkyFrame, project_stars
from ._star_statistics import (
    aperture_correction_statistics,
    higher_moment_statistics,
    select_stars,
    star_statistics,
)
from ._trends import local_density, trend_statistics

type Floats = npt.NDArray[np.float64]
type Integers = npt.NDArray[np.int64]

SAMPLES = ("used", "reserved", "candidate")
"""Stars that the fit used, that it never saw, and all candidates."""

WHOLE_VISIT = -1
"""Detector number in the rows that are of the whole visit."""


def measure_visit(
    stars: astropy.table.Table | StarColumns,
    catalog: ExposureCatalog,
    *,
    visit: int,
    instrument: str = "",
    band: str = "",
    limits: PsfLimits | None = None,
    grid_sampling: int = 96,
    star_sampling: int = 8,
    frame: SkyFrame | None = None,
    stacks: Sequence[DetectorStacks] | None = None,
) -> astropy.table.Table:
    """Measure how good the PSF models of a visit are.

    Parameters
    ----------
    stars
        Star table of the visit.
    catalog
        PSF models and aperture corrections, a row per detector.
    visit, instrument, band
        What the visit is, for the table.
    limits
        Limits for the verdict; upstream's if not given.
    grid_sampling, star_sampling
        Spacings in pixels of the grids for the model and for the distance to
        stars.
    frame
        The stars on the sky, if they have been projected already.
    stacks
        What the images of the stars told, if they were looked at; the table
        has the column ``stampReducedChi2`` then.

    Returns
    -------
    `astropy.table.Table`
        Rows for the whole visit (detector -1), then for each detector that
        has stars or a row in the catalog; each with the samples ``used``,
        ``reserved`` and ``candidate``.  What can't be measured is NaN, and
        ``reasons`` tells why.

    Raises
    ------
    MissingColumnsError
        Raised if the star table doesn't tell detectors and samples.
    """
    columns = stars if isinstance(stars, StarColumns) else StarColumns.from_table(stars, band or None)
    detectors = np.union1d(columns.detector, np.asarray(catalog["id"], dtype=np.int64)).astype(np.int64)
    frame = frame or project_stars(columns)
    density = local_density(frame.x, frame.y)
    models = measure_models(catalog, columns, detectors, sampling=grid_sampling)
    parts = []
    for sample in SAMPLES:
        rows, reasons = _measure_sample(columns, frame, density, sample, detectors, models, star_sampling)
        if stacks is not None:
            _add_stamps(rows, reasons, columns.samples[sample], columns.detector, detectors, stacks)
        _add_verdicts(rows, limits or PsfLimits())
        rows["reasons"] = ["; ".join(dict.fromkeys(texts)) for texts in reasons]
        rows["sample"] = [sample] * len(reasons)
        rows["detector"] = np.concatenate([[WHOLE_VISIT], detectors]).astype(np.int32)
        parts.append(rows)
    return _tabulate(parts, visit, instrument, band)


def _measure_sample(
    columns: StarColumns,
    frame: SkyFrame,
    density: Floats,
    sample: str,
    detectors: Integers,
    models: Sequence[DetectorModel],
    star_sampling: int,
) -> tuple[dict[str, Any], list[list[str]]]:
    """Measure one sample: first the whole visit, then each detector."""
    in_sample = columns.samples[sample]
    group = np.searchsorted(detectors, columns.detector)
    number = len(detectors)
    members = np.flatnonzero(in_sample)
    chosen = np.flatnonzero(in_sample & select_stars(columns))
    counts = _whole_and_each(lambda g, n: {"nPsfStar": Groups(g, n).counts}, group[members], number)
    result = {**counts, **_star_metrics(columns, members, chosen, group, number)}
    result["maxDistToNearestPsf"] = _gaps(columns, chosen, group, models, star_sampling)
    result.update(_model_metrics(models))
    slopes, remarks = trend_statistics(columns, frame, density, chosen, group[chosen], number)
    result.update(slopes)
    _forget_scatters_of_one(result)
    return result, _reasons(columns, sample, result, models, remarks)


def _whole_and_each(measure: Any, group: Integers, number: int) -> dict[str, Any]:
    """Measure all groups together, and each."""
    whole = measure(np.zeros_like(group), 1)
    each = measure(group, number)
    return {name: np.concatenate([whole[name], each[name]]) for name in whole}


def _star_metrics(
    columns: StarColumns, members: Integers, chosen: Integers, group: Integers, number: int
) -> dict[str, Any]:
    def measure(g: Integers, n: int) -> dict[str, Any]:
        groups = Groups(g, n)
        return {
            "nSelectedStar": groups.counts,
            **star_statistics(columns.star[chosen], columns.psf[chosen], groups),
            **higher_moment_statistics(columns.star_higher[chosen], columns.psf_higher[chosen], groups),
        }

    def measure_corrections(g: Integers, n: int) -> Mapping[str, Any]:
        return aperture_correction_statistics(columns, members, Groups(g, n))

    return {
        **_whole_and_each(measure, group[chosen], number),
        **_whole_and_each(measure_corrections, group[members], number),
    }


def _add_stamps(
    rows: dict[str, Any],
    reasons: list[list[str]],
    in_sample: npt.NDArray[np.bool_],
    detector: Integers,
    detectors: Integers,
    stacks: Sequence[DetectorStacks],
) -> None:
    """Add the reduced chi2 of the stars' images, and why there is none.

    Medians over stars, as some have neighbors.
    """
    reduced = np.full(len(in_sample), np.nan)
    for stack in stacks:
        known = stack.dof > 0
        reduced[stack.rows[known]] = (stack.chi2 / np.where(known, stack.dof, 1.0))[known]
    members = np.flatnonzero(in_sample)
    group = np.searchsorted(detectors, detector[members])
    rows.update(
        _whole_and_each(
            lambda g, n: {"stampReducedChi2": Groups(g, n).median(reduced[members])}, group, len(detectors)
        )
    )
    told = {stack.detector: stack.reason for stack in stacks}
    for i, number in enumerate([WHOLE_VISIT, *detectors.tolist()]):
        if np.isfinite(rows["stampReducedChi2"][i]):
            continue
        reason = told.get(number) or "no star has an image with good pixels"
        reasons[i].append(f"no stampReducedChi2: {reason}")


def _gaps(
    columns: StarColumns, chosen: Integers, group: Integers, models: Sequence[DetectorModel], sampling: int
) -> Floats:
    """Return the largest distances to stars; the visit's is the worst."""
    boxes = [model.box for model in models]
    gaps = largest_gaps(columns.x[chosen], columns.y[chosen], group[chosen], boxes, sampling=sampling)
    return np.concatenate([[_largest(gaps)], gaps])


def _largest(values: Floats) -> float:
    return float(np.nanmax(values)) if np.isfinite(values).any() else np.nan


def _model_metrics(models: Sequence[DetectorModel]) -> dict[str, Floats]:
    """Return the models' metrics: the visit has medians and worst deltas."""
    result = {}
    for name in DetectorModel.metric_names():
        values = np.array([model.metrics[name] for model in models], dtype=float)
        summary = _largest(values) if name.endswith("Delta") else _median(values)
        result[name] = np.concatenate([[summary], values])
    return result


def _median(values: Floats) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.nan


def _forget_scatters_of_one(result: dict[str, Any]) -> None:
    """Set scatters of single stars to NaN: they are not 0."""
    single = result["nSelectedStar"] < 2
    for name, values in result.items():
        if name.startswith("psfStar") and "Scatter" in name:
            values[single] = np.nan


def _reasons(
    columns: StarColumns,
    sample: str,
    result: Mapping[str, Any],
    models: Sequence[DetectorModel],
    remarks: Sequence[str],
) -> list[list[str]]:
    """Tell for each row why something is NaN."""
    missing = _missing_columns(columns)
    reasons: list[list[str]] = []
    for i in range(len(models) + 1):
        texts = list(models[i - 1].reasons) if i else _visit_reasons(models)
        in_sample, selected = int(result["nPsfStar"][i]), int(result["nSelectedStar"][i])
        if not in_sample:
            texts.append(f"no {sample} stars")
        elif not selected:
            texts.append(
                f"none of the {in_sample} {sample} stars is unflagged, has finite moments and a "
                "signal-to-noise ratio between 50 and 1000"
            )
        elif selected == 1:
            texts.append("one star has no scatter and no errors")
        if in_sample and not np.isfinite(result["apCorrResidualMedian"][i]):
            texts.append(
                "no star for apCorrResidual: unflagged, a finite ratio of fluxes, signal-to-noise above 200"
            )
        if np.isfinite(result["psfSigma"][i]) and not np.isfinite(result["psfReducedChi2"][i]):
            texts.append("no psfReducedChi2: the PSF model keeps none of its stars")
        if selected and not missing and not np.isfinite(result["starKurtosisMedian"][i]):
            texts.append("no finite higher moments")
        if selected:
            texts += remarks
            if not np.isfinite(result["slopeDeltaTOverTX"][i]):
                texts.append(f"no trends: {selected} selected stars are too few, or all at one place")
        reasons.append(texts + (missing if in_sample else []))
    return reasons


def _visit_reasons(models: Sequence[DetectorModel]) -> list[str]:
    if not models:
        return ["no detectors"]
    bad = [model.detector for model in models if model.reasons]
    if not bad:
        return []
    some = ", ".join(map(str, bad[:10])) + (", …" if len(bad) > 10 else "")
    return [f"models of {len(bad)} of {len(models)} detectors are incomplete: {some}"]


def _missing_columns(columns: StarColumns) -> list[str]:
    """Name columns that aren't there, shortening long lists."""
    names = [name for group in columns.missing.values() for name in group]
    if not names:
        return []
    if len(names) > 6:
        names = [*names[:5], f"and {len(names) - 5} more"]
    return ["the star table lacks " + ", ".join(names)]


def _add_verdicts(rows: dict[str, Any], limits: PsfLimits) -> None:
    number = len(rows["nPsfStar"])
    verdicts = [judge({name: rows[name][i] for name in rows}, limits) for i in range(number)]
    rows["verdict"] = [verdict.name for verdict in verdicts]
    rows["failedLimits"] = np.array([verdict.failed for verdict in verdicts], dtype=np.int32)
    rows["verdictText"] = [verdict.text for verdict in verdicts]


def _tabulate(parts: Sequence[dict[str, Any]], visit: int, instrument: str, band: str) -> astropy.table.Table:
    """Interleave the samples' rows, so that those of a detector follow."""
    number = len(parts[0]["detector"])
    order = np.arange(number * len(parts)).reshape(len(parts), number).T.ravel()
    head: dict[str, Any] = {
        "instrument": [instrument] * len(order),
        "visit": np.full(len(order), visit, dtype=np.int64),
        "band": [band] * len(order),
    }
    merged = {name: np.concatenate([np.asarray(part[name]) for part in parts])[order] for name in parts[0]}
    first = {name: merged.pop(name) for name in ("detector", "sample")}
    table = astropy.table.Table({**head, **first, **merged})
    return describe_columns(table)
