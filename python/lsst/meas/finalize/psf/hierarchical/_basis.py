# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Ways in which the PSF of a visit changes: derivatives of its mean."""

from __future__ import annotations

__all__ = ("Basis", "make_basis", "n_directions", "smooth")

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_CUT, _EDGE = 3.0, 0.12
"""Frequency where the mean is cut off, and how softly, in radians per pixel;
a pixel's own limit is pi, along its axes."""


@dataclass
class Basis:
    """Mean PSF and directions of change, in axes of the focal plane.

    All PSFs ``mean + c @ vectors`` sum to 1, and to first order have no
    centroid in the sense of Piff (weighted with themselves).
    """

    mean: npt.NDArray[np.float64]
    """Image [n, n] of sum 1."""

    vectors: npt.NDArray[np.float64]
    """Images [K, n, n] of sum 0; orthonormal apart from flux and position."""


def _transform(image: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.complex128], int]:
    """Return the Fourier transform of the padded image, and the padding."""
    size = len(image)
    length = 1 << int(np.ceil(np.log2(2.2 * size)))
    first = (length - size) // 2
    padded = np.zeros((length, length))
    padded[first : first + size, first : first + size] = image
    return np.fft.rfft2(padded), first


def _frequencies(length: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return 2.0 * np.pi * np.fft.rfftfreq(length)[np.newaxis], 2.0 * np.pi * np.fft.fftfreq(length)[
        :, np.newaxis
    ]


def smooth(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Take out of an image what no telescope's PSF has.

    Parameters
    ----------
    image
        Mean of recentred stars [n, n].

    Returns
    -------
    smooth
        The image without its highest frequencies, sum 1.
    """
    transform, first = _transform(image)
    kx, ky = _frequencies(len(transform))
    transform = transform / (1.0 + np.exp((np.hypot(kx, ky) - _CUT) / _EDGE))
    result = np.fft.irfft2(transform, s=(len(transform),) * 2)[first:, first:][: len(image), : len(image)]
    return result / result.sum()


def n_directions(order: int) -> int:
    """Return how many directions `make_basis` makes.

    Parameters
    ----------
    order
        Largest order of the derivatives, at least 2.
    """
    return 6 + sum(n + 1 for n in range(3, order + 1))


def make_basis(mean: npt.NDArray[np.float64], order: int) -> Basis:
    """Make the directions of change of a mean PSF.

    A PSF that is the mean convolved with a narrow kernel is a series of
    derivatives of the mean: the second ones are size and ellipticity, the
    third ones coma and trefoil.  The atmosphere rather stretches and shears
    the mean, which differs in the wings.

    Parameters
    ----------
    mean
        Smooth mean [n, n] of sum 1.
    order
        Largest order of the derivatives, at least 2.

    Returns
    -------
    basis
        Three images for stretch and shears, and ``n + 1`` of each order n.
    """
    transform, first = _transform(mean)
    length, size = len(transform), len(mean)
    kx, ky = _frequencies(length)
    y, x = np.indices(mean.shape) - size // 2

    def derivative(in_x: int, in_y: int) -> npt.NDArray[np.float64]:
        factor = (1j * kx) ** in_x * (1j * ky) ** in_y
        return np.fft.irfft2(transform * factor, s=(length, length))[first:, first:][:size, :size]

    along_x, along_y = derivative(1, 0), derivative(0, 1)
    images = [
        derivative(2, 0) + derivative(0, 2),
        derivative(2, 0) - derivative(0, 2),
        derivative(1, 1),
        x * along_x + y * along_y + 2.0 * mean,
        x * along_x - y * along_y,
        x * along_y + y * along_x,
    ]
    images += [derivative(n - i, i) for n in range(3, order + 1) for i in range(n + 1)]
    raw = np.array(images).reshape(len(images), -1)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    gauge = np.array([mean, along_x, along_y]).reshape(3, -1)
    # Sum, and centroid weighted with the mean, of changes and of the gauge.
    moments = np.array([np.ones(mean.shape), mean * x, mean * y]).reshape(3, -1)
    raw -= np.linalg.solve(moments @ gauge.T, moments @ raw.T).T @ gauge
    # Flux and position of each star are fitted: only the rest is seen.
    seen = raw - (np.linalg.lstsq(gauge.T, raw.T, rcond=None)[0]).T @ gauge
    upper = np.linalg.qr(seen.T, mode="r")
    upper *= np.sign(np.diag(upper))[:, np.newaxis]
    vectors = np.linalg.solve(upper.T, raw)
    return Basis(mean, vectors.reshape(-1, size, size))
