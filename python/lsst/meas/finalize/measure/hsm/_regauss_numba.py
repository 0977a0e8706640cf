# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled re-Gaussianization: import where it is called.

The method is that of Hirata & Seljak (2003), in the steps of spec 04 §9; what
it does without doubt is done here, all else is left to GalSim.
"""

from __future__ import annotations

__all__ = ("FAILED", "MEASURED", "UNDECIDED", "regaussianize")

import math

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit
from ..exp_numba import exp_float64
from ._adaptive_numba import iterate_elliptical, working_box

type Array = npt.NDArray[np.float64]
type Box = tuple[int, int, int, int]

MEASURED = 0
FAILED = 1
UNDECIDED = 2

_MIN_EIGENVALUE = 0.25
# Extents in widths of the galaxy without PSF, and of the galaxy.
_EXTENT_GALAXY = 3.0
_EXTENT_PSF = 3.6
# GalSim convolves on a grid this much larger than the larger image.
_FFT_MARGIN = 4.0 / 3.0
# Resolutions closer to 0 than this have a sign that depends on rounding.
_MIN_RESOLUTION = 1e-7


@njit(error_model="numpy")
def _without_psf(galaxy: Array, psf: Array) -> tuple[float, float, float]:
    """Subtract the moments of the PSF; limit the eigenvalues from below."""
    mxx, mxy, myy = galaxy[2] - psf[2], galaxy[3] - psf[3], galaxy[4] - psf[4]
    two_theta = math.atan2(2.0 * mxy, mxx - myy)
    cos, sin = math.cos(two_theta), math.sin(two_theta)
    large = 0.5 * (mxx + myy) + 0.5 * (mxx - myy) * cos + mxy * sin
    small = max(mxx + myy - large, _MIN_EIGENVALUE)
    large = max(large, _MIN_EIGENVALUE)
    mean, half = 0.5 * (large + small), 0.5 * (large - small)
    return mean + half * cos, half * sin, mean - half * cos


@njit(error_model="numpy")
def _set_gaussian(
    x: float, y: float, mxx: float, mxy: float, myy: float, x0: int, y0: int, out: Array
) -> None:
    """Evaluate exp(-rho^2 / 2) on an image that begins at x0, y0."""
    det = mxx * myy - mxy * mxy
    ixx, ixy, iyy = myy / det, -mxy / det, mxx / det
    height, width = out.shape
    for j in range(height):
        dy = j + y0 - y
        for i in range(width):
            dx = i + x0 - x
            out[j, i] = exp_float64(-0.5 * (ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy))


@njit(error_model="numpy")
def _limits(centre: float, extent: float, lowest: int, highest: int) -> tuple[int, int]:
    """Return first and last pixel within an extent of a centre."""
    return max(int(math.floor(centre - extent)), lowest), min(int(math.ceil(centre + extent)), highest)


@njit(error_model="numpy")
def _add_convolved(f: Array, residual: Array, x0: int, y0: int, box: Box, image: Array) -> None:
    """Add the convolution of two images, which begins at x0, y0, in a box."""
    i_min, i_max, j_min, j_max = box
    f_height, f_width = f.shape
    height, width = residual.shape
    for b in range(f_height):
        for a in range(f_width):
            value = f[b, a]
            x, y = x0 + a, y0 + b
            first, last = max(i_min - x, 0), min(i_max - x, width - 1)
            for j in range(max(j_min - y, 0), min(j_max - y, height - 1) + 1):
                for i in range(first, last + 1):
                    image[y + j, x + i] += value * residual[j, i]


@njit(error_model="numpy")
def _fourier_size(least: float) -> int:
    """Return the next power of two, or three times one: what GalSim calls a
    good size.
    """
    size = 2
    while size < least:
        # 2, 3, 4, 6, 8, 12, ...
        size = size // 2 * 3 if size & (size - 1) == 0 else size // 3 * 4
    return size


@njit(error_model="numpy")
def _add_correction(
    galaxy: Array, psf: Array, flux: float, psf_image: Array, psf_box: Box, box: Box, image: Array
) -> bool:
    """Add to a galaxy what makes its PSF a Gaussian; False if it is so large
    that GalSim's result depends on its Fourier transforms.
    """
    mxx, mxy, myy = _without_psf(galaxy, psf)
    x, y = galaxy[0] - psf[0], galaxy[1] - psf[1]
    extent_x = _EXTENT_GALAXY * math.sqrt(max(mxx, 1.0))
    extent_y = _EXTENT_GALAXY * math.sqrt(max(myy, 1.0))
    fx0, fx1 = _limits(x, extent_x, box[0] - psf_box[1], box[1] - psf_box[0])
    fy0, fy1 = _limits(y, extent_y, box[2] - psf_box[3], box[3] - psf_box[2])
    x0, x1 = _limits(psf[0], _EXTENT_PSF * math.sqrt(galaxy[2]) + extent_x, psf_box[0], psf_box[1])
    y0, y1 = _limits(psf[1], _EXTENT_PSF * math.sqrt(galaxy[4]) + extent_y, psf_box[2], psf_box[3])
    f_width, f_height, width, height = fx1 - fx0 + 1, fy1 - fy0 + 1, x1 - x0 + 1, y1 - y0 + 1
    if min(f_width, f_height, width, height) < 1:
        return False
    room = _fourier_size(_FFT_MARGIN * max(f_width, f_height, width, height))
    if f_width + width - 1 > room or f_height + height - 1 > room:
        return False
    psf_flux = psf_image.sum()
    f = np.empty((f_height, f_width))
    _set_gaussian(x, y, mxx, mxy, myy, fx0, fy0, f)
    f *= flux / psf_flux / f.sum()
    residual = np.empty((height, width))
    _set_gaussian(psf[0], psf[1], psf[2], psf[3], psf[4], x0, y0, residual)
    residual *= psf_flux / (2.0 * math.pi * math.sqrt(psf[2] * psf[4] - psf[3] * psf[3]))
    residual -= psf_image[y0 : y1 + 1, x0 : x1 + 1]
    _add_convolved(f, residual, fx0 + x0, fy0 + y0, box, image)
    return True


@njit(error_model="numpy")
def _distortion(m: Array) -> tuple[float, float]:
    """Return the distortion of a Gaussian's moments."""
    trace = m[2] + m[4]
    return (m[2] - m[4]) / trace, 2.0 * m[3] / trace


@njit(error_model="numpy")
def _compose(a1: float, a2: float, b1: float, b2: float) -> tuple[float, float]:
    """Apply a shear b to a distortion a (Bernstein & Jarvis 2002)."""
    square = b1 * b1 + b2 * b2
    factor = (1.0 - math.sqrt(1.0 - square)) / square if square > 0.0 else 0.0
    cross = factor * (a2 * b1 - a1 * b2)
    dot = 1.0 + a1 * b1 + a2 * b2
    return (a1 + b1 + b2 * cross) / dot, (a2 + b2 - b1 * cross) / dot


@njit(error_model="numpy")
def _correct(star: Array, rho4: float, psf: Array, out: Array) -> None:
    """Correct a distortion for that of the PSF (Bernstein & Jarvis 2002)."""
    ratio = (psf[2] + psf[4]) / (star[2] + star[4])
    g1, g2 = _distortion(star)
    p1, p2 = _distortion(psf)
    kurtosis = 0.5 * rho4 - 1.0
    r1, r2 = _compose(g1, g2, -p1, -p2)
    resolution = 1.0 - ratio * math.sqrt(1.0 - (p1 * p1 + p2 * p2)) / math.sqrt(1.0 - (g1 * g1 + g2 * g2)) * (
        1.0 + kurtosis
    ) / (1.0 - kurtosis) * math.sqrt(1.0 - (r1 * r1 + r2 * r2))
    out[0], out[1] = _compose(r1 / resolution, r2 / resolution, p1, p2)


@njit(error_model="numpy")
def _start(state: Array, x: float, y: float, variance: float) -> None:
    """Set a round Gaussian."""
    state[0], state[1], state[2], state[3], state[4] = x, y, variance, 0.0, variance


@njit(error_model="numpy")
def _measure(
    image: Array,
    good: npt.NDArray,
    box: Box,
    guess: Array,
    psf_image: Array,
    sky_variance: float,
    work: tuple[Array, npt.NDArray, Array, Array],
    out: Array,
) -> int:
    """Measure one star; see `regaussianize`."""
    corrected, everywhere, pixels, sums = work
    star, psf = np.empty(5), np.empty(5)
    _start(star, guess[0], guess[1], guess[2] * guess[2])
    if iterate_elliptical(image, good, box, star, pixels, sums)[0] != 0:
        return FAILED
    height, width = psf_image.shape
    status, p0, p1, q0, q1 = working_box(psf_image, everywhere, width, height)
    psf_box = (p0, p1, q0, q1)
    _start(psf, 0.5 * (width - 1), 0.5 * (height - 1), guess[3] * guess[3])
    if status != 0 or iterate_elliptical(psf_image, everywhere, psf_box, psf, pixels, sums)[0] != 0:
        return FAILED
    # Quirk: GalSim keeps the width in float32.
    sigma = np.float64(np.float32((star[2] * star[4] - star[3] * star[3]) ** 0.25))
    _start(star, star[0], star[1], sigma * sigma)
    if iterate_elliptical(image, good, box, star, pixels, sums)[0] != 0:
        return FAILED
    flux = sums[6]
    for j in range(box[2], box[3] + 1):
        for i in range(box[0], box[1] + 1):
            corrected[j, i] = image[j, i] * good[j, i]
    if not _add_correction(star, psf, flux, psf_image, psf_box, box, corrected):
        return UNDECIDED
    if iterate_elliptical(corrected, everywhere, box, star, pixels, sums)[0] != 0:
        return FAILED
    resolution = 1.0 - (psf[2] + psf[4]) / (star[2] + star[4])
    if not abs(resolution) > _MIN_RESOLUTION:
        return UNDECIDED
    if resolution < 0.0:
        return FAILED
    _correct(star, sums[6] / sums[0], psf, out)
    sigma = (star[2] * star[4] - star[3] * star[3]) ** 0.25
    out[2] = math.sqrt(4.0 * math.pi * sky_variance) * sigma / (resolution * flux)
    out[3] = resolution
    return MEASURED


@njit(error_model="numpy")
def regaussianize(
    images: Array,
    good: npt.NDArray,
    size: npt.NDArray,
    guess: Array,
    psf_images: Array,
    sky_variance: Array,
    out: Array,
    status: npt.NDArray,
) -> None:
    """Correct the shapes of stars for their PSF by re-Gaussianization.

    Parameters
    ----------
    images, good
        Stamps and their usable pixels, (N, h, w).
    size
        True widths and heights of the stamps, (N, 2).
    guess
        x and y of the centre relative to pixel [0, 0], width of the star and
        of the PSF, (N, 4).
    psf_images
        Images of the PSF at the stars, (N, ph, pw).
    sky_variance
        Variance of the pixels of each star, (N,).
    out
        Receives e1, e2, their error per component and the resolution factor,
        (N, 4).
    status
        Receives what came of it: `MEASURED`, `FAILED` or `UNDECIDED`, (N,).
    """
    height = max(images.shape[1], psf_images.shape[1])
    width = max(images.shape[2], psf_images.shape[2])
    everywhere = np.ones((height, width), dtype=np.bool_)
    work = (np.empty((height, width)), everywhere, np.empty((5, height * width)), np.empty(7))
    for n in range(len(images)):
        found, i_min, i_max, j_min, j_max = working_box(images[n], good[n], size[n, 0], size[n, 1])
        if found != 0:
            status[n] = FAILED
            continue
        status[n] = _measure(
            images[n],
            good[n],
            (i_min, i_max, j_min, j_max),
            guess[n],
            psf_images[n],
            sky_variance[n],
            work,
            out[n],
        )
