# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled kernels of noise replacement; import this module lazily."""

from __future__ import annotations

__all__ = ("draw_normal", "fill_noise", "paste_all", "paste_own", "save_pixels")

import math
from typing import Any

import numpy as np

from ..._jit_numba import njit
from ._ziggurat import TAIL

_F = np.float32
_U = np.uint32


@njit()
def _mix(high: Any, low: Any, far: Any) -> Any:
    """Combine three words of MT19937's state."""
    y = (high & _U(0x80000000)) | (low & _U(0x7FFFFFFF))
    return far ^ (y >> _U(1)) ^ ((_U(0) - (y & _U(1))) & _U(0x9908B0DF))


@njit()
def _regenerate(state: Any) -> Any:
    """Make the next 624 words of MT19937."""
    for i in range(227):
        state[i] = _mix(state[i], state[i + 1], state[i + 397])
    for i in range(227, 623):
        state[i] = _mix(state[i], state[i + 1], state[i - 227])
    state[623] = _mix(state[623], state[0], state[396])
    state[624] = _U(0)


@njit()
def _word(state: Any) -> Any:
    """Return the next 32-bit word."""
    position = np.int64(state[624])
    if position >= 624:
        _regenerate(state)
        position = np.int64(0)
    y = state[position]
    state[624] = _U(position + 1)
    y ^= y >> _U(11)
    y ^= (y << _U(7)) & _U(0x9D2C5680)
    y ^= (y << _U(15)) & _U(0xEFC60000)
    y ^= y >> _U(18)
    return np.int64(_U(y))


@njit()
def _normal(state: Any, n: Any, accept: Any, width: Any, height: Any) -> Any:
    """Return the deviate that begins with word n (spec 03 §2.5)."""
    while True:
        i = n & 127
        sign = 1.0 if n & 128 else -1.0
        j = (n >> 8) & 0xFFFFFF
        x = j * width[i]
        if j < accept[i]:
            return sign * x
        if i < 127:
            y = height[i + 1] + (height[i] - height[i + 1]) * (_word(state) / 4294967296.0)
        else:
            u1 = 1.0 - _word(state) / 4294967296.0
            u2 = _word(state) / 4294967296.0
            x = TAIL - math.log(u1) / TAIL
            y = math.exp(-TAIL * (x - 0.5 * TAIL)) * u2
        if y < math.exp(-0.5 * x * x):
            return sign * x
        n = _word(state)


@njit()
def draw_normal(
    state: Any,
    accept: Any,
    width: Any,
    height: Any,
    out: Any,
) -> Any:
    """Fill an array with standard normal deviates."""
    # Tables for either sign save the common case a branch that can't be
    # predicted; it is written out here because a call costs 4 times as much.
    accept2 = np.concatenate((accept, accept))
    width2 = np.concatenate((-width, width))
    for k in range(len(out)):
        n = _word(state)
        j = (n >> 8) & 0xFFFFFF
        if j < accept2[n & 255]:
            out[k] = j * width2[n & 255]
        else:
            out[k] = _normal(state, n, accept, width, height)


@njit()
def fill_noise(
    plane: Any,
    origin_x: Any,
    origin_y: Any,
    order: Any,
    offsets: Any,
    span_y: Any,
    span_x0: Any,
    span_x1: Any,
    state: Any,
    accept: Any,
    width: Any,
    height: Any,
    mean: Any,
    std: Any,
    variance: Any,
    keep: Any,
    noise: Any,
) -> Any:
    """Replace footprints by noise, in order.

    A deviate is drawn for every pixel of a footprint's bounding box.  Spans
    are sorted.  With a non-empty ``variance`` plane the standard deviation is
    that of the pixel.  ``noise`` receives the values of footprint k from
    ``keep[k]`` on, unless that is negative.
    """
    use_variance = variance.size > 0
    mean32, std32 = _F(mean), _F(std)
    # Tables for either sign save the common case a branch that can't be
    # predicted; it is written out here because a call costs 4 times as much.
    accept2 = np.concatenate((accept, accept))
    width2 = np.concatenate((-width, width))
    for k in order:
        first, last = offsets[k], offsets[k + 1]
        if first == last:
            continue
        x_min, x_max = span_x0[first], span_x1[first]
        for s in range(first, last):
            x_min = min(x_min, span_x0[s])
            x_max = max(x_max, span_x1[s])
        s = first
        out = keep[k]
        for y in range(span_y[first], span_y[last - 1] + 1):
            for x in range(x_min, x_max + 1):
                n = _word(state)
                j = (n >> 8) & 0xFFFFFF
                if j < accept2[n & 255]:
                    g = _F(j * width2[n & 255])
                else:
                    g = _F(_normal(state, n, accept, width, height))
                while s < last and span_y[s] == y and span_x1[s] < x:
                    s += 1
                if s < last and span_y[s] == y and span_x0[s] <= x:
                    if use_variance:
                        v = _F(g * _F(math.sqrt(variance[y - origin_y, x - origin_x])))
                        if mean != 0.0:
                            v = _F(v + mean32)
                    else:
                        v = _F(_F(g * std32) + mean32)
                    plane[y - origin_y, x - origin_x] = v
                    if out >= 0:
                        noise[out] = v
                        out += 1
            while s < last and span_y[s] == y:
                s += 1


@njit()
def save_pixels(
    plane: Any,
    origin_x: Any,
    origin_y: Any,
    order: Any,
    offsets: Any,
    span_y: Any,
    span_x0: Any,
    span_x1: Any,
    out: Any,
) -> Any:
    """Copy the pixels of footprints, one behind the other."""
    position = 0
    for k in order:
        for s in range(offsets[k], offsets[k + 1]):
            row = plane[span_y[s] - origin_y]
            for x in range(span_x0[s], span_x1[s] + 1):
                out[position] = row[x - origin_x]
                position += 1


@njit()
def _paste(
    image: Any,
    x0: Any,
    y0: Any,
    k: Any,
    offsets: Any,
    span_y: Any,
    span_x0: Any,
    span_x1: Any,
    start: Any,
    values: Any,
    plane: Any,
    origin_x: Any,
    origin_y: Any,
) -> Any:
    """Write footprint k's pixels into a stamp.

    Pixels are taken from ``values`` from ``start`` on, or from ``plane`` if
    ``start`` is negative.
    """
    height, width = image.shape
    position = start
    for s in range(offsets[k], offsets[k + 1]):
        y = span_y[s]
        a, b = span_x0[s], span_x1[s]
        if y0 <= y < y0 + height:
            for x in range(max(a, x0), min(b, x0 + width - 1) + 1):
                if start >= 0:
                    image[y - y0, x - x0] = values[position + x - a]
                else:
                    image[y - y0, x - x0] = plane[y - origin_y, x - origin_x]
        position += b - a + 1


@njit()
def paste_own(
    images: Any,
    x0: Any,
    y0: Any,
    which: Any,
    offsets: Any,
    span_y: Any,
    span_x0: Any,
    span_x1: Any,
    start: Any,
    values: Any,
    plane: Any,
    origin_x: Any,
    origin_y: Any,
) -> Any:
    """Write footprint ``which[n]`` into stamp n."""
    for n in range(len(images)):
        k = which[n]
        _paste(
            images[n],
            x0[n],
            y0[n],
            k,
            offsets,
            span_y,
            span_x0,
            span_x1,
            start[k],
            values,
            plane,
            origin_x,
            origin_y,
        )


@njit()
def paste_all(
    images: Any,
    x0: Any,
    y0: Any,
    order: Any,
    count: Any,
    bboxes: Any,
    offsets: Any,
    span_y: Any,
    span_x0: Any,
    span_x1: Any,
    start: Any,
    values: Any,
    plane: Any,
    origin_x: Any,
    origin_y: Any,
) -> Any:
    """Write footprints ``order[: count[n]]``, in order, into stamp n."""
    height, width = images.shape[1:]
    for n in range(len(images)):
        for m in range(count[n]):
            k = order[m]
            if (
                bboxes[k, 0] >= x0[n] + width
                or bboxes[k, 2] < x0[n]
                or bboxes[k, 1] >= y0[n] + height
                or bboxes[k, 3] < y0[n]
            ):
                continue
            _paste(
                images[n],
                x0[n],
                y0[n],
                k,
                offsets,
                span_y,
                span_x0,
                span_x1,
                start[k],
                values,
                plane,
                origin_x,
                origin_y,
            )
