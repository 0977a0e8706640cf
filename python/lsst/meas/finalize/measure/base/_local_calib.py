# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Calibrations at the stars' positions (spec 03 §3.9)."""

from __future__ import annotations

__all__ = ("LocalPhotoCalibPlugin", "LocalWcsPlugin", "photometric_calibration")

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar

import astropy.units as u
import numpy as np
import numpy.typing as npt

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import FLUX_ORDER, SingleFramePlugin, SingleFramePluginConfig, register
from ..geometry import tangent_jacobians

if TYPE_CHECKING:
    from lsst.images import VisitImage


@register("base_LocalPhotoCalib")
class LocalPhotoCalibPlugin(SingleFramePlugin):
    """Factor from counts to nanojansky at the centroid."""

    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        schema.add_flag(f"{name}_flag", doc="Set for any fatal failure")
        schema.add_field(
            name, "D", doc="Local approximation of the PhotoCalib calibration factor at the centroid"
        )
        schema.add_field(f"{name}Err", "D", doc="Error on the local approximation of the PhotoCalib factor")

    def measure(self, batch: MeasureBatch) -> None:
        batch.fail(~batch.centroid_ok, self.name)
        rows = np.flatnonzero(batch.centroid_ok)
        values = photometric_calibration(batch.exposure, batch.x[rows], batch.y[rows])
        if values is None:
            batch.fail(np.arange(len(batch)), self.name)
        else:
            batch.catalog[self.name][rows] = values


def photometric_calibration(
    exposure: VisitImage, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64] | None:
    """Return the calibration of pixel values at some positions.

    Parameters
    ----------
    exposure : `lsst.images.VisitImage`
        Image; one in units of flux density is calibrated already, whatever
        its ``photometric_scaling`` says about the way there.
    x, y : `numpy.ndarray`
        Positions in pixels, shape (N,).

    Returns
    -------
    calibration : `numpy.ndarray` or `None`
        Factors to nJy, shape (N,); `None` if there is no calibration.
    """
    unit = exposure.image.unit
    if unit is not None and unit.is_equivalent(u.nJy):
        return np.full(len(x), float(unit.to(u.nJy)))
    scaling: Any = exposure.photometric_scaling
    if scaling is None:
        return None
    values = np.asarray(scaling(x=x, y=y), dtype=np.float64)
    given = getattr(scaling, "unit", None)
    if unit is None or given is None or not given.is_equivalent(u.nJy / unit):
        return values
    return values * float(given.to(u.nJy / unit))


@register("base_LocalWcs")
class LocalWcsPlugin(SingleFramePlugin):
    """CD matrix of the WCS at the centroid."""

    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        schema.add_flag(f"{name}_flag", doc="Set for any fatal failure")
        for i in (1, 2):
            for j in (1, 2):
                schema.add_field(
                    f"{name}_CDMatrix_{i}_{j}",
                    "D",
                    doc=f"({i}, {j}) element of the CDMatrix for the linear approximation of the WCS at the "
                    "src location, gives units in radians.",
                )

    def measure(self, batch: MeasureBatch) -> None:
        projection: Any = batch.exposure.sky_projection
        batch.fail(~batch.centroid_ok, self.name)
        if projection is None:
            batch.fail(np.arange(len(batch)), self.name)
            return
        rows = np.flatnonzero(batch.centroid_ok)
        matrices = tangent_jacobians(projection, batch.x[rows], batch.y[rows])
        for i in range(2):
            for j in range(2):
                batch.catalog[f"{self.name}_CDMatrix_{i + 1}_{j + 1}"][rows] = matrices[:, i, j]
