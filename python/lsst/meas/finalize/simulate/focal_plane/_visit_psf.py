# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The true PSF of a visit of the focal plane."""

from __future__ import annotations

__all__ = ("FocalPlaneVisitPsf",)

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .._objects import Scene
from .._true_psf import TruePsf
from ._cells import galaxy_moments
from ._psf import LARGEST_STAMP, FocalPlanePsf
from ._visit import FocalPlaneVisit

_BLOCK = 128
"""Objects drawn at once."""


class FocalPlaneVisitPsf(TruePsf):
    """The true PSF of a visit of the focal plane.

    Parameters
    ----------
    simulation
        The visit.
    """

    def __init__(self, simulation: FocalPlaneVisit) -> None:
        self.focal_plane = FocalPlanePsf(simulation.focal_plane)

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
        detector, x, y, dx, dy, color, side
            As for `TruePsf.images`.

        Returns
        -------
        images
            float64 [N, side, side].
        """
        return self.focal_plane.images(detector, x, y, dx=dx, dy=dy, color=color, side=side)

    def object_stamps(
        self, detector: int, scene: Scene
    ) -> Iterator[tuple[int, int, npt.NDArray[np.float64]]]:
        """Draw objects one after the other; galaxies are Gaussians.

        Parameters
        ----------
        detector, scene
            As for `TruePsf.object_stamps`.

        Yields
        ------
        x0, y0, stamp
            As for `TruePsf.object_stamps`.
        """
        half = LARGEST_STAMP // 2
        x0, y0 = (np.floor(c + 0.5).astype(int) - half for c in (scene.x, scene.y))
        blur = galaxy_moments(scene)
        for start in range(0, len(scene), _BLOCK):
            part = slice(start, start + _BLOCK)
            images = self.focal_plane.images(
                detector,
                scene.x[part],
                scene.y[part],
                dx=(scene.x - x0 - half)[part],
                dy=(scene.y - y0 - half)[part],
                color=scene.color[part],
                blur=blur[part],
                side=LARGEST_STAMP,
            )
            images *= scene.flux[part, np.newaxis, np.newaxis]
            yield from zip(x0[part].tolist(), y0[part].tolist(), images, strict=True)
