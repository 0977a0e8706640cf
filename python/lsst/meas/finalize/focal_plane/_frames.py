# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Places of detectors and of stars in the focal plane."""

from __future__ import annotations

__all__ = ("DetectorFrame", "StarPlaces", "frame_of", "nearest_orientation")

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from lsst.images import VisitImage


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
class StarPlaces:
    """Where the stars of all detectors of a visit are."""

    frames: list[DetectorFrame]
    """Where the D detectors are."""

    detector: npt.NDArray[np.int64]
    """Index into the frames [N]."""

    x: npt.NDArray[np.float64]
    """Measured column [N]."""

    y: npt.NDArray[np.float64]
    """Measured row [N]."""

    def __post_init__(self) -> None:
        values = (getattr(self, f.name) for f in dataclasses.fields(self)[1:])
        lengths = {len(v) for v in values if isinstance(v, np.ndarray)}
        if len(lengths) != 1:
            raise ValueError(f"Attributes of stars have different lengths {sorted(lengths)}.")

    def __len__(self) -> int:
        return len(self.x)

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


def frame_of(exposure: VisitImage) -> DetectorFrame:
    """Find a detector's place in the focal plane.

    Parameters
    ----------
    exposure
        Image with a detector.

    Returns
    -------
    frame
        The affine map that is best at the centre.

    Raises
    ------
    ValueError
        Raised if the image has no detector whose place is known.
    """
    detector = exposure.detector
    if detector is None:
        raise ValueError("The exposure has no detector, whose place the fit of a visit needs.")
    box = exposure.bbox
    x0, y0 = 0.5 * (box.x.min + box.x.max), 0.5 * (box.y.min + box.y.max)
    step = 0.5 * max(box.x.size, box.y.size)
    x, y = x0 + step * np.array([0.0, 1.0, -1.0, 0.0, 0.0]), y0 + step * np.array([0.0, 0.0, 0.0, 1.0, -1.0])
    focal = detector.to_focal_plane.apply_forward(x=x, y=y)
    points = np.stack([np.asarray(focal.x, dtype=np.float64), np.asarray(focal.y, dtype=np.float64)], axis=1)
    jacobian = np.stack([points[1] - points[2], points[3] - points[4]], axis=1) / (2.0 * step)
    orientation = nearest_orientation(jacobian)
    offset = points[0] - jacobian @ [x0, y0]
    return DetectorFrame(
        (float(box.x.min), float(box.x.max), float(box.y.min), float(box.y.max)),
        (float(offset[0]), float(offset[1])),
        ((float(jacobian[0, 0]), float(jacobian[0, 1])), (float(jacobian[1, 0]), float(jacobian[1, 1]))),
        ((int(orientation[0, 0]), int(orientation[0, 1])), (int(orientation[1, 0]), int(orientation[1, 1]))),
    )


def nearest_orientation(jacobian: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Round a Jacobian to quarter turns and mirror images.

    Parameters
    ----------
    jacobian
        d(X, Y)/d(x, y) from pixels to the focal plane [2, 2].

    Returns
    -------
    orientation
        Signed permutation matrix [2, 2].

    Raises
    ------
    ValueError
        Raised if the Jacobian isn't finite or vanishes.
    """
    matrix = np.asarray(jacobian, dtype=np.float64)
    if matrix.shape != (2, 2) or not np.isfinite(matrix).all() or np.linalg.det(matrix) == 0.0:
        raise ValueError(f"{matrix.tolist()} is no Jacobian of focal-plane coordinates.")
    straight = abs(matrix[0, 0]) + abs(matrix[1, 1]) >= abs(matrix[0, 1]) + abs(matrix[1, 0])
    pattern = np.eye(2) if straight else np.eye(2)[::-1]
    return (np.where(matrix < 0.0, -1, 1) * pattern).astype(np.int64)
