# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled exponentials that vectorise: import inside the function that
calls.

The C library's exponential keeps the compiler from vectorising the loops
around it; that is most of what evaluating Gaussians costs.
"""

from __future__ import annotations

__all__ = ("exp_float32", "exp_float64")

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from .._jit_numba import njit

# Reduction by ln 2 in two parts, then a polynomial: in float32 that of S.
# Moshier's Cephes library, in float64 the exponential series.
_LOWEST_32 = np.float32(-87.0)
_LOG2E_32 = np.float32(1.44269504088896341)
_HALF_32 = np.float32(0.5)
_ONE_32 = np.float32(1.0)
_LN2_HIGH_32 = np.float32(0.693359375)
_LN2_LOW_32 = np.float32(-2.12194440e-4)
_P0 = np.float32(1.9875691500e-4)
_P1 = np.float32(1.3981999507e-3)
_P2 = np.float32(8.3334519073e-3)
_P3 = np.float32(4.1665795894e-2)
_P4 = np.float32(1.6666665459e-1)
_P5 = np.float32(5.0000001201e-1)

_LOWEST_64 = -700.0
_LOG2E_64 = 1.44269504088896341
_LN2_HIGH_64 = 6.93147180369123816490e-01
_LN2_LOW_64 = 1.90821492927058770002e-10


@intrinsic
def _power_of_two_32(typingctx: Any, n: Any) -> Any:
    """Return 2^n as float32 for an int32 n between -126 and 127."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (value,) = args
        bits = builder.shl(builder.add(value, value.type(127)), value.type(23))
        return builder.bitcast(bits, context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@intrinsic
def _power_of_two_64(typingctx: Any, n: Any) -> Any:
    """Return 2^n as float64 for an int64 n between -1022 and 1023."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (value,) = args
        bits = builder.shl(builder.add(value, value.type(1023)), value.type(52))
        return builder.bitcast(bits, context.get_value_type(types.float64))

    return types.float64(types.int64), codegen


@njit(error_model="numpy", inline="always")
def exp_float32(z: np.float32) -> np.float32:
    """Return the exponential of a number <= 0, at least 1.6e-38."""
    z = z if z > _LOWEST_32 else _LOWEST_32
    n = np.int32(z * _LOG2E_32 - _HALF_32)
    k = np.float32(n)
    r = z - k * _LN2_HIGH_32 - k * _LN2_LOW_32
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    return (p * (r * r) + r + _ONE_32) * _power_of_two_32(n)  # type: ignore[call-arg]


@njit(error_model="numpy", inline="always")
def exp_float64(z: float) -> float:
    """Return the exponential of a number <= 0, at least 1e-304."""
    z = z if z > _LOWEST_64 else _LOWEST_64
    n = np.int64(z * _LOG2E_64 - 0.5)
    k = np.float64(n)
    r = z - k * _LN2_HIGH_64 - k * _LN2_LOW_64
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    return (p * (r * r) + r + 1.0) * _power_of_two_64(n)  # type: ignore[call-arg]
