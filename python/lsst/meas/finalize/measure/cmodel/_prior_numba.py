# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled priors of CModel: import inside the function that calls."""

from __future__ import annotations

__all__ = ("log_prior_derivatives", "prior_probability")

import math

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit

type Array = npt.NDArray[np.float64]

_EMPIRICAL = 1
_LINEAR = 2


@njit(error_model="numpy")
def _empirical_radius(p: Array, lam: float, out: Array) -> None:
    """Density of ln(radius) of the semi-empirical prior and derivatives."""
    out[:] = 0.0
    outer, inner, mu, width, nu = p[3], p[4], p[5], p[6], p[7]
    if lam < outer:
        return
    if lam > inner:
        if lam < mu:
            out[0] = 1.0
            return
        y = (lam - mu) / width
        base = 1.0 + y * y / nu
        out[0] = base ** (-0.5 * (nu + 1.0))
        out[1] = -y * (nu + 1.0) / nu * base ** (-0.5 * (nu + 3.0)) / width
        out[2] = (
            base ** (-0.5 * (nu + 5.0)) * (nu + 1.0) * (base * (nu + 2.0) - (nu + 3.0)) / (nu * width * width)
        )
        return
    w = inner - outer
    t = (lam - outer) / w
    out[0] = t * t * (3.0 - 2.0 * t)
    out[1] = 6.0 * t * (1.0 - t) / w
    out[2] = (6.0 - 12.0 * t) / (w * w)


@njit(error_model="numpy")
def _linear_radius(p: Array, lam: float, out: Array) -> None:
    """Density of ln(radius) of the softened linear prior and derivatives."""
    out[:] = 0.0
    if lam <= p[3] or lam >= p[6]:
        return
    if p[4] <= lam <= p[5]:
        out[0] = p[7] + p[8] * (lam - p[4])
        out[1] = p[8]
        return
    if lam < p[4]:
        scale = 1.0 / (p[4] - p[3])
        t = (lam - p[3]) * scale
        a, b = p[9], p[10]
    else:
        scale = -1.0 / (p[6] - p[5])
        t = (lam - p[6]) * scale
        a, b = p[11], p[12]
    out[0] = t * t * (a + b * t)
    out[1] = t * (2.0 * a + 3.0 * b * t) * scale
    out[2] = (2.0 * a + 6.0 * b * t) * scale * scale


@njit(error_model="numpy")
def _ellipticity(kind: int, p: Array, eta: float, out: Array) -> None:
    """Density of |eta| and its derivatives."""
    if kind == _EMPIRICAL:
        sigma, core = p[1], p[2]
        z = math.sqrt(eta * eta + core * core)
        out[0] = math.exp(-z / sigma)
        out[1] = -out[0] * eta / (sigma * z)
        out[2] = out[0] * (eta * eta * z - sigma * core * core) / (sigma * sigma * z * z * z)
        return
    out[:] = 0.0
    if eta <= p[1]:
        out[0] = 1.0
    elif eta < p[2]:
        w = p[2] - p[1]
        t = (eta - p[1]) / w
        out[0] = 1.0 - t * t * (3.0 - 2.0 * t)
        out[1] = -6.0 * t * (1.0 - t) / w
        out[2] = (12.0 * t - 6.0) / (w * w)


@njit(error_model="numpy")
def _factors(kind: int, p: Array, x: Array, e: Array, rho: Array) -> None:
    """Densities of |eta| and of ln(radius) with their derivatives."""
    _ellipticity(kind, p, math.sqrt(x[0] * x[0] + x[1] * x[1]), e)
    if kind == _EMPIRICAL:
        _empirical_radius(p, x[2], rho)
    else:
        _linear_radius(p, x[2], rho)


@njit(error_model="numpy")
def prior_probability(kind: int, p: Array, x: Array) -> float:
    """Return the prior density.

    Parameters
    ----------
    kind, p
        Which prior, and its parameters (`pack_prior`).
    x : `numpy.ndarray`
        eta1, eta2, ln(radius) and amplitude.
    """
    if kind != _EMPIRICAL and kind != _LINEAR:
        return 1.0
    if x[3] < 0.0:
        return 0.0
    e, rho = np.empty(3), np.empty(3)
    _factors(kind, p, x, e, rho)
    return p[0] * e[0] * rho[0]


@njit(error_model="numpy")
def log_prior_derivatives(kind: int, p: Array, x: Array, g: Array, h: Array) -> None:
    """Compute derivatives of minus the logarithm of the prior.

    Parameters
    ----------
    kind, p, x
        As for `prior_probability`.
    g, h : `numpy.ndarray`
        Receive gradient (4,) and Hessian (4, 4).
    """
    g[:] = 0.0
    h[:] = 0.0
    if kind != _EMPIRICAL and kind != _LINEAR:
        return
    if x[3] < 0.0:
        # 0 / 0: there is no way on from where the prior is zero.
        g[:] = np.nan
        h[:] = np.nan
        return
    e, rho = np.empty(3), np.empty(3)
    _factors(kind, p, x, e, rho)
    eta = math.sqrt(x[0] * x[0] + x[1] * x[1])
    d1 = d2 = h11 = h22 = h21 = 0.0
    # Quirk: at eta = 0 exactly all derivatives are zero.
    if eta > 0.0:
        c1, c2 = x[0] / eta, x[1] / eta
        d1, d2 = e[1] * c1, e[1] * c2
        h11 = c2 * c2 * e[1] / eta + c1 * c1 * e[2]
        h22 = c1 * c1 * e[1] / eta + c2 * c2 * e[2]
        h21 = c1 * c2 * (e[2] - e[1] / eta)
    value = e[0] * rho[0]
    g[0], g[1], g[2] = -d1 * rho[0] / value, -d2 * rho[0] / value, -e[0] * rho[1] / value
    h[0, 0] = -h11 * rho[0] / value
    h[1, 0] = -h21 * rho[0] / value
    h[1, 1] = -h22 * rho[0] / value
    h[2, 0] = -d1 * rho[1] / value
    # Quirk: upstream's semi-empirical prior takes the derivative by eta1.
    h[2, 1] = -(d1 if kind == _EMPIRICAL else d2) * rho[1] / value
    h[2, 2] = -e[0] * rho[2] / value
    for a in range(3):
        for b in range(a + 1):
            h[a, b] += g[a] * g[b]
            h[b, a] = h[a, b]
