# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled loops of HSM moments: import inside the function that calls."""

from __future__ import annotations

__all__ = (
    "elliptical_moments",
    "higher_moments",
    "iterate_elliptical",
    "round_moments",
    "working_box",
)

import math

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit
from ..exp_numba import exp_float64

# GalSim's HSMParams defaults (spec 04 §7.1), all of them fixed upstream.
_MAX_ITERATIONS = 400
_CLIP = 0.25
_MAX_MOMENT = 8000.0
_MAX_SHIFT = 15.0
_MIN_MOMENT = 1.0e-8
_THRESHOLD = 1.0e-6
_MAX_RHO_SQUARED = -2.0 * math.log(1.0e-7)

# Status codes, in step with HsmStatus in _hsm.py.
_OK = 0
_NO_PIXELS = 1
_ALL_ZERO = 2
_NOT_POSITIVE_DEFINITE = 3
_OUT_OF_BOUNDS = 4
_SINGULAR_WEIGHT = 5
_RAN_AWAY = 6
_COLLAPSED = 7
_TOO_MANY_ITERATIONS = 8
_NOT_A_NUMBER = 9


@njit(error_model="numpy")
def _clip(value: float) -> float:
    """Limit a step to ±0.25; NaN stays."""
    if value > _CLIP:
        return _CLIP
    if value < -_CLIP:
        return -_CLIP
    return value


@njit(error_model="numpy")
def working_box(image: npt.NDArray, good: npt.NDArray, nx: int, ny: int) -> tuple[int, int, int, int, int]:
    """Intersect the boxes of non-zero pixels and of non-zero weights.

    Parameters
    ----------
    image, good : `numpy.ndarray`
        Pixels, and which of them are to be used, (h, w).
    nx, ny : `int`
        Width and height of the part that counts.

    Returns
    -------
    status, i_min, i_max, j_min, j_max : `int`
        Status, first and last columns and rows.
    """
    i_min, i_max, j_min, j_max = nx, -1, ny, -1
    g_imin, g_imax, g_jmin, g_jmax = nx, -1, ny, -1
    for j in range(ny):
        for i in range(nx):
            if image[j, i] != 0.0:
                i_min, i_max = min(i, i_min), max(i, i_max)
                j_min, j_max = min(j, j_min), max(j, j_max)
            if good[j, i]:
                g_imin, g_imax = min(i, g_imin), max(i, g_imax)
                g_jmin, g_jmax = min(j, g_jmin), max(j, g_jmax)
    if g_imax < 0:
        return _NO_PIXELS, 0, -1, 0, -1
    i_min, i_max = max(i_min, g_imin), min(i_max, g_imax)
    j_min, j_max = max(j_min, g_jmin), min(j_max, g_jmax)
    if i_min > i_max or j_min > j_max:
        return _ALL_ZERO, 0, -1, 0, -1
    return _OK, i_min, i_max, j_min, j_max


@njit(error_model="numpy")
def _gather(
    image: npt.NDArray,
    good: npt.NDArray,
    box: tuple[int, int, int, int],
    state: npt.NDArray,
    pixels: npt.NDArray,
) -> int:
    """Copy the pixels inside rho^2 <= nu^2; return how many there are.

    ``pixels`` (5, n) receives offsets in x and y and values.  -1 if no row is
    in the box.
    """
    i_min, i_max, j_min, j_max = box
    x0, y0, mxx, mxy, myy = state[0], state[1], state[2], state[3], state[4]
    det = mxx * myy - mxy * mxy
    ixx, ixy = myy / det, -mxy / det
    half = math.sqrt(_MAX_RHO_SQUARED * myy)
    j_lo = int(max(math.ceil(y0 - half), j_min))
    j_hi = int(min(math.floor(y0 + half), j_max))
    if j_lo > j_hi:
        return -1
    count = 0
    for j in range(j_lo, j_hi + 1):
        dy = j - y0
        centre = x0 - ixy / ixx * dy
        disc = (_MAX_RHO_SQUARED - dy * dy / myy) / ixx
        if disc < 0.0:
            continue
        root = math.sqrt(disc)
        i_lo = int(max(math.ceil(centre - root), i_min))
        i_hi = int(min(math.floor(centre + root), i_max))
        for i in range(i_lo, i_hi + 1):
            pixels[0, count] = i - x0
            pixels[1, count] = dy
            # 0 * NaN must stay NaN, as in GalSim: multiply, don't skip.
            pixels[2, count] = image[j, i] * good[j, i]
            count += 1
    return count


@njit(error_model="numpy")
def _weigh(pixels: npt.NDArray, count: int, ixx: float, ixy: float, iyy: float) -> None:
    """Set rows 3 and 4 of gathered pixels: weighted values and rho^2.

    One long loop that compilers vectorise, exponentials included.
    """
    dx, dy, values = pixels[0, :count], pixels[1, :count], pixels[2, :count]
    weighted, rho2 = pixels[3, :count], pixels[4, :count]
    for i in range(count):
        rho2[i] = ixx * dx[i] * dx[i] + 2.0 * ixy * dx[i] * dy[i] + iyy * dy[i] * dy[i]
        weighted[i] = exp_float64(-0.5 * rho2[i]) * values[i]


# The order of sums is free, which lets the compiler vectorise them.
@njit(error_model="numpy", fastmath={"reassoc"})
def _sum_up(pixels: npt.NDArray, count: int, sums: npt.NDArray) -> None:
    """Sum weighted pixels times powers of the offsets, and of rho^2."""
    x, y, weighted, rho2 = pixels[0, :count], pixels[1, :count], pixels[3, :count], pixels[4, :count]
    a0 = bx = by = cxx = cxy = cyy = r4 = 0.0
    for i in range(count):
        w, dx, dy, r2 = weighted[i], x[i], y[i], rho2[i]
        wx = w * dx
        wy = w * dy
        a0 += w
        bx += wx
        by += wy
        cxx += wx * dx
        cxy += wx * dy
        cyy += wy * dy
        r4 += w * r2 * r2
    sums[0], sums[1], sums[2] = a0, bx, by
    sums[3], sums[4], sums[5], sums[6] = cxx, cxy, cyy, r4


@njit(error_model="numpy")
def _gaussian_sums(
    image: npt.NDArray,
    good: npt.NDArray,
    box: tuple[int, int, int, int],
    state: npt.NDArray,
    pixels: npt.NDArray,
    sums: npt.NDArray,
) -> bool:
    """Weighted sums inside rho^2 <= nu^2; False if no row is in the box."""
    count = _gather(image, good, box, state, pixels)
    if count < 0:
        sums[:] = 0.0
        return False
    mxx, mxy, myy = state[2], state[3], state[4]
    det = mxx * myy - mxy * mxy
    _weigh(pixels, count, myy / det, -mxy / det, mxx / det)
    _sum_up(pixels, count, sums)
    return True


@njit(error_model="numpy")
def _small_eigenvalue(mxx: float, mxy: float, myy: float) -> float:
    """Return the smaller eigenvalue of a symmetric 2x2 matrix."""
    two_theta = math.atan2(2.0 * mxy, mxx - myy)
    large = 0.5 * (mxx + myy) + 0.5 * (mxx - myy) * math.cos(two_theta) + mxy * math.sin(two_theta)
    return mxx + myy - large


@njit(error_model="numpy")
def _elliptical_step(sums: npt.NDArray, state: npt.NDArray, s_start: float) -> tuple[int, float, float]:
    """Update the state from the sums: steps 4-7 of spec 04 §7.2.

    Returns the status, the convergence measure and the first scale.
    """
    a0 = sums[0]
    lam = _small_eigenvalue(state[2], state[3], state[4])
    if lam <= 0.0:
        return _SINGULAR_WEIGHT, 0.0, s_start
    s = math.sqrt(lam)
    if s_start < 0.0:
        s_start = s
    dx = _clip(2.0 * sums[1] / (a0 * s))
    dy = _clip(2.0 * sums[2] / (a0 * s))
    dxx = _clip(4.0 * (sums[3] / a0 - 0.5 * state[2]) / lam)
    dxy = _clip(4.0 * (sums[4] / a0 - 0.5 * state[3]) / lam)
    dyy = _clip(4.0 * (sums[5] / a0 - 0.5 * state[4]) / lam)
    conv = max(abs(dx), abs(dy), abs(dxx), abs(dxy), abs(dyy))
    if math.isnan(dx + dy + dxx + dxy + dyy):
        conv = math.nan
    if s < s_start:
        conv *= s_start / s
    state[0] += dx * s
    state[1] += dy * s
    state[2] += dxx * lam
    state[3] += dxy * lam
    state[4] += dyy * lam
    return _OK, conv, s_start


@njit(error_model="numpy")
def _checked(state: npt.NDArray, guess_x: float, guess_y: float) -> int:
    """Return the status of an updated state, tested in GalSim's order."""
    mxx, mxy, myy = state[2], state[3], state[4]
    if (
        abs(mxx) > _MAX_MOMENT
        or abs(mxy) > _MAX_MOMENT
        or abs(myy) > _MAX_MOMENT
        or abs(state[0] - guess_x) > _MAX_SHIFT
        or abs(state[1] - guess_y) > _MAX_SHIFT
    ):
        return _RAN_AWAY
    if abs(mxx) < _MIN_MOMENT or abs(myy) < _MIN_MOMENT or mxx * myy - mxy * mxy < _MIN_MOMENT:
        return _COLLAPSED
    return _OK


@njit(error_model="numpy")
def iterate_elliptical(
    image: npt.NDArray,
    good: npt.NDArray,
    box: tuple[int, int, int, int],
    state: npt.NDArray,
    pixels: npt.NDArray,
    sums: npt.NDArray,
) -> tuple[int, int]:
    """Iterate one star to convergence (spec 04 §7.2).

    Parameters
    ----------
    image, good : `numpy.ndarray`
        Pixels, and which of them are to be used, (h, w).
    box : `tuple`
        What `working_box` found.
    state : `numpy.ndarray`
        x, y, Mxx, Mxy, Myy to start from; receives the last ones, (5,).
    pixels : `numpy.ndarray`
        Work space, (5, h w).
    sums : `numpy.ndarray`
        Receives weighted sums of 1, dx, dy, dx², dx dy, dy² and rho⁴, (7,).

    Returns
    -------
    status, count : `int`
        Status and number of passes.
    """
    guess_x, guess_y = state[0], state[1]
    conv = math.inf
    s_start = -1.0
    k = 0
    if math.isnan(guess_x + guess_y + state[2]):
        return _NOT_A_NUMBER, k
    while conv > _THRESHOLD:
        det = state[2] * state[4] - state[3] * state[3]
        if det <= 0.0 or state[2] <= 0.0 or state[4] <= 0.0:
            return _NOT_POSITIVE_DEFINITE, k
        if not _gaussian_sums(image, good, box, state, pixels, sums):
            return _OUT_OF_BOUNDS, k
        status, conv, s_start = _elliptical_step(sums, state, s_start)
        if status == _OK:
            status = _checked(state, guess_x, guess_y)
        if status != _OK:
            return status, k
        k += 1
        if k > _MAX_ITERATIONS:
            return _TOO_MANY_ITERATIONS, k
        if math.isnan(conv + state[0] + state[1] + state[2] + state[3] + state[4]):
            return _NOT_A_NUMBER, k
    return _OK, k


@njit(error_model="numpy")
def elliptical_moments(
    images: npt.NDArray,
    good: npt.NDArray,
    size: npt.NDArray,
    guess: npt.NDArray,
    out: npt.NDArray,
    status: npt.NDArray,
    iterations: npt.NDArray,
) -> None:
    """Fill ``out`` (N, 7): x, y, Mxx, Mxy, Myy, amplitude, rho4.

    Positions are relative to pixel [0, 0] of each stamp; ``guess`` is
    (N, 3): x, y, sigma; ``size`` (N, 2): the true width and height.
    """
    sums = np.zeros(7)
    state = np.zeros(5)
    pixels = np.empty((5, images.shape[1] * images.shape[2]))
    for n in range(images.shape[0]):
        status[n], i_min, i_max, j_min, j_max = working_box(images[n], good[n], size[n, 0], size[n, 1])
        if status[n] != _OK:
            continue
        state[0], state[1] = guess[n, 0], guess[n, 1]
        state[2] = guess[n, 2] * guess[n, 2]
        state[3] = 0.0
        state[4] = state[2]
        box = (i_min, i_max, j_min, j_max)
        status[n], iterations[n] = iterate_elliptical(images[n], good[n], box, state, pixels, sums)
        if status[n] == _OK:
            out[n, :5] = state
            out[n, 5] = 2.0 * sums[0]
            out[n, 6] = sums[6] / sums[0]


@njit(error_model="numpy", fastmath={"reassoc"})
def _line_sums(
    image: npt.NDArray, good: npt.NDArray, weights: npt.NDArray, first: float
) -> tuple[float, float, float]:
    """Sum a line of weighted pixels times powers of their offsets."""
    r0 = r1 = r2 = 0.0
    for i in range(len(weights)):
        dx = first + i
        w = weights[i] * (image[i] * good[i])
        r0 += w
        r1 += w * dx
        r2 += w * dx * dx
    return r0, r1, r2


@njit(error_model="numpy")
def _round_sums(
    image: npt.NDArray,
    good: npt.NDArray,
    box: tuple[int, int, int, int],
    state: npt.NDArray,
    row: npt.NDArray,
    sums: npt.NDArray,
) -> None:
    """Circularly weighted sums over the whole box: A, x, y, xx, xy, yy."""
    i_min, i_max, j_min, j_max = box
    x0, y0, sigma = state[0], state[1], state[2]
    scale = -0.5 / (sigma * sigma)
    for i in range(i_min, i_max + 1):
        row[i] = math.exp(scale * (i - x0) * (i - x0))
    a0 = bx = by = cxx = cxy = cyy = 0.0
    for j in range(j_min, j_max + 1):
        dy = j - y0
        part = slice(i_min, i_max + 1)
        r0, r1, r2 = _line_sums(image[j, part], good[j, part], row[part], i_min - x0)
        wy = math.exp(scale * dy * dy)
        a0 += wy * r0
        bx += wy * r1
        by += wy * r0 * dy
        cxx += wy * r2
        cxy += wy * r1 * dy
        cyy += wy * r0 * dy * dy
    sums[0], sums[1], sums[2] = a0, bx, by
    sums[3], sums[4], sums[5] = cxx, cxy, cyy


@njit(error_model="numpy")
def _iterate_round(
    image: npt.NDArray,
    good: npt.NDArray,
    box: tuple[int, int, int, int],
    state: npt.NDArray,
    row: npt.NDArray,
    sums: npt.NDArray,
) -> tuple[int, int]:
    """Iterate one star with a circular weight, spec 04 §7.3."""
    start = state[2]
    conv = math.inf
    k = 0
    while conv > _THRESHOLD:
        _round_sums(image, good, box, state, row, sums)
        sigma = state[2]
        dx = _clip(2.0 * sums[1] / (sums[0] * sigma))
        dy = _clip(2.0 * sums[2] / (sums[0] * sigma))
        ds = _clip((sums[3] + sums[5]) / (sums[0] * sigma * sigma) - 1.0)
        conv = max(abs(dx), abs(dy), abs(ds))
        if math.isnan(dx + dy + ds):
            conv = math.nan
        if sigma < start:
            conv *= start / sigma
        state[0] += dx * sigma
        state[1] += dy * sigma
        state[2] += ds * sigma
        k += 1
        if k > _MAX_ITERATIONS:
            return _TOO_MANY_ITERATIONS, k
    _round_sums(image, good, box, state, row, sums)
    return _OK, k


@njit(error_model="numpy")
def round_moments(
    images: npt.NDArray,
    good: npt.NDArray,
    size: npt.NDArray,
    guess: npt.NDArray,
    out: npt.NDArray,
    status: npt.NDArray,
    iterations: npt.NDArray,
) -> None:
    """Fill ``out`` (N, 6): x, y, sigma, e1, e2, amplitude."""
    sums = np.zeros(6)
    state = np.zeros(3)
    row = np.zeros(images.shape[2])
    for n in range(images.shape[0]):
        status[n], i_min, i_max, j_min, j_max = working_box(images[n], good[n], size[n, 0], size[n, 1])
        if status[n] != _OK:
            continue
        state[:] = guess[n]
        box = (i_min, i_max, j_min, j_max)
        status[n], iterations[n] = _iterate_round(images[n], good[n], box, state, row, sums)
        if status[n] == _OK:
            norm = sums[0] * state[2] * state[2]
            out[n, :3] = state
            out[n, 3] = (sums[3] - sums[5]) / norm
            out[n, 4] = 2.0 * sums[4] / norm
            out[n, 5] = 2.0 * sums[0]


@njit(error_model="numpy")
def _inverse_root(mxx: float, mxy: float, myy: float) -> tuple[float, float, float]:
    """Return xx, xy, yy of the symmetric inverse root of a matrix."""
    det = mxx * myy - mxy * mxy
    if not (det > 0.0):
        return math.nan, math.nan, math.nan
    root = math.sqrt(det)
    eta = math.sqrt(det * (mxx + myy + 2.0 * root))
    return (myy + root) / eta, -mxy / eta, (mxx + root) / eta


@njit(error_model="numpy")
def higher_moments(
    images: npt.NDArray,
    good: npt.NDArray,
    size: npt.NDArray,
    centre: npt.NDArray,
    moments: npt.NDArray,
    good_sum: npt.NDArray,
    fill: bool,
    orders: npt.NDArray,
    out: npt.NDArray,
) -> None:
    """Fill ``out`` (N, len(orders)) with standardised moments, spec 04 §8.

    ``orders`` (P, 2) are the powers of u and v; ``good_sum`` (N,) the sum
    of the good pixels; ``fill`` replaces bad pixels by the scaled weight.
    """
    n_orders = orders.shape[0]
    top = np.max(orders) + 1
    u_power = np.ones(top)
    v_power = np.ones(top)
    total = np.zeros(n_orders)
    bad_total = np.zeros(n_orders)
    for n in range(images.shape[0]):
        txx, txy, tyy = _inverse_root(moments[n, 0], moments[n, 1], moments[n, 2])
        total[:] = 0.0
        bad_total[:] = 0.0
        norm = bad_norm = weight_sum = 0.0
        for j in range(size[n, 1]):
            dy = j - centre[n, 1]
            for i in range(size[n, 0]):
                dx = i - centre[n, 0]
                u = txx * dx + txy * dy
                v = txy * dx + tyy * dy
                w = math.exp(-0.5 * (u * u + v * v))
                for p in range(1, top):
                    u_power[p] = u_power[p - 1] * u
                    v_power[p] = v_power[p - 1] * v
                if good[n, j, i]:
                    q = w * images[n, j, i]
                    norm += q
                    weight_sum += w
                    for m in range(n_orders):
                        total[m] += u_power[orders[m, 0]] * v_power[orders[m, 1]] * q
                elif fill:
                    q = w * w
                    bad_norm += q
                    for m in range(n_orders):
                        bad_total[m] += u_power[orders[m, 0]] * v_power[orders[m, 1]] * q
        scale = 0.0
        if bad_norm != 0.0:
            scale = good_sum[n] / weight_sum
        for m in range(n_orders):
            out[n, m] = (total[m] + scale * bad_total[m]) / (norm + scale * bad_norm)
