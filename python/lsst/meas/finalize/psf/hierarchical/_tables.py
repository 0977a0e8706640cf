# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The stars of a detector as a table, between the tasks."""

from __future__ import annotations

__all__ = ("stars_from_table", "stars_to_table")

from typing import Any

import astropy.table
import numpy as np
import numpy.typing as npt

from lsst.images import Box

from ...catalogs import StampSet
from ...focal_plane import DetectorFrame
from ._determiner import DetectorStars

FORMAT_VERSION = 1
"""Of the table; tables of another one are refused."""

_COLUMNS = ("kept", "id", "x", "y", "color", "color_type")
_PIXELS = {
    "image": np.float32,
    "variance": np.float32,
    "mask": np.uint32,
    "good": np.uint8,
    "weight": np.float64,
}


def stars_to_table(stars: DetectorStars) -> astropy.table.Table:
    """Make a table of the stars of a detector.

    Parameters
    ----------
    stars
        The stars.

    Returns
    -------
    table
        A row per star, whose pixels are columns of arrays; what is of the
        detector is in the table's ``meta``.
    """
    stamps, frame, box = stars.stamps, stars.frame, stars.bbox
    pixels = {name: getattr(stamps, name) for name in ("image", "variance", "mask")}
    pixels |= {"good": stars.good, "weight": stars.weight}
    columns: dict[str, npt.NDArray[Any]] = {name: np.asarray(getattr(stars, name)) for name in _COLUMNS}
    columns |= {"x0": stamps.x0, "y0": stamps.y0}
    shape = (len(stars.id), -1) if len(stars.id) else (0, stamps.image.shape[1] ** 2)
    columns |= {name: pixels[name].astype(dtype).reshape(shape) for name, dtype in _PIXELS.items()}
    meta = {
        "format_version": FORMAT_VERSION,
        "size": int(stamps.image.shape[1]),
        "planes": {str(name): int(bit) for name, bit in stamps.planes.items()},
        "bounds": [float(v) for v in frame.bounds],
        "offset": [float(v) for v in frame.offset],
        "jacobian": [float(v) for row in frame.jacobian for v in row],
        "orientation": [int(v) for row in frame.orientation for v in row],
        "bbox": [int(v) for v in (box.y.min, box.y.max, box.x.min, box.x.max)],
        "band": stars.band,
        "total": int(stars.total),
        "scale": float(stars.scale),
        "slope": float(stars.slope),
    }
    return astropy.table.Table(columns, meta=meta, copy=False)


def stars_from_table(table: astropy.table.Table, what: str) -> DetectorStars:
    """Read the stars of a detector from such a table.

    Parameters
    ----------
    table
        The table.
    what
        What it is, for messages.

    Returns
    -------
    stars
        The stars.

    Raises
    ------
    ValueError
        Raised if it is no such table, one of another version, or damaged.
    """
    version = table.meta.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"{what} is of format_version {version}, not {FORMAT_VERSION}.")
    missing = sorted({*_COLUMNS, "x0", "y0", *_PIXELS} - set(table.colnames))
    if missing:
        raise ValueError(f"{what} lacks the columns {missing}.")
    try:
        stars = _read(table)
        _check(stars)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{what} is damaged: {error!r}") from error
    return stars


def _read(table: astropy.table.Table) -> DetectorStars:
    """Read a table that has all columns."""
    meta = table.meta
    side = meta["size"]
    pixels = {
        name: np.asarray(table[name], dtype=dtype).reshape(len(table), side, side)
        for name, dtype in _PIXELS.items()
    }
    x0, y0 = (np.asarray(table[name], dtype=np.int64) for name in ("x0", "y0"))
    planes = {str(name): int(bit) for name, bit in meta["planes"].items()}
    y_min, y_max, x_min, x_max = meta["bbox"]
    (a, b, c, d), (e, f, g, h) = meta["jacobian"], meta["orientation"]
    columns = {name: np.asarray(table[name]) for name in _COLUMNS}
    return DetectorStars(
        frame=DetectorFrame(tuple(meta["bounds"]), tuple(meta["offset"]), ((a, b), (c, d)), ((e, f), (g, h))),
        bbox=Box.factory[y_min : y_max + 1, x_min : x_max + 1],
        band=meta["band"],
        total=meta["total"],
        stamps=StampSet(pixels["image"], pixels["variance"], pixels["mask"], x0, y0, planes),
        good=pixels["good"].astype(bool),
        weight=pixels["weight"],
        scale=meta["scale"],
        slope=meta["slope"],
        **columns,
    )


def _check(stars: DetectorStars) -> None:
    """Refuse stars that the fit couldn't have been given."""
    kept, stamps = stars.kept, stars.stamps
    if not (np.isfinite(stars.x).all() and np.isfinite(stars.y).all()):
        raise ValueError("A star's position isn't finite.")
    if len(kept) and not (kept.min() >= 0 and kept.max() < stars.total and (np.diff(kept) > 0).all()):
        raise ValueError(f"The column 'kept' doesn't count {stars.total} candidates.")
    if not (np.isfinite(stamps.image).all() and (stamps.variance[stars.good] > 0.0).all()):
        raise ValueError("A pixel isn't finite, or has no positive variance.")
    if not (np.isfinite(stars.weight).all() and np.isfinite([stars.scale, stars.slope]).all()):
        raise ValueError("A weight isn't finite, or the pixel scale or the slope of the variance.")
