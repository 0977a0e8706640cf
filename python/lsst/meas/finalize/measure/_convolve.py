# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Photometry of stars blurred to a common seeing, for all at once."""

from __future__ import annotations

__all__ = ("Blurring", "blurred_sinc_flux")

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..catalogs import StampSet
from ._batch import MeasureBatch
from ._boxes import CutOut, ellipse_boxes, inside_bounds
from ._lanczos import lanczos_weights, split_shift
from ._sinc import (
    _MAX_HALF_SIZE,
    ApertureFlux,
    _coefficient_sets,
    quadrupole_diagonal,
    sinc_half_size,
)

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]
type BoolArray = npt.NDArray[np.bool_]
type Axes = tuple[FloatArray, FloatArray, FloatArray]

_MAX_CHUNK_PIXELS = 1_000_000
"""Pixels of one seeing that are blurred at a time."""


@dataclass(frozen=True)
class Blurring:
    """Round Gaussians that N stars are convolved with, P each.

    Attributes
    ----------
    weights : `numpy.ndarray` of float32, (N, P, T)
        Factors of the separable kernels, pixels -H to H, then zeros.
    half : `numpy.ndarray` of int64, (N, P)
        Half-size H; -1 where the image stays as it is.
    regions : `numpy.ndarray` of int64, (N, P, 4)
        Inclusive PARENT limits min x, min y, max x, max y of the pixels that
        are used.  Those nearer than H to a limit stay as they are.
    """

    weights: npt.NDArray[np.float32]
    half: IntArray
    regions: IntArray

    @classmethod
    def make(cls, sigma: FloatArray, half: IntArray, regions: IntArray) -> Blurring:
        """Make kernels.

        Parameters
        ----------
        sigma : `numpy.ndarray` of float64, (N, P)
            Standard deviations in pixels; 0 makes everything NaN.
        half, regions : `numpy.ndarray`
            See the attributes.
        """
        steps = np.arange(2 * max(int(half.max(initial=0)), 0) + 1)
        offsets = steps - half[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.exp(-np.square(offsets) / (2.0 * np.square(sigma[..., None])))
            weights = np.where(steps <= 2 * half[..., None], weights, 0.0)
            weights /= weights.sum(axis=-1, keepdims=True)
        return cls(weights.astype(np.float32), half, regions)

    def windows(
        self,
        batch: MeasureBatch,
        x0: IntArray,
        y0: IntArray,
        width: int,
        height: int,
        rows: IntArray,
        planes: slice = slice(None),
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], StampSet]:
        """Cut out and blur.

        Parameters
        ----------
        batch : `MeasureBatch`
            The N stars.
        x0, y0 : `numpy.ndarray` of int64, (n,)
            PARENT column and row of the first pixel of each window.
        width, height : `int`
            Size of the windows.
        rows : `numpy.ndarray` of int64, (n,)
            Which stars.
        planes : `slice`, optional
            Which of the P kernels; default all.

        Returns
        -------
        images, variances : `numpy.ndarray` of float32, (n, P, height, width)
            Blurred image and variance; 0 outside the regions.
        stamps : `StampSet`
            The unblurred, larger cut-outs.

        Notes
        -----
        Variances are propagated, covariances are not (spec 06 §2.5).
        """
        from ._convolve_numba import blur_windows

        half = self.half[rows, planes]
        margin = max(int(half.max(initial=0)), 0)
        stamps = batch.cutout(x0 - margin, y0 - margin, width + 2 * margin, height + 2 * margin, rows)
        images = np.zeros((*half.shape, height, width), dtype=np.float32)
        variances = np.zeros_like(images)
        origin = np.stack([x0, y0, x0, y0], axis=-1)[:, None, :]
        blur_windows(
            np.asarray(stamps.image, dtype=np.float32),
            np.asarray(stamps.variance, dtype=np.float32),
            margin,
            self.weights[rows, planes],
            half,
            self.regions[rows, planes] - origin,
            images,
            variances,
        )
        return images, variances, stamps

    def cutout(self, batch: MeasureBatch, plane: int) -> CutOut:
        """Return a function that cuts out stars blurred with one kernel.

        Parameters
        ----------
        batch : `MeasureBatch`
            The N stars.
        plane : `int`
            Which kernel.
        """

        def cut(x0: IntArray, y0: IntArray, width: int, height: int, rows: IntArray) -> StampSet:
            images, variances, stamps = self.windows(
                batch, x0, y0, width, height, rows, slice(plane, plane + 1)
            )
            mask = np.zeros(images.shape[:1] + images.shape[2:], dtype=np.uint32)
            return StampSet(images[:, 0], variances[:, 0], mask, x0, y0, stamps.planes)

        return cut


def _window_sizes(a: FloatArray, wanted: BoolArray) -> IntArray:
    """Return the half size of each wanted aperture's coefficients, else 0."""
    halves = np.zeros(len(a), dtype=np.int64)
    # Sizes are powers of two of a logarithm: exact only as Python has it.
    halves[wanted] = [sinc_half_size(v) for v in a[wanted]]
    return halves


def blurred_sinc_flux(
    batch: MeasureBatch,
    blurring: Blurring,
    x: FloatArray,
    y: FloatArray,
    apertures: list[Axes],
    orders: list[int],
    wanted: BoolArray,
) -> list[list[ApertureFlux]]:
    """Measure sinc apertures on blurred stars.

    Parameters
    ----------
    batch : `MeasureBatch`
        The N stars.
    blurring : `Blurring`
        Their P kernels.
    x, y : `numpy.ndarray` of float64, (N,)
        Centres in PARENT pixels.
    apertures : `list` [`tuple`]
        Semi-axes a, b in pixels and position angles theta in radians of each
        of K apertures, arrays of shape (N,).
    orders : `list` [`int`]
        Order of the Lanczos kernel that shifts each aperture's coefficients.
    wanted : `numpy.ndarray` of bool, (K, N)
        What to measure: 0 < b <= a and finite centres there.

    Returns
    -------
    results : `list` [`list` [`ApertureFlux`]]
        Of each aperture and kernel.

    Notes
    -----
    As `sinc_flux` on each blurred region; but coefficients are made and
    shifted once, and all apertures share the blurred windows.
    """
    count, planes = blurring.half.shape
    results = [[ApertureFlux.unmeasured(count) for _ in range(planes)] for _ in apertures]
    halves = np.zeros((len(apertures), count), dtype=np.int64)
    for k, (a, b, theta) in enumerate(apertures):
        rows = np.flatnonzero(wanted[k])
        boxes = ellipse_boxes(x[rows], y[rows], *quadrupole_diagonal(a[rows], b[rows], theta[rows]))
        fits = inside_bounds(boxes[:, None, :], blurring.regions[rows])
        fits &= (2.0 * a[rows] <= _MAX_HALF_SIZE)[:, None]
        for p in range(planes):
            results[k][p].aperture_truncated[rows] = ~fits[:, p]
            results[k][p].coefficients_truncated[rows] = ~fits[:, p]
        measurable = np.zeros(count, dtype=np.bool_)
        measurable[rows] = fits.any(axis=1)
        halves[k] = _window_sizes(a, measurable)
    window = halves.max(axis=0, initial=0)
    for half in np.unique(window[window > 0]):
        rows = np.flatnonzero(window == half)
        margin = max(int(blurring.half[rows].max()), 0)
        portion = max(1, _MAX_CHUNK_PIXELS // int(2 * (half + margin) - 1) ** 2)
        for start in range(0, len(rows), portion):
            part = rows[start : start + portion]
            _measure_part(batch, blurring, x, y, apertures, orders, halves, part, int(half), results)
    return results


def _measure_part(
    batch: MeasureBatch,
    blurring: Blurring,
    x: FloatArray,
    y: FloatArray,
    apertures: list[Axes],
    orders: list[int],
    halves: IntArray,
    rows: IntArray,
    half: int,
    results: list[list[ApertureFlux]],
) -> None:
    """Measure stars whose largest coefficients share one size."""
    from ._convolve_numba import blurred_sums

    # Upstream hands the centre over as float32, in PARENT coordinates.
    (dx, fx), (dy, fy) = split_shift(x[rows].astype(np.float32), y[rows].astype(np.float32))
    size = 2 * half - 1
    images, variances, _ = blurring.windows(batch, dx - half + 1, dy - half + 1, size, size, rows)
    for k, (a, b, theta) in enumerate(apertures):
        own = halves[k, rows]
        for small in np.unique(own[own > 0]):
            members = np.flatnonzero(own == small)
            stars = rows[members]
            coefficients, which = _coefficient_sets(a[stars], b[stars], theta[stars], int(small))
            x_taps, x_centres = lanczos_weights(fx[members], orders[k])
            y_taps, y_centres = lanczos_weights(fy[members], orders[k])
            flux = np.empty((len(members), images.shape[1]))
            flux_var = np.empty_like(flux)
            blurred_sums(
                images,
                variances,
                members,
                np.ascontiguousarray(coefficients, dtype=np.float32),
                which,
                x_taps,
                y_taps,
                x_centres,
                y_centres,
                flux,
                flux_var,
            )
            reach = int(small) - 1
            edges = np.stack([dx - reach, dy - reach, dx + reach, dy + reach], axis=-1)[members]
            for p, result in enumerate(results[k]):
                good = ~result.aperture_truncated[stars]
                cut = ~inside_bounds(edges, blurring.regions[stars, p])
                result.coefficients_truncated[stars[good]] = cut[good]
                result.flux[stars[good]] = flux[good, p]
                with np.errstate(invalid="ignore"):
                    result.flux_err[stars[good]] = np.sqrt(flux_var[good, p])
