# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Scatter that few outliers don't change."""

from __future__ import annotations

__all__ = ("IQR_TO_SIGMA", "MAD_TO_SIGMA", "SIGMA_TO_IQR", "SIGMA_TO_MAD", "robust_scatter")

import numpy as np
import numpy.typing as npt

SIGMA_TO_MAD = 0.6744897501960817
"""Median absolute deviation of a normal distribution of unit width."""

MAD_TO_SIGMA = 1.0 / SIGMA_TO_MAD
"""Width of a normal distribution whose median absolute deviation is one."""

SIGMA_TO_IQR = 2.0 * SIGMA_TO_MAD
"""Interquartile range of a normal distribution of unit width."""

# Upstream's digits; the quotient is one unit in the last place less.
IQR_TO_SIGMA = 0.741301109252802
"""Width of a normal distribution whose interquartile range is one."""


def robust_scatter(values: npt.NDArray[np.float64]) -> float:
    """Return the width of a normal distribution of that median absolute
    deviation.

    Parameters
    ----------
    values
        Values [N], at least one.
    """
    return float(np.median(np.abs(values - np.median(values)))) / SIGMA_TO_MAD
