# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Kernels that make PSFs round Gaussians (spec 06 §3.5)."""

from __future__ import annotations

__all__ = ("GaussianizePsfTask", "fit_matching_kernels")

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pipe.base import Task

from ._matching_config import GaussianizePsfConfig, check_matching_options

type FloatArray = npt.NDArray[np.float64]

_EPS32 = 1.1920929e-07
_BATCH = 128
"""Stars fitted at a time; bounds memory."""


def _exponents(degree: int) -> tuple[tuple[int, int], ...]:
    """Return powers of x and y of all monomials, as upstream orders them."""
    return tuple((order - j, j) for order in range(degree + 1) for j in range(order + 1))


def _modified_gaussians(sigma: FloatArray, size: int, degree: int) -> FloatArray:
    """Return one-dimensional Gaussians times powers, (N, degree + 1, size).

    The powers are of the distance in units of the kernel's half-width; the
    Gaussians themselves have sum 1.
    """
    half = size // 2
    u = np.arange(-half, half + 1, dtype=np.float64)
    gaussian = np.exp(-(u**2) / (2 * sigma[:, None] ** 2))
    gaussian /= gaussian.sum(axis=1, keepdims=True)
    return np.asarray(gaussian[:, None, :] * (u / half) ** np.arange(degree + 1)[:, None])


def _correlation_matrices(functions: FloatArray, length: int) -> FloatArray:
    """Return matrices that correlate lines of pixels with functions.

    Parameters
    ----------
    functions : `numpy.ndarray`
        Shape (N, F, size).
    length : `int`
        Length of the lines.

    Returns
    -------
    matrices : `numpy.ndarray`
        Shape (N, length, F · M), M = length − size + 1: ``line @ matrix``
        is the correlation with each function where it fits completely.
    """
    n, count, size = functions.shape
    interior = length - size + 1
    matrices = np.zeros((n, length, count, interior))
    shifted = functions.transpose(0, 2, 1)
    for m in range(interior):
        matrices[:, m : m + size, :, m] = shifted
    return matrices.reshape(n, length, count * interior)


def _normalisation(
    lines: FloatArray, px: npt.NDArray[np.int64], py: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Return what gives all basis functions but the first sum 0 and norm 1.

    Parameters
    ----------
    lines : `numpy.ndarray`
        One-dimensional functions, (N, degree + 1, size); basis function i is
        the product of ``px[i]`` along x and ``py[i]`` along y.

    Returns
    -------
    shift, scale : `numpy.ndarray`
        (N, len(px)): subtract ``shift`` times the first function, then
        multiply by ``scale``.
    """
    totals = lines.sum(axis=2)
    sums = totals[:, py] * totals[:, px]
    products = lines @ lines.transpose(0, 2, 1)
    squares = products[:, py, py] * products[:, px, px]
    with_first = products[:, py, 0] * products[:, px, 0]
    # Those that have no sum but by rounding stay as they are.
    shift = np.where(np.abs(sums) > _EPS32, sums, 0.0)
    shift[:, 0] = 0.0
    norms = squares - 2.0 * shift * with_first + shift**2 * squares[:, :1]
    scale = 1.0 / np.sqrt(norms)
    scale[:, 0] = 1.0
    return shift, scale


def _solve(normal: FloatArray, right: FloatArray) -> FloatArray:
    """Solve normal equations; NaN where they are singular."""
    try:
        return np.asarray(np.linalg.solve(normal, right[:, :, None])[:, :, 0])
    except np.linalg.LinAlgError:
        solution = np.full_like(right, np.nan)
        # Which one is singular is not told, so they are tried one by one.
        for i in range(len(right)):
            try:
                solution[i] = np.linalg.solve(normal[i], right[i])
            except np.linalg.LinAlgError:
                continue
        return solution


def fit_matching_kernels(
    psfs: FloatArray, targets: FloatArray, sigma: FloatArray, size: int, degree: int
) -> FloatArray:
    """Fit kernels that turn PSFs into other ones (spec 06 §3.5).

    Parameters
    ----------
    psfs, targets : `numpy.ndarray`
        PSFs and what they shall become, float64 of shape (N, length,
        length).
    sigma : `numpy.ndarray`
        Sigma of each kernel's Gaussian in pixels, shape (N,).
    size : `int`
        Width and height of the kernels, odd.
    degree : `int`
        Degree of the polynomials that modify the Gaussian.

    Returns
    -------
    kernels : `numpy.ndarray`
        Kernels with sum 1, float64 of shape (N, size, size), to be applied
        by *correlation*; NaN where there is none.

    Notes
    -----
    Least squares over the pixels that the kernel doesn't reach beyond, with
    the kernel model of Alard & Lupton (1998, ApJ 503, 325) at one position.
    The first coefficient is set to 1 after an unconstrained fit, which is not
    the same as fitting with a sum of 1 (upstream quirk).
    """
    n, length, _ = psfs.shape
    exponents = _exponents(degree)
    interior = length - size + 1
    kernels = np.full((n, size, size), np.nan)
    if interior < 1 or interior**2 < len(exponents):
        return kernels
    px, py = (np.array(p) for p in zip(*exponents, strict=True))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        lines = _modified_gaussians(sigma, size, degree)
        matrices = _correlation_matrices(lines, length)
        filtered = matrices.transpose(0, 2, 1) @ psfs @ matrices
        filtered = filtered.reshape(n, degree + 1, interior, degree + 1, interior)
        design = filtered.transpose(0, 1, 3, 2, 4)[:, py, px].reshape(n, len(px), -1)
        shift, scale = _normalisation(lines, px, py)
        design = (design - shift[:, :, None] * design[:, :1]) * scale[:, :, None]
        half = size // 2
        inner = targets[:, half : half + interior, half : half + interior].reshape(n, -1, 1)
        normal = design @ design.transpose(0, 2, 1)
        right = (design @ inner)[:, :, 0]
    usable = np.isfinite(normal).all(axis=(1, 2)) & np.isfinite(right).all(axis=1)
    rows = np.flatnonzero(usable)
    coefficients = _solve(normal[rows], right[rows])
    coefficients[:, 0] = np.where(np.isfinite(coefficients).all(axis=1), 1.0, np.nan)
    weights = coefficients * scale[rows]
    weights[:, 0] -= np.sum(weights * shift[rows], axis=1)
    powers = np.zeros((len(rows), degree + 1, degree + 1))
    powers[:, py, px] = weights
    kernels[rows] = lines[rows].transpose(0, 2, 1) @ powers @ lines[rows]
    return kernels


def _pad(images: FloatArray, length: int) -> FloatArray:
    """Put images into the middle of zeros, (N, length, length)."""
    n, height, width = images.shape
    padded = np.zeros((n, length, length))
    y0, x0 = (length - height) // 2, (length - width) // 2
    padded[:, y0 : y0 + height, x0 : x0 + width] = images
    return padded


def _gaussians(sigma: FloatArray, length: int) -> FloatArray:
    """Return Gaussians sampled at pixel centres with sum 1."""
    u = np.arange(length, dtype=np.float64) - length // 2
    line = np.exp(-(u**2) / (2 * sigma[:, None] ** 2))
    images = line[:, :, None] * line[:, None, :]
    return np.asarray(images / images.sum(axis=(1, 2), keepdims=True))


def _single(images: FloatArray) -> FloatArray:
    """Round to float32: upstream's PSF images have single precision."""
    with np.errstate(over="ignore"):
        return images.astype(np.float32).astype(np.float64)


class GaussianizePsfTask(Task):
    """Find kernels that make PSFs round Gaussians.

    Parameters
    ----------
    **kwargs
        Passed on to `lsst.pipe.base.Task`.

    Raises
    ------
    ValueError
        Raised for options that ask for another fit.
    """

    ConfigClass: ClassVar[type[GaussianizePsfConfig]] = GaussianizePsfConfig
    _DefaultName: ClassVar[str] = "gaussianizePsf"
    config: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_matching_options(self.config)

    @property
    def margin(self) -> int:
        """Pixels by which footprints' boxes are grown to get stamps."""
        return int(self.config.kernel.active.kernelSize) // 2

    def kernel_sizes(self, sigma: FloatArray) -> npt.NDArray[np.int64]:
        """Return kernel sizes for sigmas of the kernels' Gaussians."""
        options = self.config.kernel.active
        largest = float(options.kernelSizeMax)
        sizes = np.minimum(options.kernelSizeFwhmScaling * sigma, largest).astype(np.int64)
        sizes += 1 - sizes % 2
        return np.clip(sizes, options.kernelSizeMin, options.kernelSizeMax)

    def psf_size(self, height: int, width: int) -> int:
        """Return the size PSF images are padded to."""
        largest = max(height, width)
        if not self.config.doAutoPadPsf:
            return largest + int(self.config.padPsfBy)
        smallest = math.ceil(self.config.kernel.active.kernelSize * self.config.autoPadPsfTo)
        return max(largest, smallest + 1 - smallest % 2)

    def fit(self, psfs: FloatArray, sigma: FloatArray, target_sigma: FloatArray) -> FloatArray:
        """Fit kernels.

        Parameters
        ----------
        psfs : `numpy.ndarray`
            PSFs centred on the central pixel, shape (N, h, w).
        sigma : `numpy.ndarray`
            Their trace radii in pixels, shape (N,).
        target_sigma : `numpy.ndarray`
            Sigmas of the Gaussians they shall become, shape (N,).

        Returns
        -------
        kernels : `numpy.ndarray`
            Kernels of sum 1, for correlation, shape (N, s, s); smaller ones
            are padded with zeros.  NaN where the fit failed.

        Raises
        ------
        ValueError
            Raised if ``target_sigma`` is smaller than ``sigma`` anywhere.
        """
        if np.any(target_sigma < sigma):
            raise ValueError("The target PSF must not be narrower than the PSF.")
        options = self.config.kernel.active
        # Equal widths would leave no kernel: the target's width is used.
        squares = target_sigma**2 - sigma**2
        gaussian = np.sqrt(np.where(target_sigma == sigma, target_sigma**2, squares))
        gaussian = np.maximum(gaussian, options.alardMinSig)
        sizes = self.kernel_sizes(gaussian)
        length = self.psf_size(*psfs.shape[1:])
        largest = int(sizes.max(initial=1))
        kernels = np.zeros((len(psfs), largest, largest))
        for size in np.unique(sizes):
            members = np.flatnonzero(sizes == size)
            for start in range(0, len(members), _BATCH):
                rows = members[start : start + _BATCH]
                fitted = fit_matching_kernels(
                    _pad(_single(psfs[rows]), length),
                    _single(_gaussians(target_sigma[rows], length)),
                    gaussian[rows],
                    int(size),
                    int(options.alardDegGauss[0]),
                )
                kernels[rows] = np.where(
                    np.isnan(fitted).any(axis=(1, 2))[:, None, None], np.nan, _pad(fitted, largest)
                )
        return kernels
