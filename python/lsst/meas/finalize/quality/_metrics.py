# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

__all__ = ("DetectorQuality", "distortion", "measure_quality", "trace_radius")

from dataclasses import dataclass

import astropy.table
import numpy as np
from scipy.stats import median_abs_deviation

from ..catalogs import ExposureRecord
from ..psf import as_batch_psf

_MIN_SIGNAL_TO_NOISE = 200.0  # as for measuring aperture corrections
_FWHM = np.sqrt(8 * np.log(2))  # in units of sigma


@dataclass(frozen=True)
class DetectorQuality:
    """How well a detector was characterised.

    Parameters
    ----------
    detector
        Detector number.
    n_candidates, n_used, n_reserved
        Numbers of stars.
    fwhm
        FWHM in arcsec of the Gaussian as wide as the PSF at its average
        position; NaN without a PSF.
    size_residual, size_scatter
        Median and scatter of (T_model - T)/T of the reserved stars, T the
        trace radius of the PSF.
    e1_residual, e2_residual, e_scatter
        Medians and scatter of the difference in distortion.
    ap_corr_scatter
        Scatter of calibration flux over corrected PSF flux.
    """

    detector: int
    n_candidates: int
    n_used: int
    n_reserved: int
    fwhm: float
    size_residual: float
    size_scatter: float
    e1_residual: float
    e2_residual: float
    e_scatter: float
    ap_corr_scatter: float


def trace_radius(moments: np.ndarray) -> np.ndarray:
    """Return sqrt((xx + yy)/2) (spec 07 §1).

    Parameters
    ----------
    moments
        Moments xx, yy, xy; shape (N, 3).
    """
    return np.sqrt((moments[:, 0] + moments[:, 1]) / 2)


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
        Star table of one detector, with at least three stars.
    """
    ra, dec = np.asarray(stars["coord_ra"]), np.asarray(stars["coord_dec"])
    sky = np.stack([(ra - ra.mean()) * np.cos(dec.mean()), dec - dec.mean()], axis=1)
    x, y = np.asarray(stars["slot_Centroid_x"]), np.asarray(stars["slot_Centroid_y"])
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
    reserved = stars[np.asarray(stars["calib_psf_reserved"])]
    model = psf_moments(reserved)
    reference = star_moments(reserved) if truth is None else true_moments(reserved, truth)
    size = trace_radius(model) / trace_radius(reference) - 1
    ellipticity = distortion(model) - distortion(reference)
    return DetectorQuality(
        detector=record.id,
        n_candidates=int(np.sum(stars["calib_psf_candidate"])),
        n_used=int(np.sum(stars["calib_psf_used"])),
        n_reserved=len(reserved),
        fwhm=_fwhm(record, stars),
        size_residual=_median(size),
        size_scatter=_scatter(size),
        e1_residual=_median(ellipticity[:, 0]),
        e2_residual=_median(ellipticity[:, 1]),
        e_scatter=_scatter(ellipticity.ravel()),
        ap_corr_scatter=_ap_corr_scatter(stars),
    )


def _fwhm(record: ExposureRecord, stars: astropy.table.Table) -> float:
    if record.psf is None or len(stars) < 3:
        return float("nan")
    psf = as_batch_psf(record.psf)
    x, y = psf.average_position
    xx, yy, xy = psf.compute_shapes(np.array([x]), np.array([y]))[0]
    return float((xx * yy - xy**2) ** 0.25 * _FWHM * pixel_scale(stars))


def _ap_corr_scatter(stars: astropy.table.Table) -> float:
    flux, error = np.asarray(stars["slot_PsfFlux_instFlux"]), np.asarray(stars["slot_PsfFlux_instFluxErr"])
    calib = np.asarray(stars["slot_CalibFlux_instFlux"])
    good = (flux > _MIN_SIGNAL_TO_NOISE * error) & ~np.asarray(stars["slot_PsfFlux_flag"])
    return _scatter(calib[good] / flux[good])


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


def _scatter(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(median_abs_deviation(values, scale="normal")) if len(values) > 1 else float("nan")
