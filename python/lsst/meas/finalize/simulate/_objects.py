# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Objects as a detector sees them."""

from __future__ import annotations

__all__ = ("BAND_SLOPES", "NORTH_EAST", "Scene")

from dataclasses import dataclass

import numpy as np

NORTH_EAST = 1 << 20
"""Added to the numbers of cells of the sky, since seeds are not negative."""

BAND_SLOPES = {"u": 1.6, "g": 0.6, "r": 0.0, "i": -0.4, "z": -0.55, "y": -0.6}
"""Magnitude in a band minus that in r over the colour g-i, roughly that of
the stellar locus.
"""


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
