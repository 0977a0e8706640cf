# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Flags from mask planes (spec 03 §3.1)."""

from __future__ import annotations

__all__ = ("PixelFlagsConfig", "PixelFlagsPlugin")

from collections.abc import Iterable, MutableMapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import ListField

from ...catalogs import Schema, cut_stamps
from .._batch import MeasureBatch
from .._plugin import FLUX_ORDER, SingleFramePlugin, SingleFramePluginConfig, register

type IntArray = npt.NDArray[np.int64]

_STANDARD = {
    "EDGE": ("edge", "Pixel in source outside usable exposure region (masked EDGE or centroid off image)."),
    "NO_DATA": ("nodata", "NO_DATA pixel in the source footprint."),
    "INTRP": ("interpolated", "Interpolated pixel in the Source footprint"),
    "SAT": ("saturated", "Saturated pixel in the Source footprint"),
    "CR": ("cr", "Cosmic ray in the Source footprint"),
    "BAD": ("bad", "Bad pixel in the Source footprint"),
    "SUSPECT": ("suspect", "Source's footprint includes suspect pixels"),
}
# The flags' descriptions are upstream's, to the letter.
_AROUND = "in the 3x3 region around the centroid"
_CENTER = {
    "EDGE": (f"EDGE pixel {_AROUND}.", "are marked EDGE."),
    "NO_DATA": (f"NO_DATA pixel {_AROUND}.", "are marked NO_DATA"),
    "INTRP": (f"Interpolated pixel {_AROUND}.", "are interpolated."),
    "SAT": (f"Saturated pixel {_AROUND}.", "are saturated."),
    "CR": (f"Cosmic ray {_AROUND}.", "have the cosmic ray mask bit."),
    "BAD": (f"Bad pixel {_AROUND}", "are bad."),
    "SUSPECT": (f"Suspect pixel {_AROUND}.", "are suspect."),
}


class PixelFlagsConfig(SingleFramePluginConfig):
    """Options of ``base_PixelFlags``."""

    masksFpCenter = ListField[str](
        doc="Mask planes searched for in the center of a source; flags are named after them.", default=[]
    )
    masksFpAnywhere = ListField[str](
        doc="Mask planes searched for anywhere in a source; flags are named after them.", default=[]
    )


@register("base_PixelFlags")
class PixelFlagsPlugin(SingleFramePlugin):
    """Which mask planes are set in footprints and at centroids."""

    ConfigClass = PixelFlagsConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(
        self,
        config: PixelFlagsConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        self._any = {plane: f"{name}_flag_{word}" for plane, (word, _) in _STANDARD.items()}
        self._center = {plane: f"{flag}Center" for plane, flag in self._any.items()}
        self._center_all = {plane: f"{flag}CenterAll" for plane, flag in self._any.items()}
        schema.add_flag(f"{name}_flag", doc="General failure flag, set if anything went wrong setting flags.")
        schema.add_flag(f"{name}_flag_offimage", doc="Source center is off image")
        for plane, flag in self._any.items():
            schema.add_flag(flag, doc=_STANDARD[plane][1])
        for plane, flag in self._center.items():
            schema.add_flag(flag, doc=_CENTER[plane][0])
        for plane, flag in self._center_all.items():
            schema.add_flag(flag, doc=f"All pixels {_AROUND} {_CENTER[plane][1]}")
        # Planes are looked up by name: one listed here again takes over from
        # the standard flag, which then is never set (upstream quirk).
        for suffix, flags, what in (
            ("Center", self._center, "3x3 region around centroid overlaps"),
            ("CenterAll", self._center_all, "All pixels in the 3x3 region around centroid are"),
        ):
            for plane in config.masksFpCenter:
                flags[plane] = f"{name}_flag_{plane.lower()}{suffix}"
                schema.add_flag(flags[plane], doc=f"{what} {plane} pixels")
        for plane in config.masksFpAnywhere:
            self._any[plane] = f"{name}_flag_{plane.lower()}"
            schema.add_flag(self._any[plane], doc=f"Source footprint includes {plane} pixels")

    @property
    def mask_planes(self) -> Iterable[str]:
        return {*self._any, *self._center, *self._center_all}

    def measure(self, batch: MeasureBatch) -> None:
        x, y, has_center = self._centers(batch)
        batch.fail(~has_center, self.name)
        x_min, y_min, x_max, y_max = batch.image_box
        with np.errstate(invalid="ignore"):
            inside = (x >= x_min - 0.5) & (x < x_max + 0.5) & (y >= y_min - 0.5) & (y < y_max + 0.5)
        off = has_center & ~inside
        for suffix in ("offimage", "edge", "edgeCenter", "edgeCenterAll"):
            batch.set_flag(off, f"{self.name}_flag_{suffix}")
        has_footprint = has_center & batch.footprints.present
        batch.fail(has_center & ~has_footprint, self.name)
        self._set_any(batch, np.flatnonzero(has_footprint))
        finite = np.isfinite(x) & np.isfinite(y)
        batch.fail(has_footprint & ~finite, self.name)
        rows = np.flatnonzero(has_footprint & finite)
        self._set_center(batch, rows, x[rows], y[rows])

    def _centers(self, batch: MeasureBatch) -> tuple[np.ndarray, np.ndarray, npt.NDArray[np.bool_]]:
        """Return slot centroids, or without a slot first peaks."""
        columns = batch.slot_columns("Centroid", ("x", "y"))
        if columns is not None:
            return columns[0], columns[1], np.ones(len(batch), dtype=bool)
        batch.fail(np.arange(len(batch)), self.name)
        return batch.first_peaks()

    def _set_any(self, batch: MeasureBatch, rows: IntArray) -> None:
        """Set the flags for planes anywhere in the footprint."""
        row, y, x = batch.footprints.pixels(rows)
        x_min, y_min, x_max, y_max = batch.image_box
        inside = (x >= x_min) & (x <= x_max) & (y >= y_min) & (y <= y_max)
        mask = batch.mask_at(x[inside], y[inside])
        found = np.zeros(len(rows), dtype=np.uint32)
        np.bitwise_or.at(found, row[inside], mask)
        for plane, flag in self._any.items():
            bit = np.uint32(batch.bits([plane], self.name))
            batch.set_flag(rows[(found & bit) != 0], flag)

    def _set_center(self, batch: MeasureBatch, rows: IntArray, x: np.ndarray, y: np.ndarray) -> None:
        """Set the flags for planes in the 3 × 3 pixels at the centre."""
        far = 2**30
        cx = np.floor(np.clip(x, -far, far) + 0.5).astype(np.int64)
        cy = np.floor(np.clip(y, -far, far) + 0.5).astype(np.int64)
        stamps = cut_stamps(batch.exposure, cx - 1, cy - 1, 3, 3)
        mask = stamps.mask.reshape(len(rows), 9)
        some = np.bitwise_or.reduce(mask, axis=1)
        if stamps.valid is not None:
            # Off the image nothing is left, and all of nothing is true
            # (upstream quirk).
            mask = np.where(stamps.valid.reshape(len(rows), 9), mask, np.uint32(0xFFFFFFFF))
        every = np.bitwise_and.reduce(mask, axis=1)
        for flags, found in ((self._center, some), (self._center_all, every)):
            for plane, flag in flags.items():
                bit = np.uint32(batch.bits([plane], self.name))
                batch.set_flag(rows[(found & bit) != 0], flag)
