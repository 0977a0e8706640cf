# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Median variance around stars (spec 03 §3.7)."""

from __future__ import annotations

__all__ = ("VarianceConfig", "VariancePlugin")

from collections.abc import Iterable, MutableMapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Field, ListField

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import FLUX_ORDER, SingleFramePlugin, SingleFramePluginConfig, alias_centroid_flag, register
from ..pixels import box_batches, ellipse_boxes, pixel_regions


class VarianceConfig(SingleFramePluginConfig):
    """Options of ``base_Variance``."""

    scale = Field[float](doc="Scale factor to apply to shape for aperture", default=5.0, optional=True)
    mask = ListField[str](
        doc="Mask planes to ignore", default=["DETECTED", "DETECTED_NEGATIVE", "BAD", "SAT"]
    )


@register("base_Variance")
class VariancePlugin(SingleFramePlugin):
    """Median of the variance in a scaled ellipse around the centroid."""

    ConfigClass = VarianceConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(
        self,
        config: VarianceConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        schema.add_flag(f"{name}_flag", doc="Set for any fatal failure")
        schema.add_field(f"{name}_value", "D", doc="Variance at object position")
        schema.add_flag(
            f"{name}_flag_emptyFootprint", doc="Set to True when the footprint has no usable pixels"
        )
        alias_centroid_flag(schema, name)

    @property
    def mask_planes(self) -> Iterable[str]:
        return list(self.config.mask)

    def measure(self, batch: MeasureBatch) -> None:
        bad = np.uint32(batch.bits(self.config.mask, self.name))
        columns = batch.slot_columns("Shape", ("xx", "yy", "xy"))
        q = np.full((len(batch), 3), np.nan)
        if columns is not None:
            q = np.stack(columns, axis=1).astype(np.float64) * self.config.scale**2
        x, y = batch.x, batch.y
        located = batch.centroid_ok & np.isfinite(x) & np.isfinite(y)
        batch.fail(~located, self.name)
        with np.errstate(invalid="ignore"):
            ok = np.isfinite(q).all(axis=1) & (q[:, 0] >= 0) & (q[:, 1] >= 0)
            ok &= (q[:, 0] * q[:, 1] >= q[:, 2] ** 2) & located
        # A shape that isn't there has no pixels.
        self._fail_empty(batch, np.flatnonzero(located & ~ok))
        rows = np.flatnonzero(ok)
        boxes = np.zeros((len(batch), 4), dtype=np.int64)
        boxes[rows] = ellipse_boxes(x[rows], y[rows], q[rows, 0], q[rows, 1])
        rows = self._drop_empty(batch, rows, boxes)
        for group in box_batches(boxes, rows):
            k = group.rows
            xx, yy, xy = q[k].T
            regions = pixel_regions(x[k], y[k], xx, yy, xy, group.y0, group.height)
            stamps = batch.cutout(group.x0, group.y0, group.width, group.height, k)
            used = regions.mask(group.x0, group.width) & ((stamps.mask & bad) == 0)
            if stamps.valid is not None:
                used &= stamps.valid
            # The median of numbers of pixels that differ from star to star.
            for n, row in enumerate(k):
                values = stamps.variance[n][used[n]]
                if len(values):
                    batch.catalog[f"{self.name}_value"][row] = np.median(values)
                else:
                    self._fail_empty(batch, [row])

    def _drop_empty(self, batch: MeasureBatch, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Fail ellipses off the image, clip boxes of the others to it."""
        low, high = np.array(batch.image_box[:2]), np.array(batch.image_box[2:])
        off = ((boxes[rows, 2:] < low) | (boxes[rows, :2] > high)).any(axis=1)
        # An ellipse far larger than the image would need as large a window.
        huge = ((boxes[rows, 2:] - boxes[rows, :2]) > 4 * (high - low + 64)).any(axis=1)
        self._fail_empty(batch, rows[off])
        batch.fail(rows[huge & ~off], self.name)
        return np.asarray(rows[~off & ~huge])

    def _fail_empty(self, batch: MeasureBatch, rows: npt.ArrayLike) -> None:
        batch.set_flag(rows, f"{self.name}_flag_emptyFootprint")
        batch.fail(rows, self.name)
