# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Positions: first peak, focal plane, pixel scale, sky (spec 03 §3.5)."""

from __future__ import annotations

__all__ = (
    "FPPositionPlugin",
    "JacobianConfig",
    "JacobianPlugin",
    "PeakCentroidPlugin",
    "SkyCoordPlugin",
    "add_centroid_fields",
)

from collections.abc import MutableMapping
from typing import Any, ClassVar

import numpy as np

from lsst.pex.config import Field

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import CENTROID_ORDER, SHAPE_ORDER, SingleFramePlugin, SingleFramePluginConfig, register
from ..geometry import gnomonic_offsets, sky_positions, tangent_jacobians

_ARCSEC = np.pi / (180 * 3600)


def add_centroid_fields(schema: Schema, name: str, doc: str, *, errors: bool) -> None:
    """Add ``_x``, ``_y`` and maybe ``_xErr``, ``_yErr`` to a schema.

    Parameters
    ----------
    schema : `Schema`
        Schema to extend.
    name : `str`
        Prefix of the fields.
    doc : `str`
        Description of the position.
    errors : `bool`
        Add errors too?
    """
    for axis in "xy":
        schema.add_field(f"{name}_{axis}", "D", doc=doc, unit="pixel")
    for axis in "xy" if errors else "":
        schema.add_field(
            f"{name}_{axis}Err", "F", doc=f"1-sigma uncertainty on {axis} position", unit="pixel"
        )


@register("base_PeakCentroid")
class PeakCentroidPlugin(SingleFramePlugin):
    """Centroid at the footprint's first peak."""

    execution_order: ClassVar[float] = CENTROID_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        add_centroid_fields(schema, name, "peak centroid", errors=False)
        schema.add_flag(f"{name}_flag", doc="Centroiding failed")

    def measure(self, batch: MeasureBatch) -> None:
        x, y, has_peak = batch.first_peaks()
        batch.catalog[f"{self.name}_x"][has_peak] = x[has_peak]
        batch.catalog[f"{self.name}_y"][has_peak] = y[has_peak]
        batch.fail(~has_peak, self.name)


@register("base_FPPosition")
class FPPositionPlugin(SingleFramePlugin):
    """Position on the focal plane."""

    execution_order: ClassVar[float] = SHAPE_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        for axis in "xy":
            schema.add_field(f"{name}_{axis}", "D", doc="Position on the focal plane", unit="mm")
        schema.add_flag(f"{name}_flag", doc="Set to True for any fatal failure")
        schema.add_flag(f"{name}_missingDetector_flag", doc="Set to True if detector object is missing")

    def measure(self, batch: MeasureBatch) -> None:
        # Images from elsewhere may lack what lsst.images demands.
        detector: Any = batch.exposure.detector
        if detector is None:
            batch.set_flag(slice_all(batch), f"{self.name}_missingDetector_flag")
            return
        rows = np.flatnonzero(batch.centroid_ok)
        batch.fail(~batch.centroid_ok, self.name)
        transform = detector.to_focal_plane
        point = transform.apply_forward(x=batch.x[rows], y=batch.y[rows])
        scale = transform.out_frame.unit.to("mm")
        batch.catalog[f"{self.name}_x"][rows] = np.asarray(point.x) * scale
        batch.catalog[f"{self.name}_y"][rows] = np.asarray(point.y) * scale


def slice_all(batch: MeasureBatch) -> np.ndarray:
    """Return the indices of all stars."""
    return np.arange(len(batch))


class JacobianConfig(SingleFramePluginConfig):
    """Options of ``base_Jacobian``."""

    pixelScale = Field[float](doc="Nominal pixel size (arcsec).", default=0.5)


@register("base_Jacobian")
class JacobianPlugin(SingleFramePlugin):
    """Area of a pixel relative to the nominal one."""

    ConfigClass = JacobianConfig
    execution_order: ClassVar[float] = SHAPE_ORDER

    def __init__(
        self,
        config: JacobianConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        schema.add_field(f"{name}_value", "D", doc="Jacobian correction")
        schema.add_flag(f"{name}_flag", doc="Set to True for any fatal failure")

    def measure(self, batch: MeasureBatch) -> None:
        projection: Any = batch.exposure.sky_projection
        batch.fail(~batch.centroid_ok, self.name)
        if projection is None:
            batch.fail(slice_all(batch), self.name)
            return
        rows = np.flatnonzero(batch.centroid_ok)
        x, y = batch.x[rows], batch.y[rows]
        ra, dec = sky_positions(projection, x, y)
        # One-sided differences of one pixel, as upstream.
        along_x = gnomonic_offsets(*sky_positions(projection, x + 1, y), ra, dec)
        along_y = gnomonic_offsets(*sky_positions(projection, x, y + 1), ra, dec)
        area = np.abs(along_x[0] * along_y[1] - along_x[1] * along_y[0]) / _ARCSEC**2
        batch.catalog[f"{self.name}_value"][rows] = area / self.config.pixelScale**2


@register("base_SkyCoord")
class SkyCoordPlugin(SingleFramePlugin):
    """Sky position and its errors; no failure sets a flag."""

    execution_order: ClassVar[float] = SHAPE_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        for axis in ("ra", "dec"):
            if f"coord_{axis}Err" not in schema:
                schema.add_field(f"coord_{axis}Err", "F", doc=f"1-sigma uncertainty on {axis}", unit="rad")
        if "coord_ra_dec_Cov" not in schema:
            schema.add_field(
                "coord_ra_dec_Cov", "F", doc="uncertainty covariance between ra and dec", unit="rad rad"
            )

    def measure(self, batch: MeasureBatch) -> None:
        projection: Any = batch.exposure.sky_projection
        columns = batch.slot_columns("Centroid", ("x", "y"))
        if projection is None or columns is None:
            return
        x, y = (np.asarray(c, dtype=np.float64) for c in columns)
        rows = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        catalog = batch.catalog
        catalog["coord_ra"][:], catalog["coord_dec"][:] = np.nan, np.nan
        ra, dec = sky_positions(projection, x[rows], y[rows])
        catalog["coord_ra"][rows], catalog["coord_dec"][rows] = ra, dec
        errors = batch.slot_columns("Centroid", ("xErr", "yErr"))
        if errors is None:
            return
        covariance = np.zeros((len(rows), 2, 2), dtype=np.float32)
        covariance[:, 0, 0] = errors[0][rows] ** 2
        covariance[:, 1, 1] = errors[1][rows] ** 2
        cross = batch.slot_columns("Centroid", ("x_y_Cov",))
        if cross is not None:
            covariance[:, 0, 1] = covariance[:, 1, 0] = cross[0][rows]
        jacobian = tangent_jacobians(projection, x[rows], y[rows]).astype(np.float32)
        sky = jacobian @ covariance @ np.swapaxes(jacobian, 1, 2)
        catalog["coord_raErr"][rows] = np.sqrt(sky[:, 0, 0])
        catalog["coord_decErr"][rows] = np.sqrt(sky[:, 1, 1])
        catalog["coord_ra_dec_Cov"][rows] = sky[:, 0, 1]
