# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Shapes and aperture fluxes of PSF images."""

from __future__ import annotations

__all__ = ("kernel_aperture_fluxes", "kernel_shapes")

import numpy as np
import numpy.typing as npt

from ..measure import adaptive_moments, sinc_coefficients


def kernel_shapes(images: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Measure adaptive moments of PSFs centred on the central pixel.

    Parameters
    ----------
    images
        PSF images, shape (N, h, w) with odd h and w.

    Returns
    -------
    `numpy.ndarray`
        Second moments xx, yy, xy in pixel², shape (N, 3); NaN if they
        can't be measured.

    Notes
    -----
    Spec 03 §5, §3.6: like upstream's ``computeShape`` unweighted moments are
    returned where the adaptive ones don't converge.
    """
    number, height, width = images.shape
    if number == 0:
        return np.zeros((0, 3))
    centre_x, centre_y = np.full(number, width // 2, dtype=float), np.full(number, height // 2, dtype=float)
    moments = adaptive_moments(images, centre_x, centre_y)
    shapes = np.stack([moments.xx, moments.yy, moments.xy], axis=1)
    shapes[moments.failed] = np.nan
    return shapes


def kernel_aperture_fluxes(images: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.float64]:
    """Sum PSF images within a circle around the central pixel.

    Parameters
    ----------
    images
        PSF images, shape (N, h, w) with odd h and w.
    radius
        Radius of the circle in pixels.

    Returns
    -------
    `numpy.ndarray`
        Sinc-interpolated aperture fluxes, shape (N,).

    Raises
    ------
    ValueError
        Raised if the radius isn't positive or unreasonably large.

    Notes
    -----
    Spec 03 §5, §3.8: images are taken as zero outside of the stamp.
    """
    coefficients = sinc_coefficients(float(radius))
    half = coefficients.shape[0] // 2
    half_y, half_x = (min(half, length // 2) for length in images.shape[1:])
    centre_y, centre_x = (length // 2 for length in images.shape[1:])
    weights = coefficients[half - half_y : half + half_y + 1, half - half_x : half + half_x + 1]
    pixels = images[:, centre_y - half_y : centre_y + half_y + 1, centre_x - half_x : centre_x + half_x + 1]
    return np.einsum("nyx,yx->n", pixels, weights)
