# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Configuration of the PSF determiners, with upstream's option names."""

from __future__ import annotations

__all__ = ("BasePsfDeterminerConfig", "PiffPsfDeterminerConfig")

import math
import re

import lsst.pex.config as pexConfig

_LANCZOS = re.compile(r"(galsim\.)?Lanczos\(0*[1-9]\d*\)")
_OTHER_INTERPOLANTS = frozenset(
    f"galsim.{name}" for name in ("Cubic", "Delta", "Linear", "Nearest", "Quintic", "SincInterpolant")
)


def _valid_interpolant(name: str) -> bool:
    return name in _OTHER_INTERPOLANTS or _LANCZOS.fullmatch(name) is not None


def _positive_odd(size: int) -> bool:
    return size > 0 and size % 2 == 1


class BasePsfDeterminerConfig(pexConfig.Config):
    """Options all PSF determiners have (spec 01 §5.1)."""

    stampSize = pexConfig.Field[int](
        doc="Size of the postage stamp (in native pixels) to render the PSF model. Should be odd.",
        default=None,
        optional=True,
        check=_positive_odd,
    )
    maxCandidates = pexConfig.Field[int](
        doc="Maximum number of candidates to consider. Will down-sample if given more.",
        default=300,
        check=lambda number: number > 0,
    )
    downsampleRandomSeed = pexConfig.Field[int](
        doc="Random seed to use to downsample candidates.",
        default=98765,
        check=lambda seed: 0 <= seed < 2**32,
    )


class PiffPsfDeterminerConfig(BasePsfDeterminerConfig):
    """Options of `PiffPsfDeterminerTask` (spec 01 §5.2)."""

    spatialOrderPerBand = pexConfig.DictField[str, int](
        doc="Per-band spatial order for PSF kernel creation. Ignored if piffPsfConfigYaml is set.",
        default={},
        itemCheck=lambda order: order >= 0,
    )
    spatialOrder = pexConfig.Field[int](
        doc="Spatial order for PSF kernel creation. Ignored if piffPsfConfigYaml is set or if the current "
        "band is in the spatialOrderPerBand dict config.",
        default=2,
        check=lambda order: order >= 0,
    )
    piffBasisPolynomialSolver = pexConfig.ChoiceField[str](
        doc="Solver to solve linear algebra for the spatial interpolation of the PSF. Ignored if "
        "piffPsfConfigYaml is not None or if the structured fitter does the work.",
        allowed={
            "scipy": "Default solver using scipy.",
            "cpp": "Compiled solver of Piff.",
            "jax": "Solver using JAX; scipy if JAX isn't installed.",
            "qr": "QR decomposition of the whole design matrix.",
        },
        default="scipy",
        optional=False,
    )
    piffPixelGridFitCenter = pexConfig.Field[bool](
        doc="PixelGrid can re-estimate center if this option is True. Will use provided centroid if set to "
        "False. Depends on how input centroids can be trusted. Ignored if piffPsfConfigYaml is not None.",
        default=True,
    )
    samplingSize = pexConfig.Field[float](
        doc="Resolution of the internal PSF model relative to the pixel size; e.g. 0.5 is equal to 2x "
        "oversampling. This affects only the size of the PSF model stamp if piffPsfConfigYaml is set.",
        default=1.0,
        check=lambda size: 0 < size < math.inf,
    )
    modelSize = pexConfig.Field[int](
        doc="Internal model size for PIFF (typically odd, but not enforced). Partially ignored if "
        "piffPsfConfigYaml is set.",
        default=25,
        check=lambda size: size > 0,
    )
    outlierNSigma = pexConfig.Field[float](
        doc="n sigma for chisq outlier rejection. Ignored if piffPsfConfigYaml is set.",
        default=4.0,
        check=lambda n_sigma: n_sigma >= 0,
    )
    outlierMaxRemove = pexConfig.Field[float](
        doc="Max fraction of stars to remove as outliers each iteration (a number of stars if at least 1). "
        "Ignored if piffPsfConfigYaml is set.",
        default=0.05,
        check=lambda most: most > 0,
    )
    maxSNR = pexConfig.Field[float](
        doc="Rescale the weight of bright stars such that their SNR is less than this value.",
        default=200.0,
        check=lambda limit: limit > 0,
    )
    zeroWeightMaskBits = pexConfig.ListField[str](
        doc="List of mask bits for which to set pixel weights to zero.",
        default=["BAD", "CR", "INTRP", "SAT", "SUSPECT", "NO_DATA"],
    )
    minimumUnmaskedFraction = pexConfig.Field[float](
        doc="Minimum fraction of unmasked pixels required to use star.",
        default=0.5,
        check=lambda fraction: fraction <= 1,
    )
    useColor = pexConfig.Field[bool](
        doc="Use color information to correct for atmospheric turbulence and differential chromatic "
        "refraction. Ignored if piffPsfConfigYaml is set.",
        default=False,
    )
    color = pexConfig.DictField[str, str](
        doc="The bands to use for calculating color. Ignored if piffPsfConfigYaml is set.",
        default={},
        itemCheck=lambda color: len(color) >= 3,
    )
    colorOrder = pexConfig.Field[int](
        doc="Color order for PSF kernel creation. Ignored if piffPsfConfigYaml is set.",
        default=1,
        check=lambda order: order >= 0,
    )
    interpolant = pexConfig.Field[str](
        doc="GalSim interpolant name for Piff to use. Options include 'Lanczos(N)', where N is an integer, "
        "along with galsim.Cubic, galsim.Delta, galsim.Linear, galsim.Nearest, galsim.Quintic, and "
        "galsim.SincInterpolant. Ignored if piffPsfConfigYaml is set.",
        default="Lanczos(11)",
        check=_valid_interpolant,
    )
    zerothOrderInterpNotEnoughStars = pexConfig.Field[bool](
        doc="If True, use zeroth order interpolation if not enough stars are found.", default=False
    )
    zerothOrderInterpSingleStep = pexConfig.Field[bool](
        doc="Stop the fit of zerothOrderInterpNotEnoughStars after one linear step from a Gaussian, as "
        "upstream does, before it has converged.",
        default=False,
    )
    debugStarData = pexConfig.Field[bool](
        doc="Include star images used for fitting in PSF model object.", default=False
    )
    useCoordinates = pexConfig.ChoiceField[str](
        doc="Which spatial coordinates to regress against in PSF modeling.",
        allowed={
            "pixel": "Pixel coordinates.",
            "field": "Field angles, from the camera geometry.",
            "sky": "Tangent plane around the origin of the WCS.",
        },
        default="pixel",
        optional=False,
    )
    piffMaxIter = pexConfig.Field[int](
        doc="Maximum iteration while doing outlier rejection. 1 if zerothOrderInterpNotEnoughStars has to "
        "step in and zerothOrderInterpSingleStep is set. Ignored if piffPsfConfigYaml is not None.",
        default=15,
        check=lambda number: number > 0,
    )
    piffLoggingLevel = pexConfig.RangeField(
        doc="PIFF-specific logging level, from 0 (least chatty) to 3 (very verbose); note that logs will "
        "come out with unrelated notations (e.g. WARNING does not imply a warning.)",
        dtype=int,
        default=0,
        min=0,
        max=3,
        inclusiveMax=True,
    )
    piffPsfConfigYaml = pexConfig.Field[str](
        doc="Configuration file for PIFF in YAML format. This overrides many other settings in this config "
        "and is not validated ahead of runtime.",
        default=None,
        optional=True,
    )
    fitter = pexConfig.ChoiceField[str](
        doc="Who solves for the PSF. Both make the same Piff object.",
        allowed={
            "piff": "Piff itself.",
            "structured": "Solver using the structure of the normal equations, much faster; models it "
            "doesn't know are left to Piff.",
        },
        default="structured",
        optional=False,
    )

    def setDefaults(self) -> None:
        super().setDefaults()
        self.stampSize = 25

    def validate(self) -> None:
        super().validate()
        stamp_size: int | None = self.stampSize
        if stamp_size is None:
            return
        factor = math.sqrt(2.0) if self.useCoordinates == "sky" else 1.0
        minimum = int(factor * self.modelSize / self.samplingSize)
        if stamp_size < minimum:
            raise pexConfig.FieldValidationError(
                type(self).stampSize,
                self,
                f"stampSize={stamp_size} must be at least {minimum} for modelSize={self.modelSize}, "
                f"samplingSize={self.samplingSize} and useCoordinates={self.useCoordinates!r}.",
            )
