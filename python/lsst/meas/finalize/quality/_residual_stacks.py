# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What is left of stars' images after the PSF model is subtracted."""

from __future__ import annotations

__all__ = ("DetectorStacks", "ResidualStack", "StampFits", "fit_stamps", "stack_detector", "stack_residuals")

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..catalogs import cut_stamps
from ..psf import BatchPsf
from ._columns import StarColumns

if TYPE_CHECKING:
    from lsst.images import VisitImage

type Floats = npt.NDArray[np.float64]
type Booleans = npt.NDArray[np.bool_]
type Integers = npt.NDArray[np.int64]

BAD_PLANES = ("BAD", "CR", "EDGE", "INTRP", "NO_DATA", "SAT")
"""Mask planes of pixels that don't count."""

_CROWDED = 3.0
"""Stars whose reduced chi2 is so many times the detector's median have
neighbors.
"""
_SAMPLES = ("used", "reserved")


@dataclass(frozen=True)
class StampFits:
    """Fits of PSF models to images of stars.

    Parameters
    ----------
    flux
        Fitted fluxes in the image's unit, shape (N,); NaN without good
        pixels.
    chi2
        Sums of squares of residuals over variances.
    dof
        Numbers of good pixels less one.
    residual
        Image minus model, shape (N, h, w); 0 where a pixel doesn't count.
    weight
        Inverse variances, 0 where a pixel doesn't count.
    """

    flux: Floats
    chi2: Floats
    dof: Floats
    residual: Floats
    weight: Floats


@dataclass(frozen=True)
class ResidualStack:
    """Mean residual of some stars.

    Parameters
    ----------
    mean
        In units of the star's flux, shape (h, w); NaN where no pixel counts.
    error
        Its standard deviation by the variances of the pixels.
    n_stars
        Number of stars.
    """

    mean: Floats
    error: Floats
    n_stars: int


@dataclass(frozen=True)
class DetectorStacks:
    """What the images of a detector's stars tell.

    Parameters
    ----------
    detector
        Detector number.
    stacks
        By sample: ``used`` and ``reserved``.
    rows
        Rows of the stars that were fitted.
    chi2, dof
        Of each of them, see `StampFits`.
    reason
        Why there is nothing, if so.
    """

    detector: int
    stacks: dict[str, ResidualStack] = field(default_factory=dict)
    rows: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    chi2: Floats = field(default_factory=lambda: np.zeros(0))
    dof: Floats = field(default_factory=lambda: np.zeros(0))
    reason: str = ""


def fit_stamps(image: npt.ArrayLike, variance: npt.ArrayLike, good: Booleans, model: Floats) -> StampFits:
    """Fit the flux of each star, the model's shape and place being given.

    Parameters
    ----------
    image, variance
        Images of the stars, background subtracted, and the variances of
        their pixels; shape (N, h, w).
    good
        Which pixels count; those without finite values and positive
        variance never do.
    model
        PSF images at the stars, normalized to sum 1.

    Returns
    -------
    `StampFits`
        Weighted least squares: the flux is Σ w P I / Σ w P² with w = 1/V.
    """
    image, variance = (np.asarray(values, dtype=np.float64) for values in (image, variance))
    with np.errstate(invalid="ignore", divide="ignore"):
        good = good & np.isfinite(image) & np.isfinite(model) & (variance > 0) & np.isfinite(variance)
        weight = np.where(good, 1 / variance, 0.0)
    image, model = np.where(good, image, 0.0), np.where(good, model, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        flux = (weight * model * image).sum(axis=(1, 2)) / (weight * model**2).sum(axis=(1, 2))
    residual = image - np.nan_to_num(flux)[:, None, None] * model
    chi2 = (weight * residual**2).sum(axis=(1, 2))
    dof = good.sum(axis=(1, 2)) - 1.0
    known = np.isfinite(flux) & (dof > 0)
    return StampFits(flux, np.where(known, chi2, np.nan), np.where(known, dof, 0.0), residual, weight)


def stack_residuals(fits: StampFits, chosen: Booleans) -> ResidualStack:
    """Average residuals in units of the stars' fluxes.

    Parameters
    ----------
    fits
        Fits of N stars.
    chosen
        Which of them to average, shape (N,); those without a positive flux
        are left out.

    Returns
    -------
    `ResidualStack`
        Σ f² w (R/f) / Σ f² w: weighted by the inverse variance of each
        star's R/f.
    """
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(chosen & (fits.flux > 0) & (fits.dof > 0))
    flux = fits.flux[rows, None, None]
    weight = (flux**2 * fits.weight[rows]).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (flux * fits.weight[rows] * fits.residual[rows]).sum(axis=0) / weight
        error = np.where(weight > 0, 1 / np.sqrt(weight), np.nan)
    return ResidualStack(mean, error, len(rows))


def stack_detector(
    exposure: VisitImage,
    psf: BatchPsf,
    columns: StarColumns,
    rows: Integers,
    detector: int,
    *,
    bad_planes: Sequence[str] = BAD_PLANES,
) -> DetectorStacks:
    """Subtract the PSF model from the stars of a detector and average.

    Parameters
    ----------
    exposure
        Calibrated image of the detector, background subtracted.
    psf
        PSF model of the detector.
    columns
        Stars of the visit.
    rows
        Those of the detector that count, shape (N,).
    detector
        Detector number.
    bad_planes
        Mask planes of pixels that don't count.

    Returns
    -------
    `DetectorStacks`
        Stars are aligned to whole pixels.  Neighbors aren't removed, but
        stars whose reduced chi2 is three times the detector's median are
        left out of the stacks.
    """
    rows = rows[np.isfinite(columns.x[rows]) & np.isfinite(columns.y[rows])]
    if not len(rows):
        return DetectorStacks(detector, reason="no stars to stack images of")
    # Other colors than the fit's own would be of another kind.
    color = columns.color[rows] if columns.color_name == "psf_color_value" else None
    model, x0, y0 = psf.draw_star_images(columns.x[rows], columns.y[rows], color)
    stamps = cut_stamps(exposure, x0, y0, model.shape[2], model.shape[1])
    good = ~stamps.bad(bad_planes)
    if stamps.valid is not None:
        good &= stamps.valid
    fits = fit_stamps(stamps.image, stamps.variance, good, model)
    with np.errstate(invalid="ignore", divide="ignore"):
        reduced = fits.chi2 / fits.dof
        known = np.isfinite(reduced)
        clean = reduced <= _CROWDED * np.median(reduced[known]) if known.any() else known
    stacks = {name: stack_residuals(fits, clean & columns.samples[name][rows]) for name in _SAMPLES}
    return DetectorStacks(detector, stacks, rows, fits.chi2, fits.dof)
