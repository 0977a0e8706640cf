# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Background in an annulus (spec 03 §3.7)."""

from __future__ import annotations

__all__ = ("LocalBackgroundConfig", "LocalBackgroundPlugin")

from collections.abc import MutableMapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Field, ListField

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import (
    FLUX_ORDER,
    SingleFramePlugin,
    SingleFramePluginConfig,
    add_flux_fields,
    alias_centroid_flag,
    register,
)
from ..geometry import determinant_radius
from ..pixels import BoxBatch, box_batches, clipped_mean_std_rows, ellipse_boxes, pixel_regions


class LocalBackgroundConfig(SingleFramePluginConfig):
    """Options of ``base_LocalBackground``."""

    badMaskPlanes = ListField[str](doc="Mask planes of pixels to exclude.", default=["BAD", "SAT", "NO_DATA"])
    annulusInner = Field[float](doc="Inner radius of the annulus in sigma of the PSF.", default=7.0)
    annulusOuter = Field[float](doc="Outer radius of the annulus in sigma of the PSF.", default=15.0)
    bgRej = Field[float](doc="Rejection threshold in standard deviations.", default=3.0)
    bgIter = Field[int](doc="Number of sigma-clipping iterations.", default=3)


@register("base_LocalBackground")
class LocalBackgroundPlugin(SingleFramePlugin):
    """Clipped mean and standard deviation in an annulus."""

    ConfigClass = LocalBackgroundConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(
        self,
        config: LocalBackgroundConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        add_flux_fields(schema, name, "background in annulus around source")
        schema.add_flag(f"{name}_flag", doc="General Failure Flag")
        schema.add_flag(f"{name}_flag_noGoodPixels", doc="no good pixels in the annulus")
        schema.add_flag(f"{name}_flag_noPsf", doc="no PSF provided")
        alias_centroid_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        bad = np.uint32(batch.bits(self.config.badMaskPlanes, self.name))
        rows = batch.start(self.name)
        if batch.psf is None:
            batch.set_flag(rows, f"{self.name}_flag_noPsf")
            batch.fail(rows, self.name)
            return
        shapes = batch.psf_shapes()
        rows = batch.drop_undrawable(rows, shapes, batch.x, batch.y, self.name)
        sigma = determinant_radius(shapes).astype(np.float32)
        inner, outer = (
            np.square((np.float32(r) * sigma).astype(np.float64))
            for r in (self.config.annulusInner, self.config.annulusOuter)
        )
        low, high = np.array(batch.image_box[:2]), np.array(batch.image_box[2:])
        with np.errstate(invalid="ignore"):
            usable = np.isfinite(outer) & (outer < (4.0 * np.max(high - low + 64)) ** 2)
        batch.fail(rows[~usable[rows]], self.name)
        rows = rows[usable[rows]]
        boxes = np.zeros((len(batch), 4), dtype=np.int64)
        boxes[rows] = ellipse_boxes(batch.x[rows], batch.y[rows], outer[rows], outer[rows])
        for group in box_batches(boxes, rows):
            self._measure_group(batch, group, inner, outer, bad)

    def _measure_group(
        self,
        batch: MeasureBatch,
        group: BoxBatch,
        inner: npt.NDArray[np.float64],
        outer: npt.NDArray[np.float64],
        bad: np.uint32,
    ) -> None:
        k = group.rows
        x, y = batch.x[k], batch.y[k]
        zero = np.zeros(len(k))
        stamps = batch.cutout(group.x0, group.y0, group.width, group.height, k)
        used = (stamps.mask & bad) == 0
        if stamps.valid is not None:
            used &= stamps.valid
        for square, keep in ((outer, True), (inner, False)):
            disc = pixel_regions(x, y, square[k], square[k], zero, group.y0, group.height)
            used &= disc.mask(group.x0, group.width) == keep
        mean, std = clipped_mean_std_rows(
            stamps.image.reshape(len(k), -1),
            used.reshape(len(k), -1),
            self.config.bgRej,
            self.config.bgIter,
        )
        none = ~used.any(axis=(1, 2))
        batch.set_flag(k[none], f"{self.name}_flag_noGoodPixels")
        batch.fail(k[none | ~np.isfinite(mean)], self.name)
        batch.catalog[f"{self.name}_instFlux"][k] = mean
        batch.catalog[f"{self.name}_instFluxErr"][k] = std
