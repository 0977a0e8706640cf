# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled fits of CModel: import inside the function that calls."""

from __future__ import annotations

__all__ = ("fit_linear", "fit_stage", "prior_values")

import math

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit
from . import _optimizer_numba as opt
from ._model_numba import ellipse_to_pixels, model_column
from ._prior_numba import log_prior_derivatives, prior_probability

type Array = npt.NDArray[np.float64]
type Array32 = npt.NDArray[np.float32]
type IntArray = npt.NDArray[np.int64]

# Columns of the array of stars.
CENTRE = slice(0, 2)
JACOBIAN = slice(2, 6)
FLUX = 6

# Columns of the array of results.
OBJECTIVE = 0
INNER = 1
INNER_VARIANCE = 2
LINEAR_AMPLITUDE = 3

_N = 4

_LANES = 32
"""Pixels that the compiler's loops over a model take at a time; those left
over are taken one by one, which costs as much each."""


@njit(error_model="numpy")
def _padded(values: Array32) -> Array32:
    """Repeat the last value, so that no pixel is left over."""
    n = len(values)
    padded = np.empty((n + _LANES - 1) // _LANES * _LANES, dtype=np.float32)
    padded[:n] = values
    padded[n:] = values[n - 1] if n > 0 else np.float32(0.0)
    return padded


@njit(error_model="numpy")
def _weights(variance: Array32, per_pixel: bool, multiplier: float) -> Array32:
    """Weights of the pixels' residuals."""
    n = len(variance)
    weights = np.empty(n, dtype=np.float32)
    total = 0.0
    for i in range(n):
        weights[i] = np.float32(1.0 / math.sqrt(np.float64(variance[i])))
        total += math.log(np.float64(weights[i]))
    if not per_pixel:
        weights[:] = np.float32(math.exp(total / n))
    for i in range(n):
        weights[i] *= np.float32(multiplier)
    return weights


@njit(error_model="numpy")
def _residuals(column: Array32, data: Array32, amplitude: float, r: Array) -> None:
    for i in range(len(r)):
        r[i] = np.float64(column[i]) * amplitude - np.float64(data[i])


@njit(error_model="numpy")
def _weighted_column(
    x: Array32,
    y: Array32,
    weights: Array32,
    star: Array,
    psf: Array,
    orders: IntArray,
    amplitudes: Array32,
    variances: Array,
    parameters: Array,
    column: Array32,
) -> None:
    """Model of unit amplitude at some parameters, times the weights.

    ``x``, ``y`` and ``column`` are padded, the weights are not.
    """
    q = np.empty(3)
    ellipse_to_pixels(parameters, star[JACOBIAN], q)
    model_column(x, y, q, star[CENTRE], psf, orders, amplitudes, variances, column)
    flux = np.float32(star[FLUX])
    for i in range(len(weights)):
        column[i] = (column[i] * flux) * weights[i]


@njit(error_model="numpy")
def _numerical_derivatives(
    x: Array32,
    y: Array32,
    weights: Array32,
    data: Array32,
    star: Array,
    psf: Array,
    orders: IntArray,
    amplitudes: Array32,
    variances: Array,
    parameters: Array,
    column: Array32,
    r: Array,
    radius: float,
    control: Array,
    jac: Array,
) -> None:
    """Difference forward; ``column`` is that of the residuals, not kept."""
    # The amplitude goes first: it needs no other model.
    for k in (3, 0, 1, 2):
        h = control[opt.DIFF_REL] * parameters[k] + control[opt.DIFF_RADIUS] * radius + control[opt.DIFF_ABS]
        saved = parameters[k]
        parameters[k] = saved + h
        if k != 3:
            _weighted_column(x, y, weights, star, psf, orders, amplitudes, variances, parameters, column)
        _residuals(column, data, parameters[3], jac[k])
        parameters[k] = saved
        for i in range(len(r)):
            jac[k, i] = (jac[k, i] - r[i]) / h


@njit(error_model="numpy")
def _objective(r: Array, probability: float) -> float:
    return opt.half_square(r) - math.log(probability)


# Longer than a page: one loop whose exits share all of its state.
@njit(error_model="numpy")
def _optimise(
    x: Array32,
    y: Array32,
    weights: Array32,
    data: Array32,
    star: Array,
    psf: Array,
    orders: IntArray,
    amplitudes: Array32,
    variances: Array,
    kind: int,
    prior: Array,
    control: Array,
    p: Array,
) -> tuple[int, int, int, float]:
    """Fit (spec 05 §4); return state, steps, evaluations and objective.

    ``x`` and ``y`` are padded.
    """
    m = len(data)
    column = np.empty(len(x), dtype=np.float32)
    r, r_new, jac = np.empty(m), np.empty(m), np.empty((_N, m))
    g, gp, j, j_old = np.empty(_N), np.empty(_N), np.empty(_N), np.empty(_N)
    step, trial = np.empty(_N), np.empty(_N)
    h, hp, b = np.empty((_N, _N)), np.empty((_N, _N)), np.zeros((_N, _N))
    radius = control[opt.INITIAL_RADIUS]
    _weighted_column(x, y, weights, star, psf, orders, amplitudes, variances, p, column)
    _residuals(column, data, p[3], r)
    f = _objective(r, prior_probability(kind, prior, p))
    _numerical_derivatives(
        x, y, weights, data, star, psf, orders, amplitudes, variances, p, column, r, radius, control, jac
    )
    log_prior_derivatives(kind, prior, p, gp, hp)
    opt.assemble(r, jac, gp, hp, j, g, h)
    count, evaluations = 1, 4
    for _ in range(int(control[opt.MAX_OUTER])):
        if opt.max_abs(g) <= control[opt.GRADIENT]:
            return opt.CONVERGED_GRADZERO, count, evaluations, f
        accepted = False
        for _ in range(int(control[opt.MAX_INNER])):
            opt.solve_trust_region(h, g, radius, control[opt.TOLERANCE], step)
            length = opt.step_length(step)
            if math.isnan(length):
                return opt.FAILED_NAN, count, evaluations, f
            trial[:] = p + step
            probability = prior_probability(kind, prior, trial)
            if probability > 0.0:
                _weighted_column(x, y, weights, star, psf, orders, amplitudes, variances, trial, column)
                _residuals(column, data, trial[3], r_new)
                evaluations += 1
                f_new = _objective(r_new, probability)
                ratio = (f_new - f) / opt.predicted_change(step, g, h)
                if math.isnan(ratio):
                    return opt.FAILED_NAN, count, evaluations, f
                accepted = ratio > control[opt.ACCEPT] and f_new - f < 0.0
            if accepted:
                break
            radius = min(radius, length) * control[opt.SHRINK_FACTOR]
            if radius <= control[opt.MIN_RADIUS]:
                return opt.CONVERGED_TR_SMALL, count, evaluations, f
            count += 1
        if not accepted:
            return opt.FAILED_MAX_INNER, count, evaluations, f
        p[:] = trial
        r[:] = r_new
        f = f_new
        j_old[:] = j
        _numerical_derivatives(
            x, y, weights, data, star, psf, orders, amplitudes, variances, p, column, r, radius, control, jac
        )
        evaluations += 3
        log_prior_derivatives(kind, prior, p, gp, hp)
        opt.assemble(r, jac, gp, hp, j, g, h)
        opt.update_sr1(control, step, length, j_old, j, b, h)
        radius = opt.grow_or_shrink(control, ratio, length, radius)
        count += 1
    return opt.FAILED_MAX_OUTER, count, evaluations, f


@njit(error_model="numpy")
def _inner_flux(model: Array32, image: Array32, variance: Array32, out: Array) -> None:
    """Flux within the region and its variance (spec 05 §6.10.3)."""
    w = wd = ww = wwv = 0.0
    for i in range(len(model)):
        value = np.float64(model[i])
        w += value
        wd += value * np.float64(image[i])
        ww += value * value
        wwv += value * value * np.float64(variance[i])
    out[INNER] = wd * w / ww
    out[INNER_VARIANCE] = wwv * (w / ww) ** 2
    out[LINEAR_AMPLITUDE] = wd / ww


@njit(error_model="numpy")
def fit_stage(
    start: IntArray,
    count: IntArray,
    x: Array32,
    y: Array32,
    image: Array32,
    variance: Array32,
    stars: Array,
    psf: Array,
    orders: IntArray,
    amplitudes: Array32,
    variances: Array,
    weighting: tuple[bool, float],
    kind: int,
    prior: Array,
    control: Array,
    parameters: Array,
    results: Array,
    codes: IntArray,
) -> None:
    """Fit a profile to every star.

    Parameters
    ----------
    start, count : `numpy.ndarray`
        Where each star's pixels are, (N,).
    x, y, image, variance : `numpy.ndarray`
        Pixels of all stars, float32.
    stars : `numpy.ndarray`
        Centres, Jacobians, flux units, (N, 7).
    psf, orders : `numpy.ndarray`
        Components of the PSFs (N, P, 11) and their orders.
    amplitudes, variances : `numpy.ndarray`
        Mixture of Gaussians.
    weighting : `tuple`
        Does every pixel have a weight of its own?  Factor of all weights.
    kind, prior : `int`, `numpy.ndarray`
        Prior (`pack_prior`).
    control : `numpy.ndarray`
        Options of the optimiser.
    parameters : `numpy.ndarray`
        Parameters to start from and, afterwards, fitted ones, (N, 4).
    results : `numpy.ndarray`
        Receives objective, inner flux, its variance, linear amplitude, (N, 4).
    codes : `numpy.ndarray`
        Receives state, history count and number of models, (N, 3).
    """
    # Each star's fit iterates on its own.
    for s in range(len(start)):
        part = slice(start[s], start[s] + count[s])
        weights = _weights(variance[part], weighting[0], weighting[1])
        data = image[part] * weights
        x_padded, y_padded = _padded(x[part]), _padded(y[part])
        state, steps, evaluations, f = _optimise(
            x_padded,
            y_padded,
            weights,
            data,
            stars[s],
            psf[s],
            orders,
            amplitudes,
            variances,
            kind,
            prior,
            control,
            parameters[s],
        )
        codes[s, 0], codes[s, 1], codes[s, 2] = state, steps, evaluations
        results[s, OBJECTIVE] = f
        weights[:] = np.float32(1.0)
        column = np.empty(len(x_padded), dtype=np.float32)
        _weighted_column(
            x_padded,
            y_padded,
            weights,
            stars[s],
            psf[s],
            orders,
            amplitudes,
            variances,
            parameters[s],
            column,
        )
        _inner_flux(column[: count[s]], image[part], variance[part], results[s])


@njit(error_model="numpy")
def _unconstrained(h: Array, g: Array, mu: Array) -> bool:
    """Solve H mu = -g; False if there is no acceptable solution."""
    values, v = np.empty(2), np.empty((2, 2))
    opt.symmetric_eigen(h, values, v)
    q0 = v[0, 0] * g[0] + v[1, 0] * g[1]
    q1 = v[0, 1] * g[0] + v[1, 1] * g[1]
    if values[0] < 1e-15 * values[1]:
        sign = -1.0 if v[0, 1] < 0.0 else 1.0
        if not abs(q0) < 1e-5 * opt.max_abs(g) or sign * v[1, 1] < 0.0:
            return False
        mu[0], mu[1] = -q1 / values[1] * v[0, 1], -q1 / values[1] * v[1, 1]
        return True
    mu[0] = -(q0 / values[0] * v[0, 0] + q1 / values[1] * v[0, 1])
    mu[1] = -(q0 / values[0] * v[1, 0] + q1 / values[1] * v[1, 1])
    return True


@njit(error_model="numpy")
def _non_negative(h: Array, g: Array, mu: Array, alpha: Array) -> None:
    """Solution with no negative amplitude, given the unconstrained one."""
    alpha[:] = mu
    if mu[0] < 0.0 and mu[1] < 0.0:
        alpha[:] = 0.0
    elif mu[0] < 0.0:
        alpha[0], alpha[1] = 0.0, -g[1] / h[1, 1]
    elif mu[1] < 0.0:
        alpha[0], alpha[1] = -g[0] / h[0, 0], 0.0


@njit(error_model="numpy")
def _combine(columns: Array32, image: Array32, variance: Array32, alpha: Array, result: Array) -> bool:
    """Linear combination of two columns that fits best (spec 05 §6.11)."""
    h, g, mu, square = np.zeros((2, 2)), np.zeros(2), np.zeros(2), 0.0
    for i in range(len(image)):
        a, b, value = np.float64(columns[0, i]), np.float64(columns[1, i]), np.float64(image[i])
        h[0, 0] += a * a
        h[1, 0] += a * b
        h[1, 1] += b * b
        g[0] -= a * value
        g[1] -= b * value
        square += value * value
    h[0, 1] = h[1, 0]
    if not _unconstrained(h, g, mu):
        return False
    _non_negative(h, g, mu, alpha)
    d0, d1 = alpha[0] - mu[0], alpha[1] - mu[1]
    chi = d0 * (h[0, 0] * d0 + h[0, 1] * d1) + d1 * (h[1, 0] * d0 + h[1, 1] * d1)
    result[OBJECTIVE] = 0.5 * (chi + square + g[0] * mu[0] + g[1] * mu[1])
    a32, b32 = np.float32(alpha[0]), np.float32(alpha[1])
    model = columns[0] * a32 + columns[1] * b32
    _inner_flux(model, image, variance, result)
    return True


@njit(error_model="numpy")
def fit_linear(
    start: IntArray,
    count: IntArray,
    x: Array32,
    y: Array32,
    image: Array32,
    variance: Array32,
    stars: Array,
    psf: Array,
    orders: IntArray,
    mixtures: tuple[tuple[Array32, Array], tuple[Array32, Array]],
    parameters: tuple[Array, Array],
    alpha: Array,
    results: Array,
    done: npt.NDArray[np.bool_],
) -> None:
    """Combine two fitted profiles linearly.

    Parameters
    ----------
    start, count, x, y, image, variance, stars, psf, orders
        As for `fit_stage`.
    mixtures, parameters : `tuple`
        Amplitudes and variances of the two mixtures; fitted parameters.
    alpha, results : `numpy.ndarray`
        Receive the amplitudes (N, 2) and results (N, 4) as of `fit_stage`.
    done : `numpy.ndarray`
        Receives which combinations could be found, bool.
    """
    for s in range(len(start)):
        part = slice(start[s], start[s] + count[s])
        weights = np.ones(count[s], dtype=np.float32)
        x_padded, y_padded = _padded(x[part]), _padded(y[part])
        columns = np.empty((2, len(x_padded)), dtype=np.float32)
        for k in range(2):
            _weighted_column(
                x_padded,
                y_padded,
                weights,
                stars[s],
                psf[s],
                orders,
                mixtures[k][0],
                mixtures[k][1],
                parameters[k][s],
                columns[k],
            )
        done[s] = _combine(columns[:, : count[s]], image[part], variance[part], alpha[s], results[s])


@njit(error_model="numpy")
def prior_values(kind: int, prior: Array, parameters: Array) -> Array:
    """Return the prior density at every star's parameters, (N,)."""
    values = np.empty(len(parameters))
    for s in range(len(parameters)):
        values[s] = prior_probability(kind, prior, parameters[s])
    return values
