# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled parts of the optimiser: import inside the function that calls.

The optimiser (spec 05 §4) minimises half a sum of squares minus the logarithm
of a prior.  Objectives differ in how residuals are made, which compiled code
cannot take as an argument; each has a loop of its own around these parts.
"""

from __future__ import annotations

__all__ = (
    "CONVERGED_GRADZERO",
    "CONVERGED_TR_SMALL",
    "FAILED_MAX_INNER",
    "FAILED_MAX_OUTER",
    "FAILED_NAN",
    "assemble",
    "dot",
    "grow_or_shrink",
    "half_square",
    "max_abs",
    "predicted_change",
    "solve_trust_region",
    "step_length",
    "symmetric_eigen",
    "update_sr1",
)

import math

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit

type Array = npt.NDArray[np.float64]

CONVERGED_GRADZERO = 0x01
CONVERGED_TR_SMALL = 0x02
FAILED_MAX_INNER = 0x10
FAILED_MAX_OUTER = 0x20
FAILED_NAN = 0x80

# Positions in OptimizerConfig.pack().
SKIP_SR1 = 0
MIN_RADIUS = 1
GRADIENT = 2
DIFF_REL = 3
DIFF_ABS = 4
DIFF_RADIUS = 5
ACCEPT = 6
INITIAL_RADIUS = 7
GROW_RATIO = 8
GROW_FRACTION = 9
GROW_FACTOR = 10
SHRINK_RATIO = 11
SHRINK_FACTOR = 12
TOLERANCE = 13
NO_SR1 = 14
MAX_INNER = 15
MAX_OUTER = 16

_EPS = 2.0**-52
_ROOT_EPS = 2.0**-26
_TINY = 2.2250738585072014e-308


@njit(error_model="numpy")
def _tridiagonalise(a: Array, d: Array, e: Array, q: Array) -> None:
    """Householder reduction of a full symmetric matrix, which is destroyed."""
    n = len(d)
    v = np.empty(n)
    w = np.empty(n)
    for i in range(n - 1):
        m = n - i - 1
        c0 = a[i + 1, i]
        tail = 0.0
        for k in range(1, m):
            tail += a[i + 1 + k, i] * a[i + 1 + k, i]
        v[0] = 1.0
        if tail <= _TINY:
            tau = 0.0
            beta = c0
            v[1:m] = 0.0
        else:
            beta = math.sqrt(c0 * c0 + tail)
            if c0 >= 0.0:
                beta = -beta
            for k in range(1, m):
                v[k] = a[i + 1 + k, i] / (c0 - beta)
            tau = (beta - c0) / beta
        e[i] = beta
        wv = 0.0
        for k in range(m):
            s = 0.0
            for j in range(m):
                s += a[i + 1 + k, i + 1 + j] * (tau * v[j])
            w[k] = s
            wv += s * v[k]
        for k in range(m):
            w[k] -= 0.5 * tau * wv * v[k]
        for k in range(m):
            for j in range(m):
                a[i + 1 + k, i + 1 + j] -= v[k] * w[j] + w[k] * v[j]
        for row in range(n):
            s = 0.0
            for k in range(m):
                s += q[row, i + 1 + k] * v[k]
            for k in range(m):
                q[row, i + 1 + k] -= tau * s * v[k]
    for i in range(n):
        d[i] = a[i, i]


@njit(error_model="numpy")
def _givens(p: float, q: float) -> tuple[float, float]:
    """Rotation (c, s) that annihilates q."""
    if q == 0.0:
        return (-1.0 if p < 0.0 else 1.0), 0.0
    if p == 0.0:
        return 0.0, (1.0 if q < 0.0 else -1.0)
    if abs(p) > abs(q):
        t = q / p
        u = math.sqrt(1.0 + t * t)
        if p < 0.0:
            u = -u
        c = 1.0 / u
        return c, -t * c
    t = p / q
    u = math.sqrt(1.0 + t * t)
    if q < 0.0:
        u = -u
    s = -1.0 / u
    return -t * s, s


@njit(error_model="numpy")
def _qr_sweep(d: Array, e: Array, q: Array, start: int, end: int) -> None:
    """One implicit QR step with Wilkinson's shift."""
    td = 0.5 * (d[end - 1] - d[end])
    last = e[end - 1]
    mu = d[end]
    if td == 0.0:
        mu -= abs(last)
    elif last != 0.0:
        h = math.hypot(td, last)
        mu -= last * last / (td + (h if td > 0.0 else -h))
    x = d[start] - mu
    z = e[start]
    for k in range(start, end):
        if z == 0.0:
            break
        c, s = _givens(x, z)
        sdk = s * d[k] + c * e[k]
        dk1 = s * e[k] + c * d[k + 1]
        d[k] = c * (c * d[k] - s * e[k]) - s * (c * e[k] - s * d[k + 1])
        d[k + 1] = s * sdk + c * dk1
        e[k] = c * sdk - s * dk1
        if k > start:
            e[k - 1] = c * e[k - 1] - s * z
        x = e[k]
        if k < end - 1:
            z = -s * e[k + 1]
            e[k + 1] = c * e[k + 1]
        for row in range(len(d)):
            qk, qk1 = q[row, k], q[row, k + 1]
            q[row, k] = c * qk - s * qk1
            q[row, k + 1] = s * qk + c * qk1


@njit(error_model="numpy")
def _diagonalise(d: Array, e: Array, q: Array) -> None:
    """Implicit QR iterations on a tridiagonal matrix, then sort ascending."""
    n = len(d)
    end = n - 1
    start = 0
    sweeps = 0
    while end > 0:
        for i in range(start, end):
            if abs(e[i]) < _TINY or (e[i] / _EPS) ** 2 <= abs(d[i]) + abs(d[i + 1]):
                e[i] = 0.0
        while end > 0 and e[end - 1] == 0.0:
            end -= 1
        sweeps += 1
        if end <= 0 or sweeps > 30 * n:
            break
        start = end - 1
        while start > 0 and e[start - 1] != 0.0:
            start -= 1
        _qr_sweep(d, e, q, start, end)
    for i in range(n - 1):
        lowest = i
        for j in range(i + 1, n):
            if d[j] < d[lowest]:
                lowest = j
        if lowest != i:
            d[i], d[lowest] = d[lowest], d[i]
            for row in range(n):
                q[row, i], q[row, lowest] = q[row, lowest], q[row, i]


@njit(error_model="numpy")
def symmetric_eigen(f: Array, values: Array, vectors: Array) -> None:
    """Decompose a symmetric matrix, with defined signs (spec 05 §1).

    Parameters
    ----------
    f : `numpy.ndarray`
        Matrix, (n, n); only its lower triangle is read.
    values : `numpy.ndarray`
        Receives the eigenvalues, ascending, (n,).
    vectors : `numpy.ndarray`
        Receives the eigenvectors as columns, (n, n).
    """
    n = len(values)
    scale = 0.0
    for i in range(n):
        for j in range(i + 1):
            if not abs(f[i, j]) <= scale:
                scale = abs(f[i, j])
    if scale == 0.0:
        scale = 1.0
    a = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            a[i, j] = f[i, j] / scale
            a[j, i] = a[i, j]
    vectors[:] = 0.0
    for i in range(n):
        vectors[i, i] = 1.0
    e = np.empty(n)
    _tridiagonalise(a, values, e, vectors)
    _diagonalise(values, e, vectors)
    for i in range(n):
        values[i] *= scale


@njit(error_model="numpy")
def _combine(vectors: Array, t: Array, first: int, count: int, x: Array) -> float:
    """Set x = -V t over ``count`` columns; return the square of its length."""
    n = len(x)
    square = 0.0
    for row in range(n):
        s = 0.0
        for k in range(first, first + count):
            s += vectors[row, k] * t[k]
        x[row] = -s
        square += s * s
    return square


@njit(error_model="numpy")
def solve_trust_region(f: Array, g: Array, radius: float, tolerance: float, x: Array) -> None:
    """Minimise g·x + x·Fx / 2 where |x| <= radius (spec 05 §4.3).

    Parameters
    ----------
    f, g : `numpy.ndarray`
        Hessian (n, n), lower triangle, and gradient (n,).
    radius : `float`
        Trust radius.
    tolerance : `float`
        Relative accuracy of the length of steps to the edge.
    x : `numpy.ndarray`
        Receives the step, (n,).
    """
    n = len(x)
    lam = np.empty(n)
    v = np.empty((n, n))
    symmetric_eigen(f, lam, v)
    q = np.empty(n)
    for k in range(n):
        s = 0.0
        for row in range(n):
            s += v[row, k] * g[row]
        q[k] = s
    threshold = _ROOT_EPS * lam[n - 1]
    low = (radius * (1.0 - tolerance)) ** 2
    high = (radius * (1.0 + tolerance)) ** 2
    t = np.empty(n)
    if lam[0] >= threshold:
        mu = 0.0
        for k in range(n):
            t[k] = q[k] / lam[k]
        square = _combine(v, t, 0, n, x)
        if square <= high:
            return
    else:
        mu = -lam[0] + 2.0 * _ROOT_EPS * lam[n - 1]
        for k in range(n):
            t[k] = q[k] / (lam[k] + mu)
        small = 1
        while small < n and lam[small] < threshold:
            small += 1
        # Quirk: signed, so that large negative projections count as zero.
        hard = True
        for k in range(small):
            if not q[k] < _ROOT_EPS * max_abs(g):
                hard = False
        if hard:
            # Quirk: the last `small` columns, not all but the first.
            square = _combine(v, t, n - small, small, x)
            if square < low:
                length = math.sqrt(radius * radius - square)
                for row in range(n):
                    x[row] += length * v[row, 0]
                return
        else:
            square = _combine(v, t, 0, n, x)
    for _ in range(9):
        if low <= square <= high:
            return
        curvature = 0.0
        for k in range(n):
            curvature += q[k] * q[k] / (lam[k] + mu) ** 3
        mu += square * (math.sqrt(square) / radius - 1.0) / curvature
        for k in range(n):
            t[k] = q[k] / (lam[k] + mu)
        square = _combine(v, t, 0, n, x)


@njit(error_model="numpy")
def max_abs(g: Array) -> float:
    """Return the largest absolute value, NaN if there is a NaN."""
    largest = 0.0
    for value in g:
        if not abs(value) <= largest:
            largest = abs(value)
    return largest


# Sums over pixels may be reordered: they differ from upstream's anyway.
@njit(error_model="numpy", fastmath={"reassoc"})
def dot(a: Array, b: Array) -> float:
    """Return the scalar product of two vectors."""
    s = 0.0
    for k in range(len(a)):
        s += a[k] * b[k]
    return s


@njit(error_model="numpy")
def half_square(r: Array) -> float:
    """Return half the sum of squares."""
    return 0.5 * dot(r, r)


@njit(error_model="numpy")
def assemble(r: Array, jac: Array, gp: Array, hp: Array, j: Array, g: Array, h: Array) -> None:
    """Compute gradient and Gauss-Newton Hessian.

    Parameters
    ----------
    r, jac : `numpy.ndarray`
        Residuals (m,) and their derivatives (n, m).
    gp, hp : `numpy.ndarray`
        Derivatives of minus the logarithm of the prior.
    j, g, h : `numpy.ndarray`
        Receive the gradient without and with the prior and the Hessian.
    """
    n = len(g)
    for a in range(n):
        j[a] = dot(jac[a], r)
        g[a] = gp[a] + j[a]
        for b in range(a + 1):
            h[a, b] = hp[a, b] + dot(jac[a], jac[b])
            h[b, a] = h[a, b]


@njit(error_model="numpy")
def step_length(step: Array) -> float:
    """Return the length of a step."""
    s = 0.0
    for value in step:
        s += value * value
    return math.sqrt(s)


@njit(error_model="numpy")
def predicted_change(step: Array, g: Array, h: Array) -> float:
    """Return the change of the objective a quadratic model predicts."""
    total = 0.0
    for a in range(len(step)):
        s = 0.0
        for b in range(len(step)):
            s += h[a, b] * step[b]
        total += step[a] * (g[a] + 0.5 * s)
    return total


@njit(error_model="numpy")
def update_sr1(
    control: Array, step: Array, length: float, j_old: Array, j: Array, b: Array, h: Array
) -> None:
    """Update the SR1 matrix after an accepted step, add it to the Hessian."""
    if control[NO_SR1] != 0.0:
        return
    n = len(step)
    vs = 0.0
    vv = 0.0
    for a in range(n):
        v = j[a] - j_old[a]
        vs += v * step[a]
        vv += v * v
    # Quirk: the absolute 1 skips most updates.
    if vs >= control[SKIP_SR1] * math.sqrt(vv) * length + 1.0:
        for a in range(n):
            for c in range(n):
                b[a, c] += (j[a] - j_old[a]) * (j[c] - j_old[c]) / vs
    for a in range(n):
        for c in range(n):
            h[a, c] += b[a, c]


@njit(error_model="numpy")
def grow_or_shrink(control: Array, ratio: float, length: float, radius: float) -> float:
    """Return the trust radius after an accepted step."""
    if ratio > control[GROW_RATIO] and length / radius > control[GROW_FRACTION]:
        return radius * control[GROW_FACTOR]
    if ratio < control[SHRINK_RATIO]:
        return radius * control[SHRINK_FACTOR]
    return radius
