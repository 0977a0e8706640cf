# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Options of PSF matching, with the names and defaults they have upstream.

Upstream shares this tree between difference imaging and GAaP.  All of it is
accepted; `check_matching_options` says what matching to a Gaussian uses.
"""

from __future__ import annotations

__all__ = (
    "GaussianizePsfConfig",
    "MatchingBackgroundConfig",
    "MatchingKernelConfig",
    "MatchingWarperConfig",
    "check_matching_options",
)

from typing import Any

from lsst.pex.config import ChoiceField, Config, ConfigChoiceField, ConfigField, Field, ListField

CONVOLUTION_METHODS = {
    "direct": "Sum over the kernel's pixels.",
    "fft": "Fourier transform of the whole stamp.",
    "auto": "The faster of direct and fft.",
    "overlap-add": "Fourier transforms of parts of the stamp.",
}


class MatchingWarperConfig(Config):
    """Warping of the template; GAaP warps nothing."""

    warpingKernelName = Field[str](doc="Kernel to warp pixels with.", default="lanczos3")
    maskWarpingKernelName = Field[str](doc="Kernel to warp masks with; '': the same.", default="bilinear")
    interpLength = Field[int](doc="Distance of exactly warped pixels.", default=10)
    cacheSize = Field[int](doc="Number of kernel vectors to keep.", default=1000000)
    growFullMask = Field[int](doc="Mask bits to grow to the width of the kernel.", default=16)


class MatchingBackgroundConfig(Config):
    """Background subtraction; GAaP subtracts none."""

    statisticsProperty = Field[str](doc="Statistic of each bin.", default="MEANCLIP")
    undersampleStyle = Field[str](doc="What to do if bins are too few.", default="REDUCE_INTERP_ORDER")
    binSize = Field[int](doc="Size of bins in pixels.", default=128)
    binSizeX = Field[int](doc="Width of bins in pixels; 0: binSize.", default=0)
    binSizeY = Field[int](doc="Height of bins in pixels; 0: binSize.", default=0)
    algorithm = Field[str](doc="How to interpolate between bins.", default="AKIMA_SPLINE", optional=True)
    ignoredPixelMask = ListField[str](
        doc="Mask planes of pixels to leave out.",
        default=["BAD", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA"],
    )
    isNanSafe = Field[bool](doc="Leave out NaNs?", default=False)
    useApprox = Field[bool](doc="Fit a polynomial to the bins?", default=True)
    approxOrderX = Field[int](doc="Order of the polynomial along x.", default=6)
    approxOrderY = Field[int](doc="Order of the polynomial along y; -1: as along x.", default=-1)
    weighting = Field[bool](doc="Weight bins with their variance?", default=True)
    doApplyFlatBackgroundRatio = Field[bool](doc="Undo the photometric flat field?", default=False)
    doFilterSuperPixels = Field[bool](doc="Remove outliers among bins?", default=False)
    superPixelFilterSize = Field[int](doc="Size of the median filter for that.", default=3)


class MatchingKernelConfig(Config):
    """Kernel model of Alard & Lupton (1998): a Gaussian times polynomials."""

    warpingConfig = ConfigField[MatchingWarperConfig](doc="Warping.")
    afwBackgroundConfig = ConfigField[MatchingBackgroundConfig](doc="Background subtraction.")
    useAfwBackground = Field[bool](doc="Subtract a background before the fit?", default=False)
    fitForBackground = Field[bool](doc="Fit a background together with the kernel?", default=False)
    kernelBasisSet = Field[str](doc="Kind of basis functions.", default="alard-lupton")
    kernelSize = Field[int](doc="Size of the kernel in pixels, odd; a start if scaleByFwhm.", default=21)
    scaleByFwhm = Field[bool](doc="Derive size of kernel and Gaussian from the PSFs' widths?", default=True)
    kernelSizeFwhmScaling = Field[float](doc="Kernel size in sigmas of the widest Gaussian.", default=6.0)
    kernelSizeMin = Field[int](doc="Smallest kernel size in pixels.", default=21)
    kernelSizeMax = Field[int](doc="Largest kernel size in pixels.", default=35)
    spatialModelType = Field[str](doc="Kind of spatial variation.", default="chebyshev1")
    spatialKernelOrder = Field[int](doc="Spatial order of the kernel.", default=0)
    spatialBgOrder = Field[int](doc="Spatial order of the background.", default=1)
    sizeCellX = Field[int](doc="Width in pixels of cells of candidates.", default=128)
    sizeCellY = Field[int](doc="Height in pixels of cells of candidates.", default=128)
    nStarPerCell = Field[int](doc="Largest number of candidates per cell.", default=5)
    maxSpatialIterations = Field[int](doc="Largest number of rejection rounds.", default=3)
    usePcaForSpatialKernel = Field[bool](doc="Reduce the basis to principal components?", default=False)
    subtractMeanForPca = Field[bool](doc="Subtract the mean before that?", default=True)
    numPrincipalComponents = Field[int](doc="Number of principal components.", default=5)
    singleKernelClipping = Field[bool](doc="Clip candidates by their residuals?", default=False)
    kernelSumClipping = Field[bool](doc="Clip candidates by their kernel sums?", default=False)
    spatialKernelClipping = Field[bool](doc="Clip candidates after the spatial fit?", default=False)
    checkConditionNumber = Field[bool](doc="Reject ill-conditioned fits?", default=False)
    badMaskPlanes = ListField[str](
        doc="Mask planes of pixels without residuals.", default=["NO_DATA", "EDGE", "SAT"]
    )
    candidateResidualMeanMax = Field[float](doc="Largest mean residual in errors.", default=0.25)
    candidateResidualStdMax = Field[float](doc="Largest scatter of residuals in errors.", default=1.5)
    useCoreStats = Field[bool](doc="Look at residuals in the core only?", default=False)
    candidateCoreRadius = Field[int](doc="Radius of the core in pixels.", default=3)
    maxKsumSigma = Field[float](doc="Largest deviation of a kernel sum in sigmas.", default=3.0)
    maxConditionNumber = Field[float](doc="Largest condition number.", default=5e7)
    conditionNumberType = ChoiceField[str](
        doc="What condition numbers are ratios of.",
        allowed={"SVD": "Singular values.", "EIGENVALUE": "Eigenvalues."},
        default="EIGENVALUE",
    )
    maxSpatialConditionNumber = Field[float](doc="Largest condition number, spatial fit.", default=1e10)
    iterateSingleKernel = Field[bool](doc="Repeat the fit with better variances?", default=False)
    constantVarianceWeighting = Field[bool](doc="Give all pixels the same weight?", default=True)
    calculateKernelUncertainty = Field[bool](doc="Compute errors of the kernel?", default=False)
    useBicForKernelBasis = Field[bool](doc="Choose the basis by information criterion?", default=False)
    alardNGauss = Field[int](doc="Number of Gaussians.", default=1)
    alardDegGauss = ListField[int](doc="Degree of each Gaussian's polynomials.", default=[4])
    alardSigGauss = ListField[float](
        doc="Sigmas of the Gaussians in pixels, where they aren't derived from the PSFs.",
        default=[0.7, 1.5, 3.0],
    )
    alardGaussBeta = Field[float](doc="Ratio of successive sigmas.", default=1.0)
    alardMinSig = Field[float](doc="Smallest sigma in pixels.", default=0.7)
    alardMinSigDeconv = Field[float](doc="Smallest sigma in pixels in deconvolution.", default=0.4)


class GaussianizePsfConfig(Config):
    """How a PSF is made a round Gaussian."""

    kernel = ConfigChoiceField(
        doc="Kind of kernel.",
        typemap={"AL": MatchingKernelConfig},
        default="AL",
    )
    doAutoPadPsf = Field[bool](doc="Pad small PSF images as autoPadPsfTo says?", default=True)
    autoPadPsfTo = Field[float](
        doc="Smallest PSF image in units of kernelSize, if doAutoPadPsf.",
        default=1.4,
    )
    padPsfBy = Field[int](doc="Pixels (even) to pad PSF images by, unless doAutoPadPsf.", default=0)
    convolutionMethod = ChoiceField[str](
        doc="How to convolve. Methods differ in which pixels a NaN spoils.",
        allowed=CONVOLUTION_METHODS,
        default="auto",
    )


def check_matching_options(config: GaussianizePsfConfig) -> None:
    """Refuse options that would ask for a fit that isn't made.

    Parameters
    ----------
    config : `GaussianizePsfConfig`
        Options.

    Raises
    ------
    ValueError
        Raised naming the first option and its value.
    """
    required = {
        "kernelBasisSet": "alard-lupton",
        "alardNGauss": 1,
        "scaleByFwhm": True,
        "spatialKernelOrder": 0,
        "constantVarianceWeighting": True,
    }
    required |= dict.fromkeys(
        (
            "useAfwBackground",
            "fitForBackground",
            "usePcaForSpatialKernel",
            "singleKernelClipping",
            "kernelSumClipping",
            "spatialKernelClipping",
            "checkConditionNumber",
            "iterateSingleKernel",
            "useBicForKernelBasis",
        ),
        False,
    )
    kernel: Any = config.kernel.active
    for name, value in required.items():
        if getattr(kernel, name) != value:
            raise ValueError(
                f"Matching to a Gaussian PSF needs {name} = {value!r}, not {getattr(kernel, name)!r}."
            )
    if len(kernel.alardDegGauss) != 1 or kernel.alardDegGauss[0] < 0:
        raise ValueError(
            f"alardDegGauss must be one degree (alardNGauss = 1), not {list(kernel.alardDegGauss)}."
        )
    for name in ("kernelSize", "kernelSizeMin", "kernelSizeMax"):
        size = getattr(kernel, name)
        if size < 3 or size % 2 == 0:
            raise ValueError(f"{name} must be an odd number not below 3, not {size}.")
    padding: Any = config.padPsfBy
    if not config.doAutoPadPsf and (padding < 0 or padding % 2):
        raise ValueError(f"padPsfBy must be an even number not below 0, not {padding}.")
