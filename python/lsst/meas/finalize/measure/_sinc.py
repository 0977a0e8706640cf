# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
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
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ._boxes import CutOut, ellipse_boxes, inside_bounds
from ._lanczos import lanczos_weights, split_shift

_MAX_HALF_SIZE = 2048
"""Largest coefficient grid: apertures up to a radius of 1024 pixels."""

_MAX_CHUNK_PIXELS = 4_000_000
"""Pixels cut out at a time."""

_CIRCLE_TOLERANCE = float(np.finfo(np.float32).eps)


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

    def assign(self, rows: npt.NDArray, other: ApertureFlux) -> None:
        """Copy the result of some stars into this one."""
        self.flux[rows] = other.flux
        self.flux_err[rows] = other.flux_err
        self.aperture_truncated[rows] = other.aperture_truncated
        self.coefficients_truncated[rows] = other.coefficients_truncated


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


def _evaluate(shapes: npt.NDArray[np.float64], half_size: int) -> npt.NDArray[np.float64]:
    """Evaluate coefficients on one common grid, (N, n, n).

    ``shapes`` (N, 4) are major and minor semi-axis, angle, and the major
    semi-axis of the hole.
    """
    from scipy.fft import irfft2
    from scipy.special import j1

    n = 2 * half_size - 1
    kx = (np.arange(half_size) / n)[None, None, :]
    ky = (np.fft.ifftshift(np.arange(1 - half_size, half_size)) / n)[None, :, None]
    a, b, theta, inner = (v[:, None, None] for v in shapes.T)
    ratio = b / a
    cosine, sine = np.cos(theta), np.sin(theta)
    k = np.hypot(kx * cosine + ky * sine, ratio * (ky * cosine - kx * sine))
    k[:, 0, 0] = 1.0
    transform = ratio * a * j1(2.0 * np.pi * a * k) / k
    if np.any(inner):
        transform -= ratio * inner * j1(2.0 * np.pi * inner * k) / k
    transform[:, 0, 0] = (ratio * np.pi * (a * a - inner * inner))[:, 0, 0]
    coefficients = irfft2(transform, s=(n, n))
    return np.fft.fftshift(coefficients, axes=(1, 2))


def quadrupole_diagonal(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], theta: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return ixx and iyy (pixel^2) of ellipses given by their axes."""
    cosine2, sine2 = np.square(np.cos(theta)), np.square(np.sin(theta))
    return a * a * cosine2 + b * b * sine2, a * a * sine2 + b * b * cosine2


@functools.lru_cache(maxsize=64)
def sinc_coefficients(
    a: float, b: float | None = None, theta: float = 0.0, inner: float = 0.0
) -> npt.NDArray[np.float64]:
    """Return the sinc coefficients of an ellipse at the central pixel.

    Parameters
    ----------
    a : `float`
        Major semi-axis in pixels.
    b : `float`, optional
        Minor semi-axis in pixels; default a circle.
    theta : `float`, optional
        Angle from the x axis to the major axis in radians.
    inner : `float`, optional
        Major semi-axis of a hole of the same shape.

    Returns
    -------
    coefficients : `numpy.ndarray` of float64, (n, n)
        Read-only, cached; the aperture's centre is the central pixel.  The
        sum is the area of the aperture.

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
    coefficients = _evaluate(np.array([[a, b, theta, inner]], dtype=np.float64), sinc_half_size(a))[0]
    coefficients.flags.writeable = False
    return coefficients


def _groups(a: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray]]:
    """Yield (half size, stars) in portions of bounded memory."""
    halves = np.array([sinc_half_size(v) for v in a[rows]], dtype=np.int64)
    for half in np.unique(halves):
        members = rows[halves == half]
        portion = max(1, _MAX_CHUNK_PIXELS // int(2 * half - 1) ** 2)
        for start in range(0, len(members), portion):
            yield int(half), members[start : start + portion]


def _coefficient_sets(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    theta: npt.NDArray[np.float64],
    half_size: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the distinct coefficient images and each star's choice."""
    theta = np.where(np.abs(a - b) < _CIRCLE_TOLERANCE, 0.0, theta)
    shapes, which = np.unique(np.stack([a, b, theta], axis=-1), axis=0, return_inverse=True)
    which = which.reshape(-1).astype(np.int64)
    if len(shapes) == 1:
        return sinc_coefficients(*(float(v) for v in shapes[0]))[None], which
    no_hole = np.zeros((len(shapes), 1))
    return _evaluate(np.hstack([shapes, no_hole]), half_size), which


def _measure_group(
    cutout: CutOut,
    rows: npt.NDArray[np.int64],
    half_size: int,
    apertures: npt.NDArray[np.float64],
    bounds: tuple[int, int, int, int],
    order: int,
) -> ApertureFlux:
    """Measure stars whose coefficients share one grid; all apertures fit.

    ``apertures`` (n, 5) are x, y, semi-axes and angle of the n ``rows``.
    """
    from . import _sinc_numba

    result = ApertureFlux.unmeasured(len(rows))
    x, y, a, b, theta = apertures.T
    size = 2 * half_size - 1
    coefficients, which = _coefficient_sets(a, b, theta, half_size)
    # Upstream hands the centre over as float32, in PARENT coordinates.
    shift_x, shift_y = x.astype(np.float32), y.astype(np.float32)
    (dx, fx), (dy, fy) = split_shift(shift_x, shift_y)
    x0, y0 = dx - (half_size - 1), dy - (half_size - 1)
    boxes = np.stack([x0, y0, x0 + size - 1, y0 + size - 1], axis=-1)
    result.coefficients_truncated[:] = ~inside_bounds(boxes, bounds)
    stamps = cutout(x0, y0, size, size, rows)
    x_taps, x_centres = lanczos_weights(fx, order)
    y_taps, y_centres = lanczos_weights(fy, order)
    pixel_type = np.float32 if stamps.image.dtype == np.float32 else np.float64
    flux_var = np.empty(len(rows))
    _sinc_numba.sinc_sums(
        stamps.image,
        stamps.variance,
        np.ascontiguousarray(coefficients, dtype=pixel_type),
        which,
        x_taps,
        y_taps,
        x_centres,
        y_centres,
        result.flux,
        flux_var,
    )
    with np.errstate(invalid="ignore"):
        result.flux_err[:] = np.sqrt(flux_var)
    return result


def sinc_flux(
    cutout: CutOut,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    theta: npt.NDArray[np.float64],
    *,
    bounds: tuple[int, int, int, int],
    rows: npt.NDArray[np.int64] | None = None,
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
    Spec 03 §3.8.4, with the quirk that the centre is rounded to float32.
    For float32 images the coefficients are float32, as upstream's; but the
    sums are double, where upstream loses 1e-7 to 1e-6 of the flux.
    """
    count = len(x)
    rows = np.arange(count) if rows is None else np.asarray(rows, dtype=np.int64)
    result = ApertureFlux.unmeasured(count)
    diagonal = quadrupole_diagonal(a[rows], b[rows], theta[rows])
    # The coefficients always reach beyond the aperture.
    lost = ~inside_bounds(ellipse_boxes(x[rows], y[rows], *diagonal), bounds)
    # Even if an image can hold these, their coefficients are too many.
    lost |= 2.0 * a[rows] > _MAX_HALF_SIZE
    result.aperture_truncated[rows[lost]] = True
    result.coefficients_truncated[rows[lost]] = True
    rows = rows[~lost]
    apertures = np.stack([x, y, a, b, theta], axis=-1).astype(np.float64)
    for half, members in _groups(a, rows):
        if 2 * half - 1 < 2 * order:
            raise ValueError(
                f"a Lanczos kernel of order {order} is too large for an aperture of {a[members].min()} pixels"
            )
        result.assign(members, _measure_group(cutout, members, half, apertures[members], bounds, order))
    return result
