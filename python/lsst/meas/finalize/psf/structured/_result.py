# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Dress a solution as the PSF object Piff leaves behind."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    import piff

    from ._state import FitState

__all__ = ("fill_psf",)


def fill_psf(
    psf: piff.SimplePSF,
    stars: Sequence[piff.Star],
    state: FitState,
    first_params: npt.NDArray[np.float64],
) -> None:
    """Store the solution and its statistics.

    Parameters
    ----------
    psf
        PSF to fill.
    stars
        The stars of the fit; new objects are made.
    state
        The solution.
    first_params
        Parameters of the first fitted star when the last iteration began.
    """
    from ..._piff import piff

    psf.interp.q = np.ascontiguousarray(state.q)
    psf.quadratic_chisq = True
    psf.degenerate_points = True
    psf.chisq = state.total_chisq
    psf.last_delta_chisq = state.last_delta_chisq
    psf.dof = state.total_dof
    psf.nremoved = state.removed
    psf.niter = state.iterations
    # Sets the extents in real and Fourier space that the model remembers.
    psf.model.initialize_iteration()
    psf.model.getProfile(first_params)
    psf.model._getBasisProfile()
    psf.stars = []
    # Piff's results are one object per star.
    for i, star in enumerate(stars):
        never_fitted = np.isnan(state.chisq[i])
        fit = piff.StarFit(
            state.params[i],
            flux=state.flux[i],
            center=(state.center[i, 0], state.center[i, 1]),
            chisq=None if never_fitted else state.chisq[i],
            dof=None if never_fitted else state.dof[i],
        )
        data = star.data
        if state.flagged[i] and not star.is_flagged:
            # Piff copies the pixels too, which nobody changes.
            data = copy.copy(data)
            data.properties = data.properties | {"is_flagged": True}
        psf.stars.append(piff.Star(data, fit))
