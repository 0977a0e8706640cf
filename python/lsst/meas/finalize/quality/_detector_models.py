# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Metrics of the PSF models and aperture corrections of a visit."""

from __future__ import annotations

__all__ = ("DetectorModel", "detector_box", "measure_models")

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lsst.images import Box

from ..catalogs import ExposureCatalog, ExposureRecord
from ..psf import BatchPsf, as_batch_psf
from ._columns import StarColumns
from ._psf_statistics import PSF_STATISTICS, field_range, psf_statistics

_AP_CORR = "base_PsfFlux_instFlux"
_LARGEST = 100_000
"""No detector has more pixels along one axis."""


@dataclass(frozen=True)
class DetectorModel:
    """What is known of the model of one detector.

    Parameters
    ----------
    detector
        Detector number.
    box
        Its pixels, if known.
    metrics
        Values by name; NaN if not measured.
    reasons
        Why something is NaN.
    """

    detector: int
    box: Box | None
    metrics: dict[str, float]
    reasons: list[str] = field(default_factory=list)

    @staticmethod
    def metric_names() -> tuple[str, ...]:
        """Return the names of the metrics."""
        return (*PSF_STATISTICS, "psfApCorrSigmaScaledDelta", "psfReducedChi2")


def measure_models(
    catalog: ExposureCatalog, columns: StarColumns, detectors: Iterable[int], *, sampling: int = 96
) -> list[DetectorModel]:
    """Measure the models of detectors.

    Parameters
    ----------
    catalog
        PSF models and aperture corrections by detector, in any order.
    columns
        Stars; where they are tells a detector's size if nothing else does.
    detectors
        Detector numbers; some may not be in the catalog.
    sampling
        Spacing of the grid in pixels.

    Returns
    -------
    `list` [`DetectorModel`]
        One for each detector.
    """
    rows: dict[int, int] = {}
    for i, detector in enumerate(np.asarray(catalog["id"]).tolist()):
        rows.setdefault(detector, i)
    models = []
    for detector in map(int, detectors):
        if detector not in rows:
            reason = ["no row in the catalog of PSF models"]
            models.append(DetectorModel(detector, _star_box(columns, detector), _unknown(), reason))
        else:
            models.append(_measure(catalog[rows[detector]], columns, detector, sampling))
    return models


def _unknown() -> dict[str, float]:
    return dict.fromkeys(DetectorModel.metric_names(), np.nan)


def _measure(record: ExposureRecord, columns: StarColumns, detector: int, sampling: int) -> DetectorModel:
    metrics, reasons = _unknown(), []
    box, note = detector_box(record, columns)
    try:
        psf = None if record.psf is None else as_batch_psf(record.psf)
    except Exception as error:  # whatever a damaged model raises
        psf = None
        reasons.append(f"the PSF model can't be used: {first_line(error)}")
    else:
        if psf is None:
            reasons.append("no PSF model")
    if box is None:
        reasons.append("size of the detector is unknown")
    if psf is not None and box is not None:
        reasons += note
        reasons += _measure_psf(psf, box, metrics, sampling)
        metrics["psfReducedChi2"] = reduced_chi2(record.psf)
    if box is not None:
        reasons += _measure_ap_corr(record, box, metrics, sampling)
    return DetectorModel(detector, box, metrics, reasons)


def first_line(error: Exception) -> str:
    """Return what to tell of an error in a table."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _measure_psf(psf: BatchPsf, box: Box, metrics: dict[str, float], sampling: int) -> list[str]:
    try:
        metrics.update(psf_statistics(psf, box, sampling=sampling))
    except Exception as error:  # whatever drawing raises
        return [f"the PSF model can't be drawn: {first_line(error)}"]
    bad = [name for name in PSF_STATISTICS if not np.isfinite(metrics[name])]
    return [f"the PSF model isn't finite for {', '.join(bad)}"] if bad else []


def _measure_ap_corr(record: ExposureRecord, box: Box, metrics: dict[str, float], sampling: int) -> list[str]:
    name = "psfApCorrSigmaScaledDelta"
    try:
        field = (record.ap_corr_map or {}).get(_AP_CORR)
        if field is None:
            return [f"no aperture correction {_AP_CORR}"]
        metrics[name] = field_range(field, box, sampling=sampling) / metrics["psfSigma"]
    except Exception as error:  # whatever a damaged field raises
        return [f"the aperture correction can't be evaluated: {first_line(error)}"]
    # Without psfSigma the reason has been told.
    if np.isfinite(metrics["psfSigma"]) and not np.isfinite(metrics[name]):
        return [f"aperture correction {_AP_CORR} isn't finite"]
    return []


def reduced_chi2(psf: Any) -> float:
    """Return chi² per degree of freedom of the stars of a Piff model.

    Parameters
    ----------
    psf
        Any PSF.

    Returns
    -------
    `float`
        Of the stamps of all stars that the fit used, as the fit stored them;
        NaN if it didn't.
    """
    stars = getattr(getattr(psf, "piff_psf", None), "stars", None) or ()
    used = [star for star in stars if not star.is_flagged and not star.is_reserve]
    fits = [star.fit for star in used if hasattr(star, "fit")]
    values = [(fit.chisq, fit.dof) for fit in fits if getattr(fit, "dof", 0) > 0]
    chisq, dof = np.sum(np.array(values, dtype=float).reshape(-1, 2), axis=0)
    return float(chisq / dof) if dof > 0 else np.nan


def detector_box(record: ExposureRecord, columns: StarColumns) -> tuple[Box | None, list[str]]:
    """Return the pixels of a detector, with a remark if they are a guess.

    Parameters
    ----------
    record
        Row of the detector.  Its box is often empty, as upstream doesn't
        set it; then the aperture corrections' is used.
    columns
        Stars, for a detector that has neither.

    Returns
    -------
    box : `lsst.images.Box` or `None`
        The pixels.
    remarks : `list` [`str`]
        That the box is that of the stars, if so.
    """
    values = record.values
    names = ("bbox_min_x", "bbox_min_y", "bbox_max_x", "bbox_max_y")
    if all(name in values for name in names):
        x0, y0, x1, y1 = (int(values[name]) for name in names)
        if 0 < x1 - x0 < _LARGEST and 0 < y1 - y0 < _LARGEST:
            return Box.factory[y0 : y1 + 1, x0 : x1 + 1], []
    try:
        fields = list((record.ap_corr_map or {}).values())[:1]
        boxes = [field.bounds.bbox for field in fields]
    except Exception:  # whatever a damaged map raises; it is told elsewhere
        boxes = []
    for box in boxes:
        if 0 < box.x.size < _LARGEST and 0 < box.y.size < _LARGEST:
            return box, []
    guess = _star_box(columns, record.id)
    return guess, ["the detector's box is taken from its stars"] if guess is not None else []


def _star_box(columns: StarColumns, detector: int) -> Box | None:
    rows = (columns.detector == detector) & np.isfinite(columns.x) & np.isfinite(columns.y)
    if not rows.any():
        return None
    x, y = columns.x[rows], columns.y[rows]
    if max(np.abs(x).max(), np.abs(y).max()) > _LARGEST:
        return None
    x0, x1, y0, y1 = (int(np.floor(v)) for v in (x.min(), x.max(), y.min(), y.max()))
    return Box.factory[y0 : y1 + 1, x0 : x1 + 1]
