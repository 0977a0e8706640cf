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
from ._population import draw_population
from ._psf import FocalPlanePsf

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
    drawn = draw_population(simulation, random[:, 2:8], normal[:, 0])
    x0, y0 = (np.floor(c + 0.5).astype(np.int64) - simulation.stamp_size // 2 for c in (x, y))
    half = simulation.stamp_size // 2
    images = psf.images(
        detector, x, y, dx=x - x0 - half, dy=y - y0 - half, color=drawn.color, blur=drawn.blur
    )
    images *= drawn.flux[:, np.newaxis, np.newaxis]
    variance = simulation.sky + np.maximum(images, 0.0)
    noise = np.random.default_rng([simulation.seed, 15, detector, kind]).normal(size=images.shape)
    error = _CENTROID_ERROR / drawn.signal_to_noise
    return FocalPlaneStars(
        x=x,
        y=y,
        x_measured=x + error * normal[:, 1],
        y_measured=y + error * normal[:, 2],
        flux=drawn.flux,
        color=drawn.color,
        is_galaxy=drawn.is_galaxy,
        is_reserved=np.zeros(count, dtype=bool),
        x0=x0,
        y0=y0,
        image=(images + np.sqrt(variance) * noise).astype(np.float32),
        variance=variance.astype(np.float32),
        bad=_masks(random[:, 8:12], simulation),
    )


def _masks(uniform: npt.NDArray[np.float64], simulation: FocalPlaneSimulation) -> npt.NDArray[np.bool_]:
    """Mask a column and a square of a few pixels of some stars."""
    side = simulation.stamp_size
    masked = uniform[:, 0] < simulation.masked_fraction
    column, x, y = (np.floor(uniform[:, i] * side)[:, np.newaxis, np.newaxis] for i in (1, 2, 3))
    index = np.arange(side)
    bad = (index == column) | ((np.abs(index - x) < 2) & (np.abs(index[:, np.newaxis] - y) < 2))
    return bad & masked[:, np.newaxis, np.newaxis]
