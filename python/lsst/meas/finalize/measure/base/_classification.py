# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Star or galaxy, and sizes of footprints."""

from __future__ import annotations

__all__ = (
    "ClassificationExtendednessConfig",
    "ClassificationExtendednessPlugin",
    "ClassificationSizeExtendednessConfig",
    "ClassificationSizeExtendednessPlugin",
    "FootprintAreaPlugin",
)

from collections.abc import MutableMapping
from typing import Any

import numpy as np

from lsst.pex.config import Field

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._errors import MeasurementFatalError
from .._plugin import (
    FLUX_ORDER,
    CatalogCalculationPlugin,
    SingleFramePlugin,
    SingleFramePluginConfig,
    register,
    register_catalog_calculation,
)


class ClassificationSizeExtendednessConfig(SingleFramePluginConfig):
    """Options of the classification by size."""

    exponent = Field[float](
        doc="Exponent to raise the PSF size squared (Ixx + Iyy) to, in the likelihood normalization",
        default=0.5,
    )


@register("base_ClassificationSizeExtendedness")
class ClassificationSizeExtendednessPlugin(SingleFramePlugin):
    """Classify by the trace of the second moments (spec 03 §3.10)."""

    ConfigClass = ClassificationSizeExtendednessConfig
    execution_order = FLUX_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        schema.add_field(
            f"{name}_value", "D", doc="Measure of being a galaxy based on trace of second order moments"
        )
        schema.add_flag(f"{name}_flag", "Moments-based classification failed")

    def measure(self, batch: MeasureBatch) -> None:
        shape = batch.slot_columns("Shape", ("xx", "yy"))
        psf_shape = batch.slot_columns("PsfShape", ("xx", "yy"))
        if shape is None or psf_shape is None:
            batch.fail(np.arange(len(batch)), self.name)
            return
        trace, psf_trace = shape[0] + shape[1], psf_shape[0] + psf_shape[1]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            deviation = (trace - psf_trace) / psf_trace**self.config.exponent
            value = 1.0 - np.exp(-0.5 * deviation**2)
        flag = batch.slot_flag("Shape")
        # Python's arithmetic fails on these, and so does upstream.
        bad = psf_trace <= 0
        if flag is not None:
            bad |= flag
        batch.catalog[f"{self.name}_value"][:] = np.where(bad, np.nan, value)
        batch.fail(bad, self.name)


class ClassificationExtendednessConfig(SingleFramePluginConfig):
    """Options of the classification by flux ratio."""

    fluxRatio = Field[float](doc="critical ratio of model to psf flux", default=0.95)
    modelErrFactor = Field[float](doc="correction factor for modelFlux error", default=0.0)
    psfErrFactor = Field[float](doc="correction factor for psfFlux error", default=0.0)


@register_catalog_calculation("base_ClassificationExtendedness")
class ClassificationExtendednessPlugin(CatalogCalculationPlugin):
    """Classify by the ratio of model and PSF flux (spec 03 §3.10)."""

    ConfigClass = ClassificationExtendednessConfig

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        schema.add_field(f"{name}_value", "D", doc="Set to 1 for extended sources, 0 for point sources.")
        schema.add_flag(f"{name}_flag", "Set to 1 for any fatal failure.")

    def measure(self, batch: MeasureBatch) -> None:
        suffixes = ("instFlux", "instFluxErr", "flag")
        model, psf = (batch.slot_columns(slot, suffixes) for slot in ("ModelFlux", "PsfFlux"))
        if model is None or psf is None:
            raise MeasurementFatalError(f"Plugin {self.name} needs the slots ModelFlux and PsfFlux.")
        ratio = self.config.fluxRatio * model[0]
        if self.config.modelErrFactor != 0:
            ratio = ratio + self.config.modelErrFactor * model[1]
        point = psf[0]
        if self.config.psfErrFactor != 0:
            point = point + self.config.psfErrFactor * psf[1]
        bad = np.isnan(ratio) | np.isnan(point) | model[2] | psf[2]
        with np.errstate(invalid="ignore"):
            value = np.where(ratio < point, 0.0, 1.0)
        batch.catalog[f"{self.name}_value"][:] = np.where(bad, np.nan, value)
        batch.fail(bad, self.name)


@register_catalog_calculation("base_FootprintArea")
class FootprintAreaPlugin(CatalogCalculationPlugin):
    """Count the pixels of footprints."""

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        schema.add_field(
            f"{name}_value", "I", doc="Number of pixels in the source's detection footprint.", unit="pixel"
        )

    def measure(self, batch: MeasureBatch) -> None:
        batch.catalog[f"{self.name}_value"][:] = batch.footprints.area
