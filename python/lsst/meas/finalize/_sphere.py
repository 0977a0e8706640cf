# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Directions on the sky as vectors."""

from __future__ import annotations

__all__ = ("unit_vectors",)

import numpy as np
import numpy.typing as npt


def unit_vectors(ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Convert angles to unit vectors.

    Parameters
    ----------
    ra, dec
        Positions in radians, of shape (...).

    Returns
    -------
    vectors
        Cartesian coordinates, of shape (..., 3).
    """
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
