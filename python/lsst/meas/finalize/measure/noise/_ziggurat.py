# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tables of the ziggurat normal generator (spec 03 §2.5)."""

from __future__ import annotations

__all__ = ("ZigguratTables", "seed_state", "ziggurat_tables")

import functools
from decimal import Context, Decimal, localcontext
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_LEVELS = 128
_R = Decimal("3.444286476761283879")  # edge of the base strip, start value
TAIL = 3.44428647676
"""Edge of the base strip as rounded where the tail is drawn."""


class ZigguratTables(NamedTuple):
    """Tables of a 128-level ziggurat for 24-bit integers."""

    accept: npt.NDArray[np.int64]
    """Integers below this are accepted at once, (128,)."""

    width: npt.NDArray[np.float64]
    """Width of a strip per integer step, (128,)."""

    height: npt.NDArray[np.float64]
    """Density at the strips' upper edges, (128,)."""


def _recursion(r: Decimal) -> tuple[list[Decimal], list[Decimal]]:
    """Return edges x_0 … x_128 and heights Y_0 … Y_127 for a tail at r."""
    f = (-r * r / 2).exp()
    v = r * f + f / r
    x = [Decimal(0)] * (_LEVELS + 1)
    y = [Decimal(0)] * _LEVELS
    x[_LEVELS], x[_LEVELS - 1], y[_LEVELS - 1] = v / f, r, f
    for i in range(_LEVELS - 1, 0, -1):
        y[i - 1] = y[i] + v / x[i]
        if i > 1:
            x[i - 1] = (-2 * y[i - 1].ln()).sqrt()
    return x, y


@functools.cache
def ziggurat_tables() -> ZigguratTables:
    """Compute the tables.

    Returns
    -------
    tables : `ZigguratTables`
        Widths and heights are rounded to 12 decimal digits, as in GSL.
    """
    with localcontext() as context:
        context.prec = 40
        # Secant steps towards Y_0(R) = 1; the start value is good to 1e-18.
        r0, r1 = _R, _R + Decimal("1e-12")
        g0, g1 = (_recursion(r)[1][0] - 1 for r in (r0, r1))
        for _ in range(3):
            if g1 == g0 or abs(r1 - r0) < Decimal("1e-36"):
                break
            r0, g0, r1 = r1, g1, r1 - g1 * (r1 - r0) / (g1 - g0)
            g1 = _recursion(r1)[1][0] - 1
        x, y = _recursion(r1)
        accept = [int(2**24 * x[i] / x[i + 1]) for i in range(_LEVELS)]
        width = [x[i + 1] / 2**24 for i in range(_LEVELS)]
    twelve = Context(prec=12)
    return ZigguratTables(
        np.array(accept, dtype=np.int64),
        np.array([float(twelve.plus(w)) for w in width]),
        np.array([float(twelve.plus(h)) for h in y]),
    )


def seed_state(seed: int) -> npt.NDArray[np.uint32]:
    """Return the state of an MT19937 generator.

    Parameters
    ----------
    seed : `int`
        Seed, of which the low 32 bits count.

    Returns
    -------
    state : `numpy.ndarray`
        uint32 of shape (625,): the 624 words and the position.
    """
    if seed == 0:
        seed = 2**64 - 1
    words = np.random.RandomState(seed & 0xFFFFFFFF).get_state()
    return np.append(words[1], words[2]).astype(np.uint32)
