# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""State of the structured fit between iterations."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from ._preconditioner import Preconditioner

__all__ = ("FitState",)


@dataclasses.dataclass
class FitState:
    """What an iteration hands on to the next."""

    q: npt.NDArray[np.float64]
    """Coefficients [n*n, K]."""

    params: npt.NDArray[np.float64]
    """Model parameters of the stars [N, n*n]."""

    flux: npt.NDArray[np.float64]
    """Fluxes [N]."""

    center: npt.NDArray[np.float64]
    """Centres [N, 2]."""

    chisq: npt.NDArray[np.float64]
    """Chi-squares [N]; NaN where there is none yet."""

    dof: npt.NDArray[np.int64]
    """Degrees of freedom [N]."""

    flagged: npt.NDArray[np.bool_]
    """Rejected stars [N]."""

    reserved: npt.NDArray[np.bool_]
    """Stars held out of the fit [N]."""

    total_chisq: float = 0.0
    """Chi-square of the fitted stars."""

    last_delta_chisq: float = 0.0
    """Its change in the last iteration."""

    total_dof: int = 0
    """Degrees of freedom of the fitted stars."""

    removed: int = 0
    """Number of stars removed in all iterations."""

    iterations: int = 0
    """Number of iterations."""

    in_place: bool = False
    """Whether singular systems are too large to be left to Piff."""

    undetermined: bool = False
    """Whether the stars were found not to determine the solution."""

    preconditioner: Preconditioner | None = None
    """Made in the first iteration."""

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Stars that enter the fit [N]."""
        return ~self.flagged & ~self.reserved
