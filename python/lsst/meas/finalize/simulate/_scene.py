# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Stars and galaxies of a simulated detector."""

from __future__ import annotations

__all__ = ("make_grid_scene", "make_scene")

import numpy as np

from ._config import SimulatedVisit, VisitSimulation
from ._field import MIN_SEPARATION, detector_to_field, field_to_detector, make_field
from ._objects import BAND_SLOPES, Scene


def make_scene(simulation: SimulatedVisit, detector: int) -> Scene:
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
        Stars, galaxies and close pairs of stars, in this order: those of the
        field that are on the detector.
    """
    x, y = _field_corners(simulation, detector)
    field = make_field(
        simulation,
        (x.min() - MIN_SEPARATION, x.max() + MIN_SEPARATION),
        (y.min() - MIN_SEPARATION, y.max() + MIN_SEPARATION),
    )
    x, y = field_to_detector(simulation, detector, field.x, field.y)
    largest = simulation.size - 1
    inside = (x >= 0) & (x <= largest) & (y >= 0) & (y <= largest)
    dimming = 10 ** (-0.4 * BAND_SLOPES[simulation.band] * field.color)
    # Shapes turn twice as fast as axes.
    sign = -1.0 if simulation.quarter_turns(detector) % 2 else 1.0
    seen = {"x": x, "y": y, "flux": field.flux * dimming, "g1": sign * field.g1, "g2": sign * field.g2}
    return Scene(**{name: (vars(field) | seen)[name][inside] for name in vars(field)})


def _field_corners(simulation: SimulatedVisit, detector: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a detector in field coordinates."""
    edges = np.array([-1.0, simulation.size])
    x, y = np.meshgrid(edges, edges)
    return detector_to_field(simulation, detector, x.ravel(), y.ravel())


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
