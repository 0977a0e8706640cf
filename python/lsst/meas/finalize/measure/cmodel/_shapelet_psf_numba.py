# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled loops of shapelet approximations of PSFs: import inside the
function that calls.

numba's cache follows changes of this file only: after changing kernels that
are imported here, delete the cached files in ``__pycache__``.
"""

from __future__ import annotations

__all__ = ("fit_double_shapelets",)

import math

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit
from ..exp_numba import exp_float64
from . import _optimizer_numba as opt

type Array = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]

OK = 0
BAD_MOMENTS = 1
TOO_MANY_ITERATIONS = 2
FAILED = 3

_ROOT_PI = math.sqrt(math.pi)
_ROOT2 = math.sqrt(2.0)
_HALF_ROOT = math.sqrt(0.5)

# Positions in the array of limits.
RADIUS_RATIO = 0
PEAK_RATIO = 1
MIN_RADIUS = 2
MIN_DIFFERENCE = 3
MAX_BOX_FRACTION = 4


@njit(error_model="numpy")
def _moments(image: Array, moments: Array) -> None:
    """Plain moments of a kernel image: sum, centroid, quadrupole."""
    height, width = image.shape
    s = sx = sy = 0.0
    for i in range(height):
        y = float(i - height // 2)
        for k in range(width):
            x = float(k - width // 2)
            s += image[i, k]
            sx += image[i, k] * x
            sy += image[i, k] * y
    cx, cy = sx / s, sy / s
    qxx = qyy = qxy = 0.0
    for i in range(height):
        y = float(i - height // 2) - cy
        for k in range(width):
            x = float(k - width // 2) - cx
            qxx += image[i, k] * x * x
            qyy += image[i, k] * y * y
            qxy += image[i, k] * x * y
    moments[0] = s
    moments[1] = cx
    moments[2] = cy
    moments[3] = qxx / s
    moments[4] = qyy / s
    moments[5] = qxy / s


@njit(error_model="numpy")
def _bounds(moments: Array, limits: Array, area: float, bounds: Array) -> bool:
    """Limits of the radii in units of the moments' ellipse; is it valid?"""
    qxx, qyy, qxy = moments[3], moments[4], moments[5]
    det = qxx * qyy - qxy * qxy
    if not (qxx >= 0.0 and qyy >= 0.0 and det >= 0.0):
        return False
    t = math.sqrt((qxx - qyy) ** 2 + 4.0 * qxy * qxy)
    a = math.sqrt(0.5 * (qxx + qyy + t))
    b = math.sqrt(0.5 * (qxx + qyy - t))
    ratio = limits[RADIUS_RATIO]
    fraction = limits[PEAK_RATIO] * ratio * ratio
    root = math.sqrt((1.0 + fraction) / (1.0 + fraction * ratio * ratio))
    bounds[0] = limits[MIN_DIFFERENCE] / det**0.25
    bounds[1] = limits[MAX_BOX_FRACTION] * math.sqrt(area) / a
    bounds[2] = limits[MIN_RADIUS] / b
    return bool(
        root * b >= limits[MIN_RADIUS]
        and ratio * root * a <= limits[MAX_BOX_FRACTION] * math.sqrt(area)
        and abs(ratio - 1.0) * root * det**0.25 >= limits[MIN_DIFFERENCE]
    )


@njit(error_model="numpy")
def _profile_residuals(data: Array, exponent: Array, norm: float, p: Array, r: Array, e: Array) -> None:
    """Residuals of two concentric Gaussians; keep their exponentials."""
    a0, a1 = p[0] * norm / (p[2] * p[2]), p[1] * norm / (p[3] * p[3])
    s0, s1 = 1.0 / (p[2] * p[2]), 1.0 / (p[3] * p[3])
    for k in range(len(data)):
        e[0, k] = exp_float64(exponent[k] * s0)
        e[1, k] = exp_float64(exponent[k] * s1)
        r[k] = data[k] - a0 * e[0, k] - a1 * e[1, k]


@njit(error_model="numpy")
def _profile_derivatives(exponent: Array, norm: float, p: Array, e: Array, jac: Array) -> None:
    """Differentiate the residuals."""
    for c in range(2):
        s = 1.0 / (p[2 + c] * p[2 + c])
        for k in range(len(exponent)):
            value = norm * s * e[c, k]
            jac[c, k] = -value
            jac[2 + c, k] = 2.0 * p[c] * value / p[2 + c] * (1.0 + exponent[k] * s)


@njit(error_model="numpy")
def _inside(p: Array, bounds: Array) -> bool:
    """Is the prior 1 there?"""
    return bool(p[3] - p[2] >= bounds[0] and p[3] <= bounds[1] and p[2] >= bounds[2])


@njit(error_model="numpy")
def _fit_profile(data: Array, exponent: Array, norm: float, bounds: Array, control: Array, p: Array) -> int:
    """Optimise the two Gaussians (spec 05 §4, §5.2.3); return the state."""
    n, m = 4, len(data)
    r, r_new, e, jac = np.empty(m), np.empty(m), np.empty((2, m)), np.empty((n, m))
    g, gp, j, j_old, step, trial = (
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
    )
    h, hp, b = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    radius = control[opt.INITIAL_RADIUS]
    _profile_residuals(data, exponent, norm, p, r, e)
    f = opt.half_square(r)
    _profile_derivatives(exponent, norm, p, e, jac)
    opt.assemble(r, jac, gp, hp, j, g, h)
    for _ in range(int(control[opt.MAX_OUTER])):
        if opt.max_abs(g) <= control[opt.GRADIENT]:
            return opt.CONVERGED_GRADZERO
        accepted = False
        for _ in range(int(control[opt.MAX_INNER])):
            opt.solve_trust_region(h, g, radius, control[opt.TOLERANCE], step)
            length = opt.step_length(step)
            if math.isnan(length):
                return opt.FAILED_NAN
            trial[:] = p + step
            if _inside(trial, bounds):
                _profile_residuals(data, exponent, norm, trial, r_new, e)
                f_new = opt.half_square(r_new)
                ratio = (f_new - f) / opt.predicted_change(step, g, h)
                if math.isnan(ratio):
                    return opt.FAILED_NAN
                accepted = ratio > control[opt.ACCEPT] and f_new - f < 0.0
            if accepted:
                break
            radius = min(radius, length) * control[opt.SHRINK_FACTOR]
            if radius <= control[opt.MIN_RADIUS]:
                return opt.CONVERGED_TR_SMALL
        if not accepted:
            return opt.FAILED_MAX_INNER
        p[:] = trial
        r[:] = r_new
        f = f_new
        j_old[:] = j
        _profile_derivatives(exponent, norm, p, e, jac)
        opt.assemble(r, jac, gp, hp, j, g, h)
        opt.update_sr1(control, step, length, j_old, j, b, h)
        radius = opt.grow_or_shrink(control, ratio, length, radius)
    return opt.FAILED_MAX_OUTER


@njit(error_model="numpy")
def _fill_term(term: int, u: Array, v: Array, rho: float, gaussian: Array, scale: float, out: Array) -> None:
    """Evaluate one shapelet function above order 0, in packed order."""
    for k in range(len(out)):
        a, b = u[k] / rho, v[k] / rho
        if term == 1:
            h = _ROOT2 * b
        elif term == 2:
            h = _ROOT2 * a
        elif term == 3:
            h = _ROOT2 * b * b - _HALF_ROOT
        elif term == 4:
            h = 2.0 * a * b
        else:
            h = _ROOT2 * a * a - _HALF_ROOT
        out[k] = h * scale * gaussian[k]


@njit(error_model="numpy")
def _normal_equations(
    r: Array, e: Array, u: Array, v: Array, norm: float, p: Array, sizes: IntArray, gram: Array, rhs: Array
) -> None:
    """Sum up normal equations of the higher orders (spec 05 §5.2.4)."""
    terms = (sizes[0] - 1) + (sizes[1] - 1)
    columns = np.empty((terms, len(r)))
    at = 0
    for c in range(2):
        for term in range(1, sizes[c]):
            scale = norm / (p[2 + c] * p[2 + c])
            _fill_term(term, u, v, p[2 + c], e[c], scale, columns[at])
            at += 1
    for t in range(terms):
        rhs[t] = opt.dot(columns[t], r)
        for q in range(t + 1):
            gram[t, q] = opt.dot(columns[t], columns[q])
            gram[q, t] = gram[t, q]


@njit(error_model="numpy")
def _fit_one(
    image: Array,
    limits: Array,
    control: Array,
    sizes: IntArray,
    moments: Array,
    p: Array,
    gram: Array,
    rhs: Array,
) -> int:
    """Fit one image; return a status."""
    height, width = image.shape
    _moments(image, moments)
    bounds = np.empty(3)
    if not _bounds(moments, limits, float(height * width), bounds):
        return BAD_MOMENTS
    qxx, qyy, qxy = moments[3], moments[4], moments[5]
    s = math.sqrt(qxx * qyy - qxy * qxy)
    t = math.sqrt(qxx + qyy + 2.0 * s)
    txx, tyy, txy = (qyy + s) / (t * s), (qxx + s) / (t * s), -qxy / (t * s)
    u, v, exponent = np.empty(height * width), np.empty(height * width), np.empty(height * width)
    for i in range(height):
        dy = float(i - height // 2) - moments[2]
        for k in range(width):
            dx = float(k - width // 2) - moments[1]
            at = i * width + k
            u[at] = txx * dx + txy * dy
            v[at] = txy * dx + tyy * dy
            exponent[at] = -0.5 * (u[at] * u[at] + v[at] * v[at])
    ratio = limits[RADIUS_RATIO]
    fraction = limits[PEAK_RATIO] * ratio * ratio
    p[0] = moments[0] / ((1.0 + fraction) * 2.0 * _ROOT_PI)
    p[1] = fraction * p[0]
    p[2] = math.sqrt((1.0 + fraction) / (1.0 + fraction * ratio * ratio))
    p[3] = ratio * p[2]
    data = image.reshape(height * width)
    norm = 1.0 / (s * _ROOT_PI)
    state = _fit_profile(data, exponent, norm, bounds, control, p)
    if state == opt.FAILED_MAX_INNER or state == opt.FAILED_MAX_OUTER:
        return TOO_MANY_ITERATIONS
    if state == opt.FAILED_NAN:
        return FAILED
    r, e = np.empty(height * width), np.empty((2, height * width))
    _profile_residuals(data, exponent, norm, p, r, e)
    _normal_equations(r, e, u, v, norm, p, sizes, gram, rhs)
    return OK


@njit(error_model="numpy")
def fit_double_shapelets(
    images: Array,
    limits: Array,
    control: Array,
    sizes: IntArray,
    status: IntArray,
    moments: Array,
    profile: Array,
    gram: Array,
    rhs: Array,
) -> None:
    """Fit two concentric Gaussians to kernel images.

    Parameters
    ----------
    images : `numpy.ndarray`
        Images centred on (0, 0), (N, h, w).
    limits : `numpy.ndarray`
        Constants of the configuration.
    control : `numpy.ndarray`
        Options of the optimiser.
    sizes : `numpy.ndarray`
        Numbers of coefficients of the two components, int64.
    status, moments, profile, gram, rhs : `numpy.ndarray`
        Receive the status (N,), the moments (N, 6), coefficients and relative
        radii of both Gaussians (N, 4) and the normal equations of the higher
        orders (N, T, T) and (N, T).
    """
    # Each star's fit iterates on its own.
    for i in range(len(images)):
        status[i] = _fit_one(images[i], limits, control, sizes, moments[i], profile[i], gram[i], rhs[i])
