# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Aperture corrections as tables and as images."""

from __future__ import annotations

__all__ = ("ap_corr_image", "ap_corr_table")

from collections.abc import Mapping
from typing import TYPE_CHECKING

import astropy.table
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from lsst.images import Box
    from lsst.images.fields import BaseField


def ap_corr_table(
    ap_corr_map: Mapping[str, BaseField] | None, x: npt.ArrayLike, y: npt.ArrayLike
) -> astropy.table.Table:
    """Evaluate aperture corrections at positions.

    Parameters
    ----------
    ap_corr_map
        Aperture corrections by name, for instance those of a record.
    x, y
        Positions in pixels, numbers or shape (N,).

    Returns
    -------
    table : `astropy.table.Table`
        Row per position: ``x``, ``y``, and a column for each correction, a
        factor by which a flux is multiplied, or its error
        (``…_instFluxErr``).

    Raises
    ------
    ValueError
        Raised if there are no aperture corrections, or if ``x`` and ``y``
        differ in length.
    """
    x, y = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (x, y))
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"x and y must have the same length, not shapes {x.shape} and {y.shape}.")
    columns = {name: np.asarray(field(x=x, y=y)) for name, field in sorted(_existing(ap_corr_map).items())}
    return astropy.table.Table({"x": x, "y": y} | columns)


def ap_corr_image(field: BaseField, bbox: Box, *, step: int = 1) -> npt.NDArray[np.float64]:
    """Evaluate an aperture correction on a grid of pixels.

    Parameters
    ----------
    field
        One of the aperture corrections of a record.
    bbox
        Which pixels.
    step
        Distance of grid points in pixels; the first one is the first pixel.

    Returns
    -------
    image : `numpy.ndarray`
        Factors, float64, shape (rows, columns).

    Raises
    ------
    ValueError
        Raised if the step isn't positive.
    """
    if step < 1:
        raise ValueError(f"step={step} must be a positive number of pixels.")
    rows, columns = np.mgrid[bbox.y.start : bbox.y.stop : step, bbox.x.start : bbox.x.stop : step]
    values = field(x=columns.ravel().astype(np.float64), y=rows.ravel().astype(np.float64))
    return np.array(np.broadcast_to(values, rows.size), dtype=np.float64).reshape(rows.shape)


def _existing(ap_corr_map: Mapping[str, BaseField] | None) -> Mapping[str, BaseField]:
    if ap_corr_map is None:
        raise ValueError("There are no aperture corrections (ap_corr_map is None).")
    return ap_corr_map
