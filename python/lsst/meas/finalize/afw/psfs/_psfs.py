# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""PSFs persisted by the stack that lsst.images has no class for: Gaussians
and kernels (spec 02 §6).
"""

from __future__ import annotations

__all__ = (
    "DoubleGaussianPsf",
    "GaussianPsf",
    "KernelImagePsf",
    "KernelPsf",
    "RectangularGaussianPsf",
    "SingleGaussianPsf",
)

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from lsst.images import Bounds, Box, Image
from lsst.images.psfs import GaussianPointSpreadFunction, PointSpreadFunction

from .._errors import ArchiveError
from ..archive import StoredTables
from ._kernels import Kernel, check_dimensions
from ._resampling import recentre_kernel_images


def _gaussian_profile(size: int, sigma: float, centre: int) -> npt.NDArray[np.float64]:
    offsets = np.arange(size) - centre
    return np.exp(-0.5 * (offsets / sigma) ** 2)


def _kernel_centre(width: int, height: int) -> tuple[int, int]:
    """Return the centre that the stack's kernels have by default."""
    return (width - 1) // 2, (height - 1) // 2


def _gaussian_image(
    width: int, height: int, sigma: float, centre: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Sample a circular Gaussian at pixel centres, not normalised."""
    return np.outer(_gaussian_profile(height, sigma, centre[1]), _gaussian_profile(width, sigma, centre[0]))


def _check_sigma(sigma: float, what: str) -> None:
    if not (np.isfinite(sigma) and sigma > 0):
        raise ArchiveError(f"the width of a {what} is {sigma}")


class KernelImagePsf(PointSpreadFunction):
    """PSF whose images are recentred images of a kernel.

    Parameters
    ----------
    bounds
        Where the PSF is valid.
    width, height
        Size of the kernel image.
    centre
        Column and row of the kernel image that is the PSF's centre.
    average_position
        Position used in place of NaN.

    Attributes
    ----------
    stored : `StoredTables` | `None`
        Tables of a PSF that was read from a file, to write it again.
    """

    stored: StoredTables | None = None

    def __init__(
        self,
        bounds: Bounds,
        width: int,
        height: int,
        centre: tuple[int, int] | None = None,
        average_position: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        check_dimensions(width, height, type(self).__name__)
        x, y = centre if centre is not None else _kernel_centre(width, height)
        if not (0 <= x < width and 0 <= y < height):
            raise ArchiveError(f"the center ({x}, {y}) of a PSF is outside of its {width} x {height} pixels")
        self._bounds = bounds
        self._kernel_bbox = Box.factory[-y : height - y, -x : width - x]
        self._average_position = average_position

    @property
    def bounds(self) -> Bounds:
        return self._bounds

    @property
    def kernel_bbox(self) -> Box:
        return self._kernel_bbox

    @property
    def average_position(self) -> tuple[float, float]:
        """Position (x, y) used in place of NaN."""
        return self._average_position

    @abstractmethod
    def _evaluate(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return (N, height, width) kernel images of sum 1."""
        raise NotImplementedError()

    def _positions(self, x: Any, y: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        xs, ys = (np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (x, y))
        undefined = np.isnan(xs) | np.isnan(ys)
        return (
            np.where(undefined, self._average_position[0], xs),
            np.where(undefined, self._average_position[1], ys),
        )

    def draw_kernel_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: Any = None
    ) -> npt.NDArray[np.float64]:
        """Draw the PSF of several positions, centred on a pixel.

        Parameters
        ----------
        x, y
            (N,) positions; NaN means the average position.
        color
            Ignored: these PSFs are achromatic.

        Returns
        -------
        images : `numpy.ndarray`
            (N, height, width) images of sum 1.
        """
        return self._evaluate(*self._positions(x, y))

    def draw_star_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: Any = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Draw the PSF as the images of stars.

        Parameters
        ----------
        x, y
            (N,) positions; NaN means the average position.
        color
            Ignored: these PSFs are achromatic.

        Returns
        -------
        images : `numpy.ndarray`
            (N, height, width) images, not renormalised after resampling.
        x0, y0 : `numpy.ndarray`
            (N,) int64 pixel coordinates of the first column and row.
        """
        xs, ys = self._positions(x, y)
        ix, iy = np.floor(xs + 0.5), np.floor(ys + 0.5)
        images = recentre_kernel_images(self._evaluate(xs, ys), xs - ix, ys - iy)
        box = self._kernel_bbox
        return images, ix.astype(np.int64) + box.x.start, iy.astype(np.int64) + box.y.start

    def compute_kernel_image(self, *, x: float, y: float) -> Image:
        return Image(self.draw_kernel_images(x, y)[0], bbox=self._kernel_bbox)

    def compute_stellar_image(self, *, x: float, y: float) -> Image:
        images, x0, y0 = self.draw_star_images(x, y)
        return Image(images[0], yx0=(int(y0[0]), int(x0[0])))

    def compute_stellar_bbox(self, *, x: float, y: float) -> Box:
        xs, ys = self._positions(x, y)
        ix, iy = (int(np.floor(v[0] + 0.5)) for v in (xs, ys))
        box = self._kernel_bbox
        return Box(box.y + iy, box.x + ix)


class _FixedPsf(KernelImagePsf):
    """PSF that is the same everywhere."""

    def __init__(
        self, bounds: Bounds, image: npt.NDArray[np.float64], centre: tuple[int, int] | None = None
    ) -> None:
        super().__init__(bounds, image.shape[1], image.shape[0], centre)
        self._image = image / image.sum()

    def _evaluate(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.repeat(self._image[np.newaxis], len(x), axis=0)


class SingleGaussianPsf(_FixedPsf):
    """Circular Gaussian, also with even or unequal sides.

    The centre is the pixel ((width - 1) // 2, (height - 1) // 2), as of the
    stack's kernels.

    Parameters
    ----------
    bounds
        Where the PSF is valid.
    width, height
        Size of the images.
    sigma
        Standard deviation in pixels.
    """

    def __init__(self, bounds: Bounds, width: int, height: int, sigma: float) -> None:
        check_dimensions(width, height, type(self).__name__)
        _check_sigma(sigma, type(self).__name__)
        centre = self._find_centre(width, height)
        super().__init__(bounds, _gaussian_image(width, height, sigma, centre), centre)
        self.sigma = sigma

    @staticmethod
    def _find_centre(width: int, height: int) -> tuple[int, int]:
        return _kernel_centre(width, height)


class RectangularGaussianPsf(SingleGaussianPsf):
    """The stack's ``GaussianPsf`` with even or unequal sides.

    The centre is the pixel (width // 2, height // 2).

    Parameters
    ----------
    bounds, width, height, sigma
        See `SingleGaussianPsf`.
    """

    @staticmethod
    def _find_centre(width: int, height: int) -> tuple[int, int]:
        return width // 2, height // 2


class DoubleGaussianPsf(_FixedPsf):
    """Sum of two circular Gaussians.

    exp(-r²/2σ₁²) + b · exp(-r²/2σ₂²), normalised over the image (spec 02
    §6).

    Parameters
    ----------
    bounds
        Where the PSF is valid.
    width, height
        Size of the images.
    sigma1, sigma2
        Standard deviations in pixels; ``sigma2`` may be 0 if ``b`` is.
    b
        Ratio of the second peak to the first.
    """

    def __init__(
        self, bounds: Bounds, width: int, height: int, sigma1: float, sigma2: float, b: float
    ) -> None:
        if b == 0 and sigma2 == 0:
            sigma2 = 1.0
        for sigma in (sigma1, sigma2):
            _check_sigma(sigma, type(self).__name__)
        check_dimensions(width, height, type(self).__name__)
        centre = _kernel_centre(width, height)
        image = _gaussian_image(width, height, sigma1, centre)
        image += b * _gaussian_image(width, height, sigma2, centre)
        super().__init__(bounds, image, centre)
        self.sigma1, self.sigma2, self.b = sigma1, sigma2, b


class GaussianPsf(GaussianPointSpreadFunction):
    """Circular Gaussian whose star images are resampled as in the stack.

    The base class, which lsst.images can store, samples the Gaussian at the
    star's position instead.

    Parameters
    ----------
    sigma
        Standard deviation in pixels.
    bounds
        Where the PSF is valid.
    stamp_size
        Side of the images, odd.
    """

    def __init__(self, sigma: float, bounds: Bounds, stamp_size: int) -> None:
        check_dimensions(stamp_size, stamp_size, type(self).__name__)
        _check_sigma(sigma, type(self).__name__)
        super().__init__(sigma, bounds=bounds, stamp_size=stamp_size)
        self._drawer = SingleGaussianPsf(bounds, stamp_size, stamp_size, sigma)

    @property
    def average_position(self) -> tuple[float, float]:
        """Position (x, y) used in place of NaN."""
        return self._drawer.average_position

    def draw_kernel_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: Any = None
    ) -> npt.NDArray[np.float64]:
        """Draw the PSF of several positions; see `KernelImagePsf`."""
        return self._drawer.draw_kernel_images(x, y, color)

    def draw_star_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: Any = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Draw the PSF as the images of stars; see `KernelImagePsf`."""
        return self._drawer.draw_star_images(x, y, color)

    def compute_stellar_image(self, *, x: float, y: float) -> Image:
        return self._drawer.compute_stellar_image(x=x, y=y)


class KernelPsf(KernelImagePsf):
    """PSF given by a (varying) kernel; also the stack's PcaPsf.

    Parameters
    ----------
    bounds
        Where the PSF is valid.
    kernel
        The kernel.
    average_position
        Position used in place of NaN.
    """

    def __init__(
        self, bounds: Bounds, kernel: Kernel, average_position: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        super().__init__(bounds, kernel.width, kernel.height, kernel.centre, average_position)
        self.kernel = kernel

    def _evaluate(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        images = self.kernel.images(x, y)
        return images / images.sum(axis=(1, 2), keepdims=True)
