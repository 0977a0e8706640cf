# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""One interface to draw any PSF in batches."""

from __future__ import annotations

__all__ = ("BatchPsf", "as_batch_psf")

from typing import Protocol

import numpy as np
import numpy.typing as npt

from lsst.images.psfs import PiffWrapper, PointSpreadFunction

from ._piff_psf import PiffPsf
from ._shapes import kernel_aperture_fluxes, kernel_shapes


class BatchPsf(Protocol):
    """What measurement needs of a PSF; see `PiffPsf` for the methods."""

    @property
    def average_position(self) -> tuple[float, float]:
        """Position that stands in for unknown ones."""
        ...

    def draw_kernel_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Draw the PSF centred on the central pixel."""
        ...

    def draw_star_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Draw the PSF as stars at their positions."""
        ...

    def compute_shapes(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Measure adaptive moments of the PSF."""
        ...

    def compute_aperture_fluxes(
        self, radius: float, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Compute the fraction of flux in a circle."""
        ...


class LoopedPsf:
    """Batch interface to a PSF that draws one position at a time.

    Parameters
    ----------
    psf
        Any PSF.
    """

    def __init__(self, psf: PointSpreadFunction) -> None:
        self._psf = psf

    @property
    def average_position(self) -> tuple[float, float]:
        """Average position of the PSF, if it has one, else the centre of its
        bounds.
        """
        position = getattr(self._psf, "average_position", None)
        if position is not None:
            return float(position[0]), float(position[1])
        box = self._psf.bounds.bbox
        return 0.5 * (box.x.min + box.x.max), 0.5 * (box.y.min + box.y.max)

    def draw_kernel_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Draw the PSF centred on the central pixel; colours are ignored."""
        xs, ys = self._positions(x, y)
        box = self._psf.kernel_bbox
        images = np.empty((len(xs), box.y.size, box.x.size))
        # Foreign PSF classes draw one position at a time.
        for i in range(len(xs)):
            images[i] = self._psf.compute_kernel_image(x=xs[i], y=ys[i]).array
        return images

    def draw_star_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Draw the PSF as stars at their positions; colours are ignored.

        Images whose size varies are zero-padded to the largest one.
        """
        xs, ys = self._positions(x, y)
        # Foreign PSF classes draw one position at a time.
        drawn = [self._psf.compute_stellar_image(x=a, y=b) for a, b in zip(xs, ys, strict=True)]
        box = self._psf.kernel_bbox
        height = max((image.bbox.y.size for image in drawn), default=box.y.size)
        width = max((image.bbox.x.size for image in drawn), default=box.x.size)
        images = np.zeros((len(drawn), height, width))
        # The images are separate objects of possibly different sizes.
        for i, image in enumerate(drawn):
            images[i, : image.bbox.y.size, : image.bbox.x.size] = image.array
        x0 = np.array([image.bbox.x.start for image in drawn], dtype=np.int64)
        y0 = np.array([image.bbox.y.start for image in drawn], dtype=np.int64)
        return images, x0, y0

    def compute_shapes(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Measure adaptive moments of the PSF, (N, 3)."""
        return kernel_shapes(self.draw_kernel_images(x, y))

    def compute_aperture_fluxes(
        self, radius: float, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Compute the fraction of flux in a circle, (N,)."""
        return kernel_aperture_fluxes(self.draw_kernel_images(x, y), radius)

    def _positions(
        self, x: npt.ArrayLike, y: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        xs, ys = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        if xs.ndim != 1:
            raise ValueError(f"Positions must be one-dimensional arrays, not of shape {xs.shape}.")
        missing = np.isnan(xs) | np.isnan(ys)
        if missing.any():
            mean_x, mean_y = self.average_position
            xs, ys = np.where(missing, mean_x, xs), np.where(missing, mean_y, ys)
        return xs, ys


def as_batch_psf(psf: PointSpreadFunction) -> BatchPsf:
    """Return a PSF's batch interface.

    Parameters
    ----------
    psf
        Any PSF.

    Returns
    -------
    BatchPsf
        A `PiffPsf` for Piff models, the PSF itself if it has batch methods,
        else an adapter that draws one position after another.

    Raises
    ------
    TypeError
        Raised if the argument isn't a PSF.
    """
    if isinstance(psf, PiffWrapper):
        return PiffPsf.from_wrapper(psf)
    if not isinstance(psf, PointSpreadFunction):
        raise TypeError(f"{type(psf).__name__} is not a PSF.")
    return LoopedPsf(psf)
