# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Options of the trust-region optimiser (spec 05 §4.1)."""

from __future__ import annotations

__all__ = ("OptimizerConfig",)

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Config, Field

_PACKED = (
    "skipSR1UpdateThreshold",
    "minTrustRadiusThreshold",
    "gradientThreshold",
    "numDiffRelStep",
    "numDiffAbsStep",
    "numDiffTrustRadiusStep",
    "stepAcceptThreshold",
    "trustRegionInitialSize",
    "trustRegionGrowReductionRatio",
    "trustRegionGrowStepFraction",
    "trustRegionGrowFactor",
    "trustRegionShrinkReductionRatio",
    "trustRegionShrinkFactor",
    "trustRegionSolverTolerance",
    "noSR1Term",
    "maxInnerIterations",
    "maxOuterIterations",
)


class OptimizerConfig(Config):
    """How the optimiser steps and when it stops."""

    noSR1Term = Field[bool](
        doc="Leave the symmetric rank-1 update out of the Hessian (Levenberg-Marquardt-like)?",
        default=False,
    )
    skipSR1UpdateThreshold = Field[float](
        doc="Skip the SR1 update if v.s / (norm(v) norm(s)) is less.", default=1e-8
    )
    minTrustRadiusThreshold = Field[float](
        doc="Converged if the trust radius is not above this.", default=1e-5
    )
    gradientThreshold = Field[float](
        doc="Converged if the largest component of the gradient is not above this.", default=1e-5
    )
    numDiffRelStep = Field[float](doc="Relative step of numerical derivatives.", default=0.0)
    numDiffAbsStep = Field[float](
        doc="Absolute step of numerical derivatives, added to the others.", default=0.0
    )
    numDiffTrustRadiusStep = Field[float](
        doc="Step of numerical derivatives in units of the trust radius, added to the others.", default=0.1
    )
    stepAcceptThreshold = Field[float](doc="Accept steps with a larger reduction ratio.", default=0.0)
    trustRegionInitialSize = Field[float](doc="First trust radius.", default=1.0)
    trustRegionGrowReductionRatio = Field[float](
        doc="Steps with a larger reduction ratio may increase the trust radius.", default=0.75
    )
    trustRegionGrowStepFraction = Field[float](
        doc="Steps longer than this times the trust radius may increase it.", default=0.8
    )
    trustRegionGrowFactor = Field[float](doc="Factor by which the trust radius grows.", default=2.0)
    trustRegionShrinkReductionRatio = Field[float](
        doc="Steps with a smaller reduction ratio decrease the trust radius.", default=0.25
    )
    trustRegionShrinkFactor = Field[float](doc="Factor by which the trust radius shrinks.", default=1.0 / 3.0)
    trustRegionSolverTolerance = Field[float](
        doc="Relative accuracy of the length of steps to the edge of the trust region.", default=1e-8
    )
    maxInnerIterations = Field[int](doc="Largest number of rejected steps in a row.", default=20)
    maxOuterIterations = Field[int](doc="Largest number of accepted steps.", default=500)
    doSaveIterations = Field[bool](doc="Save iterations for debugging?  Has no effect.", default=False)

    def pack(self) -> npt.NDArray[np.float64]:
        """Return the options in the order the compiled code wants.

        Returns
        -------
        control : `numpy.ndarray`
            Values, float64.
        """
        return np.array([float(getattr(self, name)) for name in _PACKED])
