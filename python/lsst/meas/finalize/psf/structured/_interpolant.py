# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Weights of a Galsim interpolant on the pixels of a model grid."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import galsim

__all__ = ("InterpolantTable", "interpolant_table")

_DEGREE = 35
"""Degree of the Chebyshev series per unit interval.

GalSim's Lanczos kernels are entire there, but carry harmonics up to the fifth
of the phase that conserve the sum of the weights.
"""

_MAX_RANGE = 64
"""Kernels reaching further than this many model pixels aren't tabulated."""


class InterpolantTable:
    """The taps of an interpolant as polynomials of the sub-pixel phase.

    Between integers every supported kernel is smooth, so all taps of a
    position come from one product of the Chebyshev polynomials of its phase
    with a small matrix, at rounding accuracy and without a trigonometric
    function per tap.

    Parameters
    ----------
    interpolant
        Kernel; must be continuous, and smooth between integers.

    Raises
    ------
    ValueError
        Raised if the kernel reaches beyond 64 model pixels, or if the series
        doesn't reproduce it.
    """

    def __init__(self, interpolant: galsim.Interpolant) -> None:
        reach = int(np.ceil(interpolant.xrange))
        if not 1 <= reach <= _MAX_RANGE:
            raise ValueError(f"interpolant {interpolant!r} reaches {interpolant.xrange} pixels")
        self._reach = reach
        nodes = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
        self._series = np.linalg.solve(
            np.polynomial.chebyshev.chebvander(nodes, _DEGREE), self._taps(interpolant, 0.5 * (nodes + 1.0))
        )
        check = np.linspace(0.0, 1.0, 97)[:-1]
        error = np.abs(self._phase_weights(check)[:, :-1] - self._taps(interpolant, check)).max()
        if not error < 1e-13:
            raise ValueError(f"interpolant {interpolant!r} isn't smooth between integers (error {error:.1e})")

    def _taps(
        self, interpolant: galsim.Interpolant, phase: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Evaluate the kernel itself, [P, 2*reach]."""
        offsets = np.arange(1 - self._reach, self._reach + 1)
        argument = offsets - phase[:, np.newaxis]
        return interpolant.xval(argument.ravel()).reshape(argument.shape)

    def _phase_weights(self, phase: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Evaluate the series, [P, 2*reach + 1]; the last column is 0."""
        weights = np.zeros((phase.size, 2 * self._reach + 1))
        np.matmul(
            np.polynomial.chebyshev.chebvander(2.0 * phase - 1.0, _DEGREE), self._series, out=weights[:, :-1]
        )
        return weights

    def weights(self, position: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
        """Return the weight of every grid node at the positions.

        Parameters
        ----------
        position
            Positions in units of model pixels, relative to the node
            ``size//2``; finite, any shape.
        size
            Number of nodes.

        Returns
        -------
        weights
            float64 array [..., size].
        """
        flat = position.ravel()
        # Positions beyond the kernel's reach of the grid have no weight;
        # clipping them there keeps the integer conversion defined.
        limit = float(size + self._reach)
        flat = np.clip(flat, -limit, limit)
        whole = np.floor(flat)
        table = self._phase_weights(flat - whole)
        tap = np.arange(size) - (size // 2 - self._reach + 1) - whole.astype(np.intp)[:, np.newaxis]
        tap[(tap < 0) | (tap >= 2 * self._reach)] = 2 * self._reach
        return np.take_along_axis(table, tap, axis=1).reshape(*position.shape, size)


class DirectInterpolant(InterpolantTable):
    """The same weights from the kernel itself, for discontinuous kernels.

    Parameters
    ----------
    interpolant
        Kernel.
    """

    def __init__(self, interpolant: galsim.Interpolant) -> None:
        self._interpolant = interpolant
        self._reach = int(np.ceil(interpolant.xrange))

    def _phase_weights(self, phase: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Evaluate the kernel, [P, 2*reach + 1]; the last column is 0."""
        weights = np.zeros((phase.size, 2 * self._reach + 1))
        weights[:, :-1] = self._taps(self._interpolant, phase)
        return weights


@functools.lru_cache(maxsize=16)
def interpolant_table(interpolant: galsim.Interpolant) -> InterpolantTable:
    """Return the (cached) table of an interpolant.

    Parameters
    ----------
    interpolant
        A Lanczos, Cubic, Quintic, Linear or Nearest interpolant.

    Returns
    -------
    table
        Evaluates the interpolant's weights on a grid.

    Raises
    ------
    ValueError
        Raised for any other interpolant.
    """
    import galsim

    if isinstance(interpolant, galsim.Nearest):
        return DirectInterpolant(interpolant)
    if not isinstance(interpolant, galsim.Lanczos | galsim.Cubic | galsim.Quintic | galsim.Linear):
        raise ValueError(f"interpolant {interpolant!r} has no structured form")
    return InterpolantTable(interpolant)
