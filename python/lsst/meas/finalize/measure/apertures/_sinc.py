# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Sinc-interpolated elliptical apertures, for all stars at once.

The flux inside an aperture is the integral of the band-limited function
through the pixels; it is a sum of pixels times coefficients that depend on
the aperture's shape and sub-pixel position (Bickerton & Lupton 2013).
"""

from __future__ import annotations

__all__ = (
    "ApertureFlux",
    "quadrupole_diagonal",
    "sinc_coefficients",
    "sinc_flux",
    "sinc_half_size",
)

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..pixels import CutOut, ellipse_boxes, inside_bounds, lanczos_weights, split_shift

_MAX_HALF_SIZE = 1024
"""Largest coefficient grid: apertures up to a semi-axis of 512 pixels."""

_MAX_CACHED_HALF_SIZE = 64
"""Largest grid of a circle that is kept: 129 kB, radius 32."""

_MAX_CHUNK_PIXELS = 1_000_000
"""Pixels cut out at a time."""

_CIRCLE_TOLERANCE = float(np.finfo(np.float32).eps)

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]
type Axes = tuple[FloatArray, FloatArray, FloatArray]


class Windows(Protocol):
    """Give the pixels around each star, of P images it is measured on."""

    def __call__(
        self, x0: IntArray, y0: IntArray, size: int, rows: IntArray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return images and variances, (n, P, size, size), of the n stars
        ``rows``, whose first pixels are at PARENT x0, y0; 0 off the images.
        """
        ...


@dataclass(frozen=True)
class ApertureFlux:
    """Fluxes of N stars in one aperture each.

    Attributes
    ----------
    flux, flux_err : `numpy.ndarray` of float64, (N,)
        Flux and 1-sigma error in image units; NaN if not measured.
    aperture_truncated : `numpy.ndarray` of bool, (N,)
        The aperture leaves the image: no measurement.
    coefficients_truncated : `numpy.ndarray` of bool, (N,)
        Some sinc coefficients fell outside the image and were dropped.
    """

    flux: npt.NDArray[np.float64]
    flux_err: npt.NDArray[np.float64]
    aperture_truncated: npt.NDArray[np.bool_]
    coefficients_truncated: npt.NDArray[np.bool_]

    @classmethod
    def unmeasured(cls, count: int) -> ApertureFlux:
        """Make a result to be filled: NaN fluxes, no flags."""
        return cls(
            np.full(count, np.nan),
            np.full(count, np.nan),
            np.zeros(count, dtype=np.bool_),
            np.zeros(count, dtype=np.bool_),
        )


def sinc_half_size(radius: float) -> int:
    """Return h of the (2h - 1)^2 coefficient grid of an aperture.

    Parameters
    ----------
    radius : `float`
        Major semi-axis in pixels.

    Returns
    -------
    half_size : `int`
        A power of two; the central pixel is number h - 1.

    Raises
    ------
    ValueError
        Raised if the radius is not positive, or unreasonably large.
    """
    if not radius > 0.0 or 2.0 * radius > _MAX_HALF_SIZE:
        raise ValueError(f"sinc aperture radius must be in (0, {_MAX_HALF_SIZE // 2}] pixels, got {radius}")
    return int(2 ** max(3, math.ceil(math.log10(2.0 * radius) / math.log10(2.0))))


def _evaluate(shapes: FloatArray, half_size: int) -> FloatArray:
    """Evaluate coefficients on one common grid, (N, n, n).

    ``shapes`` (N, 3) are major and minor semi-axis and angle.
    """
    from scipy.fft import irfft2
    from scipy.special import j1

    n = 2 * half_size - 1
    kx = (np.arange(half_size) / n)[None, None, :]
    ky = (np.fft.ifftshift(np.arange(1 - half_size, half_size)) / n)[None, :, None]
    a, b, theta = (v[:, None, None] for v in shapes.T)
    ratio = b / a
    cosine, sine = np.cos(theta), np.sin(theta)
    k = np.hypot(kx * cosine + ky * sine, ratio * (ky * cosine - kx * sine))
    k[:, 0, 0] = 1.0
    # In place, since the grids of long apertures are large.
    transform = 2.0 * np.pi * a * k
    j1(transform, out=transform)
    transform *= b
    transform /= k
    transform[:, 0, 0] = (np.pi * a * b)[:, 0, 0]
    del k
    return np.fft.fftshift(irfft2(transform, s=(n, n)), axes=(1, 2))


@np.errstate(over="ignore", invalid="ignore")
def quadrupole_diagonal(a: FloatArray, b: FloatArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ixx and iyy (pixel^2) of ellipses given by their axes."""
    cosine2, sine2 = np.square(np.cos(theta)), np.square(np.sin(theta))
    return a * a * cosine2 + b * b * sine2, a * a * sine2 + b * b * cosine2


def sinc_coefficients(a: float, b: float | None = None, theta: float = 0.0) -> FloatArray:
    """Return the sinc coefficients of an ellipse at the central pixel.

    Parameters
    ----------
    a : `float`
        Major semi-axis in pixels.
    b : `float`, optional
        Minor semi-axis in pixels; default a circle.
    theta : `float`, optional
        Angle from the x axis to the major axis in radians.

    Returns
    -------
    coefficients : `numpy.ndarray` of float64, (n, n)
        Read-only; those of not too large circles are cached.  The aperture's
        centre is the central pixel.  The sum is the area of the aperture.

    Raises
    ------
    ValueError
        Raised if not 0 < b <= a, or if ``a`` is unreasonably large.

    Notes
    -----
    Spec 03 §3.8.3.
    """
    b = a if b is None else b
    if not 0.0 < b <= a * (1.0 + 1e-12):
        raise ValueError(f"semi-axes of an aperture must satisfy 0 < b <= a, got a={a}, b={b}")
    half_size = sinc_half_size(a)
    if a == b and theta == 0.0 and half_size <= _MAX_CACHED_HALF_SIZE:
        return _circle(float(a))
    return _protected(np.array([[a, b, theta]], dtype=np.float64), half_size)


def _protected(shape: FloatArray, half_size: int) -> FloatArray:
    """Evaluate the coefficients of one shape as a read-only image."""
    coefficients = _evaluate(shape, half_size)[0]
    coefficients.flags.writeable = False
    return coefficients


@functools.lru_cache(maxsize=64)
def _circle(radius: float) -> FloatArray:
    """Return the coefficients of a circle, which many stars may have in
    common; an ellipse is that of one star.
    """
    return _protected(np.array([[radius, radius, 0.0]]), sinc_half_size(radius))


def _coefficient_sets(
    a: FloatArray, b: FloatArray, theta: FloatArray, half_size: int
) -> tuple[FloatArray, IntArray]:
    """Return the distinct coefficient images and each star's choice."""
    theta = np.where(np.abs(a - b) < _CIRCLE_TOLERANCE, 0.0, theta)
    # Mostly circles of one radius.
    if all((v == v[0]).all() for v in (a, b, theta)):
        return sinc_coefficients(float(a[0]), float(b[0]), float(theta[0]))[None], np.zeros(len(a), np.int64)
    shapes, which = np.unique(np.stack([a, b, theta], axis=-1), axis=0, return_inverse=True)
    return _evaluate(shapes, half_size), which.reshape(-1).astype(np.int64)


def _half_sizes(radii: FloatArray) -> IntArray:
    """Return the half size of each aperture's coefficients."""
    distinct, which = np.unique(radii, return_inverse=True)
    # Sizes are powers of two of a logarithm: exact only as Python has it.
    return np.array([sinc_half_size(v) for v in distinct], dtype=np.int64)[which]


def sinc_fluxes(
    windows: Windows,
    x: FloatArray,
    y: FloatArray,
    apertures: Sequence[Axes],
    orders: Sequence[int],
    wanted: npt.NDArray[np.bool_],
    *,
    regions: IntArray,
    margin: int = 0,
) -> list[list[ApertureFlux]]:
    """Measure several sinc apertures on several images of each star.

    Parameters
    ----------
    windows : `Windows`
        Gives the pixels.
    x, y : `numpy.ndarray` of float64, (N,)
        Centres in PARENT pixels.
    apertures : `~collections.abc.Sequence` [`tuple`]
        Semi-axes a, b in pixels and position angles theta in radians of each
        of K apertures, arrays of shape (N,).  Equal shapes share their
        coefficients.
    orders : `~collections.abc.Sequence` [`int`]
        Order of the Lanczos kernel that shifts each aperture's coefficients.
    wanted : `numpy.ndarray` of bool, (K, N)
        What to measure: 0 < b <= a, and no values are NaN there.
    regions : `numpy.ndarray` of int64, (N, P, 4)
        Inclusive PARENT limits min x, min y, max x, max y of the images.
    margin : `int`, optional
        Pixels around windows that ``windows`` needs, too; to bound memory.

    Returns
    -------
    results : `list` [`list` [`ApertureFlux`]]
        Of each aperture and image; NaN without a flag where not wanted.

    Raises
    ------
    ValueError
        Raised if an aperture is smaller than the kernel.

    Notes
    -----
    Spec 03 §3.8.4, with the quirk that the centre is rounded to float32.
    For float32 images the coefficients are float32, as upstream's; but the
    sums are double, where upstream loses 1e-7 to 1e-6 of the flux.
    """
    work = _SincPhotometry(windows, x, y, apertures, orders, regions)
    for k in range(len(apertures)):
        work.plan(k, np.flatnonzero(wanted[k]))
    planes = regions.shape[1]
    largest = work.halves.max(axis=0, initial=0)
    for half in np.unique(largest[largest > 0]):
        rows = np.flatnonzero(largest == half)
        portion = max(1, _MAX_CHUNK_PIXELS // (planes * int(2 * (half + margin) - 1) ** 2))
        for start in range(0, len(rows), portion):
            work.measure(rows[start : start + portion], int(half))
    return work.results


class _SincPhotometry:
    """Arguments of `sinc_fluxes`, and what becomes of them.

    ``halves`` (K, N) are half sizes of coefficients, 0 if not to be measured.
    """

    def __init__(
        self,
        windows: Windows,
        x: FloatArray,
        y: FloatArray,
        apertures: Sequence[Axes],
        orders: Sequence[int],
        regions: IntArray,
    ) -> None:
        self.windows = windows
        self.x, self.y = x, y
        self.apertures, self.orders = apertures, orders
        self.regions = regions
        count, planes = regions.shape[:2]
        self.halves = np.zeros((len(apertures), count), dtype=np.int64)
        self.results = [[ApertureFlux.unmeasured(count) for _ in range(planes)] for _ in apertures]

    def plan(self, k: int, rows: IntArray) -> None:
        """Flag apertures that leave an image; give the others a size."""
        a, b, theta = self.apertures[k]
        diagonal = quadrupole_diagonal(a[rows], b[rows], theta[rows])
        boxes = ellipse_boxes(self.x[rows], self.y[rows], *diagonal)
        # The coefficients always reach beyond the aperture.
        fits = inside_bounds(boxes[:, None, :], self.regions[rows])
        # Even if an image can hold these, their coefficients are too many.
        fits &= (2.0 * a[rows] <= _MAX_HALF_SIZE)[:, None]
        for p, result in enumerate(self.results[k]):
            result.aperture_truncated[rows] = ~fits[:, p]
            result.coefficients_truncated[rows] = ~fits[:, p]
        rows = rows[fits.any(axis=1)]
        self.halves[k, rows] = halves = _half_sizes(a[rows])
        if 2 * halves.min(initial=_MAX_HALF_SIZE) - 1 < 2 * self.orders[k]:
            raise ValueError(
                f"a Lanczos kernel of order {self.orders[k]} is too large for an aperture of "
                f"{a[rows].min()} pixels"
            )

    def measure(self, rows: IntArray, half: int) -> None:
        """Measure stars whose largest coefficients share one size."""
        from ._sums_numba import sinc_sums

        # Upstream hands the centre over as float32, in PARENT coordinates.
        centre = self.x[rows].astype(np.float32), self.y[rows].astype(np.float32)
        (dx, fx), (dy, fy) = split_shift(*centre)
        images, variances = self.windows(dx - half + 1, dy - half + 1, 2 * half - 1, rows)
        pixel_type = np.float32 if images.dtype == np.float32 else np.float64
        for k, axes in enumerate(self.apertures):
            own = self.halves[k, rows]
            for small in np.unique(own[own > 0]):
                members = np.flatnonzero(own == small)
                stars = rows[members]
                a, b, theta = (v[stars] for v in axes)
                coefficients, which = _coefficient_sets(a, b, theta, int(small))
                x_taps, x_centres = lanczos_weights(fx[members], self.orders[k])
                y_taps, y_centres = lanczos_weights(fy[members], self.orders[k])
                flux = np.empty((len(members), images.shape[1]))
                flux_var = np.empty_like(flux)
                sinc_sums(
                    images,
                    variances,
                    members,
                    np.ascontiguousarray(coefficients, dtype=pixel_type),
                    which,
                    x_taps,
                    y_taps,
                    x_centres,
                    y_centres,
                    flux,
                    flux_var,
                )
                reach = int(small) - 1
                edges = np.stack([dx - reach, dy - reach, dx + reach, dy + reach], axis=-1)[members]
                self._store(k, stars, flux, flux_var, edges)

    def _store(self, k: int, rows: IntArray, flux: FloatArray, flux_var: FloatArray, edges: IntArray) -> None:
        """Keep results where the aperture fits; flag lost coefficients."""
        for p, result in enumerate(self.results[k]):
            fits = ~result.aperture_truncated[rows]
            good = rows[fits]
            result.coefficients_truncated[good] = ~inside_bounds(edges, self.regions[rows, p])[fits]
            result.flux[good] = flux[fits, p]
            with np.errstate(invalid="ignore"):
                result.flux_err[good] = np.sqrt(flux_var[fits, p])


def sinc_flux(
    cutout: CutOut,
    x: FloatArray,
    y: FloatArray,
    a: FloatArray,
    b: FloatArray,
    theta: FloatArray,
    *,
    bounds: tuple[int, int, int, int],
    rows: IntArray | None = None,
    order: int = 5,
) -> ApertureFlux:
    """Measure fluxes in sinc apertures.

    Parameters
    ----------
    cutout : `CutOut`
        Gives the pixels around each star, e.g. `MeasureBatch.cutout`.
    x, y : `numpy.ndarray` of float64, (N,)
        Centres in PARENT pixels.
    a, b, theta : `numpy.ndarray` of float64, (N,)
        Semi-axes in pixels and position angles in radians.  Equal shapes
        share their coefficients.
    bounds : `tuple` of `int`
        Inclusive min x, min y, max x, max y of the image.
    rows : `numpy.ndarray` of int, optional
        Measure only these; the others stay NaN without a flag.  None of
        their values may be NaN, and 0 < b <= a.
    order : `int`, optional
        Order of the Lanczos kernel that shifts the coefficients.

    Returns
    -------
    result : `ApertureFlux`
        Fluxes of all N stars.

    Raises
    ------
    ValueError
        Raised if an aperture is smaller than the kernel.

    Notes
    -----
    As `sinc_fluxes`, which tells more.
    """
    wanted = np.zeros((1, len(x)), dtype=np.bool_)
    wanted[0, slice(None) if rows is None else rows] = True
    results = sinc_fluxes(
        single_windows(cutout),
        x,
        y,
        [(a, b, theta)],
        [order],
        wanted,
        regions=np.broadcast_to(np.array(bounds, dtype=np.int64), (len(x), 1, 4)),
    )
    return results[0][0]


def single_windows(cutout: CutOut) -> Windows:
    """Return windows of the one image that is cut out."""

    def windows(x0: IntArray, y0: IntArray, size: int, rows: IntArray) -> tuple[np.ndarray, np.ndarray]:
        stamps = cutout(x0, y0, size, size, rows)
        return stamps.image[:, None], stamps.variance[:, None]

    return windows
