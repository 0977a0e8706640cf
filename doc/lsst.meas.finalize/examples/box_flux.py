# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""A measurement plugin: the sum of the pixels in a square box."""

from __future__ import annotations

__all__ = ("BoxFluxConfig", "BoxFluxPlugin")

from collections.abc import MutableMapping
from typing import Any, ClassVar

import numpy as np

from lsst.meas.finalize.catalogs import Schema
from lsst.meas.finalize.measure import (
    FLUX_ORDER,
    MeasureBatch,
    SingleFramePlugin,
    SingleFramePluginConfig,
    add_flux_fields,
    alias_centroid_flag,
    register,
)
from lsst.pex.config import RangeField


class BoxFluxConfig(SingleFramePluginConfig):
    """Options of ``ext_example_BoxFlux``."""

    radius = RangeField(
        doc="The box is 2 radius + 1 pixels wide and high.", dtype=int, default=10, min=0, max=100
    )


@register("ext_example_BoxFlux", apcorr=True)
class BoxFluxPlugin(SingleFramePlugin):
    """Sum of the pixels in a box around the centroid."""

    ConfigClass = BoxFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(
        self, config: BoxFluxConfig, name: str, schema: Schema, metadata: MutableMapping[str, Any]
    ) -> None:
        super().__init__(config, name, schema, metadata)
        add_flux_fields(schema, name, "Sum of the pixels in a box")
        schema.add_flag(f"{name}_flag", doc="General failure flag")
        schema.add_flag(f"{name}_flag_edge", doc="The box leaves the image")
        alias_centroid_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        rows = batch.start(self.name)
        size = 2 * self.config.radius + 1
        x0 = np.floor(batch.x[rows] + 0.5).astype(np.int64) - self.config.radius
        y0 = np.floor(batch.y[rows] + 0.5).astype(np.int64) - self.config.radius
        stamps = batch.cutout(x0, y0, size, size, rows)
        flux = stamps.image.sum(axis=(1, 2), dtype=np.float64)
        variance = stamps.variance.sum(axis=(1, 2), dtype=np.float64)
        good = np.isfinite(flux) & (variance >= 0)
        batch.fail(rows[~good], self.name)
        if stamps.valid is not None:
            edge = rows[~stamps.valid.all(axis=(1, 2))]
            batch.set_flag(edge, f"{self.name}_flag_edge")
            batch.fail(edge, self.name)
        batch.catalog[f"{self.name}_instFlux"][rows[good]] = flux[good]
        batch.catalog[f"{self.name}_instFluxErr"][rows[good]] = np.sqrt(variance[good])
