# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Aberrations of a telescope and heights of detectors, as rays."""

from __future__ import annotations

__all__ = ("Optics",)

import numpy as np
import numpy.typing as npt

from ._config import FocalPlaneSimulation

_PUPIL_RADIUS = 4.18
"""Radius of the pupil in metres."""

_OBSCURATION = 0.61
"""Inner radius of the pupil in units of the outer."""

_FOCAL_RATIO = 1.234

_RINGS, _SPOKES = 5, 16
"""Rays per pupil; more change PSF images by less than a thousandth."""

_FIELD_ORDER = 3
"""Largest degree of the aberrations over the field."""

_AMPLITUDES = {4: 0.09, 5: 0.09, 6: 0.09, 7: 0.05, 8: 0.05, 9: 0.03, 10: 0.03, 11: 0.04}
"""Rms wavefront error in micrometres by pupil Zernike, at each degree over
the field; halved for each degree above 1."""

_PISTON, _TILT = 3.0, 3.0
"""Rms height of a detector and of its tilt at half its size, micrometres."""

_HEIGHT_RMS = (3.4, 4.8)
"""Rms of the height maps of the two types of detectors in micrometres."""

_WAVES = 6
"""Random plane waves of a height map."""


class Optics:
    """The wavefront of a visit: field-dependent aberrations and heights.

    The coefficients of pupil Zernikes 4 to 11 are Zernikes over the field
    (double Zernikes) with random amplitudes; a height h in the focal plane
    adds defocus.  Images are geometrical: each ray goes where the gradient of
    the wavefront sends it, which the atmosphere's blur of fifty times the
    diffraction limit justifies.

    Parameters
    ----------
    simulation
        The visit.
    """

    def __init__(self, simulation: FocalPlaneSimulation) -> None:
        import galsim.zernike

        self._simulation = simulation
        rng = np.random.default_rng([simulation.seed, 11])
        n_field = (_FIELD_ORDER + 1) * (_FIELD_ORDER + 2) // 2
        degree = np.array([0] + [galsim.zernike.noll_to_zern(j)[0] for j in range(1, n_field + 1)])
        coefficients = np.zeros((n_field + 1, 12))
        normal = rng.normal(size=(len(_AMPLITUDES), n_field))
        if simulation.exposure:
            own = np.random.default_rng([simulation.seed, 11, simulation.exposure])
            normal = own.normal(size=normal.shape)
        for (pupil, amplitude), numbers in zip(_AMPLITUDES.items(), normal, strict=True):
            scale = amplitude * 0.5 ** np.maximum(degree - 1, 0)
            # Zernikes of one degree share its variance.
            coefficients[1:, pupil] = numbers * scale[1:] / np.sqrt(degree[1:] + 1)
        self._zernike = galsim.zernike.DoubleZernike(
            coefficients,
            uv_outer=simulation.radius,
            xy_outer=_PUPIL_RADIUS,
            xy_inner=_OBSCURATION * _PUPIL_RADIUS,
        )
        self._rays = _pupil_points()
        self._slopes = self._zernike_slopes()
        self._heights = [_HeightMap(simulation, d, rng) for d in range(simulation.n_detectors)]
        self.focus_shift: dict[int, float] = {}
        """More height of some detectors, in micrometres."""

    def _zernike_slopes(self) -> npt.NDArray[np.float64]:
        """Return the kicks [12, rays, 2] in arcsec per micrometre."""
        import galsim.zernike

        slopes = np.zeros((12, len(self._rays), 2))
        for j in range(4, 12):
            unit = galsim.zernike.Zernike(
                np.eye(12)[j], R_outer=_PUPIL_RADIUS, R_inner=_OBSCURATION * _PUPIL_RADIUS
            )
            slopes[j, :, 0] = unit.gradX(*self._rays.T)
            slopes[j, :, 1] = unit.gradY(*self._rays.T)
        return slopes * np.rad2deg(1e-6) * 3600.0

    def height(self, detector: int, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the height of the surface in micrometres [N]."""
        size = self._simulation.size
        u, v = (2.0 * np.asarray(c, dtype=np.float64) / (size - 1) - 1.0 for c in (x, y))
        return self._heights[detector](u, v) + self.focus_shift.get(detector, 0.0)

    def wavefront(self, detector: int, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the coefficients [N, 12] of pupil Zernikes, micrometres."""
        position = self._simulation.focal_position(detector, x, y)
        values = np.zeros((len(position), 12))
        # One pass per pupil Zernike, not per star.
        for j in range(4, 12):
            column = self._field_zernike(j)
            values[:, j] = column(*position.T)
        # Annular Zernike 4 is sqrt(3) (2 r^2 - 1 - o^2) / (1 - o^2).
        defocus = 1.0 / (16.0 * np.sqrt(3.0) * _FOCAL_RATIO**2) * (1.0 - _OBSCURATION**2)
        values[:, 4] += defocus * self.height(detector, x, y)
        return values

    def _field_zernike(self, pupil: int):  # type: ignore[no-untyped-def]
        import galsim.zernike

        return galsim.zernike.Zernike(self._zernike.coef[:, pupil], R_outer=self._simulation.radius)

    def rays(self, detector: int, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return where rays arrive, in arcsec along the pixel axes.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            Pixel positions [N].

        Returns
        -------
        rays
            Positions [N, rays, 2] relative to their mean.
        """
        kicks = np.tensordot(self.wavefront(detector, x, y), self._slopes, axes=1)
        kicks -= kicks.mean(axis=1, keepdims=True)
        return kicks @ self._simulation.rotation(detector)


class _HeightMap:
    """Height of a detector over (u, v), each from -1 to 1.

    Piston and tilt of the detector as it is mounted, and the shape of its
    surface: bowl, saddle and trefoil-like terms with 80 % of its variance,
    and a few waves of a third of its size.
    """

    def __init__(self, simulation: FocalPlaneSimulation, detector: int, rng: np.random.Generator) -> None:
        rms = _HEIGHT_RMS[simulation.vendor(detector)]
        self._plane = rng.normal(size=3) * [_PISTON, _TILT, _TILT]
        self._shape = rng.normal(size=5)
        self._wave_vectors = rng.normal(size=(_WAVES, 2)) * 3.0
        self._phases = rng.uniform(0.0, 2.0 * np.pi, _WAVES)
        u, v = np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-1, 1, 15))
        shape, waves = self._surface(u.ravel(), v.ravel())
        self._shape *= np.sqrt(0.8) * rms / shape.std()
        self._wave_height = np.sqrt(0.2) * rms / waves.std()

    def _surface(
        self, u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        square = u**2 + v**2
        terms = [1.5 * (square - 2 / 3), 1.5 * (u**2 - v**2), 2.0 * u * v, u * (square - 1), v * (square - 1)]
        shape = np.tensordot(self._shape, np.array(terms), axes=1)
        phase = np.multiply.outer(self._wave_vectors[:, 0], u) + np.multiply.outer(
            self._wave_vectors[:, 1], v
        )
        return shape, np.cos(phase + self._phases[:, np.newaxis]).sum(axis=0)

    def __call__(self, u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        shape, waves = self._surface(np.atleast_1d(u), np.atleast_1d(v))
        piston, tilt_u, tilt_v = self._plane
        return piston + tilt_u * u + tilt_v * v + shape + self._wave_height * waves


def _pupil_points() -> npt.NDArray[np.float64]:
    """Return points [rays, 2] of equal areas of the annulus, in metres."""
    edges = (np.arange(_RINGS) + 0.5) / _RINGS
    inner = _OBSCURATION**2
    radius = _PUPIL_RADIUS * np.sqrt(inner + (1.0 - inner) * edges)
    angle = 2.0 * np.pi * (np.arange(_SPOKES) + 0.5 * (np.arange(_RINGS) % 2)[:, np.newaxis]) / _SPOKES
    points = radius[:, np.newaxis, np.newaxis] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return points.reshape(-1, 2)
