# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Stars of a simulated focal plane, as stamps with noise."""

from __future__ import annotations

__all__ = ("FocalPlaneStars", "simulate_stars")

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ._config import FocalPlaneSimulation
from ._psf import FocalPlanePsf

_MAGNITUDE_SLOPE = 0.25
"""Slope of the logarithm of star counts per magnitude at high latitudes."""

_SIGNAL_TO_NOISE = (40.0, 1000.0)
"""Limits of the signal-to-noise ratio of stars."""

_MARGIN = 20.0
"""Least distance of stars from the edge in pixels."""

_CENTROID_ERROR = 1.0
"""Error of measured centroids in pixels, times the signal-to-noise ratio."""


@dataclass
class FocalPlaneStars:
    """Stars of one detector."""

    x: npt.NDArray[np.float64]
    """True column of the centre [N]."""

    y: npt.NDArray[np.float64]
    """True row of the centre [N]."""

    x_measured: npt.NDArray[np.float64]
    """Measured column [N]."""

    y_measured: npt.NDArray[np.float64]
    """Measured row [N]."""

    flux: npt.NDArray[np.float64]
    """Flux in electrons [N]."""

    color: npt.NDArray[np.float64]
    """Colour g - i in magnitudes [N]."""

    is_galaxy: npt.NDArray[np.bool_]
    """Whether it isn't a star at all [N]."""

    is_reserved: npt.NDArray[np.bool_]
    """Whether it is to be kept out of fits [N]."""

    x0: npt.NDArray[np.int64]
    """Column of the first pixel of the stamp [N]."""

    y0: npt.NDArray[np.int64]
    """Row of the first pixel of the stamp [N]."""

    image: npt.NDArray[np.float32]
    """Pixels in electrons [N, h, w]."""

    variance: npt.NDArray[np.float32]
    """Their variance [N, h, w]."""

    bad: npt.NDArray[np.bool_]
    """Masked pixels [N, h, w]."""

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> FocalPlaneStars:
        """Return some of the stars."""
        return FocalPlaneStars(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def simulate_stars(psf: FocalPlanePsf, detector: int) -> FocalPlaneStars:
    """Simulate the stars of one detector.

    Parameters
    ----------
    psf
        The true PSF of the visit.
    detector
        Detector number.

    Returns
    -------
    stars
        Usable stars first, then the reserved ones.  Fewer usable stars are
        the first of more, for the same seed.
    """
    simulation = psf.simulation
    usable = _draw_stars(psf, detector, simulation.n_stars, 0)
    reserved = _draw_stars(psf, detector, simulation.n_reserved, 1)
    reserved.is_reserved[:] = True
    return FocalPlaneStars(
        **{
            f.name: np.concatenate([getattr(usable, f.name), getattr(reserved, f.name)])
            for f in fields(FocalPlaneStars)
        }
    )


def _draw_stars(psf: FocalPlanePsf, detector: int, count: int, kind: int) -> FocalPlaneStars:
    simulation = psf.simulation
    rng = np.random.default_rng([simulation.seed, 13, detector, kind])
    # A row per star, so that their number doesn't change them.
    random = rng.uniform(size=(count, 12))
    normal = np.random.default_rng([simulation.seed, 14, detector, kind]).normal(size=(count, 4))
    x, y = (_MARGIN + random[:, :2] * (simulation.size - 1 - 2 * _MARGIN)).T
    ratio = _signal_to_noise(random[:, 2])
    # Noise-equivalent area of a Gaussian of the seeing's FWHM.
    sigma = 1.1 * simulation.seeing / simulation.pixel_scale / 2.355
    flux = ratio * np.sqrt(4.0 * np.pi * sigma**2 * simulation.sky)
    is_galaxy = random[:, 3] < simulation.galaxy_fraction
    blur = _galaxy_moments(random[:, 4:7]) * is_galaxy[:, np.newaxis]
    # Disc and halo stars: two broad peaks along the stellar locus.
    color = np.where(random[:, 7] < 0.5, 0.7 + 0.2 * normal[:, 0], 2.0 + 0.4 * normal[:, 0])
    x0, y0 = (np.floor(c + 0.5).astype(np.int64) - simulation.stamp_size // 2 for c in (x, y))
    half = simulation.stamp_size // 2
    images = psf.images(detector, x, y, dx=x - x0 - half, dy=y - y0 - half, color=color, blur=blur)
    images *= flux[:, np.newaxis, np.newaxis]
    variance = simulation.sky + np.maximum(images, 0.0)
    noise = np.random.default_rng([simulation.seed, 15, detector, kind]).normal(size=images.shape)
    error = _CENTROID_ERROR / ratio
    return FocalPlaneStars(
        x=x,
        y=y,
        x_measured=x + error * normal[:, 1],
        y_measured=y + error * normal[:, 2],
        flux=flux,
        color=color,
        is_galaxy=is_galaxy,
        is_reserved=np.zeros(count, dtype=bool),
        x0=x0,
        y0=y0,
        image=(images + np.sqrt(variance) * noise).astype(np.float32),
        variance=variance.astype(np.float32),
        bad=_masks(random[:, 8:12], simulation),
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


def _masks(uniform: npt.NDArray[np.float64], simulation: FocalPlaneSimulation) -> npt.NDArray[np.bool_]:
    """Mask a column and a square of a few pixels of some stars."""
    side = simulation.stamp_size
    masked = uniform[:, 0] < simulation.masked_fraction
    column, x, y = (np.floor(uniform[:, i] * side)[:, np.newaxis, np.newaxis] for i in (1, 2, 3))
    index = np.arange(side)
    bad = (index == column) | ((np.abs(index - x) < 2) & (np.abs(index[:, np.newaxis] - y) < 2))
    return bad & masked[:, np.newaxis, np.newaxis]
