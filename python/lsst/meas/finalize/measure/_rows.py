# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Rows of stars in a catalogue, their footprints and their flags."""

from __future__ import annotations

__all__ = ("StarRows",)

from typing import Any

import numpy as np
import numpy.typing as npt

from ..catalogs import Footprints, SourceCatalog

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]


class StarRows:
    """Rows of a catalogue whose stars are measured, with footprints.

    Parameters
    ----------
    catalog : `SourceCatalog`
        Measured rows; plugins write its columns in place.
    footprints : `Footprints`, optional
        Footprint of every row; those of the catalogue by default.

    Raises
    ------
    ValueError
        Raised if footprints and rows differ in number.
    """

    def __init__(self, catalog: SourceCatalog, footprints: Footprints | None = None) -> None:
        if footprints is None:
            footprints = catalog.footprints
        if footprints is None:
            footprints = Footprints.empty(len(catalog))
        if len(footprints) != len(catalog):
            raise ValueError(f"{len(footprints)} footprints do not fit {len(catalog)} rows.")
        self.catalog = catalog
        self.footprints = footprints
        self._bboxes: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.catalog)

    @property
    def bboxes(self) -> npt.NDArray[np.int32]:
        """Inclusive bounding boxes of the footprints, int32 of shape (N, 4):
        x_min, y_min, x_max, y_max.
        """
        if self._bboxes is None:
            self._bboxes = self.footprints.bboxes
        return self._bboxes

    def first_peaks(self) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return columns and rows of first peaks, and who has one."""
        x, y, has_peak = self.footprints.first_peaks()
        return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), np.asarray(has_peak)

    def get(self, name: str) -> Any:
        """Return a column of the catalogue, `None` if there is none."""
        return self.catalog[name] if name in self.catalog.schema else None

    def fail(self, rows: npt.ArrayLike, name: str) -> None:
        """Set a plugin's general flag, ``<name>_flag``, if it has one.

        Parameters
        ----------
        rows : array-like
            Indices or mask of the failed stars.
        name : `str`
            Name of the plugin.
        """
        self.set_flag(rows, f"{name}_flag", missing_ok=True)

    def set_flag(self, rows: npt.ArrayLike, field: str, *, missing_ok: bool = False) -> None:
        """Set a flag of some stars.

        Parameters
        ----------
        rows : array-like
            Indices or mask of the stars.
        field : `str`
            Name of the flag.
        missing_ok : `bool`, optional
            Do nothing if there is no such field?
        """
        if missing_ok and field not in self.catalog.schema:
            return
        self.catalog[field][np.asarray(rows)] = True
