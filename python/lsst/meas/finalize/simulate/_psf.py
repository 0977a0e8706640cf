# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The true PSF of a simulated visit."""

from __future__ import annotations

__all__ = ("VisitPsf",)

from typing import TYPE_CHECKING

import numpy as np

from ._config import VisitSimulation

if TYPE_CHECKING:
    import galsim

_BETA = 3.0  # of the Moffat profile; that of good ground-based seeing


class VisitPsf:
    """The true PSF of a simulated visit, a smooth function of position.

    A Moffat profile whose size grows towards the edge of the field and which
    is sheared by defocus and astigmatism, quadratic in the focal plane.

    Parameters
    ----------
    simulation
        The visit.
    """

    def __init__(self, simulation: VisitSimulation) -> None:
        self._simulation = simulation
        corners = [np.hypot(*simulation.detector_offset(d)) for d in range(simulation.n_detectors)]
        self._radius = max(corners) + simulation.size * simulation.pixel_size

    def field_position(self, detector: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return positions in the focal plane in units of the field radius.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            Pixel position.
        """
        x0, y0 = self._simulation.detector_offset(detector)
        half = (self._simulation.size - 1) / 2
        scale = self._simulation.pixel_size
        return (x0 + (x - half) * scale) / self._radius, (y0 + (y - half) * scale) / self._radius

    def parameters(self, detector: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return size and shear of the PSF.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            Pixel positions, shape (N,).

        Returns
        -------
        `numpy.ndarray`
            FWHM in arcsec, reduced shears g1 and g2; shape (N, 3).
        """
        u, v = self.field_position(detector, np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        fwhm = self._simulation.fwhm * (1 + 0.06 * (u**2 + v**2) + 0.02 * u)
        g1 = 0.01 + 0.03 * (u**2 - v**2)
        g2 = -0.005 + 0.06 * u * v + 0.01 * v
        return np.stack([fwhm, g1, g2], axis=-1)

    def profile(self, detector: int, x: float, y: float) -> galsim.GSObject:
        """Return the PSF at a position, without the pixel response.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            Pixel position.
        """
        import galsim

        fwhm, g1, g2 = self.parameters(detector, np.array([x]), np.array([y]))[0]
        return galsim.Moffat(beta=_BETA, fwhm=fwhm).shear(g1=g1, g2=g2)

    def shapes(self, detector: int, x: np.ndarray, y: np.ndarray, stamp: int = 25) -> np.ndarray:
        """Measure adaptive moments of noiseless stars with GalSim.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            Pixel positions, shape (N,).
        stamp
            Size of the images the moments are measured on, in pixels.

        Returns
        -------
        `numpy.ndarray`
            Moments xx, yy, xy in pixel^2; shape (N, 3).
        """
        import galsim

        result = np.empty((len(x), 3))
        # GalSim draws and measures one profile at a time.
        for i, (xi, yi) in enumerate(zip(x, y, strict=True)):
            image = self.profile(detector, xi, yi).drawImage(
                nx=stamp, ny=stamp, scale=self._simulation.pixel_scale
            )
            moments = galsim.hsm.FindAdaptiveMom(image)
            e1, e2 = moments.observed_shape.e1, moments.observed_shape.e2
            size = moments.moments_sigma**2 / np.sqrt(1 - e1**2 - e2**2)
            result[i] = size * (1 + e1), size * (1 - e1), size * e2
        return result
