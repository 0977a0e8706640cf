# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Weights of the interpolant on the nodes of a model grid."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .._interpolant import InterpolantTaps, banded, taps_of, toeplitz_bands
from ._stars import NotCoveredError

if TYPE_CHECKING:
    import galsim

__all__ = ("GridWeights", "grid_weights")


class _NearestTaps(InterpolantTaps):
    """The weights of the discontinuous nearest-node kernel.

    Parameters
    ----------
    interpolant
        The kernel.
    """

    def __init__(self, interpolant: galsim.Interpolant) -> None:
        self.half_width = 1
        self._interpolant = interpolant

    def __call__(self, fraction: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        arguments = np.array([0.0, 1.0]) - fraction[..., np.newaxis]
        return self._interpolant.xval(arguments.ravel()).reshape(arguments.shape)


class GridWeights:
    """Weights of all nodes along one axis of a grid.

    Parameters
    ----------
    taps
        Weights around a position.
    """

    def __init__(self, taps: InterpolantTaps) -> None:
        self._taps = taps

    def __call__(self, position: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
        """Evaluate the weights.

        Parameters
        ----------
        position
            Positions in node distances, relative to node ``size//2``; finite,
            any shape.
        size
            Number of nodes.

        Returns
        -------
        weights
            float64, shape of ``position`` and one axis of length ``size``.
        """
        # Beyond the kernel's reach there is no weight; clipping to it keeps
        # the conversion to integers defined.
        limit = float(size + self._taps.half_width)
        return banded(self._taps, np.clip(position, -limit, limit) + size // 2, size)

    def one_node_apart(
        self, start: npt.NDArray[np.float64], count: int, size: int
    ) -> npt.NDArray[np.float64]:
        """Evaluate the weights of positions that are one node apart.

        They share their sub-pixel phase.

        Parameters
        ----------
        start
            First positions [N] as in a call; finite.
        count
            Number of positions each.
        size
            Number of nodes.

        Returns
        -------
        weights
            float64 array [N, count, size].
        """
        limit = float(size + self._taps.half_width)
        start = np.clip(start, -limit - count, limit)
        return toeplitz_bands(self._taps, start + size // 2, 1, count, size)


@functools.lru_cache(maxsize=8)
def grid_weights(interpolant: galsim.Interpolant) -> GridWeights:
    """Return the (cached) weights of an interpolant.

    Parameters
    ----------
    interpolant
        GalSim interpolant.

    Returns
    -------
    weights
        Evaluates the interpolant on a grid.

    Raises
    ------
    NotCoveredError
        Raised unless it is Lanczos, Cubic, Quintic, Linear or Nearest.
    """
    import galsim

    if isinstance(interpolant, galsim.Nearest):
        return GridWeights(_NearestTaps(interpolant))
    try:
        return GridWeights(taps_of(interpolant))
    except ValueError as error:
        raise NotCoveredError(str(error).rstrip(".")) from error
