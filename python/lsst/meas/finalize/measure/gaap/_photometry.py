# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Convolved stamps and fluxes under Gaussian weights (spec 06 §3.5-3.6)."""

from __future__ import annotations

__all__ = ("autocorrelations", "convolve_stamps", "local_geometry", "unusable_apertures", "weighted_fluxes")

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..._sphere import unit_vectors
from ..geometry import gnomonic_offsets, sky_positions

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]
type IntArray = npt.NDArray[np.int64]

_ARCSEC = np.pi / 180 / 3600

_MAX_BAND_PIXELS = 1_000_000
"""Pixels transformed at a time."""


def convolve_stamps(
    images: npt.NDArray[np.float32], sizes: IntArray, kernels: FloatArray, method: str
) -> npt.NDArray[np.float32]:
    """Convolve each stamp with its own kernel.

    Parameters
    ----------
    images : `numpy.ndarray`
        Stamps, shape (N, h, w).
    sizes : `numpy.ndarray`
        Width and height of the part of each that counts, shape (N, 2);
        beyond it there are zeros.
    kernels : `numpy.ndarray`
        Kernels, shape (N, s, s) with odd s.
    method : `str`
        Which pixels a NaN spoils: those that this method of upstream's
        (``convolutionMethod``) spoils.

    Returns
    -------
    convolved : `numpy.ndarray`
        Σ K(k) I(x − k), shaped like the stamps.
    """
    height, width = images.shape[1:]
    inside = (np.arange(width) < sizes[:, :1, None]) & (np.arange(height)[:, None] < sizes[:, 1:, None])
    pixels = np.where(inside, images, np.float32(0.0))
    spoilt = ~np.isfinite(pixels).all(axis=(1, 2))
    pixels[spoilt] = 0.0
    half = kernels.shape[1] // 2
    convolved = np.empty_like(pixels)
    # Large footprints are taken in bands of rows, to bound memory.
    band = max(_MAX_BAND_PIXELS // max(len(images) * width, 1), 8 * half)
    for start in range(0, height, band):
        low, stop = max(start - half, 0), min(start + band, height)
        part = _fourier_convolve(pixels[:, low : stop + half], kernels)
        with np.errstate(over="ignore"):
            convolved[:, start:stop] = part[:, start - low : stop - low]
    # NaN spreads as the method has it, which depends on the stamp's size.
    for i in np.flatnonzero(spoilt):
        w, h = sizes[i]
        convolved[i, :h, :w] = _convolve(images[i, :h, :w], kernels[i], method)
    return convolved


def _fourier_convolve(pixels: npt.NDArray[np.float32], kernels: FloatArray) -> FloatArray:
    """Convolve each image with its kernel, in double; zeros around it."""
    height, width = pixels.shape[1:]
    half = kernels.shape[1] // 2
    # Wrapped-around pixels stay off the image.
    import scipy.fft

    shape = tuple(scipy.fft.next_fast_len(v + half, real=True) for v in (height, width))
    shape = tuple(max(v, kernels.shape[1]) for v in shape)
    product = scipy.fft.rfft2(pixels.astype(np.float64), shape) * scipy.fft.rfft2(kernels, shape)
    return np.asarray(scipy.fft.irfft2(product, shape)[:, half : half + height, half : half + width])


def _convolve(image: npt.NDArray[np.float32], kernel: FloatArray, method: str) -> np.ndarray:
    """Convolve one stamp that has NaN or infinite pixels."""
    import scipy.signal

    with np.errstate(invalid="ignore"):
        if method == "overlap-add":
            return np.asarray(scipy.signal.oaconvolve(image, kernel, mode="same"))
        if method == "auto":
            method = str(scipy.signal.choose_conv_method(image, kernel))
        if method == "fft":
            return np.full(image.shape, np.nan)
        return np.asarray(scipy.signal.convolve(image, kernel, mode="same", method="direct"))


def autocorrelations(kernels: FloatArray) -> FloatArray:
    """Return the full autocorrelation of kernels.

    Parameters
    ----------
    kernels : `numpy.ndarray`
        Shape (N, s, s).

    Returns
    -------
    correlations : `numpy.ndarray`
        Shape (N, 2s − 1, 2s − 1), lag 0 in the middle.
    """
    size = kernels.shape[1]
    import scipy.fft

    length = scipy.fft.next_fast_len(2 * size - 1, real=True)
    transform = scipy.fft.rfft2(kernels, (length, length))
    power = transform.real**2 + transform.imag**2
    wrapped = scipy.fft.irfft2(power, (length, length))
    result = np.empty((len(kernels), 2 * size - 1, 2 * size - 1))
    # Negative lags are at the end of each axis.
    lags = ((slice(0, size - 1), slice(length - size + 1, length)), (slice(size - 1, None), slice(0, size)))
    for to_y, from_y in lags:
        for to_x, from_x in lags:
            result[:, to_y, to_x] = wrapped[:, from_y, from_x]
    return result


def weighted_fluxes(
    images: np.ndarray,
    sizes: IntArray,
    x: FloatArray,
    y: FloatArray,
    moments: FloatArray,
    *,
    average: bool = False,
) -> tuple[FloatArray, BoolArray]:
    """Sum images under Gaussian weights (spec 03 §3.6.4).

    Parameters
    ----------
    images : `numpy.ndarray`
        Stamps, shape (N, h, w).
    sizes : `numpy.ndarray`
        Width and height of the part of each that counts, shape (N, 2).
    x, y : `numpy.ndarray`
        Centres counted from the stamps' first pixels, shape (N,).
    moments : `numpy.ndarray`
        Moments xx, yy, xy of A weights for each stamp, shape (A, N, 3); NaN:
        skip the star.
    average : `bool`, optional
        Average very small weights over the samples of a pixel?  Otherwise
        they are summed (upstream quirk: these fluxes are up to 16 times too
        large).

    Returns
    -------
    fluxes : `numpy.ndarray`
        2 Σ w I, shape (A, N).
    failed : `numpy.ndarray`
        True for singular weights, shape (A, N).
    """
    from ._sums_numba import FAILED, gaussian_sums

    shape = moments.shape[:2]
    total, status = np.empty(shape), np.empty(shape, dtype=np.int64)
    gaussian_sums(
        np.ascontiguousarray(images), sizes, x, y, np.ascontiguousarray(moments), average, total, status
    )
    return 2 * total, status == FAILED


def unusable_apertures(moments: FloatArray) -> BoolArray:
    """Return which moments, (N, 3), aren't those of an aperture."""
    xx, yy, xy = moments.T
    with np.errstate(over="ignore", invalid="ignore"):
        det = xx * yy - xy**2
        return np.asarray((xx < 0) | (yy < 0) | (det <= 0) | np.isnan(xy))


class LocalGeometry(NamedTuple):
    """The sky around stars.

    ``scale`` is the size of a pixel in arcsec, (N,); ``pixels`` are matrices
    from (east, north) in arcsec to pixels, (N, 2, 2).
    """

    scale: FloatArray
    pixels: FloatArray

    def circles(self, sigma: float) -> FloatArray:
        """Return moments in pixels, (N, 3), of a round Gaussian on the sky.

        Parameters
        ----------
        sigma : `float`
            Its sigma in arcsec.
        """
        a, b = self.pixels[:, 0], self.pixels[:, 1]
        products = [np.sum(u * v, axis=1) for u, v in ((a, a), (b, b), (a, b))]
        return sigma**2 * np.stack(products, axis=1)


def local_geometry(projection: Any, x: FloatArray, y: FloatArray) -> LocalGeometry:
    """Linearize the sky at stars with steps of one pixel (spec 06 §3.6).

    Parameters
    ----------
    projection : `lsst.images.SkyProjection`
        Projection of the image.
    x, y : `numpy.ndarray`
        Positions in pixels, PARENT, shape (N,).

    Returns
    -------
    geometry : `LocalGeometry`
        NaN where there is no sky.
    """
    ra0, dec0 = sky_positions(projection, x, y)
    to_sky = np.empty((len(x), 2, 2))
    steps = []
    with np.errstate(invalid="ignore", divide="ignore"):
        origin = unit_vectors(ra0, dec0)
        for k, (dx, dy) in enumerate(((1.0, 0.0), (0.0, 1.0))):
            ra, dec = sky_positions(projection, x + dx, y + dy)
            to_sky[:, 0, k], to_sky[:, 1, k] = gnomonic_offsets(ra, dec, ra0, dec0)
            steps.append(unit_vectors(ra, dec) - origin)
        scale = np.sqrt(np.linalg.norm(np.cross(steps[0], steps[1]), axis=1)) / _ARCSEC
        (a, b), (c, d) = to_sky.transpose(1, 2, 0) / _ARCSEC
        inverse = np.stack([d, -b, -c, a], axis=1) / (a * d - b * c)[:, None]
    return LocalGeometry(scale, inverse.reshape(-1, 2, 2))
