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

__all__ = ("SIGMA_TO_MAD", "robust_scatter")

import numpy as np
import numpy.typing as npt

SIGMA_TO_MAD = 0.6744897501960817
"""Median absolute deviation of a normal distribution of unit width."""


def robust_scatter(values: npt.NDArray[np.float64]) -> float:
    """Return the width of a normal distribution of that median absolute
    deviation.

    Parameters
    ----------
    values
        Values [N], at least one.
    """
    return float(np.median(np.abs(values - np.median(values)))) / SIGMA_TO_MAD
