# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Gaussian-weighted measurements on windows that grow as needed."""

from __future__ import annotations

__all__ = ("gaussian_fluxes", "growing_windows")

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...catalogs import StampSet
from .._batch import MeasureBatch
from ._gaussian import fixed_moments_flux

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]
type IntArray = npt.NDArray[np.int64]

_FAR = 2**30
_LARGEST = 1002  # no Gaussian window has a half-width above 1000
_CHUNK_PIXELS = 1_000_000  # pixels of one cut-out set, ~12 MB


class Window(NamedTuple):
    """Cut-outs around some stars; positions count from the image's origin."""

    members: IntArray
    """Which of the stars asked for."""

    stamps: StampSet
    x: FloatArray
    y: FloatArray
    x0: IntArray
    y0: IntArray


def growing_windows(
    batch: MeasureBatch,
    rows: IntArray,
    x: FloatArray,
    y: FloatArray,
    outgrown: npt.NDArray[np.bool_],
    half: int,
) -> Iterator[Window]:
    """Cut out stars, again and larger as long as their windows are too small.

    Parameters
    ----------
    batch : `MeasureBatch`
        The stars.
    rows : `numpy.ndarray`
        Which of them.
    x, y : `numpy.ndarray`
        Centres in PARENT coordinates, like ``rows``.
    outgrown : `numpy.ndarray`
        Bool array like ``rows``, all True at first.  The caller clears it
        for those that fit, before asking for more.
    half : `int`
        Half-width of the first windows.

    Yields
    ------
    window : `Window`
        Windows of width ``2 half + 1``; twice as wide in each new round.
    """
    origin_x, origin_y = batch.image_origin
    largest = max(half, _LARGEST)
    cx = np.clip(np.nan_to_num(np.floor(x + 0.5)), -_FAR, _FAR).astype(np.int64)
    cy = np.clip(np.nan_to_num(np.floor(y + 0.5)), -_FAR, _FAR).astype(np.int64)
    while True:
        pending = np.flatnonzero(outgrown)
        if not len(pending):
            return
        width = 2 * half + 1
        step = max(1, _CHUNK_PIXELS // width**2)
        for start in range(0, len(pending), step):
            part = pending[start : start + step]
            # Around a centre far off the image there is nothing to see.
            x0, y0 = cx[part] - half, cy[part] - half
            stamps = batch.cutout(x0, y0, width, width, rows[part])
            yield Window(part, stamps, x[part] - origin_x, y[part] - origin_y, x0 - origin_x, y0 - origin_y)
        if half == largest:
            return
        half = min(2 * half, largest)


def gaussian_fluxes(
    batch: MeasureBatch, rows: IntArray, moments: FloatArray, x: FloatArray, y: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Measure fixed-moments fluxes of stars (spec 03 §3.6.4).

    Parameters
    ----------
    batch : `MeasureBatch`
        The stars.
    rows : `numpy.ndarray`
        Which of them.
    moments : `numpy.ndarray`
        Moments xx, yy, xy of the weights in pixel², shape (n, 3).
    x, y : `numpy.ndarray`
        Centres in PARENT coordinates, like ``rows``.

    Returns
    -------
    flux, flux_err : `numpy.ndarray`
        Fluxes and errors, like ``rows``.
    failed : `numpy.ndarray`
        True where there is none.
    """
    flux, flux_err = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    failed, outgrown = np.ones(len(rows), dtype=bool), np.ones(len(rows), dtype=bool)
    for window in growing_windows(batch, rows, x, y, outgrown, 20):
        k, stamps = window.members, window.stamps
        flux[k], flux_err[k], failed[k], outgrown[k] = fixed_moments_flux(
            stamps.image,
            moments[k],
            window.x,
            window.y,
            variance=stamps.variance,
            valid=stamps.valid,
            x0=window.x0,
            y0=window.y0,
            whole=False,
        )
    return flux, flux_err, failed
