# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Where to draw the detectors of a visit."""

from __future__ import annotations

__all__ = ("place_detectors",)

from collections.abc import Sequence

import astropy.table
import numpy as np

_WIDTH = 640.0


def place_detectors(
    detectors: Sequence[int], maps: astropy.table.Table | None
) -> list[tuple[int, float, float, float]]:
    """Return a square for each detector.

    Parameters
    ----------
    detectors
        Detector numbers.
    maps
        ``finalized_visit_residual_maps``, whose focal-plane positions tell
        where detectors are.

    Returns
    -------
    `list` [`tuple`]
        Detector, left and upper edge, and size, in a field 640 wide: as on
        the focal plane; in rows below are those whose place isn't known.
    """
    centers = _centers(maps)
    placed = [d for d in detectors if d in centers]
    squares = []
    bottom = 0.0
    if placed:
        xy = np.array([centers[d] for d in placed])
        spacing = _spacing(xy)
        low, high = xy.min(axis=0) - spacing / 2, xy.max(axis=0) + spacing / 2
        scale = _WIDTH / max(*(high - low), 3 * spacing)
        size = 0.92 * spacing * scale
        for detector, (x, y) in zip(placed, xy, strict=True):
            left = (x - low[0]) * scale - size / 2
            squares.append((detector, float(left), float((high[1] - y) * scale - size / 2), float(size)))
        bottom = float((high[1] - low[1]) * scale) + 12
    others = [d for d in detectors if d not in centers]
    size = min(56.0, _WIDTH / max(1.0, np.ceil(np.sqrt(len(others) * 2.0))))
    per_row = max(int(_WIDTH // size), 1)
    for i, detector in enumerate(others):
        row, column = divmod(i, per_row)
        squares.append((detector, column * size, bottom + row * size, 0.92 * size))
    return squares


def _centers(maps: astropy.table.Table | None) -> dict[int, tuple[float, float]]:
    if maps is None or not {"detector", "focal_x", "focal_y"} <= set(maps.colnames):
        return {}
    x, y = (np.asarray(maps[name], dtype=float) for name in ("focal_x", "focal_y"))
    good = np.isfinite(x) & np.isfinite(y)
    numbers, index = np.unique(np.asarray(maps["detector"])[good], return_inverse=True)
    # The middle of the extent is less moved by where stars happen to be.
    result = {}
    for i, number in enumerate(numbers.tolist()):
        rows = index == i
        result[number] = ((x[good][rows].min() + x[good][rows].max()) / 2,
                          (y[good][rows].min() + y[good][rows].max()) / 2)  # fmt: skip
    return result


def _spacing(xy: np.ndarray) -> float:
    """Return the typical distance of a detector from the nearest one."""
    if len(xy) < 2:
        return 1.0
    distance = np.abs(xy[:, None] - xy).max(axis=2)
    np.fill_diagonal(distance, np.inf)
    return float(np.median(distance.min(axis=1))) or 1.0
