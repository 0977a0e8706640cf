# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What is in the sky of the focal plane."""

from __future__ import annotations

__all__ = ("galaxy_moments", "make_focal_plane_cell")

import numpy as np
import numpy.typing as npt

from .._objects import NORTH_EAST, Scene
from ._population import draw_population
from ._visit import FocalPlaneVisit

_RADIUS = np.sqrt(2.0 * np.log(2.0))
"""Half-light radius of a round Gaussian over its sigma."""


def make_focal_plane_cell(simulation: FocalPlaneVisit, i: int, j: int) -> dict[str, npt.NDArray]:
    """Make the objects of one cell of the sky: stars, or taken as such.

    Parameters
    ----------
    simulation
        A visit of the focal plane.
    i, j
        Which cell, to the west and to the north.

    Returns
    -------
    `dict` [`str`, `numpy.ndarray`]
        Columns of `Scene`, without ``is_isolated``, and ``kind``: 0.
    """
    rng = np.random.default_rng([simulation.seed, i + NORTH_EAST, j + NORTH_EAST, 17])
    n = simulation.n_stars
    x, y = rng.uniform(0, simulation.size, (2, n))
    population = draw_population(simulation.focal_plane, rng.uniform(size=(n, 6)), rng.normal(size=n))
    radius, g1, g2 = _radius_and_shear(population.blur)
    return {
        "x": x + i * simulation.size,
        "y": y + j * simulation.size,
        "flux": population.flux,
        "color": population.color,
        "is_star": ~population.is_galaxy,
        "radius": radius,
        "g1": g1,
        "g2": g2,
        "kind": np.zeros(n, dtype=int),
    }


def _radius_and_shear(moments: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Turn moments of Gaussians into half-light radii and reduced shears."""
    xx, yy, xy = moments.T
    size = np.where(xx + yy > 0.0, xx + yy, 1.0)
    e1, e2 = (xx - yy) / size, 2.0 * xy / size
    # e = 2 g / (1 + g^2)
    ratio = 1.0 / (1.0 + np.sqrt(1.0 - e1**2 - e2**2))
    return _RADIUS * np.maximum(xx * yy - xy**2, 0.0) ** 0.25, e1 * ratio, e2 * ratio


def galaxy_moments(scene: Scene) -> npt.NDArray[np.float64]:
    """Return second moments of objects as Gaussians, zero for stars.

    Parameters
    ----------
    scene
        The objects.

    Returns
    -------
    moments
        xx, yy, xy in arcsec^2 [N, 3].
    """
    square = scene.g1**2 + scene.g2**2
    # The determinant of the moments is that of the round Gaussian.
    size = np.where(scene.is_star, 0.0, (scene.radius / _RADIUS) ** 2) / (1.0 - square)
    xx, yy = (size * (1.0 + square + 2.0 * sign * scene.g1) for sign in (1.0, -1.0))
    return np.stack([xx, yy, 2.0 * size * scene.g2], axis=1)
