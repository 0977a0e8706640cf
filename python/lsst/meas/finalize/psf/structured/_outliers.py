# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Rejection of stars by their chi-squares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

from ._stars import NotCoveredError

if TYPE_CHECKING:
    import piff

__all__ = ("reject_by_chisq",)


def _thresholds(outliers: piff.ChisqOutliers, dof: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the chi-square limits of stars, before scaling."""
    if outliers.thresh is None and outliers.ndof is None:
        # What scipy.stats.chi2.isf returns, without importing all of that.
        limits = np.where(dof > 0, chdtri(dof, outliers.prob), np.nan)
    else:
        limits = np.asarray(outliers._get_thresh(dof), dtype=np.float64)
    return np.broadcast_to(limits, dof.shape)


def reject_by_chisq(
    outliers: piff.ChisqOutliers,
    chisq: npt.NDArray[np.float64],
    dof: npt.NDArray[np.int64],
    flagged: npt.NDArray[np.bool_],
    reserved: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.bool_], int]:
    """Tell which stars become outliers.

    Limits are scaled with the mean reduced chi-square of the fitted stars if
    that is above 1.  No more than ``max_remove`` fitted stars go at a time,
    those furthest above their limits.

    Parameters
    ----------
    outliers
        Piff's handler, which defines the limit.
    chisq
        Chi-squares [N].
    dof
        Degrees of freedom [N].
    flagged
        Stars already rejected [N].
    reserved
        Stars held out of the fit [N].

    Returns
    -------
    flagged
        Stars rejected now or before [N].
    removed
        Number to count as removed now.

    Raises
    ------
    NotCoveredError
        Raised if all stars were rejected before.
    """
    used = ~flagged & ~reserved
    if not used.any():
        raise NotCoveredError("no star is left to look for outliers")
    factor = max(float(chisq[used].sum() / dof[used].sum()), 1.0)
    limit = _thresholds(outliers, dof) * factor
    over = ~(chisq <= limit)
    removed = int(np.count_nonzero(over & used))
    if removed == 0:
        return flagged | (over & reserved), 0
    max_remove = outliers.max_remove
    if max_remove is not None and 0 < max_remove < 1:
        max_remove = math.ceil(max_remove * np.count_nonzero(used))
    if max_remove is None or removed <= max_remove:
        return flagged | over, removed
    excess = chisq - limit
    # Piff cuts at the max_remove-th largest excess of the fitted stars.
    cut = np.partition(excess[used], -max_remove)[-max_remove]
    return flagged | ~(excess < cut), max_remove
