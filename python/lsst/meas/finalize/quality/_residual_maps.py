# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Mean PSF residuals in bins of each detector."""

from __future__ import annotations

__all__ = ("MAP_BIN", "MAP_VALUES", "measure_residual_maps")

from typing import Any

import astropy.table
import numpy as np

from ._columns import StarColumns
from ._moments import distortion
from ._star_statistics import select_stars, size_residuals

MAP_BIN = 512
"""Width and height of a bin in pixels."""

MAP_VALUES = ("deltaTOverT", "deltaE1", "deltaE2")
"""What is averaged in the bins: star minus model, along the pixel axes."""

_SAMPLES = ("used", "reserved")


def measure_residual_maps(
    columns: StarColumns, *, visit: int, instrument: str = "", band: str = ""
) -> astropy.table.Table:
    """Average the residuals of stars in bins of detector coordinates.

    Parameters
    ----------
    columns
        Stars.
    visit, instrument, band
        What the visit is, for the table.

    Returns
    -------
    `astropy.table.Table`
        A row for each bin that has selected stars, by sample and detector:
        ``i_x`` and ``i_y`` are the bin's column and row, ``focal_x`` and
        ``focal_y`` the mean focal-plane position of its stars in mm, ``n``
        their number, and ``MAP_VALUES`` their mean residuals.
    """
    rows = []
    for sample in _SAMPLES:
        finite = np.isfinite(columns.x) & np.isfinite(columns.y)
        chosen = np.flatnonzero(columns.samples[sample] & select_stars(columns) & finite)
        star, psf = columns.star[chosen], columns.psf[chosen]
        keys = np.stack(
            [columns.detector[chosen], *(np.floor(v[chosen] / MAP_BIN) for v in (columns.x, columns.y))],
            axis=1,
        ).astype(np.int64)
        bins, index = np.unique(keys, axis=0, return_inverse=True)
        count = np.bincount(index.ravel(), minlength=len(bins))
        values = np.column_stack(
            [
                size_residuals(star, psf),
                distortion(star) - distortion(psf),
                columns.focal_x[chosen],
                columns.focal_y[chosen],
            ]
        )
        means = [np.bincount(index.ravel(), weights=v, minlength=len(bins)) / count for v in values.T]
        part: dict[str, Any] = {
            "sample": np.full(len(bins), sample, dtype="U8"),
            "detector": bins[:, 0].astype(np.int32),
        }
        part |= {"i_x": bins[:, 1].astype(np.int32), "i_y": bins[:, 2].astype(np.int32), "n": count}
        part |= dict(zip((*MAP_VALUES, "focal_x", "focal_y"), means, strict=True))
        rows.append(astropy.table.Table(part))
    table = astropy.table.vstack(rows)
    heads = [[instrument] * len(table), np.full(len(table), visit, dtype=np.int64), [band] * len(table)]
    # An empty list of text would become a column of numbers.
    table.add_columns(
        [np.asarray(heads[0], dtype=str), heads[1], np.asarray(heads[2], dtype=str)],
        indexes=[0, 0, 0],
        names=["instrument", "visit", "band"],
    )
    for name in ("focal_x", "focal_y"):
        table[name].unit = "mm"
    return table
