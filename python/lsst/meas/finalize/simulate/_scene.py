# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Stars and galaxies of a simulated detector."""

from __future__ import annotations

__all__ = ("Scene", "make_grid_scene", "make_scene")

from dataclasses import dataclass

import numpy as np

from ._config import VisitSimulation


@dataclass
class Scene:
    """True objects on one detector.

    Parameters
    ----------
    x, y
        Pixel position, shape (N,).
    flux
        Flux in electrons.
    color
        Colour g-i in magnitudes.
    is_star
        Whether the object is a star.
    radius
        Half-light radius of galaxies in arcsec, 0 for stars.
    g1, g2
        Reduced shear of galaxies.
    is_isolated
        Whether no other object disturbs it.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    color: np.ndarray
    is_star: np.ndarray
    radius: np.ndarray
    g1: np.ndarray
    g2: np.ndarray
    is_isolated: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


_MIN_SEPARATION = 24.0  # pixels between an isolated star and anything else


def make_scene(simulation: VisitSimulation, detector: int) -> Scene:
    """Make the objects of one detector.

    Parameters
    ----------
    simulation
        The visit.
    detector
        Detector number.

    Returns
    -------
    `Scene`
        Stars, galaxies and close pairs of stars.
    """
    rng = np.random.default_rng([simulation.seed, simulation.visit, detector, 0])
    n_stars, n_galaxies, n_blends = simulation.n_stars, simulation.n_galaxies, simulation.n_blends
    n = n_stars + n_galaxies + 2 * n_blends
    x, y = rng.uniform(0, simulation.size - 1, (2, n))
    angle = rng.uniform(0, 2 * np.pi, n_blends)
    separation = rng.uniform(6, 11, n_blends)
    second = slice(n - n_blends, n)
    first = slice(n - 2 * n_blends, n - n_blends)
    x[second] = np.clip(x[first] + separation * np.cos(angle), 0, simulation.size - 1)
    y[second] = np.clip(y[first] + separation * np.sin(angle), 0, simulation.size - 1)
    # Star counts that rise slowly to the faint end, a few of them saturated.
    flux = 10 ** rng.triangular(3.9, 4.4, 6.6, n)
    is_star = np.ones(n, dtype=bool)
    galaxies = slice(n_stars, n_stars + n_galaxies)
    is_star[galaxies] = False
    flux[galaxies] = 10 ** rng.uniform(3.8, 5.0, n_galaxies)
    radius = np.where(is_star, 0.0, rng.uniform(0.3, 0.9, n))
    g1, g2 = np.where(is_star, 0.0, rng.normal(0, 0.15, (2, n)).clip(-0.4, 0.4))
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(distance, np.inf)
    return Scene(
        x,
        y,
        flux,
        rng.uniform(0.3, 2.8, n),
        is_star,
        radius,
        g1,
        g2,
        is_star & (distance.min(axis=1, initial=np.inf) > _MIN_SEPARATION),
    )


def make_grid_scene(
    simulation: VisitSimulation,
    *,
    spacing: float = 64.0,
    signal_to_noise: tuple[float, float] = (55.0, 950.0),
) -> Scene:
    """Make isolated stars on a grid, with random sub-pixel positions.

    Parameters
    ----------
    simulation
        The visit; the grid fills a detector.
    spacing
        Distance of the stars in pixels.
    signal_to_noise
        Limits of the signal-to-noise ratio of PSF fluxes against the sky;
        its logarithm is uniform between them.

    Returns
    -------
    `Scene`
        Stars of known flux.
    """
    rng = np.random.default_rng([simulation.seed, simulation.visit, 3])
    n_side = int(simulation.size / spacing)
    y, x = (np.indices((n_side, n_side)).reshape(2, -1) + 0.5) * spacing + rng.uniform(-1, 1, (2, n_side**2))
    n = n_side**2
    sigma = simulation.fwhm / simulation.pixel_scale / 2.355
    noise = np.sqrt(4 * np.pi * sigma**2 * simulation.sky)
    low, high = np.log(signal_to_noise)
    flux = noise * np.exp(rng.uniform(low, high, n))
    nothing, everything = np.zeros(n), np.ones(n, dtype=bool)
    return Scene(x, y, flux, np.ones(n), everything, nothing, nothing, nothing, everything)
