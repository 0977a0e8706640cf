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

__all__ = (
    "BAND_SLOPES",
    "MIN_SEPARATION",
    "Scene",
    "detector_to_field",
    "field_to_detector",
    "make_field",
)

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ._config import VisitSimulation

MIN_SEPARATION = 24.0  # pixels between an isolated star and anything else

BAND_SLOPES = {"u": 1.6, "g": 0.6, "r": 0.0, "i": -0.4, "z": -0.55, "y": -0.6}
"""Magnitude in a band minus that in r over the colour g-i, roughly that of
the stellar locus.
"""

_KINDS = 3  # stars, galaxies, pairs
_NORTH_EAST = 1 << 20  # added to cell numbers, since seeds are not negative


@dataclass
class Scene:
    """True objects on one detector.

    Parameters
    ----------
    x, y
        Pixel position, shape (N,).
    flux
        Flux in electrons.
    color
        Colour g-i in magnitudes.
    is_star
        Whether the object is a star.
    radius
        Half-light radius of galaxies in arcsec, 0 for stars.
    g1, g2
        Reduced shear of galaxies.
    is_isolated
        Whether no other object disturbs it.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    color: np.ndarray
    is_star: np.ndarray
    radius: np.ndarray
    g1: np.ndarray
    g2: np.ndarray
    is_isolated: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


def make_field(
    simulation: VisitSimulation, x_range: tuple[float, float], y_range: tuple[float, float]
) -> Scene:
    """Make the objects in a rectangle of the sky.

    The sky is divided into cells of a detector's size, and the objects of a
    cell depend on the seed and the cell only: all visits see the same.

    Parameters
    ----------
    simulation
        A visit; seed, size and numbers of objects count.
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
    cells = [_make_cell(simulation, i, j) for j in y_cells for i in x_cells]
    columns = {name: np.concatenate([cell[name] for cell in cells]) for name in cells[0]}
    positions = np.stack([columns["x"], columns["y"]], axis=1)
    isolated = np.zeros(len(positions), dtype=bool)
    if len(positions) > 1:
        distance, _ = cKDTree(positions).query(positions, k=2)
        isolated = columns["is_star"] & (distance[:, 1] > MIN_SEPARATION)
    elif len(positions):
        isolated = columns["is_star"]
    columns["is_isolated"] = isolated
    kind = columns.pop("kind")
    x, y = columns["x"], columns["y"]
    inside = (x >= x_range[0]) & (x <= x_range[1]) & (y >= y_range[0]) & (y <= y_range[1])
    rows = np.flatnonzero(inside)
    rows = rows[np.argsort(kind[rows], kind="stable")]
    return Scene(**{name: column[rows] for name, column in columns.items()})


def _make_cell(simulation: VisitSimulation, i: int, j: int) -> dict[str, np.ndarray]:
    """Make the objects of one cell of the sky."""
    rng = np.random.default_rng([simulation.seed, i + _NORTH_EAST, j + _NORTH_EAST, 4])
    n_stars, n_galaxies, n_blends = simulation.n_stars, simulation.n_galaxies, simulation.n_blends
    n = n_stars + n_galaxies + 2 * n_blends
    x, y = rng.uniform(0, simulation.size, (2, n))
    angle = rng.uniform(0, 2 * np.pi, n_blends)
    separation = rng.uniform(6, 11, n_blends)
    first, second = slice(n - 2 * n_blends, n - n_blends), slice(n - n_blends, n)
    x[second] = x[first] + separation * np.cos(angle)
    y[second] = y[first] + separation * np.sin(angle)
    # Star counts that rise slowly to the faint end, a few of them saturated.
    flux = 10 ** rng.triangular(3.9, 4.4, 6.6, n)
    kind = np.repeat(np.arange(_KINDS), [n_stars, n_galaxies, 2 * n_blends])
    is_star = kind != 1
    flux[~is_star] = 10 ** rng.uniform(3.8, 5.0, n_galaxies)
    radius = np.where(is_star, 0.0, rng.uniform(0.3, 0.9, n))
    g1, g2 = np.where(is_star, 0.0, rng.normal(0, 0.15, (2, n)).clip(-0.4, 0.4))
    return {
        "x": x + i * simulation.size,
        "y": y + j * simulation.size,
        "flux": flux,
        "color": rng.uniform(0.3, 2.8, n),
        "is_star": is_star,
        "radius": radius,
        "g1": g1,
        "g2": g2,
        "kind": kind,
    }


def field_to_detector(
    simulation: VisitSimulation, detector: int, x: np.ndarray, y: np.ndarray
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
    offset_x, offset_y = simulation.detector_offset(detector)
    half = (simulation.size - 1) / 2
    return x - offset_x / simulation.pixel_size + half, y - offset_y / simulation.pixel_size + half


def detector_to_field(
    simulation: VisitSimulation, detector: int, x: np.ndarray, y: np.ndarray
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
    offset_x, offset_y = simulation.detector_offset(detector)
    half = (simulation.size - 1) / 2
    return _change_centre(
        simulation,
        simulation.boresight,
        simulation.field_center,
        x - half + offset_x / simulation.pixel_size,
        y - half + offset_y / simulation.pixel_size,
    )


def _change_centre(
    simulation: VisitSimulation,
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
