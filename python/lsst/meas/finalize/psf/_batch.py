# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""One interface to draw any PSF in batches."""

from __future__ import annotations

__all__ = ("BatchPsf", "as_batch_psf", "draw_and_measure")

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ._positions import defined_positions
from ._shapes import kernel_aperture_fluxes, kernel_shapes

if TYPE_CHECKING:
    from lsst.images.psfs import PointSpreadFunction


@runtime_checkable
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


class AdaptedPsf:
    """Batch interface to any PSF.

    Parameters
    ----------
    psf
        Any PSF.  Its own ``draw_kernel_images`` and ``draw_star_images`` are
        used if it has them.
    """

    def __init__(self, psf: PointSpreadFunction) -> None:
        self._psf: Any = psf

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
        if hasattr(self._psf, "draw_kernel_images"):
            return self._psf.draw_kernel_images(xs, ys)
        box = self._psf.kernel_bbox
        images = np.empty((len(xs), box.y.size, box.x.size))
        # Foreign PSF classes draw one position at a time.
        for i in range(len(xs)):
            images[i] = self._psf.compute_kernel_image(x=float(xs[i]), y=float(ys[i])).array
        return images

    def draw_star_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Draw the PSF as stars at their positions; colours are ignored.

        Images whose size varies are zero-padded to the largest one.
        """
        xs, ys = self._positions(x, y)
        if hasattr(self._psf, "draw_star_images"):
            return self._psf.draw_star_images(xs, ys)
        # Foreign PSF classes draw one position at a time.
        drawn = [
            self._psf.compute_stellar_image(x=float(xi), y=float(yi)) for xi, yi in zip(xs, ys, strict=True)
        ]
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
        """Measure adaptive moments of the PSF, (N, 3).

        Those of a Gaussian are exact (spec 03 §5).
        """
        sigma = _gaussian_sigma(self._psf)
        if sigma is not None:
            number = len(self._positions(x, y)[0])
            return np.tile(np.array([1.0, 1.0, 0.0]) * sigma**2, (number, 1))
        return kernel_shapes(self.draw_kernel_images(x, y))

    def compute_aperture_fluxes(
        self, radius: float, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Compute the fraction of flux in a circle, (N,).

        Those of a Gaussian are exact (spec 03 §5).
        """
        sigma = _gaussian_sigma(self._psf)
        if sigma is not None:
            number = len(self._positions(x, y)[0])
            return np.full(number, -np.expm1(-0.5 * (radius / sigma) ** 2))
        return kernel_aperture_fluxes(self.draw_kernel_images(x, y), radius)

    def _positions(
        self, x: npt.ArrayLike, y: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return defined_positions(x, y, self.average_position)


def _gaussian_sigma(psf: PointSpreadFunction) -> float | None:
    """Return the width of a PSF that is a Gaussian, `None` for others."""
    from lsst.images.psfs import GaussianPointSpreadFunction

    return psf.sigma if isinstance(psf, GaussianPointSpreadFunction) else None


def as_batch_psf(psf: PointSpreadFunction) -> BatchPsf:
    """Return a PSF's batch interface.

    Parameters
    ----------
    psf
        Any PSF.

    Returns
    -------
    BatchPsf
        A `PiffPsf` for Piff models, the PSF itself if it has all batch
        methods, else an adapter.

    Raises
    ------
    TypeError
        Raised if the argument isn't a PSF.
    """
    from lsst.images.psfs import PiffWrapper, PointSpreadFunction

    from ._piff_psf import PiffPsf

    if isinstance(psf, PiffWrapper):
        return PiffPsf.from_wrapper(psf)
    if not isinstance(psf, PointSpreadFunction):
        raise TypeError(f"{type(psf).__name__} is not a PSF.")
    if isinstance(psf, BatchPsf):
        return psf
    return AdaptedPsf(psf)


def draw_and_measure(
    psf: BatchPsf,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    radius: float | Callable[[npt.NDArray[np.float64]], float],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return images of a PSF, their shapes and aperture fluxes, drawing once.

    Parameters
    ----------
    psf
        PSF model.
    x, y
        Positions in pixels, shape (N,).
    radius
        Radius of the circle in pixels, or what makes it of the shapes.

    Returns
    -------
    images : `numpy.ndarray`
        Centred images, shape (N, h, w).
    shapes : `numpy.ndarray`
        Moments xx, yy, xy in pixel², shape (N, 3), as of ``compute_shapes``.
    fluxes : `numpy.ndarray`
        As of ``compute_aperture_fluxes``, shape (N,).
    """
    images = psf.draw_kernel_images(x, y)
    from ._piff_psf import PiffPsf

    ours = type(psf) is PiffPsf  # others may know better than their images do
    shapes = kernel_shapes(images) if ours else psf.compute_shapes(x, y)
    size = radius(shapes) if callable(radius) else radius
    fluxes = kernel_aperture_fluxes(images, size) if ours else psf.compute_aperture_fluxes(size, x, y)
    return images, shapes, fluxes
