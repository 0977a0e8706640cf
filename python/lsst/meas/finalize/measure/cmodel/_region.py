# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Pixels and starting parameters of CModel fits (spec 05 §6.5 - §6.7)."""

from __future__ import annotations

__all__ = (
    "FitPixels",
    "InitialRegions",
    "final_regions",
    "fit_pixels",
    "initial_regions",
    "parameters_from_quadrupole",
    "starting_moments",
)

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...catalogs import StampSet
from .._batch import MeasureBatch
from ..pixels import PixelRegions, box_batches, ellipse_boxes, pixel_regions
from ._config import CModelRegionConfig

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]
type IntArray = npt.NDArray[np.int64]


class InitialRegions(NamedTuple):
    """Ellipses that hold the pixels of the first fits."""

    ellipse: FloatArray
    """Quadrupoles xx, yy, xy in pixel², (N, 3)."""
    used_footprint: BoolArray
    """Has the ellipse the footprint's area?"""
    used_psf: BoolArray
    """Is the ellipse a multiple of the PSF's?"""
    too_large: BoolArray
    """Is the area above the limit?"""


class FitPixels(NamedTuple):
    """Pixels of many stars, one star after the other."""

    start: IntArray
    """Position of each star's first pixel, (N,)."""
    length: IntArray
    """Number of pixels of each star, (N,)."""
    x: npt.NDArray[np.float32]
    """PARENT columns."""
    y: npt.NDArray[np.float32]
    """PARENT rows."""
    image: npt.NDArray[np.float32]
    """Values."""
    variance: npt.NDArray[np.float32]
    """Variances."""


def _nan_where_infinite(variance: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(variance), np.float32(np.nan), variance)


def _determinant(quadrupole: FloatArray) -> FloatArray:
    return quadrupole[:, 0] * quadrupole[:, 1] - quadrupole[:, 2] ** 2


def ellipse_area(quadrupole: FloatArray) -> FloatArray:
    """Return the areas of ellipses, NaN if they have none, (N,)."""
    with np.errstate(invalid="ignore"):
        return np.pi * np.sqrt(_determinant(quadrupole))


def initial_regions(
    moments: FloatArray,
    psf_moments: FloatArray,
    kron_radius: FloatArray,
    footprint_area: npt.NDArray[np.integer],
    config: CModelRegionConfig,
) -> InitialRegions:
    """Choose the ellipses of the first fits.

    Parameters
    ----------
    moments, psf_moments : `numpy.ndarray`
        Quadrupoles xx, yy, xy of stars and PSFs in pixel², (N, 3).
    kron_radius : `numpy.ndarray`
        Kron radii in pixels, not positive if unknown, (N,).
    footprint_area : `numpy.ndarray`
        Numbers of pixels of the footprints, (N,).
    config : `CModelRegionConfig`
        Options.

    Returns
    -------
    regions : `InitialRegions`
        Ellipses and how they came about.
    """
    psf_area = ellipse_area(psf_moments)
    least = config.nPsfSigmaMin**2 * psf_area
    with np.errstate(invalid="ignore", divide="ignore"):
        det = _determinant(moments)
        bad = (moments[:, 0] < 0) | (moments[:, 1] < 0) | (det < 0) | ~(kron_radius > 0)
        scale = (config.nKronRadii * kron_radius) ** 2 / np.sqrt(det)
        ellipse = moments * scale[:, None]
        fallback = bad | (ellipse_area(ellipse) < least)
        used_psf = fallback & (least > footprint_area)
        used_footprint = fallback & ~used_psf
        factor = np.where(used_psf, config.nPsfSigmaMin**2, footprint_area / psf_area)
        ellipse = np.where(fallback[:, None], psf_moments * factor[:, None], ellipse)
        too_large = ellipse_area(ellipse) > config.maxArea
    return InitialRegions(ellipse, used_footprint, used_psf, too_large)


def final_regions(
    fitted: FloatArray, psf_moments: FloatArray, initial: FloatArray, config: CModelRegionConfig
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Choose the ellipses of the final fits.

    Parameters
    ----------
    fitted, psf_moments, initial : `numpy.ndarray`
        Quadrupoles of fitted half-light ellipses, of PSFs and of the first
        regions, in pixel², (N, 3).
    config : `CModelRegionConfig`
        Options.

    Returns
    -------
    ellipse : `numpy.ndarray`
        Quadrupoles in pixel², (N, 3).
    used_min, used_max : `numpy.ndarray`
        Where the limits of the size took effect, bool (N,).
    """
    grow = config.nPsfSigmaGrow**2 * psf_moments
    a = _determinant(fitted)
    b = fitted[:, 0] * grow[:, 1] + fitted[:, 1] * grow[:, 0] - 2 * fitted[:, 2] * grow[:, 2]
    c = _determinant(grow) - _determinant(initial)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Quirk: this is the square of the scale that was meant.
        alpha = (np.sqrt(b**2 - 4 * a * c) - b) / (2 * a)
        used_min, used_max = alpha < config.nFitRadiiMin, alpha > config.nFitRadiiMax
    alpha = np.where(used_min, config.nFitRadiiMin, np.where(used_max, config.nFitRadiiMax, alpha))
    return alpha[:, None] ** 2 * fitted + grow, used_min, used_max


def fit_pixels(
    batch: MeasureBatch,
    rows: IntArray,
    x: FloatArray,
    y: FloatArray,
    ellipse: FloatArray,
    config: CModelRegionConfig,
) -> tuple[FitPixels, BoolArray, BoolArray]:
    """Collect the good pixels inside ellipses.

    Parameters
    ----------
    batch : `MeasureBatch`
        Stars being measured.
    rows : `numpy.ndarray`
        Indices of the stars wanted, (n,).
    x, y, ellipse : `numpy.ndarray`
        Their centres in PARENT pixels and quadrupoles in pixel².
    config : `CModelRegionConfig`
        Options.

    Returns
    -------
    pixels : `FitPixels`
        Pixels of these n stars.
    valid : `numpy.ndarray`
        False where centre or ellipse are not finite, bool (n,).
    accepted : `numpy.ndarray`
        False where too many pixels are missing, bool (n,).
    """
    valid = np.isfinite(x) & np.isfinite(y) & np.isfinite(ellipse).all(axis=1)
    valid &= (ellipse[:, 0] >= 0) & (ellipse[:, 1] >= 0)
    count = np.zeros(len(rows), dtype=np.int64)
    start = np.zeros(len(rows), dtype=np.int64)
    boxes = np.tile(np.array([0, 0, -1, -1], dtype=np.int64), (len(rows), 1))
    boxes[valid] = ellipse_boxes(x[valid], y[valid], ellipse[valid, 0], ellipse[valid, 1])
    x_min, y_min, x_max, y_max = batch.image_box
    boxes[:, :2] = np.maximum(boxes[:, :2], (x_min, y_min))
    boxes[:, 2:] = np.minimum(boxes[:, 2:], (x_max, y_max))
    on_image = np.flatnonzero(valid & (boxes[:, 0] <= boxes[:, 2]) & (boxes[:, 1] <= boxes[:, 3]))
    parts: list[npt.NDArray[np.float32]] = []
    total = 0
    for part in box_batches(boxes, on_image):
        members = part.rows
        stamps = batch.cutout(part.x0, part.y0, part.width, part.height, rows[members])
        xx, yy, xy = ellipse[members].T
        regions = pixel_regions(x[members], y[members], xx, yy, xy, part.y0, part.height)
        pixels = _collect(stamps, regions, batch.image_box, config.badMaskPlanes, count, members)
        start[members] = total + np.cumsum(count[members]) - count[members]
        total += pixels.shape[1]
        parts.append(pixels)
    arrays = np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), dtype=np.float32)
    # A weight of 0 would leave a fit without pixels unflagged.
    arrays[3] = _nan_where_infinite(arrays[3])
    area = ellipse_area(ellipse)
    with np.errstate(invalid="ignore"):
        accepted = (count > 0) & ~(area - count > config.maxBadPixelFraction * area)
    return FitPixels(start, count, *arrays), valid, accepted


def _collect(
    stamps: StampSet,
    regions: PixelRegions,
    image_box: tuple[int, int, int, int],
    bad_planes: Sequence[str],
    count: IntArray,
    members: IntArray,
) -> npt.NDArray[np.float32]:
    """Return columns, rows, values and variances of the good pixels in
    regions that are on the image, (4, total), and set their number.
    """
    from ._region_numba import collect_pixels

    n, height, _ = stamps.shape
    x_min, y_min, x_max, y_max = image_box
    low = np.maximum(regions.x_low, x_min) - stamps.x0[:, None]
    high = np.minimum(regions.x_high, x_max) - stamps.x0[:, None]
    row = stamps.y0[:, None] + np.arange(height)
    high[(row < y_min) | (row > y_max)] = -1
    # Of a region that begins or ends beyond the stamp nothing else is there.
    low, high = np.maximum(low, 0), np.minimum(high, stamps.shape[2] - 1)
    number = np.zeros(n, dtype=np.int64)
    out = np.empty((4, int(np.maximum(high - low + 1, 0).sum())), dtype=np.float32)
    total = collect_pixels(
        stamps.image,
        stamps.variance,
        stamps.mask,
        np.uint32(stamps.bits(bad_planes)),
        np.stack([stamps.x0, stamps.y0], axis=1),
        low,
        high,
        number,
        out,
    )
    count[members] = number
    return out[:, :total]


def starting_moments(
    moments: FloatArray, psf_moments: FloatArray, min_radius: float, moments_factor: float
) -> tuple[FloatArray, BoolArray]:
    """Deconvolve moments roughly.

    Parameters
    ----------
    moments, psf_moments : `numpy.ndarray`
        Quadrupoles of stars and PSFs in pixel², (N, 3).
    min_radius : `float`
        Least radius (pixels).
    moments_factor : `float`
        Second-moment radius of the profile in half-light radii.

    Returns
    -------
    ellipse : `numpy.ndarray`
        Half-light ellipses, quadrupoles in pixel², (N, 3).
    small : `numpy.ndarray`
        Where the difference is not an ellipse, bool (N,).
    """
    least = min_radius**2
    ellipse = moments - psf_moments
    with np.errstate(invalid="ignore"):
        for k in range(2):
            ellipse[:, k] = np.where(ellipse[:, k] < least, least, ellipse[:, k])
        small = ellipse[:, 0] * ellipse[:, 1] < ellipse[:, 2] ** 2
    ellipse[small, 2] = 0.0
    return ellipse / moments_factor**2, small


def parameters_from_quadrupole(quadrupole: FloatArray) -> FloatArray:
    """Compute conformal shears and logarithms of trace radii.

    Parameters
    ----------
    quadrupole : `numpy.ndarray`
        Moments xx, yy, xy, (N, 3).

    Returns
    -------
    parameters : `numpy.ndarray`
        eta1, eta2, ln(radius), (N, 3).
    """
    xx, yy, xy = quadrupole.T
    with np.errstate(invalid="ignore", divide="ignore"):
        trace = xx + yy
        d1, d2 = (xx - yy) / trace, 2 * xy / trace
        delta = np.hypot(d1, d2)
        factor = np.where(delta < 1e-8, 1 + delta**2 / 3, np.arctanh(delta) / delta)
        return np.stack([d1 * factor, d2 * factor, 0.5 * np.log(trace / 2)], axis=1)
