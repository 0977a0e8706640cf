# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Photometry of stars blurred to a common seeing, for all at once."""

from __future__ import annotations

__all__ = ("Blurring", "blurred_sinc_fluxes")

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...catalogs import StampSet
from .._batch import MeasureBatch
from ..apertures import ApertureFlux, Axes, sinc_fluxes
from ..pixels import CutOut

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]
type BoolArray = npt.NDArray[np.bool_]


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
        from ._blur_numba import blur_windows

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


def blurred_sinc_fluxes(
    batch: MeasureBatch,
    blurring: Blurring,
    apertures: Sequence[Axes],
    orders: Sequence[int],
    wanted: BoolArray,
) -> list[list[ApertureFlux]]:
    """Measure sinc apertures on blurred stars, which share the windows.

    Parameters
    ----------
    batch : `MeasureBatch`
        The N stars.
    blurring : `Blurring`
        Their P kernels.
    apertures, orders, wanted
        As for `sinc_fluxes`.

    Returns
    -------
    results : `list` [`list` [`ApertureFlux`]]
        Of each aperture and kernel.
    """

    def windows(x0: IntArray, y0: IntArray, size: int, rows: IntArray) -> tuple[np.ndarray, np.ndarray]:
        return blurring.windows(batch, x0, y0, size, size, rows)[:2]

    margin = max(int(blurring.half.max(initial=0)), 0)
    return sinc_fluxes(
        windows, batch.x, batch.y, apertures, orders, wanted, regions=blurring.regions, margin=margin
    )
