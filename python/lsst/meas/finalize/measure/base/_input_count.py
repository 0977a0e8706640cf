# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Number of visits in a coadd at a star."""

from __future__ import annotations

__all__ = ("InputCountPlugin",)

from collections.abc import MutableMapping
from typing import Any

import numpy as np

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import SHAPE_ORDER, SingleFramePlugin, SingleFramePluginConfig, alias_centroid_flag, register


@register("base_InputCount")
class InputCountPlugin(SingleFramePlugin):
    """Count the images that went into a coadd at the centroid.

    A single frame has no inputs, so all stars are flagged (spec 03 §3.10).
    """

    execution_order = SHAPE_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        schema.add_field(
            f"{name}_value",
            "I",
            doc="Number of images contributing at center, not including clipping",
        )
        schema.add_flag(f"{name}_flag", "Set for any fatal failure")
        schema.add_flag(f"{name}_flag_noInputs", "No coadd inputs available")
        alias_centroid_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        everyone = np.arange(len(batch))
        batch.set_flag(everyone, f"{self.name}_flag_noInputs")
        batch.fail(everyone, self.name)
