# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Maximum of a star from 3 × 3 smoothed pixels (spec 03 §3.4)."""

from __future__ import annotations

__all__ = ("PeakFits", "fit_peaks")

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]

_QUARTIC = np.float32(1.33)  # strength of the quartic term of a Gaussian
_TINY = float(np.finfo(np.float32).tiny)


@dataclass
class PeakFits:
    """Results of `fit_peaks`, one element per star.

    ``x, y`` are offsets from the central pixel in (binned) pixels, ``tau2_x``
    and ``tau2_y`` squared sizes of the star before smoothing, ``peak`` the
    height of the maximum.
    """

    x: FloatArray
    y: FloatArray
    x_err: FloatArray
    y_err: FloatArray
    tau2_x: FloatArray
    tau2_y: FloatArray
    peak: FloatArray
    no_second_derivative: BoolArray
    not_at_maximum: BoolArray


def _quartic_maximum(
    vm: np.ndarray, v0: np.ndarray, vp: np.ndarray, negative: BoolArray
) -> tuple[FloatArray, BoolArray]:
    """Find the maximum of three float32 values; True where there is none."""
    sign = np.where(negative, np.float32(-1), np.float32(1))
    vm, v0, vp = sign * vm, sign * v0, sign * vp
    sp, sm = v0 - vp, v0 - vm
    d = sp + sm
    t = np.float32(0.5) * (vp - vm)
    # The factor in brackets is double, all else float32.
    c = ((t / d) * (1.0 + (_QUARTIC * sp * sm / (d * v0)).astype(np.float64))).astype(np.float32)
    bad = (d <= 0) | (v0 <= 0) | (np.abs(c) >= 1)
    return c.astype(np.float64), bad


def _position_errors(
    peak: FloatArray,
    slope: FloatArray,
    curvature: FloatArray,
    quartic: FloatArray,
    sigma: FloatArray,
    outer: FloatArray,
    central: FloatArray,
) -> FloatArray:
    """Propagate pixel variances to a coordinate of the maximum."""
    s2 = sigma**2
    e1, e2, e3 = np.exp(-1 / s2), np.exp(-1 / (3 * s2)), np.exp(-1 / (4 * s2))
    s_var = outer / (8 * np.pi * s2) * (1 - e1) + central / (12 * np.pi * s2) * (e2 - e1)
    d_var = outer / (2 * np.pi * s2) * (3 - 4 * e3 + e1) + central / (3 * np.pi * s2) * (2 - 3 * e2 + e1)
    k = quartic / (4 * peak)
    variance = (
        s_var * (1 / curvature + k * (1 - 12 * (slope / curvature) ** 2)) ** 2
        + d_var * (slope / curvature**2 - k * 8 * slope**2 / curvature**3) ** 2
    )
    error = np.sqrt(np.where(variance >= 0, variance, np.nan))
    return np.where((np.abs(peak) < _TINY) | (np.abs(curvature) < _TINY), 1000.0, error)


def _quartic_position(
    s: npt.NDArray[np.float32], dx0: FloatArray, dy0: FloatArray, negative: BoolArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Intersect the ridge lines of rows and columns."""
    rows = [_quartic_maximum(s[:, k, 0], s[:, k, 1], s[:, k, 2], negative) for k in range(3)]
    columns = [_quartic_maximum(s[:, 0, k], s[:, 1, k], s[:, 2, k], negative) for k in range(3)]
    bad = np.logical_or.reduce([b for _, b in rows + columns])
    (m0x, m1x, m2x), (m0y, m1y, m2y) = ([m for m, _ in group] for group in (rows, columns))
    smx, smy = (m2x - m0x) / 2, (m2y - m0y) / 2
    cx, cy = m1x - (m0x + m2x) / 2, m1y - (m0y + m2y) / 2
    dx = m1x + dy0 * (smx - dy0 * cx)
    dy = m1y + dx0 * (smy - dx0 * cy)
    return m1x + dy * (smx - dy * cx), m1y + dx * (smy - dx * cy), bad


def fit_peaks(
    values: npt.NDArray[np.float32],
    variances: npt.NDArray[np.float32],
    sigma: FloatArray,
    negative: BoolArray,
) -> PeakFits:
    """Find the maxima of smoothed stars.

    Parameters
    ----------
    values : `numpy.ndarray`
        3 × 3 pixels of the smoothed image, float32 of shape (N, 3, 3).
    variances : `numpy.ndarray`
        Their variances, (N, 3, 3).
    sigma : `numpy.ndarray`
        Size of the smoothing kernel in pixels, (N,).
    negative : `numpy.ndarray`
        True for stars that are minima, (N,).

    Returns
    -------
    fits : `PeakFits`
        Positions, errors, sizes and flags.
    """
    s = values.astype(np.float32)
    half = np.float32(0.5)
    with np.errstate(all="ignore"):
        # NaN pixels pass all of these tests and give NaN errors.
        d2x = (np.float32(2) * s[:, 1, 1] - s[:, 1, 0] - s[:, 1, 2]).astype(np.float64)
        d2y = (np.float32(2) * s[:, 1, 1] - s[:, 0, 1] - s[:, 2, 1]).astype(np.float64)
        sx = (half * (s[:, 1, 2] - s[:, 1, 0])).astype(np.float64)
        sy = (half * (s[:, 2, 1] - s[:, 0, 1])).astype(np.float64)
        sign = np.where(negative, -1.0, 1.0)
        flat = (d2x == 0) | (d2y == 0)
        not_maximum = ~flat & ((sign * d2x < 0) | (sign * d2y < 0))
        dx0, dy0 = sx / d2x, sy / d2y
        flat |= ~not_maximum & ((np.abs(dx0) > 10) | (np.abs(dy0) > 10))
        peak = s[:, 1, 1] + 0.5 * (sx * dx0 + sy * dy0)
        x, y, bad = _quartic_position(s, dx0, dy0, negative)
        x, y = np.where(bad, dx0, x), np.where(bad, dy0, y)
        quartic = np.where(bad, 0.0, float(_QUARTIC))
        smoothing = sigma**2
        tau2 = []
        errors = []
        outer = (variances.sum(axis=(1, 2), dtype=np.float64) - variances[:, 1, 1]) / 8
        central = variances[:, 1, 1].astype(np.float64)
        for d2, slope, d0 in ((d2x, sx, dx0), (d2y, sy, dy0)):
            size2 = peak / d2 - np.where(bad, 0.0, (1 + 6 * d0**2) / 4)
            size2 -= smoothing
            tau2.append(np.where(size2 <= smoothing, smoothing, size2))
            errors.append(_position_errors(peak, slope, d2, quartic, sigma, outer, central))
    return PeakFits(x, y, errors[0], errors[1], tau2[0], tau2[1], peak, flat, not_maximum)
