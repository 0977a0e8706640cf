# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Re-Gaussianized shapes as GalSim's HSM module measures them, batched."""

from __future__ import annotations

__all__ = ("RegaussShapes", "regauss_shapes")

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class RegaussShapes(NamedTuple):
    """Corrected shapes of N stars."""

    values: npt.NDArray[np.float32]
    """Distortion e1, e2, error of a shear component and resolution factor,
    (N, 4)."""

    measured: npt.NDArray[np.bool_]
    """Where there is a shape, (N,)."""

    undecided: npt.NDArray[np.bool_]
    """Stars that have to be left to GalSim, (N,)."""


def regauss_shapes(
    images: npt.NDArray,
    good: npt.NDArray[np.bool_],
    sizes: npt.NDArray[np.int64],
    guess: npt.NDArray[np.float64],
    psf_images: npt.NDArray[np.float64],
    sky_variance: npt.NDArray[np.floating],
) -> RegaussShapes:
    """Correct shapes for the PSF by re-Gaussianization (spec 04 §9).

    Parameters
    ----------
    images : `numpy.ndarray`, (N, h, w)
        Pixels.
    good : `numpy.ndarray` of bool, (N, h, w)
        Pixels to use.
    sizes : `numpy.ndarray` of int, (N, 2)
        True widths and heights of the stamps.
    guess : `numpy.ndarray` of float64, (N, 4)
        First guesses of x and y relative to pixel [0, 0], of the star's width
        and of the PSF's.
    psf_images : `numpy.ndarray` of float64, (N, ph, pw)
        Images of the PSF.
    sky_variance : `numpy.ndarray`, (N,)
        Variance of the pixels.

    Returns
    -------
    shapes : `RegaussShapes`
        What GalSim's ``EstimateShear`` returns, with its rounding to float32.
        Undecided are stars whose result depends on how GalSim's Fourier
        transforms wrap, or on rounding.
    """
    from . import _regauss_numba as kernels

    values = np.full((len(images), 4), np.nan)
    status = np.empty(len(images), dtype=np.int64)
    kernels.regaussianize(
        np.ascontiguousarray(images, dtype=np.float64),
        np.ascontiguousarray(good, dtype=np.bool_),
        np.ascontiguousarray(sizes, dtype=np.int64),
        np.ascontiguousarray(guess, dtype=np.float64),
        np.ascontiguousarray(psf_images, dtype=np.float64),
        np.ascontiguousarray(sky_variance, dtype=np.float64),
        values,
        status,
    )
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    return RegaussShapes(rounded, status == kernels.MEASURED, status == kernels.UNDECIDED)
