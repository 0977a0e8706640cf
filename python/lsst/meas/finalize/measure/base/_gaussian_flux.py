# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Photometry with the Gaussian of the shape slot (spec 03 §3.3)."""

from __future__ import annotations

__all__ = ("GaussianFluxConfig", "GaussianFluxPlugin")

from collections.abc import MutableMapping
from typing import Any, ClassVar

from lsst.pex.config import Field

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import (
    FLUX_ORDER,
    SingleFramePlugin,
    SingleFramePluginConfig,
    add_flux_fields,
    alias_centroid_flag,
    alias_shape_flag,
    register,
)
from ..moments import gaussian_fluxes


class GaussianFluxConfig(SingleFramePluginConfig):
    """Options of ``base_GaussianFlux``."""

    background = Field[float](doc="Ignored, as upstream does.", default=0.0)


@register("base_GaussianFlux", apcorr=True)
class GaussianFluxPlugin(SingleFramePlugin):
    """Flux in a Gaussian weight with the moments of the shape slot."""

    ConfigClass = GaussianFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(
        self,
        config: GaussianFluxConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        add_flux_fields(schema, name, "instFlux from Gaussian Flux algorithm")
        schema.add_flag(f"{name}_flag", doc="General Failure Flag")
        alias_centroid_flag(schema, name)
        alias_shape_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        rows = batch.start(self.name)
        moments, rows = batch.shapes(self.name, rows)
        if not len(rows):
            return
        flux, flux_err, failed = gaussian_fluxes(batch, rows, moments, batch.x[rows], batch.y[rows])
        good = rows[~failed]
        batch.catalog[f"{self.name}_instFlux"][good] = flux[~failed]
        batch.catalog[f"{self.name}_instFluxErr"][good] = flux_err[~failed]
        # Success clears the flag, also one due to a flagged centroid or shape
        # (upstream quirk).
        batch.catalog[f"{self.name}_flag"][good] = False
        batch.fail(rows[failed], self.name)
