# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Options of GAaP photometry and names of its results (spec 06 §3.1-3.2)."""

from __future__ import annotations

__all__ = ("GaapFluxConfig", "gaap_result_name")

from collections.abc import Iterator
from typing import Any

from lsst.pex.config import ConfigurableField, Field, FieldValidationError, ListField

from .._plugin import SingleFramePluginConfig
from ._matching import GaussianizePsfTask

_NAME = "ext_gaap_GaapFlux"


def gaap_result_name(factor: float, sigma: float | str | None, name: str | None = None) -> str:
    """Return the prefix of the fields of one result.

    Parameters
    ----------
    factor : `float`
        Factor by which the PSF was widened.
    sigma : `float` or `str` or `None`
        Size of the aperture in arcsec, "PsfFlux", "Optimal", or `None` for
        what all apertures share.
    name : `str`, optional
        Name of the plugin; without it the result has no such prefix.

    Returns
    -------
    name : `str`
        For example ``ext_gaap_GaapFlux_1_15x_0_7``.
    """
    result = f"{factor}x" if sigma is None else f"{factor}x_{sigma}"
    result = result.replace(".", "_")
    return result if name is None else f"{name}_{result}"


class GaapFluxConfig(SingleFramePluginConfig):
    """Options of ``ext_gaap_GaapFlux``."""

    sigmas = ListField[float](
        doc="Sigmas (in arcseconds) of the circular Gaussian apertures; an aperture not larger than the "
        "target PSF cannot be measured.",
        default=[0.7, 1.0],
    )
    scalingFactors = ListField[float](
        doc="Sigma of the target PSF in units of the PSF's trace radius, not below 1. Time is "
        "proportional to their number.",
        default=[1.15],
        itemCheck=lambda factor: factor >= 1.0,
    )
    _modelPsfMatch: Any = ConfigurableField(
        target=GaussianizePsfTask,
        doc="How the PSF is made Gaussian.",
    )
    _modelPsfDimension = Field[int](
        doc="Width and height of the target PSF's image in pixels, odd. It is adapted to the PSF anyway.",
        default=65,
        check=lambda size: size > 0 and size % 2 == 1,
    )
    doPsfPhotometry = Field[bool](
        doc="Measure with the target PSF as aperture, to check the Gaussianization? Colors of these "
        "fluxes are not consistent.",
        default=False,
    )
    doOptimalPhotometry = Field[bool](
        doc="Measure with an elliptical aperture adapted to the source? Needs the slots Shape and PsfShape.",
        default=True,
    )
    registerForApCorr = Field[bool](
        doc="Take part in aperture correction? The names depend on the options here, so they are "
        "registered when a plugin is made.",
        default=True,
    )

    doConvolveAsFitted = Field[bool](
        doc="Apply the matching kernel as a correlation, which is how it is fitted? Upstream applies it as "
        "a convolution, which makes PSFs without point symmetry less Gaussian.",
        default=False,
    )
    doAverageSubpixels = Field[bool](
        doc="Divide sums over 16 samples of each pixel, under weights of less than half a pixel, by 16? "
        "Upstream doesn't, and fluxes in apertures hardly larger than the target PSF are too large.",
        default=False,
    )

    @property
    def scaleByFwhm(self) -> bool:
        """Option of this name of the matching kernel."""
        return bool(self._modelPsfMatch.kernel.active.scaleByFwhm)

    @scaleByFwhm.setter
    def scaleByFwhm(self, value: bool) -> None:
        self._modelPsfMatch.kernel.active.scaleByFwhm = value

    @property
    def gaussianizationMethod(self) -> str:
        """Option ``convolutionMethod`` of the matching."""
        return str(self._modelPsfMatch.convolutionMethod)

    @gaussianizationMethod.setter
    def gaussianizationMethod(self, value: str) -> None:
        self._modelPsfMatch.convolutionMethod = value

    def validate(self) -> None:
        super().validate()
        n_gauss = self._modelPsfMatch.kernel.active.alardNGauss
        if n_gauss != 1:
            raise FieldValidationError(
                self.__class__._modelPsfMatch, self, f"alardNGauss must be 1, not {n_gauss}."
            )
        if not (self.sigmas or self.doPsfPhotometry or self.doOptimalPhotometry):
            raise FieldValidationError(
                self.__class__.sigmas,
                self,
                "Without sigmas, doPsfPhotometry and doOptimalPhotometry there is nothing to measure.",
            )

    def getAllGaapResultNames(self, name: str | None = _NAME) -> Iterator[str]:
        """Yield the prefixes of all fluxes.

        Parameters
        ----------
        name : `str`, optional
            Name of the plugin; `None` leaves it out.

        Yields
        ------
        result : `str`
            Prefix, for each factor: apertures, "PsfFlux", "Optimal".
        """
        for factor in self.scalingFactors:
            for sigma in self.results():
                yield gaap_result_name(factor, sigma, name)

    def results(self) -> list[float | str]:
        """Return what is measured for each factor, in the order of fields."""
        results: list[float | str] = list(self.sigmas)
        if self.doPsfPhotometry:
            results.append("PsfFlux")
        if self.doOptimalPhotometry:
            results.append("Optimal")
        return results
