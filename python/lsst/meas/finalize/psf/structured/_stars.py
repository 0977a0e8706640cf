# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The stars of a fit as arrays."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    import piff

__all__ = ("NotCoveredError", "StarArrays", "extract_stars")


class NotCoveredError(Exception):
    """Raised if Piff itself has to do the fit; the text says why."""


@dataclasses.dataclass
class StarArrays:
    """Pixels and geometry of N stars on stamps of one size."""

    image: npt.NDArray[np.float64]
    """Pixel values [N, h, w]."""

    weight: npt.NDArray[np.float64]
    """Inverse variances [N, h, w]; 0 for pixels not to be used."""

    x: npt.NDArray[np.float64]
    """Column positions relative to the star's image position [N, w]."""

    y: npt.NDArray[np.float64]
    """Row positions relative to the star's image position [N, h]."""

    jacobian: npt.NDArray[np.float64]
    """d(u, v)/d(x, y) at the star [N, 2, 2]."""

    pixel_area: npt.NDArray[np.float64]
    """Area of an image pixel in (u, v) [N]."""

    @functools.cached_property
    def separable(self) -> bool:
        """Whether all pixel axes lie along u and v, in the same order."""
        jac = self.jacobian
        straight = not (jac[:, 0, 1].any() or jac[:, 1, 0].any())
        return straight or self.transposed

    @functools.cached_property
    def transposed(self) -> bool:
        """Whether x runs along v and y along u, for all stars."""
        jac = self.jacobian
        return len(jac) > 0 and not (jac[:, 0, 0].any() or jac[:, 1, 1].any())

    def take(self, index: npt.NDArray[np.intp] | slice) -> StarArrays:
        """Return a subset.

        Parameters
        ----------
        index
            Indices of the stars to take, or a slice.

        Returns
        -------
        subset
            The selected stars; views of a slice.
        """
        return StarArrays(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))

    def pixel_uv(self, axis: int) -> npt.NDArray[np.float64]:
        """Return one world coordinate of all pixels.

        Parameters
        ----------
        axis
            0 for u, 1 for v.

        Returns
        -------
        coordinate
            Relative to the star's position, [N, h, w].
        """
        jac = self.jacobian[:, axis, :, np.newaxis, np.newaxis]
        return jac[:, 0] * self.x[:, np.newaxis, :] + jac[:, 1] * self.y[:, :, np.newaxis]

    def first_moments(self, image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Sum images times the world coordinates of their pixels.

        Parameters
        ----------
        image
            Images [N, h, w].

        Returns
        -------
        moments
            Sums over u and v times the pixel values [N, 2].
        """
        along_x = (image.sum(axis=1) * self.x).sum(axis=1)
        along_y = (image.sum(axis=2) * self.y).sum(axis=1)
        return (self.jacobian @ np.stack([along_x, along_y], axis=1)[:, :, np.newaxis])[:, :, 0]


def extract_stars(stars: Sequence[piff.Star]) -> StarArrays:
    """Copy pixels and geometry of Piff stars into arrays.

    Parameters
    ----------
    stars
        At least one star.

    Returns
    -------
    arrays
        The stars' arrays, in the same order.

    Raises
    ------
    NotCoveredError
        Raised if stamps differ in size or aren't float64, if a pixel or
        weight isn't finite, if a weight is negative, or if it has to change
        with the model because the star has a gain.
    """
    if any(s.data.properties.get("gain") is not None for s in stars):
        raise NotCoveredError("a star's gain adds the noise of the model")
    shapes = {s.image.array.shape for s in stars} | {s.weight.array.shape for s in stars}
    if len(shapes) != 1:
        raise NotCoveredError(f"stamps have different sizes: {sorted(shapes)}")
    if any(s.image.array.dtype != np.float64 for s in stars):
        raise NotCoveredError("stamps aren't all float64")
    image = np.stack([s.image.array for s in stars])
    weight = np.stack([s.weight.array for s in stars])
    if not np.isfinite(image).all():
        raise NotCoveredError(f"{np.count_nonzero(~np.isfinite(image))} pixels aren't finite")
    if not (np.isfinite(weight).all() and (weight >= 0.0).all()):
        raise NotCoveredError("a pixel weight is negative or not finite")
    height, width = image.shape[1:]
    position = np.array([(s.x, s.y) for s in stars])
    first = np.array([(s.image.bounds.xmin, s.image.bounds.ymin) for s in stars], dtype=np.float64)
    x = (first[:, :1] + np.arange(width)) - position[:, :1]
    y = (first[:, 1:] + np.arange(height)) - position[:, 1:]
    jacobians = [s.data.local_wcs.jacobian() for s in stars]
    jacobian = np.array([((j.dudx, j.dudy), (j.dvdx, j.dvdy)) for j in jacobians], dtype=np.float64)
    area = np.array([s.data.pixel_area for s in stars], dtype=np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(jacobian).all()):
        raise NotCoveredError("a star's position or local coordinate system isn't finite")
    return StarArrays(image=image, weight=weight, x=x, y=y, jacobian=jacobian, pixel_area=area)
