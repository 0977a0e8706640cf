# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Masks of what belongs to a star's neighbours."""

from __future__ import annotations

__all__ = ("mask_blends", "mask_neighbours")

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ._footprints import Footprints
from ._stamps import StampSet

# 8-connectivity within a stamp, none between stamps.
_CONNECTED = np.zeros((3, 3, 3), dtype=bool)
_CONNECTED[1] = True

# Digital disc of radius 3: 29 pixels (spec 01 §4).
_DISC = np.zeros((1, 7, 7), dtype=bool)
for _dy, _half_width in zip(range(-3, 4), (0, 2, 2, 3, 2, 2, 0), strict=True):
    _DISC[0, 3 + _dy, 3 - _half_width : 4 + _half_width] = True


def _kill(stamps: StampSet, where: npt.NDArray[np.bool_]) -> StampSet:
    """Set INTRP and clear DETECTED in some pixels of a copy of the mask."""
    planes = dict(stamps.planes)
    if "INTRP" not in planes:
        planes["INTRP"] = min(set(range(32)) - set(planes.values()))
    killed = stamps.mask | np.uint32(1 << planes["INTRP"])
    if "DETECTED" in planes:
        killed &= ~np.uint32(1 << planes["DETECTED"])
    return replace(stamps, mask=np.where(where, killed, stamps.mask), planes=planes)


def mask_blends(
    stamps: StampSet, footprints: Footprints, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> StampSet:
    """Mask the parts of footprints that belong to other peaks.

    Parameters
    ----------
    stamps : `StampSet`
        Stamps of N stars.
    footprints : `Footprints`
        Their N footprints.
    x, y : `numpy.ndarray`
        Their N centroids, float64, PARENT pixels.

    Returns
    -------
    masked : `StampSet`
        Same pixels, new mask.

    Notes
    -----
    In footprints with several peaks, the central peak is the one nearest to
    the centroid (the first if there are several).  Footprint pixels strictly
    nearer to any other peak get INTRP and lose DETECTED (spec 01 §4).
    """
    counts = np.diff(footprints.peak_offsets)
    rows = np.flatnonzero(counts > 1)
    if not len(rows):
        return stamps
    _, height, width = stamps.mask.shape
    position, py, px = footprints.pixels(rows)
    sy, sx = py - stamps.y0[rows][position], px - stamps.x0[rows][position]
    inside = (sy >= 0) & (sy < height) & (sx >= 0) & (sx < width)
    position, py, px, sy, sx = (a[inside] for a in (position, py, px, sy, sx))

    first, n_peaks = footprints.peak_offsets[:-1][rows], counts[rows]
    peak_x = footprints.peaks["i_x"].astype(np.int64)
    peak_y = footprints.peaks["i_y"].astype(np.int64)
    central = first.copy()
    nearest = np.full(len(rows), np.inf)
    for rank in range(int(n_peaks.max())):  # over the peaks of a footprint, not over stars
        some = n_peaks > rank
        peak = np.where(some, first + rank, first)
        distance = (peak_x[peak] - x[rows]) ** 2 + (peak_y[peak] - y[rows]) ** 2
        closer = some & (distance < nearest)
        central[closer], nearest[closer] = peak[closer], distance[closer]
    own = (px - peak_x[central][position]) ** 2 + (py - peak_y[central][position]) ** 2
    kill = np.zeros(len(px), dtype=bool)
    for rank in range(int(n_peaks.max())):  # over the peaks of a footprint, not over stars
        # The central peak is never strictly nearer than itself.
        peak = np.where(n_peaks > rank, first + rank, central)[position]
        kill |= (px - peak_x[peak]) ** 2 + (py - peak_y[peak]) ** 2 < own
    where = np.zeros(stamps.mask.shape, dtype=bool)
    where[rows[position[kill]], sy[kill], sx[kill]] = True
    return _kill(stamps, where)


def mask_neighbours(stamps: StampSet) -> StampSet:
    """Mask detected pixels around the star that aren't connected to it.

    Parameters
    ----------
    stamps : `StampSet`
        Stamps with the star on pixel ``[height // 2, width // 2]``.

    Returns
    -------
    masked : `StampSet`
        Same pixels, new mask.

    Notes
    -----
    Where a stamp has several 8-connected components of DETECTED pixels,
    those without the central pixel are dilated by a disc of radius 3, get
    INTRP and lose DETECTED.  A single component is never masked, even if it
    misses the centre (spec 01 §4).
    """
    if "DETECTED" not in stamps.planes or not len(stamps):
        return stamps
    # Slow to import, and not needed by most users of catalogues.
    import scipy.ndimage

    detected = stamps.bad(("DETECTED",))
    labels, _ = scipy.ndimage.label(detected, structure=_CONNECTED)
    flat = labels.reshape(len(labels), -1)
    lowest = np.where(flat > 0, flat, np.iinfo(flat.dtype).max).min(axis=1)
    crowded = np.flatnonzero(flat.max(axis=1) > lowest)
    if not len(crowded):
        return stamps
    chosen = labels[crowded]
    _, height, width = chosen.shape
    own = chosen[:, height // 2, width // 2]
    # An undetected centre has label 0, so that all components are others.
    others = (chosen > 0) & (chosen != own[:, None, None])
    where = np.zeros(detected.shape, dtype=bool)
    where[crowded] = scipy.ndimage.binary_dilation(others, structure=_DISC)
    return _kill(stamps, where)
