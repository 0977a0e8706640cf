# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Options of the CModel plugin (spec 05 §6.1, §6.9)."""

from __future__ import annotations

__all__ = (
    "CModelConfig",
    "CModelRegionConfig",
    "CModelStageConfig",
    "SemiEmpiricalPriorConfig",
    "SoftenedLinearPriorConfig",
)

from lsst.pex.config import ChoiceField, Config, ConfigField, Field, ListField

from .._plugin import SingleFramePluginConfig
from ._optimizer_config import OptimizerConfig


class SemiEmpiricalPriorConfig(Config):
    """Prior that falls off exponentially with ellipticity."""

    ellipticitySigma = Field[float](
        doc="Width of the exponential distribution of ellipticity (conformal shear).", default=0.3
    )
    ellipticityCore = Field[float](
        doc="Width of the softened core of the distribution of ellipticity.", default=0.001
    )
    logRadiusMinOuter = Field[float](doc="Least ln(radius).", default=-6.001)
    logRadiusMinInner = Field[float](doc="ln(radius) where the cut-off begins.", default=-6.0)
    logRadiusMu = Field[float](
        doc="ln(radius) where the flat distribution turns into a Student distribution with this mean.",
        default=-1.0,
    )
    logRadiusSigma = Field[float](doc="Width of the Student distribution.", default=0.45)
    logRadiusNu = Field[float](doc="Degrees of freedom of the Student distribution.", default=50.0)


class SoftenedLinearPriorConfig(Config):
    """Prior that is flat in ellipticity and linear in ln(radius)."""

    ellipticityMaxOuter = Field[float](doc="Largest ellipticity (conformal shear).", default=2.001)
    ellipticityMaxInner = Field[float](doc="Ellipticity where the cut-off begins.", default=2.0)
    logRadiusMinOuter = Field[float](doc="Least ln(radius).", default=-6.001)
    logRadiusMinInner = Field[float](doc="ln(radius) where the lower cut-off begins.", default=-6.0)
    logRadiusMaxOuter = Field[float](doc="Largest ln(radius).", default=3.001)
    logRadiusMaxInner = Field[float](doc="ln(radius) where the upper cut-off begins.", default=3.0)
    logRadiusMinMaxRatio = Field[float](
        doc="Density at logRadiusMinInner divided by that at logRadiusMaxInner.", default=1.0
    )


class CModelStageConfig(Config):
    """Options of one fit of an elliptical profile."""

    profileName = ChoiceField[str](
        doc="Radial profile to fit.",
        allowed={"lux": "Softened, truncated exponential", "luv": "Softened, truncated de Vaucouleurs"},
        default="lux",
        optional=False,
    )
    nComponents = Field[int](doc="Number of Gaussians that approximate the profile.", default=8)
    maxRadius = Field[int](
        doc="Radius up to which the profile is approximated (half-light radii; 0: its default).", default=0
    )
    priorSource = ChoiceField[str](
        doc="Prior on the parameters.",
        allowed={
            "NONE": "No prior",
            "EMPIRICAL": "As given by empiricalPriorConfig",
            "LINEAR": "As given by linearPriorConfig",
        },
        default="EMPIRICAL",
        optional=False,
    )
    priorName = Field[str](doc="Name of a prior that is read from a file; not used.", default="")
    linearPriorConfig = ConfigField[SoftenedLinearPriorConfig](doc="Parameters of the LINEAR prior.")
    empiricalPriorConfig = ConfigField[SemiEmpiricalPriorConfig](doc="Parameters of the EMPIRICAL prior.")
    optimizer = ConfigField[OptimizerConfig](doc="Optimiser of the fit.")
    usePixelWeights = Field[bool](
        doc="Weight pixels by their variances in the non-linear fit?", default=False
    )
    weightsMultiplier = Field[float](
        doc="Factor of the weights, that is of the likelihood's importance beside the prior.", default=1.0
    )
    doRecordHistory = Field[bool](doc="Record the number of steps?", default=True)
    doRecordTime = Field[bool](doc="Record the time a fit takes?", default=True)


class CModelRegionConfig(Config):
    """Options of the choice of pixels."""

    nKronRadii = Field[float](doc="Radius of the first region in Kron radii.", default=1.5)
    nPsfSigmaMin = Field[float](
        doc="A region smaller than this many PSF radii gives way to one of the footprint's area or of "
        "this radius, whichever is larger.",
        default=4.0,
    )
    nPsfSigmaGrow = Field[float](doc="Grow the fitted ellipse by this many PSF radii.", default=2.0)
    nFitRadiiMin = Field[float](doc="Least final region in fitted radii, before growing.", default=1.0)
    nFitRadiiMax = Field[float](doc="Largest final region in fitted radii, before growing.", default=3.0)
    maxArea = Field[int](doc="Flag regions with more pixels than this.", default=100000)
    badMaskPlanes = ListField[str](
        doc="Mask planes of pixels that are left out.", default=["EDGE", "SAT", "BAD", "NO_DATA"]
    )
    maxBadPixelFraction = Field[float](doc="Largest fraction of the region to be left out.", default=0.1)


class CModelConfig(SingleFramePluginConfig):
    """Options of ``modelfit_CModel``."""

    psfName = Field[str](
        doc="Prefix of the fields with the shapelet approximation of the PSF.",
        default="modelfit_DoubleShapeletPsfApprox",
    )
    region = ConfigField[CModelRegionConfig](doc="Choice of pixels.")
    initial = ConfigField[CModelStageConfig](doc="Fit of a simple profile that starts the other two.")
    exp = ConfigField[CModelStageConfig](doc="Fit of an exponential profile.")
    dev = ConfigField[CModelStageConfig](doc="Fit of a de Vaucouleurs profile.")
    minInitialRadius = Field[float](doc="Least radius to start from (pixels).", default=0.1)
    fallbackInitialMomentsPsfFactor = Field[float](
        doc="Start from the PSF's ellipse times this if there is no shape; if not positive, fail instead.",
        default=1.5,
    )

    def setDefaults(self) -> None:
        super().setDefaults()
        self.initial.nComponents = 3
        self.initial.optimizer.gradientThreshold = 1e-3
        self.initial.optimizer.minTrustRadiusThreshold = 1e-2
        self.initial.usePixelWeights = True
        self.exp.nComponents = 6
        self.exp.optimizer.maxOuterIterations = 250
        self.dev.profileName = "luv"
