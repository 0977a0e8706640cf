# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""How far PSF models are from stars."""

from __future__ import annotations

__all__ = (
    "DetectorQuality",
    "PsfResiduals",
    "measure_quality",
    "summarize_stars",
)

from dataclasses import dataclass

import astropy.table
import numpy as np

from .._robust import robust_scatter
from ..catalogs import ExposureRecord
from ..psf import as_batch_psf
from ._columns import StarColumns
from ._groups import Groups
from ._moments import determinant_radius, distortion, trace_radius
from ._star_statistics import higher_moment_statistics, select_stars, star_statistics

_MIN_SIGNAL_TO_NOISE = 200.0  # as for measuring aperture corrections
_FWHM = np.sqrt(8 * np.log(2))  # in units of sigma


@dataclass(frozen=True)
class PsfResiduals:
    """How far the PSF model is from the reference at some stars.

    Parameters
    ----------
    n_stars
        Number of stars.
    size, size_scatter
        Median and scatter of (T_model - T)/T, T the trace radius of the PSF.
    e1, e2, e_scatter
        Medians and scatter of the difference in distortion, model minus
        reference.
    """

    n_stars: int
    size: float
    size_scatter: float
    e1: float
    e2: float
    e_scatter: float


@dataclass(frozen=True)
class DetectorQuality:
    """How well a detector was characterised.

    Parameters
    ----------
    detector
        Detector number.
    n_candidates
        Number of stars.
    fwhm
        FWHM in arcsec of the Gaussian with the determinant radius of the PSF
        at its average position; NaN without a PSF.
    used, reserved
        Residuals at stars that the fit used, and at those held back.
    ap_corr_scatter
        Scatter of corrected PSF flux over calibration flux.
    """

    detector: int
    n_candidates: int
    fwhm: float
    used: PsfResiduals
    reserved: PsfResiduals
    ap_corr_scatter: float


def psf_moments(stars: astropy.table.Table) -> np.ndarray:
    """Return the moments of the PSF model at the stars, shape (N, 3)."""
    return np.stack([np.asarray(stars[f"slot_PsfShape_{m}"]) for m in ("xx", "yy", "xy")], axis=1)


def star_moments(stars: astropy.table.Table) -> np.ndarray:
    """Return the moments of the stars themselves, shape (N, 3)."""
    return np.stack([np.asarray(stars[f"slot_Shape_{m}"]) for m in ("xx", "yy", "xy")], axis=1)


def true_moments(stars: astropy.table.Table, truth: astropy.table.Table) -> np.ndarray:
    """Return the moments of the true PSF at the stars, shape (N, 3)."""
    if len(truth) == 0:
        return np.full((len(stars), 3), np.nan)
    order = np.argsort(np.asarray(truth["source_id"]))
    ids = np.asarray(truth["source_id"])[order]
    position = np.minimum(np.searchsorted(ids, np.asarray(stars["id"])), len(ids) - 1)
    row = order[position]
    moments = np.stack([np.asarray(truth[f"psf_{m}"])[row] for m in ("xx", "yy", "xy")], axis=1)
    moments[ids[position] != np.asarray(stars["id"])] = np.nan
    return moments


def pixel_scale(stars: astropy.table.Table) -> float:
    """Return the pixel scale in arcsec, from positions of the stars.

    Parameters
    ----------
    stars
        Star table of one detector.

    Returns
    -------
    `float`
        The scale; NaN for less than three stars with positions.
    """
    columns = ("coord_ra", "coord_dec", "slot_Centroid_x", "slot_Centroid_y")
    values = np.stack([np.asarray(stars[name], dtype=float) for name in columns])
    ra, dec, x, y = values[:, np.isfinite(values).all(axis=0)]
    if len(ra) < 3:
        return float("nan")
    # Differences, since right ascensions may be on both sides of 0.
    d_ra = np.remainder(ra - ra[0] + np.pi, 2 * np.pi) - np.pi
    sky = np.stack([d_ra * np.cos(dec.mean()), dec - dec.mean()], axis=1)
    design = np.stack([x, y, np.ones(len(x))], axis=1)
    solution = np.linalg.lstsq(design, sky, rcond=None)[0]
    return float(np.rad2deg(np.sqrt(abs(np.linalg.det(solution[:2])))) * 3600)


def measure_quality(
    record: ExposureRecord, stars: astropy.table.Table, truth: astropy.table.Table | None = None
) -> DetectorQuality:
    """Judge the characterisation of one detector.

    Parameters
    ----------
    record
        Row of the finalized exposure catalogue.
    stars
        Star table of the detector.
    truth
        True objects; without it the model is compared with the stars'
        own moments.

    Returns
    -------
    `DetectorQuality`
        Metrics; NaN where there is nothing to measure.
    """
    return DetectorQuality(
        detector=record.id,
        n_candidates=int(np.sum(stars["calib_psf_candidate"])),
        fwhm=_fwhm(record, stars),
        used=_residuals(stars[np.asarray(stars["calib_psf_used"])], truth),
        reserved=_residuals(stars[np.asarray(stars["calib_psf_reserved"])], truth),
        ap_corr_scatter=_ap_corr_scatter(stars),
    )


def _residuals(stars: astropy.table.Table, truth: astropy.table.Table | None) -> PsfResiduals:
    model = psf_moments(stars)
    reference = star_moments(stars) if truth is None else true_moments(stars, truth)
    size = trace_radius(model) / trace_radius(reference) - 1
    ellipticity = distortion(model) - distortion(reference)
    return PsfResiduals(
        n_stars=len(stars),
        size=median(size),
        size_scatter=scatter(size),
        e1=median(ellipticity[:, 0]),
        e2=median(ellipticity[:, 1]),
        e_scatter=scatter(ellipticity.ravel()),
    )


def summarize_stars(stars: astropy.table.Table, sample: str = "used") -> dict[str, float]:
    """Return the star statistics of an exposure summary (spec 07 §2).

    Parameters
    ----------
    stars
        Star table of one detector.
    sample
        ``used`` for upstream's statistics, ``reserved`` for the same ones
        of stars that the fit has not seen, ``candidate`` for all.

    Returns
    -------
    `dict` [`str`, `float`]
        Values by the field names of ``ExposureSummaryStats``; lengths in
        pixels. ``nPsfStar`` counts all stars of the sample; the others are of
        unflagged ones with signal-to-noise ratios between 50 and 1000 and
        with finite moments, and NaN if there are none.  See
        `star_statistics` and `higher_moment_statistics`.

    Raises
    ------
    MissingColumnsError
        Raised if the table doesn't tell detectors and samples.
    """
    columns = StarColumns.from_table(stars)
    in_sample = columns.samples[sample]
    rows = np.flatnonzero(in_sample & select_stars(columns))
    groups = Groups(np.zeros(len(rows), dtype=int), 1)
    statistics = {
        **star_statistics(columns.star[rows], columns.psf[rows], groups),
        **higher_moment_statistics(columns.star_higher[rows], columns.psf_higher[rows], groups),
    }
    summary = {name: float(values[0]) for name, values in statistics.items()}
    if len(rows) == 1:  # one star has no scatter
        summary.update({name: np.nan for name in summary if "Scatter" in name})
    return {"nPsfStar": int(in_sample.sum()), **summary}


def _fwhm(record: ExposureRecord, stars: astropy.table.Table) -> float:
    if record.psf is None:
        return float("nan")
    psf = as_batch_psf(record.psf)
    x, y = psf.average_position
    radius = determinant_radius(psf.compute_shapes(np.array([x]), np.array([y])))[0]
    return float(radius * _FWHM * pixel_scale(stars))


def _ap_corr_scatter(stars: astropy.table.Table) -> float:
    flux, error = np.asarray(stars["slot_PsfFlux_instFlux"]), np.asarray(stars["slot_PsfFlux_instFluxErr"])
    calib = np.asarray(stars["slot_CalibFlux_instFlux"])
    good = (flux > _MIN_SIGNAL_TO_NOISE * error) & ~np.asarray(stars["slot_PsfFlux_flag"])
    return scatter(flux[good] / calib[good])


def median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


def scatter(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan")
    return robust_scatter(values)
