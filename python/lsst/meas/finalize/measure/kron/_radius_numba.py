# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled loops of Kron photometry: import where they are called."""

from __future__ import annotations

__all__ = ("radius_sums",)

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit

# Mean distance from the centre of a pixel's points, in pixels.
_PIXEL_RADIUS = 0.38259771140356325


@njit(error_model="numpy")
def radius_sums(
    images: npt.NDArray,
    x_low: npt.NDArray,
    x_high: npt.NDArray,
    x: npt.NDArray,
    y: npt.NDArray,
    axis_ratio: npt.NDArray,
    theta: npt.NDArray,
    total: npt.NDArray,
    moment: npt.NDArray,
) -> None:
    """Sum pixels, and pixels times their elliptical radius.

    Columns ``x_low`` to ``x_high`` of each row, and centres ``x``, ``y``,
    count from the first pixel of each image; ``axis_ratio`` is a / b.
    """
    for s in range(images.shape[0]):
        cosine, sine = np.cos(theta[s]), np.sin(theta[s])
        flux, weighted = 0.0, 0.0
        for j in range(images.shape[1]):
            dy = j - y[s]
            for i in range(x_low[s, j], x_high[s, j] + 1):
                dx = i - x[s]
                du = dx * cosine + dy * sine
                dv = (dy * cosine - dx * sine) * axis_ratio[s]
                radius = np.hypot(du, dv)
                distance = np.hypot(dx, dy)
                if distance < 0.5:
                    # The central pixel's centre is not its mean distance.
                    radius = np.hypot(radius, _PIXEL_RADIUS * (1.0 + distance / np.sqrt(2.0)))
                value = np.float64(images[s, j, i])
                flux += value
                weighted += value * radius
        total[s] = flux
        moment[s] = weighted
