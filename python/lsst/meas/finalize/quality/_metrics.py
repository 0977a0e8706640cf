# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

__all__ = (
    "DetectorQuality",
    "PsfResiduals",
    "distortion",
    "measure_quality",
    "summarize_stars",
    "trace_radius",
)

from dataclasses import dataclass

import astropy.table
import numpy as np
from scipy.stats import median_abs_deviation

from ..catalogs import ExposureRecord
from ..psf import as_batch_psf

_MIN_SIGNAL_TO_NOISE = 200.0  # as for measuring aperture corrections
_FWHM = np.sqrt(8 * np.log(2))  # in units of sigma
_SUMMARY_SIGNAL_TO_NOISE = (50.0, 1000.0)  # exclusive, of the slot PsfFlux
_HIGHER_MOMENTS = "ext_shapeHSM_HigherOrderMomentsSource"


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


def trace_radius(moments: np.ndarray) -> np.ndarray:
    """Return sqrt((xx + yy)/2) (spec 07 §1).

    Parameters
    ----------
    moments
        Moments xx, yy, xy; shape (N, 3).
    """
    return np.sqrt((moments[:, 0] + moments[:, 1]) / 2)


def determinant_radius(moments: np.ndarray) -> np.ndarray:
    """Return (xx yy - xy^2)^(1/4) of moments of shape (N, 3)."""
    return (moments[:, 0] * moments[:, 1] - moments[:, 2] ** 2) ** 0.25


def distortion(moments: np.ndarray) -> np.ndarray:
    """Return e1 = (xx - yy)/(xx + yy) and e2 = 2 xy/(xx + yy) (spec 07 §1).

    Parameters
    ----------
    moments
        Moments xx, yy, xy; shape (N, 3).

    Returns
    -------
    `numpy.ndarray`
        Shape (N, 2).
    """
    size = moments[:, 0] + moments[:, 1]
    return np.stack([(moments[:, 0] - moments[:, 1]) / size, 2 * moments[:, 2] / size], axis=1)


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
        of stars that the fit has not seen.

    Returns
    -------
    `dict` [`str`, `float`]
        Values by the field names of ``ExposureSummaryStats``; lengths in
        pixels. ``nPsfStar`` counts all stars of the sample; the others are of
        unflagged ones with signal-to-noise ratios between 50 and 1000 and
        with finite moments, and NaN if there are none.
    """
    in_sample = np.asarray(stars[f"calib_psf_{sample}"])
    chosen = stars[in_sample & _is_good_for_summary(stars)]
    star, psf = star_moments(chosen), psf_moments(chosen)
    finite = np.isfinite(star).all(axis=1) & np.isfinite(psf).all(axis=1)
    chosen, star, psf = chosen[finite], star[finite], psf[finite]
    e, size = distortion(star), trace_radius(star)
    delta_e, delta_size = e - distortion(psf), size - trace_radius(psf)
    return {
        "nPsfStar": int(in_sample.sum()),
        "psfStarDeltaE1Median": median(delta_e[:, 0]),
        "psfStarDeltaE2Median": median(delta_e[:, 1]),
        "psfStarDeltaE1Scatter": scatter(delta_e[:, 0]),
        "psfStarDeltaE2Scatter": scatter(delta_e[:, 1]),
        "psfStarDeltaSizeMedian": median(delta_size),
        "psfStarDeltaSizeScatter": scatter(delta_size),
        "psfStarScaledDeltaSizeScatter": scatter(delta_size) / median(size),
        "starEMedian": median(np.hypot(*e.T)),
        "starUnNormalizedEMedian": median(np.hypot(star[:, 0] - star[:, 1], 2 * star[:, 2])),
        **_higher_moment_medians(chosen),
    }


def _is_good_for_summary(stars: astropy.table.Table) -> np.ndarray:
    low, high = _SUMMARY_SIGNAL_TO_NOISE
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.asarray(stars["slot_PsfFlux_instFlux"]) / np.asarray(stars["slot_PsfFlux_instFluxErr"])
    flagged = np.asarray(stars["slot_Shape_flag"]) | np.asarray(stars["slot_PsfFlux_flag"])
    return (ratio > low) & (ratio < high) & ~flagged


def _higher_moment_medians(stars: astropy.table.Table) -> dict[str, float]:
    """Return medians of third and fourth moments; NaN if not measured."""
    orders = ("03", "12", "21", "30", "04", "13", "22", "31", "40")
    m = {
        order: np.asarray(stars[f"{_HIGHER_MOMENTS}_{order}"])
        if f"{_HIGHER_MOMENTS}_{order}" in stars.colnames
        else np.full(len(stars), np.nan)
        for order in orders
    }
    return {
        "starComa1Median": median(m["30"] + m["12"]),
        "starComa2Median": median(m["21"] + m["03"]),
        "starTrefoil1Median": median(m["30"] - 3 * m["12"]),
        "starTrefoil2Median": median(3 * m["21"] - m["03"]),
        "starKurtosisMedian": median(m["40"] + 2 * m["22"] + m["04"]),
        "starE41Median": median(m["40"] - m["04"]),
        "starE42Median": median(2 * (m["31"] + m["13"])),
    }


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
    return float(median_abs_deviation(values, scale="normal")) if len(values) > 1 else float("nan")
