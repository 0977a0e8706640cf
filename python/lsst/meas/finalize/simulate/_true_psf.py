# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What the simulation asks of the true PSF of any camera."""

from __future__ import annotations

__all__ = ("TruePsf",)

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ._objects import Scene


class TruePsf(ABC):
    """The PSF of a visit without noise, at any position of any detector."""

    @abstractmethod
    def images(
        self,
        detector: int,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        dx: npt.ArrayLike = 0.0,
        dy: npt.ArrayLike = 0.0,
        color: npt.ArrayLike = 1.0,
        side: int = 25,
    ) -> npt.NDArray[np.float64]:
        """Draw the PSF.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            Pixel positions [N].
        dx, dy
            Offsets of the centres from the middles of the stamps in pixels,
            scalar or [N].
        color
            Colours g - i of the stars, scalar or [N].
        side
            Width and height of the stamps in pixels, odd.

        Returns
        -------
        images
            float64 [N, side, side] of total flux 1, some of it outside of
            the stamps.

        Raises
        ------
        ValueError
            Raised if there is no such detector, or stamps can't have that
            size.
        """

    @abstractmethod
    def object_stamps(
        self, detector: int, scene: Scene
    ) -> Iterator[tuple[int, int, npt.NDArray[np.float64]]]:
        """Draw objects one after the other.

        Parameters
        ----------
        detector
            Detector number.
        scene
            Objects on that detector.

        Yields
        ------
        x0, y0
            Column and row of the first pixel of a stamp.
        stamp
            Electrons [h, w].
        """

    def shapes(
        self,
        detector: int,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        color: npt.ArrayLike = 1.0,
        stamp: int = 25,
    ) -> npt.NDArray[np.float64]:
        """Measure adaptive moments of noiseless stars with GalSim.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            Pixel positions, shape (N,).
        color
            Colours g - i of the stars, scalar or [N].
        stamp
            Size of the images the moments are measured on, in pixels.

        Returns
        -------
        `numpy.ndarray`
            Moments xx, yy, xy in pixel^2; shape (N, 3).
        """
        import galsim

        images = self.images(detector, x, y, color=color, side=stamp)
        result = np.empty((len(images), 3))
        # GalSim measures one image at a time.
        for i, image in enumerate(images):
            moments = galsim.hsm.FindAdaptiveMom(galsim.Image(image))
            e1, e2 = moments.observed_shape.e1, moments.observed_shape.e2
            size = moments.moments_sigma**2 / np.sqrt(1 - e1**2 - e2**2)
            result[i] = size * (1 + e1), size * (1 - e1), size * e2
        return result
