# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The fitted PSF of a visit."""

from __future__ import annotations

__all__ = ("VisitPsfModel",)

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...focal_plane import FieldModel
from ._basis import Basis
from ._frames import from_focal
from ._scores import StarStates


@dataclass
class VisitPsfModel:
    """The PSF of all detectors of a visit."""

    basis: Basis
    """Mean and directions of change."""

    fields: FieldModel
    """Posterior of the coefficients."""

    states: StarStates
    """Fluxes, centres and chi-squares of the stars of the fit."""

    used: npt.NDArray[np.bool_]
    """Stars that were used [N]."""

    def draw(self, detector: int, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Draw the PSF centred on the middle pixel.

        Parameters
        ----------
        detector
            Index of the detector.
        x, y
            Positions in its pixels [N].

        Returns
        -------
        images
            float64 [N, n, n], each of sum 1.
        """
        coefficients = self.fields.values(detector, np.atleast_1d(x), np.atleast_1d(y))
        images = self.basis.mean + np.tensordot(coefficients, self.basis.vectors, axes=1)
        return from_focal(images, self._orientation(detector))

    def psf_error(self, detector: int, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return standard deviations of the pixels of the PSF.

        Parameters
        ----------
        detector
            Index of the detector.
        x, y
            Positions in its pixels [N].

        Returns
        -------
        errors
            float64 [N, n, n]: posterior standard deviations, from noise,
            from the fields between the stars and from the scatter of stars
            about them; without what no field or direction of change describes.
        """
        variances = self.coefficient_variances(detector, x, y)
        errors = np.sqrt(np.tensordot(variances, self.basis.vectors**2, axes=1))
        return from_focal(errors, self._orientation(detector))

    def coefficient_variances(
        self, detector: int, x: npt.ArrayLike, y: npt.ArrayLike
    ) -> npt.NDArray[np.float64]:
        """Return posterior variances of the coefficients [N, K]."""
        variances = self.fields.variances(detector, np.atleast_1d(x), np.atleast_1d(y))
        return variances + self.fields.prior.star

    def _orientation(self, detector: int) -> npt.NDArray[np.int64]:
        return np.array(self.fields.basis.frames[detector].orientation)
