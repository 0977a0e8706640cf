# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Where stars are and what shape they have, from the slots of a catalogue."""

from __future__ import annotations

__all__ = ("StarPositions",)

import numpy as np
import numpy.typing as npt

from ..catalogs import Footprints, SourceCatalog
from ._errors import MeasurementFatalError
from ._rows import StarRows

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]
type IntArray = npt.NDArray[np.int64]


class StarPositions(StarRows):
    """Rows of stars with centroids and shapes from the slots.

    Parameters
    ----------
    catalog : `SourceCatalog`
        Measured rows.
    footprints : `Footprints`, optional
        Footprint of every row; those of the catalogue by default.
    """

    def __init__(self, catalog: SourceCatalog, footprints: Footprints | None = None) -> None:
        super().__init__(catalog, footprints)
        self._centroids: tuple[FloatArray, FloatArray, BoolArray, BoolArray] | None = None

    def invalidate(self) -> None:
        """Forget centroids after a centroider has run."""
        self._centroids = None

    @property
    def x(self) -> FloatArray:
        """Columns of the centroids, PARENT, shape (N,); NaN if failed."""
        return self._get_centroids()[0]

    @property
    def y(self) -> FloatArray:
        """Rows of the centroids, PARENT, shape (N,); NaN if failed."""
        return self._get_centroids()[1]

    @property
    def centroid_ok(self) -> BoolArray:
        """False where there is no centroid: set the plugin's flag, skip."""
        return self._get_centroids()[2]

    @property
    def centroid_flagged(self) -> BoolArray:
        """True where the plugin's flag must be set, but it goes on."""
        return self._get_centroids()[3]

    def slot_columns(self, slot: str, suffixes: tuple[str, ...]) -> list[np.ndarray] | None:
        """Return columns of a slot.

        Parameters
        ----------
        slot : `str`
            Name of the slot without ``slot_``.
        suffixes : `tuple` [`str`, ...]
            Ends of the names, for example ``x`` and ``y``.

        Returns
        -------
        columns : `list` [`numpy.ndarray`] or `None`
            The columns; `None` if one of them does not exist.
        """
        names = [f"slot_{slot}_{s}" for s in suffixes]
        if f"slot_{slot}" not in self.catalog.schema.aliases or any(
            n not in self.catalog.schema for n in names
        ):
            return None
        return [self.catalog[n] for n in names]

    def slot_centroids(self) -> tuple[FloatArray, FloatArray]:
        """Return columns and rows of the centroid slot as they are.

        For plugins that don't extract centroids (spec 03 §1.5); others use
        `x` and `y`.

        Returns
        -------
        x, y : `numpy.ndarray`
            PARENT positions, float64 of shape (N,); copies.

        Raises
        ------
        MeasurementFatalError
            Raised if the slot has no such columns.
        """
        columns = self.slot_columns("Centroid", ("x", "y"))
        if columns is None:
            raise MeasurementFatalError("The catalog has no columns slot_Centroid_x, slot_Centroid_y.")
        x, y = (np.array(c, dtype=np.float64) for c in columns)
        return x, y

    def slot_flag(self, slot: str) -> BoolArray | None:
        """Return the flag column of a slot, `None` if there is none."""
        columns = self.slot_columns(slot, ("flag",))
        return None if columns is None else columns[0]

    def _get_centroids(self) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray]:
        """Extract centroids (spec 03 §1.5)."""
        if self._centroids is None:
            x, y = self.slot_centroids()
            bad = np.isnan(x) | np.isnan(y)
            flag = self.slot_flag("Centroid")
            if flag is None:
                flagged, ok = np.zeros(len(x), dtype=bool), ~bad
            else:
                # A flagged centroid that isn't there is replaced by the peak.
                peak_x, peak_y, has_peak = self.first_peaks()
                use_peak = bad & flag & has_peak
                x[use_peak], y[use_peak] = peak_x[use_peak], peak_y[use_peak]
                flagged, ok = flag.copy(), ~bad | use_peak
            x[~ok], y[~ok] = np.nan, np.nan
            self._centroids = x, y, ok, flagged
        return self._centroids

    def start(self, name: str) -> IntArray:
        """Begin a plugin that needs centroids.

        Sets its flag for stars without a centroid or with a flagged one.

        Parameters
        ----------
        name : `str`
            Name of the plugin.

        Returns
        -------
        rows : `numpy.ndarray`
            Indices of the stars that have a centroid, int64.
        """
        self.fail(~self.centroid_ok | self.centroid_flagged, name)
        return np.flatnonzero(self.centroid_ok)

    def shapes(self, name: str, rows: IntArray) -> tuple[FloatArray, IntArray]:
        """Extract moments from the shape slot (spec 03 §1.5).

        Parameters
        ----------
        name : `str`
            Name of the plugin, whose flag is set where the shape is bad or
            flagged.
        rows : `numpy.ndarray`
            Indices of the stars in question.

        Returns
        -------
        moments : `numpy.ndarray`
            xx, yy, xy in pixel², float64 of shape (n, 3).
        rows : `numpy.ndarray`
            The n of the given rows that have a usable shape.

        Raises
        ------
        MeasurementFatalError
            Raised if the slot has no columns.
        """
        columns = self.slot_columns("Shape", ("xx", "yy", "xy"))
        if columns is None:
            raise MeasurementFatalError(f"Plugin {name} needs columns slot_Shape_xx, _yy, _xy.")
        moments = np.stack([c[rows] for c in columns], axis=1).astype(np.float64)
        xx, yy, xy = moments.T
        with np.errstate(invalid="ignore"):
            bad = np.isnan(moments).any(axis=1) | (xx * yy < (1.0 + 1e-6) * xy**2)
        flag = self.slot_flag("Shape")
        self.fail(rows[bad if flag is None else bad | flag[rows]], name)
        return moments[~bad], rows[~bad]
