# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled galaxy models on pixels: import inside the function that calls.

Pixels are evaluated in float32 as upstream does (spec 05 §6.8): the rounding
of absolute pixel coordinates enters numerical derivatives, and with them
where fits end.  Nothing here may be re-associated or fused.
"""

from __future__ import annotations

__all__ = ("ellipse_to_pixels", "model_column")

import math

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit
from ..exp_numba import exp_float32

type Array = npt.NDArray[np.float64]
type Array32 = npt.NDArray[np.float32]

# Columns of the array of PSF components.
PSF_XX = 0
PSF_YY = 1
PSF_XY = 2
PSF_X = 3
PSF_Y = 4
PSF_K = 5

_ROOT2 = math.sqrt(2.0)
_FLUX_FACTOR = 2.0 * math.sqrt(math.pi)

_H0 = np.float32(math.pi**-0.25)
_ROOT2_32 = np.float32(math.sqrt(2.0))
_HALF_ROOT_32 = np.float32(math.sqrt(0.5))
_MINUS_HALF = np.float32(-0.5)

# Columns of the array of convolved components: the transform of pixels to
# offsets in units of the ellipse, with its determinant, and coefficients.
_DET = 5
_K = 6
_COLUMNS = 12


@njit(error_model="numpy")
def _add_order_0(x: Array32, y: Array32, component: Array32, n: int, out: Array32) -> None:
    """Add a Gaussian."""
    txx, txy, tyy = component[n, 0], component[n, 1], component[n, 2]
    ox, oy, det = component[n, 3], component[n, 4], component[n, _DET]
    k0 = component[n, _K]
    for i in range(len(out)):
        u = (x[i] * txx + y[i] * txy) + ox
        v = (x[i] * txy + y[i] * tyy) + oy
        g = det * exp_float32(_MINUS_HALF * (u * u + v * v))
        out[i] += ((g * _H0) * _H0) * k0


@njit(error_model="numpy")
def _add_order_1(x: Array32, y: Array32, component: Array32, n: int, out: Array32) -> None:
    """Add a shapelet function of order 1."""
    txx, txy, tyy = component[n, 0], component[n, 1], component[n, 2]
    ox, oy, det = component[n, 3], component[n, 4], component[n, _DET]
    k0, k1, k2 = component[n, _K], component[n, _K + 1], component[n, _K + 2]
    for i in range(len(out)):
        u = (x[i] * txx + y[i] * txy) + ox
        v = (x[i] * txy + y[i] * tyy) + oy
        g = det * exp_float32(_MINUS_HALF * (u * u + v * v))
        hu = (_ROOT2_32 * u) * _H0
        hv = (_ROOT2_32 * v) * _H0
        g0 = g * _H0
        out[i] += (g0 * _H0) * k0 + (g0 * hv) * k1 + ((g * hu) * _H0) * k2


@njit(error_model="numpy")
def _add_order_2(x: Array32, y: Array32, component: Array32, n: int, out: Array32) -> None:
    """Add a shapelet function of order 2."""
    txx, txy, tyy = component[n, 0], component[n, 1], component[n, 2]
    ox, oy, det = component[n, 3], component[n, 4], component[n, _DET]
    k0, k1, k2 = component[n, _K], component[n, _K + 1], component[n, _K + 2]
    k3, k4, k5 = component[n, _K + 3], component[n, _K + 4], component[n, _K + 5]
    for i in range(len(out)):
        u = (x[i] * txx + y[i] * txy) + ox
        v = (x[i] * txy + y[i] * tyy) + oy
        g = det * exp_float32(_MINUS_HALF * (u * u + v * v))
        hu = (_ROOT2_32 * u) * _H0
        hv = (_ROOT2_32 * v) * _H0
        hu2 = u * hu - _HALF_ROOT_32 * _H0
        hv2 = v * hv - _HALF_ROOT_32 * _H0
        g0 = g * _H0
        g1 = g * hu
        first = (g0 * _H0) * k0 + (g0 * hv) * k1 + (g1 * _H0) * k2
        out[i] += first + (g0 * hv2) * k3 + (g1 * hv) * k4 + ((g * hu2) * _H0) * k5


@njit(error_model="numpy")
def ellipse_to_pixels(x: Array, jac: Array, q: Array) -> None:
    """Turn fit parameters into a quadrupole in pixels.

    Parameters
    ----------
    x : `numpy.ndarray`
        eta1, eta2, ln(trace radius) in the fit's unit.
    jac : `numpy.ndarray`
        Derivatives of pixels with respect to fit coordinates, flat (4,).
    q : `numpy.ndarray`
        Receives xx, yy, xy in pixel².
    """
    eta = math.sqrt(x[0] * x[0] + x[1] * x[1])
    factor = 1.0 - eta * eta / 3.0 if eta < 1e-8 else math.tanh(eta) / eta
    size = math.exp(2.0 * x[2])
    fxx, fyy, fxy = size * (1.0 + x[0] * factor), size * (1.0 - x[0] * factor), size * x[1] * factor
    a, b, c, d = jac[0], jac[1], jac[2], jac[3]
    q[0] = a * a * fxx + 2.0 * a * b * fxy + b * b * fyy
    q[1] = c * c * fxx + 2.0 * c * d * fxy + d * d * fyy
    q[2] = a * c * fxx + (a * d + b * c) * fxy + b * d * fyy


@njit(error_model="numpy")
def _set_coefficients(
    xx: float,
    xy: float,
    yx: float,
    yy: float,
    psf: Array,
    p: int,
    order: int,
    amplitude: np.float32,
    component: Array32,
    n: int,
) -> None:
    """Set coefficients of a convolved component (spec 05 §2.3), in float32."""
    k00, k01, k10 = psf[p, PSF_K], psf[p, PSF_K + 1], psf[p, PSF_K + 2]
    component[n, _K + 1] = np.float32(_FLUX_FACTOR * (yy * k01 + xy * k10)) * amplitude
    component[n, _K + 2] = np.float32(_FLUX_FACTOR * (yx * k01 + xx * k10)) * amplitude
    if order < 2:
        component[n, _K] = np.float32(_FLUX_FACTOR * k00) * amplitude
        return
    k02, k11, k20 = psf[p, PSF_K + 3], psf[p, PSF_K + 4], psf[p, PSF_K + 5]
    r00 = (
        k00
        - (xx * xx + xy * xy - 1.0) * k20 / _ROOT2
        - (xx * yx + xy * yy) * k11
        - (yx * yx + yy * yy - 1.0) * k02 / _ROOT2
    )
    r02 = xy * xy * k20 + _ROOT2 * xy * yy * k11 + yy * yy * k02
    r11 = _ROOT2 * xx * xy * k20 + (xx * yy + xy * yx) * k11 + _ROOT2 * yx * yy * k02
    r20 = xx * xx * k20 + _ROOT2 * xx * yx * k11 + yx * yx * k02
    component[n, _K] = np.float32(_FLUX_FACTOR * r00) * amplitude
    component[n, _K + 3] = np.float32(_FLUX_FACTOR * r02) * amplitude
    component[n, _K + 4] = np.float32(_FLUX_FACTOR * r11) * amplitude
    component[n, _K + 5] = np.float32(_FLUX_FACTOR * r20) * amplitude


@njit(error_model="numpy")
def _set_components(
    q: Array,
    centre: Array,
    psf: Array,
    orders: npt.NDArray[np.int64],
    amplitudes: Array32,
    variances: Array,
    component: Array32,
) -> None:
    """Set transforms and coefficients of all convolved components.

    Arrays are indexed, not sliced: that would take as long as the arithmetic.
    """
    for p in range(len(orders)):
        # Square roots of a PSF's ellipse are those of all components.
        pxx, pyy, pxy = psf[p, PSF_XX], psf[p, PSF_YY], psf[p, PSF_XY]
        ps = math.sqrt(pxx * pyy - pxy * pxy)
        pt = 1.0 / math.sqrt(pxx + pyy + 2.0 * ps)
        rxx, rxy, ryy = (pxx + ps) * pt, pxy * pt, (pyy + ps) * pt
        x0, y0 = centre[0] + psf[p, PSF_X], centre[1] + psf[p, PSF_Y]
        for c in range(len(variances)):
            cxx = variances[c] * q[0] + pxx
            cyy = variances[c] * q[1] + pyy
            cxy = variances[c] * q[2] + pxy
            s = math.sqrt(cxx * cyy - cxy * cxy)
            scale = 1.0 / (s * math.sqrt(cxx + cyy + 2.0 * s))
            txx, txy, tyy = (cyy + s) * scale, -cxy * scale, (cxx + s) * scale
            n = c * len(orders) + p
            component[n, 0] = np.float32(txx)
            component[n, 1] = np.float32(txy)
            component[n, 2] = np.float32(tyy)
            component[n, 3] = np.float32(-(txx * x0 + txy * y0))
            component[n, 4] = np.float32(-(txy * x0 + tyy * y0))
            component[n, _DET] = np.float32(1.0 / s)
            _set_coefficients(
                txx * rxx + txy * rxy,
                txy * rxx + tyy * rxy,
                txx * rxy + txy * ryy,
                txy * rxy + tyy * ryy,
                psf,
                p,
                orders[p],
                amplitudes[c],
                component,
                n,
            )


@njit(error_model="numpy")
def model_column(
    x: Array32,
    y: Array32,
    q: Array,
    centre: Array,
    psf: Array,
    orders: npt.NDArray[np.int64],
    amplitudes: Array32,
    variances: Array,
    out: Array32,
) -> None:
    """Evaluate a galaxy of unit flux, convolved with the PSF.

    Parameters
    ----------
    x, y : `numpy.ndarray`
        Absolute coordinates of the pixels, float32.
    q, centre : `numpy.ndarray`
        Half-light ellipse in pixel² and centre in pixels.
    psf, orders : `numpy.ndarray`
        Components of the PSF (P, 11) and their orders.
    amplitudes, variances : `numpy.ndarray`
        Mixture of Gaussians; amplitudes are zeroth coefficients in float32.
    out : `numpy.ndarray`
        Receives the values, float32.
    """
    count = len(orders)
    component = np.empty((len(variances) * count, _COLUMNS), dtype=np.float32)
    _set_components(q, centre, psf, orders, amplitudes, variances, component)
    out[:] = np.float32(0.0)
    for n in range(len(component)):
        order = orders[n % count]
        if order == 0:
            _add_order_0(x, y, component, n, out)
        elif order == 1:
            _add_order_1(x, y, component, n, out)
        else:
            _add_order_2(x, y, component, n, out)
