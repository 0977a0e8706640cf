# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled kernels of the SDSS moments; import this module lazily.

All rounding to float32 is deliberate: with it sums agree bit by bit with
those of upstream's single-precision arithmetic (spec 03 §3.6.1).
"""

from __future__ import annotations

__all__ = (
    "FAILED",
    "MAX_ITER",
    "OUTGROWN",
    "SHIFT",
    "UNWEIGHTED",
    "UNWEIGHTED_BAD",
    "adaptive_kernel",
    "fixed_kernel",
    "invert",
    "needs_subpixel",
    "region",
    "weighted_sums",
)

import math
from typing import Any

import numpy as np

from ..._jit_numba import njit

_EPS32 = 1.1920928955078125e-07  # float32 epsilon
_F = np.float32
_D = np.float64  # unlike float(), widens a float32 in compiled code

# Bits of the status that adaptive_kernel returns.
FAILED = 1
UNWEIGHTED_BAD = 2
UNWEIGHTED = 4
SHIFT = 8
MAX_ITER = 16
OUTGROWN = 32


@njit()
def invert(
    a: Any,
    b: Any,
    c: Any,
) -> Any:
    """Invert [[a, b], [b, c]]; the first value tells success."""
    det = a * c - b * b
    if math.isnan(a) or math.isnan(b) or math.isnan(c) or not det >= _EPS32:
        return False, 0.0, 0.0, 0.0
    return True, c / det, -b / det, a / det


@njit()
def region(
    xc: Any,
    yc: Any,
    sxx: Any,
    syy: Any,
    box: Any,
) -> Any:
    """Return the window of the weight, clipped to the image in ``box``."""
    r = min(4.0 * math.sqrt(max(sxx, syy)), 1000.0)
    x_min = max(int(math.ceil(xc - r - 0.5)), box[0])
    x_max = min(int(math.floor(xc + r + 0.5)), box[1])
    y_min = max(int(math.ceil(yc - r - 0.5)), box[2])
    y_max = min(int(math.floor(yc + r + 0.5)), box[3])
    return x_min, x_max, y_min, y_max


@njit()
def _exponent(
    x: Any,
    y: Any,
    w11: Any,
    w12: Any,
    w22: Any,
) -> Any:
    """Return the float32 exponent at float32 offsets."""
    x2 = _F(x * x)
    xy = _F(x * y)
    y2 = _F(y * y)
    return _F(x2 * w11 + 2.0 * xy * w12 + y2 * w22)


@njit()
def _normal_sums(
    image: Any,
    x0: Any,
    y0: Any,
    window: Any,
    xc: Any,
    yc: Any,
    w11: Any,
    w12: Any,
    w22: Any,
    background: Any,
    sums: Any,
) -> Any:
    """Accumulate weighted sums, one sample per pixel."""
    for i in range(window[2], window[3] + 1):
        y = _F(_F(i) - yc)
        y2 = _F(y * y)
        fi = _F(i)
        for j in range(window[0], window[1] + 1):
            x = _F(_F(j) - xc)
            x2 = _F(x * x)
            xy = _F(x * y)
            e = _F(x2 * w11 + 2.0 * xy * w12 + y2 * w22)
            if e > 14.0:
                continue
            g = _F(math.exp(-0.5 * e))
            m = _F(_F(image[i - y0, j - x0] - background) * g)
            sums[0] += m
            sums[1] += _F(m * _F(j))
            sums[2] += _F(m * fi)
            sums[3] += _F(m * x2)
            sums[4] += _F(m * xy)
            sums[5] += _F(m * y2)


@njit()
def _subpixel_sums(
    image: Any,
    x0: Any,
    y0: Any,
    window: Any,
    xc: Any,
    yc: Any,
    w11: Any,
    w12: Any,
    w22: Any,
    background: Any,
    sums: Any,
) -> Any:
    """Accumulate weighted sums, 4 × 4 samples per pixel."""
    for i in range(window[2], window[3] + 1):
        y = _F(_F(i) - yc)
        yl = _F(y - 0.375)
        yh = _F(y + 0.375)
        for j in range(window[0], window[1] + 1):
            x = _F(_F(j) - xc)
            xl = _F(x - 0.375)
            xh = _F(x + 0.375)
            e_max = max(
                max(_exponent(xl, yl, w11, w12, w22), _exponent(xh, yl, w11, w12, w22)),
                max(_exponent(xl, yh, w11, w12, w22), _exponent(xh, yh, w11, w12, w22)),
            )
            if e_max > 9.0:
                continue
            t = _F(image[i - y0, j - x0] - background)
            ys = yl
            while ys <= yh:
                xs = xl
                while xs <= xh:
                    x2 = _D(_F(xs * xs))
                    xy = _D(_F(xs * ys))
                    y2 = _D(_F(ys * ys))
                    e = _F(x2 * w11 + 2.0 * xy * w12 + y2 * w22)
                    m = _F(t * _F(math.exp(-0.5 * e)))
                    sums[0] += m
                    sums[1] += _F(m * _F(xs + xc))
                    sums[2] += _F(m * _F(ys + yc))
                    sums[3] += x2 * m
                    sums[4] += xy * m
                    sums[5] += y2 * m
                    xs = _F(xs + _F(0.25))
                ys = _F(ys + _F(0.25))


@njit()
def weighted_sums(
    image: Any,
    x0: Any,
    y0: Any,
    window: Any,
    xc: Any,
    yc: Any,
    w11: Any,
    w12: Any,
    w22: Any,
    background: Any,
    subpixel: Any,
    negative: Any,
    sums: Any,
) -> Any:
    """Fill ``sums`` with m, mx, my, mxx, mxy, myy; return success, amplitude.

    The centre is rounded to float32 in the coordinates of the whole image.
    """
    sums[:] = 0.0
    if w11 < 0.0 or w11 > 1e6 or w22 < 0.0 or w22 > 1e6 or abs(w12) > 1e6:
        return False, math.nan
    if subpixel:
        _subpixel_sums(image, x0, y0, window, _F(xc), _F(yc), w11, w12, w22, background, sums)
    else:
        _normal_sums(image, x0, y0, window, _F(xc), _F(yc), w11, w12, w22, background, sums)
    ok, s11, s12, s22 = invert(w11, w12, w22)
    amplitude = math.nan
    if ok:
        amplitude = sums[0] / (math.pi * math.sqrt(s11 * s22 - s12 * s12))
    if negative:
        return sums[0] < 0.0 and sums[3] < 0.0 and sums[5] < 0.0, amplitude
    return sums[0] > 0.0 and sums[3] > 0.0 and sums[5] > 0.0, amplitude


@njit()
def needs_subpixel(
    sxx: Any,
    sxy: Any,
    syy: Any,
) -> Any:
    """Tell whether a weight is too narrow for sums over whole pixels."""
    return sxx < 0.25 or syy < 0.25 or sxx * syy - sxy * sxy < 0.0625


@njit()
def _outgrown(
    window: Any,
    image: Any,
    x0: Any,
    y0: Any,
) -> Any:
    """Tell whether a (non-empty) window reaches beyond the stamp."""
    if window[0] > window[1] or window[2] > window[3]:
        return False
    height, width = image.shape
    return window[0] < x0 or window[1] >= x0 + width or window[2] < y0 or window[3] >= y0 + height


@njit()
def _unweighted(
    image: Any,
    x0: Any,
    y0: Any,
    window: Any,
    xc: Any,
    yc: Any,
    background: Any,
    subpixel: Any,
    negative: Any,
    sums: Any,
    out: Any,
) -> Any:
    """Replace the moments by unweighted ones; return status bits."""
    good, _ = weighted_sums(
        image, x0, y0, window, xc, yc, 0.0, 0.0, 0.0, background, subpixel, negative, sums
    )
    out[5] = math.nan
    if not good:
        if sums[0] > 0.0:
            out[2] = out[4] = 1.0 / 12.0
            out[3] = 0.0
        return FAILED | UNWEIGHTED_BAD
    out[2] = sums[3] / sums[0]
    out[3] = sums[4] / sums[0]
    out[4] = sums[5] / sums[0]
    return UNWEIGHTED


# Longer than a page: one loop whose exits share all of its state.
@njit()
def _adapt(
    image: Any,
    x0: Any,
    y0: Any,
    box: Any,
    xc: Any,
    yc: Any,
    background: Any,
    max_iter: Any,
    max_shift: Any,
    tol1: Any,
    tol2: Any,
    negative: Any,
    out: Any,
) -> Any:
    """Iterate one star (spec 03 §3.6.2); return status bits and passes.

    ``out`` receives x, y, xx, xy, yy and the amplitude.
    """
    sums = np.zeros(6)
    out[:] = math.nan
    if math.isnan(xc) or math.isnan(yc):
        return FAILED | UNWEIGHTED_BAD, 0
    status = 0
    sxx, sxy, syy = 1.5, 0.0, 1.5
    old11, old_e1, old_e2 = _F(1e6), _F(1e6), _F(1e6)
    w11 = w12 = w22 = 0.0
    pw11 = pw12 = pw22 = 0.0
    subpixel = False
    amplitude = math.nan
    window = (0, -1, 0, -1)
    n_passes = 0
    it = 0
    while it < max_iter:
        window = region(xc, yc, sxx, syy, box)
        if _outgrown(window, image, x0, y0):
            return OUTGROWN, n_passes
        ok, w11, w12, w22 = invert(sxx, sxy, syy)
        if not ok:
            status |= UNWEIGHTED
            break
        if needs_subpixel(sxx, sxy, syy) and not subpixel:
            subpixel = True
            if it > 0:
                w11, w12, w22 = pw11, pw12, pw22
                old11 = _F(1e6)
                it -= 1
        good, amplitude = weighted_sums(
            image, x0, y0, window, xc, yc, w11, w12, w22, background, subpixel, negative, sums
        )
        n_passes += 1
        if not good:
            status |= UNWEIGHTED
            break
        out[0] = sums[1] / sums[0]
        out[1] = sums[2] / sums[0]
        if abs(out[0] - _F(xc)) > max_shift or abs(out[1] - _F(yc)) > max_shift:
            status |= SHIFT
        o11 = _F(sums[3] / sums[0])
        o22 = _F(sums[5] / sums[0])
        o12 = _F(sums[4] / sums[0])
        if o11 <= 0.0 or o22 <= 0.0:
            status |= UNWEIGHTED
            break
        d = _F(o11 + o22)
        e1 = _F(_F(o11 - o22) / d)
        e2 = _F(2.0 * o12 / d)
        if (
            it > 0
            and abs(_F(e1 - old_e1)) < tol1
            and abs(_F(e2 - old_e2)) < tol1
            and abs(_F(o11 / old11) - 1.0) < tol2
        ):
            break
        old11, old_e1, old_e2 = o11, e1, e2
        s11 = s12 = s22 = 0.0
        ok, v11, v12, v22 = invert(_D(o11), _D(o12), _D(o22))
        if ok:
            n11 = _D(_F(_F(v11) - w11))
            n12 = _D(_F(_F(v12) - w12))
            n22 = _D(_F(_F(v22) - w22))
            ok, s11, s12, s22 = invert(n11, n12, n22)
        if not ok:
            status |= UNWEIGHTED
            break
        pw11, pw12, pw22 = w11, w12, w22
        sxx, sxy, syy = s11, s12, s22
        if sxx <= 0.0 or syy <= 0.0:
            status |= UNWEIGHTED
            break
        it += 1
    if it >= max_iter:
        status |= UNWEIGHTED | MAX_ITER
    if sums[3] + sums[5] == 0.0:
        status |= UNWEIGHTED
    out[2], out[3], out[4], out[5] = sxx, sxy, syy, amplitude
    if status & UNWEIGHTED:
        status &= ~UNWEIGHTED
        status |= _unweighted(image, x0, y0, window, xc, yc, background, subpixel, negative, sums, out)
    return status, n_passes


@njit()
def adaptive_kernel(
    images: Any,
    x0: Any,
    y0: Any,
    boxes: Any,
    xc: Any,
    yc: Any,
    background: Any,
    max_iter: Any,
    max_shift: Any,
    tol1: Any,
    tol2: Any,
    negative: Any,
    out: Any,
    status: Any,
    passes: Any,
) -> Any:
    """Measure the adaptive moments of a stack of stamps."""
    for n in range(len(images)):
        status[n], passes[n] = _adapt(
            images[n],
            x0[n],
            y0[n],
            boxes[n],
            xc[n],
            yc[n],
            background,
            max_iter,
            max_shift,
            tol1,
            tol2,
            negative[n],
            out[n],
        )


@njit()
def fixed_kernel(
    images: Any,
    x0: Any,
    y0: Any,
    boxes: Any,
    xc: Any,
    yc: Any,
    moments: Any,
    total: Any,
    status: Any,
) -> Any:
    """Sum a stack of stamps with given weights, xx, yy, xy."""
    sums = np.zeros(6)
    for n in range(len(images)):
        sxx, syy, sxy = moments[n, 0], moments[n, 1], moments[n, 2]
        total[n] = math.nan
        ok, w11, w12, w22 = invert(sxx, sxy, syy)
        if not ok or not (math.isfinite(xc[n]) and math.isfinite(yc[n])):
            status[n] = FAILED
            continue
        window = region(xc[n], yc[n], sxx, syy, boxes[n])
        if _outgrown(window, images[n], x0[n], y0[n]):
            status[n] = OUTGROWN
            continue
        if w11 < 0.0 or w11 > 1e6 or w22 < 0.0 or w22 > 1e6 or abs(w12) > 1e6:
            status[n] = FAILED
            continue
        weighted_sums(
            images[n],
            x0[n],
            y0[n],
            window,
            xc[n],
            yc[n],
            w11,
            w12,
            w22,
            0.0,
            needs_subpixel(sxx, sxy, syy),
            False,
            sums,
        )
        total[n] = sums[0]
        status[n] = 0
