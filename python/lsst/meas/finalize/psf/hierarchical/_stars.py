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

__all__ = ("DetectorFrame", "VisitStars")

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class DetectorFrame:
    """Where a detector is in the focal plane.

    Parameters
    ----------
    bounds
        First and last pixel: x min, x max, y min, y max.
    offset
        Focal-plane position of pixel (0, 0), any unit.
    jacobian
        d(X, Y)/d(x, y), rows as tuples.
    orientation
        The same, rounded to quarter turns and mirror images.
    """

    bounds: tuple[float, float, float, float]
    offset: tuple[float, float]
    jacobian: tuple[tuple[float, float], tuple[float, float]]
    orientation: tuple[tuple[int, int], tuple[int, int]]

    def focal(self, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return focal-plane positions [N, 2] of pixel positions [N].

        The affine approximation is meant: fields that are polynomials over
        the focal plane are polynomials of the pixel coordinates, too.
        """
        return np.array(self.offset) + np.stack([x, y], axis=-1) @ np.array(self.jacobian).T

    def scaled(self, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return positions [N, 2] from -1 to 1 over the detector."""
        x_min, x_max, y_min, y_max = self.bounds
        u = (2.0 * np.asarray(x, dtype=np.float64) - x_min - x_max) / max(x_max - x_min, 1.0)
        v = (2.0 * np.asarray(y, dtype=np.float64) - y_min - y_max) / max(y_max - y_min, 1.0)
        return np.stack([u, v], axis=-1)


@dataclass
class VisitStars:
    """Stars of all detectors of a visit, on stamps of one odd size."""

    frames: list[DetectorFrame]
    """Where the D detectors are."""

    detector: npt.NDArray[np.int64]
    """Index into the frames [N]."""

    x: npt.NDArray[np.float64]
    """Measured column [N]."""

    y: npt.NDArray[np.float64]
    """Measured row [N]."""

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
        lengths = {len(getattr(self, f.name)) for f in dataclasses.fields(self)[1:-1]}
        if len(lengths) != 1:
            raise ValueError(f"Attributes of stars have different lengths {sorted(lengths)}.")
        if self.image.ndim != 3 or self.image.shape[1] != self.image.shape[2] or self.image.shape[1] % 2 == 0:
            raise ValueError(f"Stamps of shape {self.image.shape[1:]} aren't squares of odd size.")
        if not (np.isfinite(self.sky_variance).all() and (self.sky_variance > 0.0).all()):
            raise ValueError("The variance of a star's sky isn't positive.")
        if not np.isfinite(self.image[self.good]).all():
            raise ValueError("A pixel to use isn't finite.")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def size(self) -> int:
        """Width and height of the stamps."""
        return self.image.shape[1]

    def offsets(self) -> npt.NDArray[np.float64]:
        """Return the centres relative to the middles of the stamps [N, 2]."""
        half = self.size // 2
        return np.stack([self.x - self.x0 - half, self.y - self.y0 - half], axis=1)

    def focal(self) -> npt.NDArray[np.float64]:
        """Return the positions in the focal plane [N, 2]."""
        result = np.empty((len(self), 2))
        # One pass per detector.
        for i, frame in enumerate(self.frames):
            mine = self.detector == i
            result[mine] = frame.focal(self.x[mine], self.y[mine])
        return result

    def scaled(self) -> npt.NDArray[np.float64]:
        """Return the positions on the detectors from -1 to 1 [N, 2]."""
        result = np.empty((len(self), 2))
        # One pass per detector.
        for i, frame in enumerate(self.frames):
            mine = self.detector == i
            result[mine] = frame.scaled(self.x[mine], self.y[mine])
        return result
