# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""How bright, how red and how large what is taken as a star is."""

from __future__ import annotations

__all__ = ("Population", "draw_population")

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ._config import FocalPlaneSimulation

_MAGNITUDE_SLOPE = 0.25
"""Slope of the logarithm of star counts per magnitude at high latitudes."""

_SIGNAL_TO_NOISE = (40.0, 1000.0)
"""Limits of the signal-to-noise ratio of stars."""


@dataclass(frozen=True)
class Population:
    """Objects that are taken as stars."""

    signal_to_noise: npt.NDArray[np.float64]
    """Against the sky, for a Gaussian PSF [N]."""

    flux: npt.NDArray[np.float64]
    """Flux in electrons [N]."""

    color: npt.NDArray[np.float64]
    """Colour g - i in magnitudes [N]."""

    is_galaxy: npt.NDArray[np.bool_]
    """Whether it isn't a star at all [N]."""

    blur: npt.NDArray[np.float64]
    """Moments xx, yy, xy of galaxies in arcsec^2, zero for stars [N, 3]."""


def draw_population(
    simulation: FocalPlaneSimulation, uniform: npt.NDArray[np.float64], normal: npt.NDArray[np.float64]
) -> Population:
    """Turn random numbers into objects.

    Parameters
    ----------
    simulation
        The visit.
    uniform
        Uniform random numbers between 0 and 1 [N, 6].
    normal
        Normal random numbers [N].
    """
    ratio = _signal_to_noise(uniform[:, 0])
    # Noise-equivalent area of a Gaussian of the seeing's FWHM.
    sigma = 1.1 * simulation.seeing / simulation.pixel_scale / 2.355
    is_galaxy = uniform[:, 1] < simulation.galaxy_fraction
    return Population(
        signal_to_noise=ratio,
        flux=ratio * np.sqrt(4.0 * np.pi * sigma**2 * simulation.sky),
        # Disc and halo stars: two broad peaks along the stellar locus.
        color=np.where(uniform[:, 5] < 0.5, 0.7 + 0.2 * normal, 2.0 + 0.4 * normal),
        is_galaxy=is_galaxy,
        blur=_galaxy_moments(uniform[:, 2:5]) * is_galaxy[:, np.newaxis],
    )


def _signal_to_noise(uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn uniform numbers into ratios of stars of rising counts."""
    # log N grows by 2.5 slopes per decade of flux.
    power = -2.5 * _MAGNITUDE_SLOPE
    low, high = (limit**power for limit in _SIGNAL_TO_NOISE)
    return (low + uniform * (high - low)) ** (1.0 / power)


def _galaxy_moments(uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return second moments xx, yy, xy of small galaxies in arcsec^2."""
    size = (0.1 + 0.25 * uniform[:, 0]) ** 2
    e, angle = 0.5 * uniform[:, 1], 2.0 * np.pi * uniform[:, 2]
    e1, e2 = e * np.cos(angle), e * np.sin(angle)
    return np.stack([size * (1.0 + e1), size * (1.0 - e1), size * e2], axis=1)
