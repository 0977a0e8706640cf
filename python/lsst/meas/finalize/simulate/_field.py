# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Stars and galaxies of one sky that visits are pointed at."""

from __future__ import annotations

__all__ = ("MIN_SEPARATION", "detector_to_field", "field_to_detector", "make_field")

import numpy as np
from scipy.spatial import cKDTree

from ._cameras import camera_of
from ._config import SimulatedVisit
from ._objects import Scene

MIN_SEPARATION = 24.0  # pixels between an isolated star and anything else

_GALAXIES = 1  # kind of objects that aren't taken as stars


def make_field(
    simulation: SimulatedVisit, x_range: tuple[float, float], y_range: tuple[float, float]
) -> Scene:
    """Make the objects in a rectangle of the sky.

    The sky is divided into cells of a detector's size, and the objects of a
    cell depend on the seed and the cell only: all visits see the same.

    Parameters
    ----------
    simulation
        A visit; its camera, seed, size and numbers of objects count.
    x_range, y_range
        Limits of the rectangle in pixels from the centre of the field.

    Returns
    -------
    `Scene`
        Stars, galaxies and pairs, ordered by kind; ``x`` and ``y`` are
        field coordinates, ``flux`` is that in r.
    """
    # Neighbours beyond the rectangle decide which stars are isolated.
    x_cells, y_cells = (
        range(
            int(np.floor((low - MIN_SEPARATION) / simulation.size)),
            int(np.floor((high + MIN_SEPARATION) / simulation.size)) + 1,
        )
        for low, high in (x_range, y_range)
    )
    make_cell = camera_of(simulation).make_cell
    cells = [make_cell(simulation, i, j) for j in y_cells for i in x_cells]
    columns = {name: np.concatenate([cell[name] for cell in cells]) for name in cells[0]}
    positions = np.stack([columns["x"], columns["y"]], axis=1)
    kind = columns.pop("kind")
    isolated = np.zeros(len(positions), dtype=bool)
    if len(positions) > 1:
        distance, _ = cKDTree(positions).query(positions, k=2)
        isolated = (kind != _GALAXIES) & (distance[:, 1] > MIN_SEPARATION)
    elif len(positions):
        isolated = kind != _GALAXIES
    columns["is_isolated"] = isolated
    x, y = columns["x"], columns["y"]
    inside = (x >= x_range[0]) & (x <= x_range[1]) & (y >= y_range[0]) & (y <= y_range[1])
    rows = np.flatnonzero(inside)
    rows = rows[np.argsort(kind[rows], kind="stable")]
    return Scene(**{name: column[rows] for name, column in columns.items()})


def field_to_detector(
    simulation: SimulatedVisit, detector: int, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Transform field coordinates to pixels of a detector.

    Parameters
    ----------
    simulation
        The visit.
    detector
        Detector number.
    x, y
        Pixels from the centre of the field on the plane that touches the sky
        there; ``x`` grows to the west, as that of detectors does.

    Returns
    -------
    `tuple` [`numpy.ndarray`, `numpy.ndarray`]
        Pixel positions.
    """
    x, y = _change_centre(simulation, simulation.field_center, simulation.boresight, x, y)
    return simulation.plane_to_pixel(detector, x, y)


def detector_to_field(
    simulation: SimulatedVisit, detector: int, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Transform pixels of a detector to field coordinates.

    Parameters
    ----------
    simulation
        The visit.
    detector
        Detector number.
    x, y
        Pixel positions.

    Returns
    -------
    `tuple` [`numpy.ndarray`, `numpy.ndarray`]
        As `field_to_detector` takes them.
    """
    u, v = simulation.pixel_to_plane(detector, x, y)
    return _change_centre(simulation, simulation.boresight, simulation.field_center, u, v)


def _change_centre(
    simulation: SimulatedVisit,
    old: tuple[float, float],
    new: tuple[float, float],
    x: np.ndarray,
    y: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Move from one gnomonic projection to another, in pixels."""
    if old == new:
        return x, y
    scale = np.deg2rad(simulation.pixel_scale / 3600)
    axes = [_local_axes(*old), _local_axes(*new)]
    west, north, centre = axes[1] @ axes[0].T @ np.stack([x * scale, y * scale, np.ones_like(x)])
    return west / centre / scale, north / centre / scale


def _local_axes(ra: float, dec: float) -> np.ndarray:
    """Return unit vectors to the west, to the north and to a point."""
    a, d = np.deg2rad([ra, dec])
    return np.array(
        [
            [np.sin(a), -np.cos(a), 0.0],
            [-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)],
            [np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)],
        ]
    )
