# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What is in the sky of the simple camera."""

from __future__ import annotations

__all__ = ("make_cell",)

import numpy as np

from ._config import VisitSimulation
from ._objects import NORTH_EAST


def make_cell(simulation: VisitSimulation, i: int, j: int) -> dict[str, np.ndarray]:
    """Make the objects of one cell of the sky.

    Parameters
    ----------
    simulation
        A visit of the simple camera.
    i, j
        Which cell, to the west and to the north.

    Returns
    -------
    `dict` [`str`, `numpy.ndarray`]
        Columns of `Scene`, without ``is_isolated``, and ``kind``: 0 stars,
        1 galaxies, 2 pairs of stars.
    """
    rng = np.random.default_rng([simulation.seed, i + NORTH_EAST, j + NORTH_EAST, 4])
    n_stars, n_galaxies, n_blends = simulation.n_stars, simulation.n_galaxies, simulation.n_blends
    n = n_stars + n_galaxies + 2 * n_blends
    x, y = rng.uniform(0, simulation.size, (2, n))
    angle = rng.uniform(0, 2 * np.pi, n_blends)
    separation = rng.uniform(6, 11, n_blends)
    first, second = slice(n - 2 * n_blends, n - n_blends), slice(n - n_blends, n)
    x[second] = x[first] + separation * np.cos(angle)
    y[second] = y[first] + separation * np.sin(angle)
    # Star counts that rise slowly to the faint end, a few of them saturated.
    flux = 10 ** rng.triangular(3.9, 4.4, 6.6, n)
    kind = np.repeat(np.arange(3), [n_stars, n_galaxies, 2 * n_blends])
    is_star = kind != 1
    flux[~is_star] = 10 ** rng.uniform(3.8, 5.0, n_galaxies)
    radius = np.where(is_star, 0.0, rng.uniform(0.3, 0.9, n))
    g1, g2 = np.where(is_star, 0.0, rng.normal(0, 0.15, (2, n)).clip(-0.4, 0.4))
    return {
        "x": x + i * simulation.size,
        "y": y + j * simulation.size,
        "flux": flux,
        "color": rng.uniform(0.3, 2.8, n),
        "is_star": is_star,
        "radius": radius,
        "g1": g1,
        "g2": g2,
        "kind": kind,
    }
