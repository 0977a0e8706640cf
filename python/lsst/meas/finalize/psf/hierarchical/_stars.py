# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The stars of a visit as arrays."""

from __future__ import annotations

__all__ = ("VisitStars",)

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# The first for whoever resolves the annotations of inherited fields.
from ...focal_plane import DetectorFrame, StarPlaces  # noqa: F401


@dataclass
class VisitStars(StarPlaces):
    """Stars of all detectors of a visit, on stamps of one odd size."""

    x0: npt.NDArray[np.int64]
    """Column of the first pixel of the stamp [N]."""

    y0: npt.NDArray[np.int64]
    """Row of the first pixel of the stamp [N]."""

    image: npt.NDArray[np.float32]
    """Pixels [N, n, n]."""

    good: npt.NDArray[np.bool_]
    """Pixels to use [N, n, n]."""

    sky_variance: npt.NDArray[np.float64]
    """Variance of a pixel without signal [N]."""

    slope: float = 0.0
    """Growth of a pixel's variance with its signal; 0 if not known."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image.ndim != 3 or self.image.shape[1] != self.image.shape[2] or self.image.shape[1] % 2 == 0:
            raise ValueError(f"Stamps of shape {self.image.shape[1:]} aren't squares of odd size.")
        if not (np.isfinite(self.sky_variance).all() and (self.sky_variance > 0.0).all()):
            raise ValueError("The variance of a star's sky isn't positive.")
        if not np.isfinite(self.image[self.good]).all():
            raise ValueError("A pixel to use isn't finite.")

    @property
    def size(self) -> int:
        """Width and height of the stamps."""
        return self.image.shape[1]

    def offsets(self) -> npt.NDArray[np.float64]:
        """Return the centres relative to the middles of the stamps [N, 2]."""
        half = self.size // 2
        return np.stack([self.x - self.x0 - half, self.y - self.y0 - half], axis=1)
