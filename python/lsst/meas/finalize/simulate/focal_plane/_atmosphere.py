# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""An atmosphere whose blur is correlated over the field."""

from __future__ import annotations

__all__ = ("Atmosphere",)

import functools

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from ._config import FocalPlaneSimulation

_OUTER_SCALE = 25.0
"""Outer scale of the turbulence in metres."""

_EXPOSURE = 30.0
"""Exposure time in seconds."""

_LAYERS = np.array(
    [(0.0, 0.652), (2.58, 0.172), (5.16, 0.055), (7.73, 0.025), (12.89, 0.074), (15.46, 0.022)]
)
"""Heights in km and weights of the turbulence, from Ellerbroek (2002), as
Jee & Tyson (2011, PASP 123, 596) use them for the LSST."""

_MAX_WIND = 20.0
"""Largest speed of a layer in metres per second."""

_GRID, _STEP = 1024, 2.0
"""Points of a screen and their distance in metres."""

_SIZE_RMS = 0.013
"""Rms over the field of the relative size T of the atmospheric PSF."""

_ELLIPTICITY_RMS = 0.011
"""Rms over the field of each component of the distortion of the atmospheric
PSF: some 1.5 % in all after 30 s (Jee & Tyson 2011; Chang et al. 2013,
MNRAS 428, 2695)."""


class Atmosphere:
    """Size and ellipticity of the atmospheric PSF over the field.

    Relative size and the two components of the distortion are Gaussian random
    fields.  Each layer of turbulence contributes its share of their variance
    with a von Karman spectrum of its outer scale, projected from its height
    and averaged along the path of the wind during the exposure.  So they are
    correlated over 0.1 degrees (25 m in 15 km) to a degree, as von Karman
    covariances describe them (Leget et al. 2021, A&A 650, A81).

    Parameters
    ----------
    simulation
        The visit.
    """

    def __init__(self, simulation: FocalPlaneSimulation) -> None:
        self._simulation = simulation
        exposure = [simulation.exposure] if simulation.exposure else []
        rng = np.random.default_rng([simulation.seed, 12, *exposure])
        # What is near the ground is the same over the whole field.
        above = _LAYERS[1:]
        self._layers = [(height * 1e3, _layer_maps(rng)) for height, _ in above]
        self._shares = np.sqrt(above[:, 1] / above[:, 1].sum())
        self._constant = rng.normal(size=2) * _ELLIPTICITY_RMS

    def parameters(self, position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return relative size and distortion of the atmospheric PSF.

        Parameters
        ----------
        position
            Positions in the focal plane in mm [N, 2].

        Returns
        -------
        parameters
            delta T / T, e1 and e2 along the axes of the focal plane [N, 3].
        """
        per_mm = np.deg2rad(self._simulation.pixel_scale / 3600.0) / self._simulation.pixel_size
        total = np.zeros((len(position), 3))
        for share, (height, maps) in zip(self._shares, self._layers, strict=True):
            at = (position * per_mm * height / _STEP + _GRID / 2).T[::-1]
            for i, spline in enumerate(maps):
                total[:, i] += share * scipy.ndimage.map_coordinates(
                    spline, at, order=3, mode="grid-wrap", prefilter=False
                )
        total *= [_SIZE_RMS, _ELLIPTICITY_RMS, _ELLIPTICITY_RMS]
        total[:, 1:] += self._constant
        return total


@functools.lru_cache(maxsize=1)
def _wave_numbers() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    k = 2.0 * np.pi * np.fft.fftfreq(_GRID, _STEP)
    return np.abs(k[np.newaxis, : _GRID // 2 + 1]), k[:, np.newaxis]


def _layer_maps(rng: np.random.Generator) -> list[npt.NDArray[np.float64]]:
    """Return splines of one layer's three fields, each of unit variance."""
    kx, ky = _wave_numbers()
    amplitude = (kx**2 + ky**2 + (2.0 * np.pi / _OUTER_SCALE) ** 2) ** (-11.0 / 12.0)
    speed, angle = rng.uniform(0.0, _MAX_WIND), rng.uniform(0.0, 2.0 * np.pi)
    path = 0.5 * speed * _EXPOSURE * (kx * np.cos(angle) + ky * np.sin(angle))
    amplitude = amplitude * np.sinc(path / np.pi)
    maps = []
    for _ in range(3):
        field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(_GRID, _GRID))) * amplitude, s=(_GRID, _GRID))
        maps.append(scipy.ndimage.spline_filter(field / field.std(), order=3, mode="grid-wrap"))
    return maps
