# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The true PSF of a visit of the simple camera."""

from __future__ import annotations

__all__ = ("VisitPsf",)

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._config import VisitSimulation
from ._objects import Scene
from ._true_psf import TruePsf

if TYPE_CHECKING:
    import galsim

_BETA = 3.0  # of the Moffat profile; that of good ground-based seeing
_BRIGHT = 1e5  # electrons of objects whose wings need large stamps


class VisitPsf(TruePsf):
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

    def images(
        self,
        detector: int,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        dx: npt.ArrayLike = 0.0,
        dy: npt.ArrayLike = 0.0,
        color: npt.ArrayLike = 1.0,
        side: int = 25,
    ) -> npt.NDArray[np.float64]:
        """Draw the PSF, which is that of stars of any colour.

        Parameters
        ----------
        detector, x, y, dx, dy, color, side
            As for `TruePsf.images`.

        Returns
        -------
        images
            float64 [N, side, side].
        """
        if side < 1 or side % 2 == 0:
            raise ValueError(f"side={side} is not a positive odd number.")
        columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(c, dtype=float)) for c in (x, y, dx, dy)))
        images = np.empty((len(columns[0]), side, side))
        # GalSim draws one profile at a time.
        for image, xi, yi, *offset in zip(images, *columns, strict=True):
            image[:] = self._draw(self.profile(detector, xi, yi), side, offset=offset)
        return images

    def object_stamps(
        self, detector: int, scene: Scene
    ) -> Iterator[tuple[int, int, npt.NDArray[np.float64]]]:
        """Draw objects one after the other; galaxies are exponential.

        Parameters
        ----------
        detector, scene
            As for `TruePsf.object_stamps`.

        Yields
        ------
        x0, y0, stamp
            As for `TruePsf.object_stamps`.
        """
        import galsim

        for i in range(len(scene)):
            profile = self.profile(detector, scene.x[i], scene.y[i])
            if not scene.is_star[i]:
                galaxy = galsim.Exponential(half_light_radius=scene.radius[i])
                profile = galsim.Convolve(galaxy.shear(g1=scene.g1[i], g2=scene.g2[i]), profile)
            side = 129 if scene.flux[i] > _BRIGHT else 65
            x0, y0 = (math.ceil(c - 0.5) - side // 2 for c in (scene.x[i], scene.y[i]))
            offset = (scene.x[i] - x0 - side // 2, scene.y[i] - y0 - side // 2)
            yield x0, y0, self._draw(profile.withFlux(scene.flux[i]), side, offset=offset)

    def _draw(self, profile: galsim.GSObject, side: int, **options: Any) -> npt.NDArray[np.float64]:
        scale = self._simulation.pixel_scale
        return profile.drawImage(nx=side, ny=side, scale=scale, dtype=float, **options).array
