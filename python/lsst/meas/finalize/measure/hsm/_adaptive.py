# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Adaptive moments as GalSim's HSM module measures them, batched."""

from __future__ import annotations

__all__ = (
    "HsmMoments",
    "HsmStatus",
    "hsm_moments",
    "standardized_moments",
)

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class HsmStatus(enum.IntEnum):
    """Outcome of one adaptive-moment measurement (GalSim's errors)."""

    OK = 0
    NO_PIXELS = 1
    ALL_ZERO = 2
    NOT_POSITIVE_DEFINITE = 3
    OUT_OF_BOUNDS = 4
    SINGULAR_WEIGHT = 5
    RAN_AWAY = 6
    COLLAPSED = 7
    TOO_MANY_ITERATIONS = 8
    NOT_A_NUMBER = 9


@dataclasses.dataclass(frozen=True)
class HsmMoments:
    """Adaptive moments of N stars; NaN where ``status`` is not OK.

    Attributes
    ----------
    x, y : `numpy.ndarray` of float64, (N,)
        Centroid in the frame of the stamp origins (pixels).
    sigma, e1, e2, amplitude : `numpy.ndarray` of float32, (N,)
        Determinant radius (pixels), distortion, flux of the Gaussian.
    rho4 : `numpy.ndarray` of float64, (N,)
        Weighted fourth moment (2 for a Gaussian; -1 for a round weight).
    status : `numpy.ndarray` of int64, (N,)
        `HsmStatus` codes.
    iterations : `numpy.ndarray` of int64, (N,)
        Number of passes.
    """

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    sigma: npt.NDArray[np.float32]
    e1: npt.NDArray[np.float32]
    e2: npt.NDArray[np.float32]
    amplitude: npt.NDArray[np.float32]
    rho4: npt.NDArray[np.float64]
    status: npt.NDArray[np.int64]
    iterations: npt.NDArray[np.int64]

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Stars that GalSim would have measured without an error, (N,)."""
        return self.status == HsmStatus.OK

    def second_moments(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return moments as upstream stores them.

        Returns
        -------
        moments : `numpy.ndarray` of float64, (N, 3)
            xx, yy, xy in pixel^2, with GalSim's float32 quantisation.
        unphysical : `numpy.ndarray` of bool, (N,)
            Stars with a distortion above 1, for which ``moments`` is NaN.

        Notes
        -----
        Spec 04 §5.
        """
        sigma2 = np.square(self.sigma.astype(np.float64))
        e1 = self.e1.astype(np.float64)
        e2 = self.e2.astype(np.float64)
        square = e1 * e1 + e2 * e2
        unphysical = square > 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            size = sigma2 / np.sqrt(np.where(unphysical, np.nan, 1.0 - square))
            moments = np.stack([size * (1.0 + e1), size * (1.0 - e1), size * e2], axis=-1)
        return moments, unphysical


def _as_pixels(images: npt.NDArray) -> npt.NDArray[np.float64]:
    """Return a contiguous stack of doubles, for which loops are compiled."""
    if images.ndim != 3:
        raise ValueError(f"images must be a stack of stamps, got an array of shape {images.shape}")
    return np.ascontiguousarray(images, dtype=np.float64)


def _as_good(good: npt.NDArray[np.bool_] | None, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a contiguous mask of usable pixels."""
    if good is None:
        return np.ones(shape, dtype=np.bool_)
    if good.shape != shape:
        raise ValueError(f"mask of shape {good.shape} does not fit images of shape {shape}")
    return np.ascontiguousarray(good, dtype=np.bool_)


def _as_sizes(sizes: npt.NDArray | None, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the (N, 2) true widths and heights of the stamps."""
    if sizes is None:
        return np.tile(np.array([shape[2], shape[1]], dtype=np.int64), (shape[0], 1))
    sizes = np.ascontiguousarray(sizes, dtype=np.int64)
    if sizes.shape != (shape[0], 2) or np.any(sizes < 0) or np.any(sizes > (shape[2], shape[1])):
        raise ValueError(f"sizes do not fit {shape[0]} stamps of {shape[2]}x{shape[1]} pixels")
    return sizes


def hsm_moments(
    images: npt.NDArray,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    sigma: npt.NDArray[np.float64],
    *,
    good: npt.NDArray[np.bool_] | None = None,
    sizes: npt.NDArray[np.integer] | None = None,
    round_moments: bool = False,
) -> HsmMoments:
    """Measure adaptive moments of a stack of stamps as GalSim does.

    Parameters
    ----------
    images : `numpy.ndarray`, (N, h, w)
        Pixels, float32 or float64.
    x, y : `numpy.ndarray` of float64, (N,)
        First guess of the centroid, relative to pixel [0, 0] of the stamp.
    sigma : `numpy.ndarray` of float64, (N,)
        First guess of the size in pixels.
    good : `numpy.ndarray` of bool, (N, h, w), optional
        Pixels to use; default all. A non-finite pixel spoils its star even
        where it is not to be used (GalSim multiplies by the weight).
    sizes : `numpy.ndarray` of int, (N, 2), optional
        True width and height of each stamp, for stamps padded to a common
        size; pixels beyond do not exist.
    round_moments : `bool`, optional
        Use a circular weight over the whole stamp.

    Returns
    -------
    moments : `HsmMoments`
        The result of every star, each iterated to its own convergence.

    Raises
    ------
    ValueError
        Raised if the shapes of the arrays do not fit together.

    Notes
    -----
    Spec 04 §7; Bernstein & Jarvis (2002), Hirata & Seljak (2003).
    """
    from . import _adaptive_numba

    images = _as_pixels(images)
    count = len(images)
    good = _as_good(good, images.shape)
    size = _as_sizes(sizes, images.shape)
    guess = np.stack(np.broadcast_arrays(x, y, sigma), axis=-1).astype(np.float64)
    if guess.shape != (count, 3):
        raise ValueError(f"guesses of shape {guess.shape[:-1]} do not fit {count} stamps")
    status = np.zeros(count, dtype=np.int64)
    iterations = np.zeros(count, dtype=np.int64)
    out = np.full((count, 7), np.nan)
    if round_moments:
        _adaptive_numba.round_moments(images, good, size, guess, out, status, iterations)
        shape = out[:, 2], out[:, 3], out[:, 4]
        rho4 = np.where(status == HsmStatus.OK, -1.0, np.nan)
    else:
        _adaptive_numba.elliptical_moments(images, good, size, guess, out, status, iterations)
        mxx, mxy, myy = out[:, 2], out[:, 3], out[:, 4]
        trace = mxx + myy
        shape = (mxx * myy - mxy * mxy) ** 0.25, (mxx - myy) / trace, 2.0 * mxy / trace
        rho4 = out[:, 6]
    with np.errstate(over="ignore"):
        sigma32, e1, e2, amplitude = (v.astype(np.float32) for v in (*shape, out[:, 5]))
    return HsmMoments(out[:, 0], out[:, 1], sigma32, e1, e2, amplitude, rho4, status, iterations)


def standardized_moments(
    images: npt.NDArray,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    moments: npt.NDArray[np.float64],
    orders: Sequence[tuple[int, int]],
    *,
    good: npt.NDArray[np.bool_] | None = None,
    sizes: npt.NDArray[np.integer] | None = None,
    fill_bad: bool = True,
) -> npt.NDArray[np.float64]:
    """Measure higher moments in coordinates that make a star round.

    Parameters
    ----------
    images : `numpy.ndarray`, (N, h, w)
        Pixels, float32 or float64.
    x, y : `numpy.ndarray` of float64, (N,)
        Centre, relative to pixel [0, 0] of the stamp.
    moments : `numpy.ndarray` of float64, (N, 3)
        Adaptive moments xx, yy, xy in pixel^2.
    orders : sequence of (p, q)
        Powers of the standardised coordinates u and v.
    good : `numpy.ndarray` of bool, (N, h, w), optional
        Pixels to use; default all.
    sizes : `numpy.ndarray` of int, (N, 2), optional
        True width and height of each stamp.
    fill_bad : `bool`, optional
        Replace bad pixels by the scaled weight function instead of zero.

    Returns
    -------
    result : `numpy.ndarray` of float64, (N, len(orders))
        Σ u^p v^q w I / Σ w I; NaN where ``moments`` is not positive
        definite.

    Notes
    -----
    Spec 04 §8.
    """
    from . import _adaptive_numba

    pixels = _as_pixels(images)
    good = _as_good(good, images.shape)
    size = _as_sizes(sizes, images.shape)
    centre = np.stack([x, y], axis=-1).astype(np.float64)
    matrix = np.ascontiguousarray(np.asarray(moments, dtype=np.float64)[:, [0, 2, 1]])
    good_sum = np.zeros(len(images))
    if fill_bad:
        inside = (np.arange(images.shape[2]) < size[:, 0, None, None]) & (
            np.arange(images.shape[1])[:, None] < size[:, 1, None, None]
        )
        # The pairwise float32 sum of upstream depends on each star's layout.
        for n in np.nonzero(np.any(inside & ~good, axis=(1, 2)))[0]:
            good_sum[n] = np.sum(images[n][good[n] & inside[n]])
    out = np.full((len(images), len(orders)), np.nan)
    powers = np.array(orders, dtype=np.int64).reshape(-1, 2)
    if len(powers):
        _adaptive_numba.higher_moments(pixels, good, size, centre, matrix, good_sum, fill_bad, powers, out)
    return out
