# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Weights of GalSim interpolants for whole batches of positions."""

from __future__ import annotations

__all__ = ("InterpolantTaps", "banded", "taps_of", "toeplitz_bands")

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import galsim

_DEGREE = 60
"""Chebyshev degree; Lanczos(1) needs 53 to converge, wider kernels less."""


class InterpolantTaps:
    """The non-zero weights of an interpolant around a position.

    Parameters
    ----------
    interpolant
        GalSim interpolant; see `supports`.

    Notes
    -----
    For a position ``i + f`` with integer ``i`` and ``0 <= f < 1`` the grid
    points ``i - n + 1 ... i + n`` contribute, where ``n`` is the interpolant's
    range rounded up.  Between integers the kernel is analytic, so each of the
    2n weights is represented by a Chebyshev series in ``f``, fitted once to
    GalSim's own kernel values; a batch of weights is then one matrix product.
    """

    def __init__(self, interpolant: galsim.Interpolant) -> None:
        if not self.supports(interpolant):
            raise ValueError(f"Interpolant {type(interpolant).__name__} has no smooth finite kernel.")
        self.half_width = int(np.ceil(interpolant.xrange))
        taps = np.arange(1 - self.half_width, self.half_width + 1, dtype=float)
        nodes = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
        arguments = taps[np.newaxis, :] - 0.5 * (nodes[:, np.newaxis] + 1.0)
        values = interpolant.xval(arguments.ravel()).reshape(arguments.shape)
        coefficients = np.linalg.solve(np.polynomial.chebyshev.chebvander(nodes, _DEGREE), values)
        significant = np.flatnonzero(np.abs(coefficients).max(axis=1) > 1e-15)
        self._coefficients = np.ascontiguousarray(coefficients[: significant[-1] + 1])

    @staticmethod
    def supports(interpolant: galsim.Interpolant) -> bool:
        """Tell whether an interpolant can be represented.

        Parameters
        ----------
        interpolant
            GalSim interpolant.

        Returns
        -------
        bool
            `True` for Lanczos, Quintic, Cubic and Linear kernels.
        """
        import galsim

        if isinstance(interpolant, galsim.Lanczos) and interpolant.n < 1:
            return False
        # These are analytic between integer abscissae.
        return isinstance(interpolant, galsim.Lanczos | galsim.Quintic | galsim.Cubic | galsim.Linear)

    def __call__(self, fraction: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Evaluate the weights.

        Parameters
        ----------
        fraction
            Offsets in [0, 1) of positions from the grid point to their left;
            any shape.

        Returns
        -------
        `numpy.ndarray`
            Weights of the grid points ``1 - half_width ... half_width``
            relative to that point; float64, shape of ``fraction`` plus one
            trailing axis of length ``2 * half_width``.
        """
        # One contiguous row per polynomial: chebvander is three times slower.
        argument = 2.0 * fraction.ravel() - 1.0
        polynomials = np.empty((len(self._coefficients), argument.size))
        polynomials[0] = 1.0
        polynomials[1] = argument
        for k in range(2, len(polynomials)):
            np.multiply(2.0 * argument, polynomials[k - 1], out=polynomials[k])
            polynomials[k] -= polynomials[k - 2]
        return (polynomials.T @ self._coefficients).reshape(*fraction.shape, -1)


@lru_cache(maxsize=8)
def taps_of(interpolant: galsim.Interpolant) -> InterpolantTaps:
    """Return the (cached) weights of an interpolant.

    Parameters
    ----------
    interpolant
        GalSim interpolant supported by `InterpolantTaps`.

    Returns
    -------
    InterpolantTaps
        The weights.
    """
    return InterpolantTaps(interpolant)


def banded(taps: InterpolantTaps, positions: npt.NDArray[np.float64], n_grid: int) -> npt.NDArray[np.float64]:
    """Make dense interpolation matrices for arbitrary positions.

    Parameters
    ----------
    taps
        Weights of the interpolant.
    positions
        Positions in grid units (grid point 0 at 0); any shape.
    n_grid
        Number of grid points; the grid is zero outside of them.

    Returns
    -------
    `numpy.ndarray`
        float64, shape of ``positions`` plus one axis of length ``n_grid``.
    """
    n_taps = 2 * taps.half_width
    floor = np.floor(positions).ravel()
    # The weights between zeros; each row of the result is a window of this.
    padded = np.zeros((floor.size, n_taps + 2 * n_grid))
    padded[:, n_grid : n_grid + n_taps] = taps(positions.ravel() - floor)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_grid, axis=1)
    first = np.clip(floor + 1 - taps.half_width, -n_taps, n_grid).astype(np.int64)
    return windows[np.arange(floor.size), n_grid - first].reshape(*positions.shape, n_grid)


def toeplitz_bands(
    taps: InterpolantTaps, start: npt.NDArray[np.float64], step: int, n_out: int, n_grid: int
) -> npt.NDArray[np.float64]:
    """Make interpolation matrices for equidistant positions.

    Parameters
    ----------
    taps
        Weights of the interpolant.
    start
        Position of the first output sample in grid units, shape (N,).
    step
        Positive whole number of grid units between output samples, so that
        all samples of one row share their fraction.
    n_out
        Number of output samples.
    n_grid
        Number of grid points; the grid is zero outside of them.

    Returns
    -------
    `numpy.ndarray`
        Matrices, float64, shape (N, n_out, n_grid).
    """
    first = np.floor(start).astype(np.int64)
    return np.ascontiguousarray(place_bands(taps(start - first), first, step, n_out, n_grid))


def place_bands(
    weights: npt.NDArray[np.float64], first: npt.NDArray[np.int64], step: int, n_out: int, n_grid: int
) -> npt.NDArray[np.float64]:
    """Make the matrices of `toeplitz_bands` from evaluated weights.

    Parameters
    ----------
    weights
        Weights of the first output samples, shape (N, 2 half_width).
    first
        Grid points to the left of these samples, int64, shape (N,).
    step, n_out, n_grid
        See `toeplitz_bands`.

    Returns
    -------
    `numpy.ndarray`
        Matrices, float64, shape (N, n_out, n_grid); a read-only view whose
        elements share memory.
    """
    n_taps = weights.shape[1]
    half_width = n_taps // 2
    lowest = int(first.min())
    shifts = first - lowest
    # Element (k, g) is weight number g - first - step*k + half_width - 1.
    base = half_width - 1 - lowest
    anchor = max(0, step * (n_out - 1) - base)
    length = max(anchor + base + n_grid, anchor + int(shifts.max()) + n_taps, anchor + base)
    padded = np.zeros((len(first), length))
    # Centred stamps start within one pixel of each other: one or two shifts.
    for shift in np.unique(shifts):
        rows = shifts == shift
        padded[rows, anchor + shift : anchor + shift + n_taps] = weights[rows]
    stride, item = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded[:, anchor + base :],
        shape=(len(first), n_out, n_grid),
        strides=(stride, -step * item, item),
        writeable=False,
    )
