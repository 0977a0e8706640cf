# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Pixel weights of the stars a PSF is fitted to."""

from __future__ import annotations

__all__ = ("flat_pixels", "good_pixels", "sky_variance", "star_weights")

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..catalogs import StampSet


def good_pixels(stamps: StampSet, zero_weight_bits: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Tell which pixels of stamps can be fitted.

    Parameters
    ----------
    stamps
        Images of N stars.
    zero_weight_bits
        Names of mask planes that exclude a pixel.

    Returns
    -------
    `numpy.ndarray`
        bool, shape of the stamps' images.

    Raises
    ------
    ValueError
        Raised for an unknown mask plane.
    """
    good = (stamps.variance > 0) & np.isfinite(stamps.variance) & np.isfinite(stamps.image)
    good &= ~stamps.bad(zero_weight_bits)
    if stamps.valid is not None:
        good &= stamps.valid
    return good


def flat_pixels(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the pixels of each star in one row.

    Parameters
    ----------
    pixels
        Pixels of N stars, shape (N, h, w); N may be 0, for which NumPy can't
        tell the length of the rows.

    Returns
    -------
    `numpy.ndarray`
        Shape (N, h w).
    """
    return pixels.reshape(len(pixels), math.prod(pixels.shape[1:]))


def sky_variance(
    image: npt.NDArray[np.float32], variance: npt.NDArray[np.float32], good: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Estimate the variance of a pixel without signal.

    Parameters
    ----------
    image, variance
        Pixels of N stars, shape (N, h, w).
    good
        Pixels to use, same shape.

    Returns
    -------
    `numpy.ndarray`
        Intercept of the least-squares straight line of variance against
        image value, shape (N,); NaN without good pixels.  If all
        good pixels have one value it is their mean variance.

    Notes
    -----
    The star's own photon noise must not enter the weights: it would bias
    the fit towards low pixels.  Everything in float64 (spec 01 §5.3).
    """
    x = flat_pixels(np.where(good, image, 0.0).astype(np.float64))
    y = flat_pixels(np.where(good, variance, 0.0).astype(np.float64))
    use = flat_pixels(good)
    number = use.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x = x.sum(axis=1) / number
        mean_y = y.sum(axis=1) / number
        dx = np.where(use, x - mean_x[:, np.newaxis], 0.0)
        dy = np.where(use, y - mean_y[:, np.newaxis], 0.0)
        slope = (dx * dy).sum(axis=1) / (dx * dx).sum(axis=1)
        slope = np.where((dx * dx).sum(axis=1) > 0.0, slope, 0.0)
        return mean_y - slope * mean_x


def star_weights(stamps: StampSet, good: npt.NDArray[np.bool_], max_snr: float) -> npt.NDArray[np.float64]:
    """Compute the pixel weights of stars.

    Parameters
    ----------
    stamps
        Images of N stars.
    good
        Pixels to use, shape (N, h, w).
    max_snr
        Weights of stars with a higher signal-to-noise ratio are scaled down
        to it.

    Returns
    -------
    `numpy.ndarray`
        Weights, float64, shape (N, h, w); 0 in pixels not to use, and in all
        pixels of a star for which the variance without signal isn't positive
        and finite.
    """
    floor = sky_variance(stamps.image, stamps.variance, good)
    usable = np.isfinite(floor) & (floor > 0.0)
    inverse = np.zeros(len(floor))
    inverse[usable] = 1.0 / floor[usable]
    weight = np.where(good, inverse[:, np.newaxis, np.newaxis], 0.0)
    # Squares in float32 as upstream: this decides who is capped.
    square = np.where(good, stamps.image, np.float32(0.0)) ** 2
    signal = (weight * square).sum(axis=(1, 2))
    number = good.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(signal < number, 0.0, (signal - number) / np.sqrt(signal))
        scale = np.where(snr > max_snr, (max_snr / snr) ** 2, 1.0)
    return weight * scale[:, np.newaxis, np.newaxis]
