# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Adaptive second moments of stars (spec 03 §3.6)."""

from __future__ import annotations

__all__ = ("SdssShapeConfig", "SdssShapePlugin")

from collections.abc import MutableMapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Field

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import (
    SHAPE_ORDER,
    SingleFramePlugin,
    SingleFramePluginConfig,
    add_flux_fields,
    alias_centroid_flag,
    register,
)
from ..moments import AdaptiveMoments, adaptive_moments, growing_windows

_DOC = "elliptical Gaussian adaptive moments"


class SdssShapeConfig(SingleFramePluginConfig):
    """Options of ``base_SdssShape``."""

    background = Field[float](doc="Additional value to subtract from background", default=0.0)
    maxIter = Field[int](doc="Maximum number of iterations", default=100)
    maxShift = Field[float](doc="Maximum centroid shift, limited to 2-10", default=0.0)
    tol1 = Field[float](
        doc="Convergence tolerance for e1,e2", default=float(np.float32(1e-5)), check=lambda v: v > 0
    )
    tol2 = Field[float](
        doc="Convergence tolerance for FWHM", default=float(np.float32(1e-4)), check=lambda v: v > 0
    )
    doMeasurePsf = Field[bool](doc="Whether to also compute the shape of the PSF model", default=True)


@register("base_SdssShape")
class SdssShapePlugin(SingleFramePlugin):
    """Adaptive moments of the stars and of the PSF there."""

    ConfigClass = SdssShapeConfig
    execution_order: ClassVar[float] = SHAPE_ORDER

    def __init__(
        self,
        config: SdssShapeConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        for m in ("xx", "yy", "xy"):
            schema.add_field(f"{name}_{m}", "D", doc=_DOC, unit="pixel^2")
        for m in ("xx", "yy", "xy"):
            schema.add_field(f"{name}_{m}Err", "F", doc=f"Standard deviation of {m} moment", unit="pixel^2")
        for axis in "xy":
            schema.add_field(f"{name}_{axis}", "D", doc=_DOC, unit="pixel")
        add_flux_fields(schema, name, _DOC)
        for m in ("xx", "yy", "xy") if config.doMeasurePsf else ():
            schema.add_field(
                f"{name}_psf_{m}",
                "D",
                doc="adaptive moments of the PSF model at the object position",
                unit="pixel^2",
            )
        for m in ("xx", "yy", "xy"):
            schema.add_field(
                f"{name}_instFlux_{m}_Cov",
                "F",
                doc=f"uncertainty covariance between {name}_instFlux and {name}_{m}",
                unit="count*pixel^2",
            )
        flags = {
            "": "General Failure Flag",
            "_unweightedBad": "Both weighted and unweighted moments were invalid",
            "_unweighted": "Weighted moments converged to an invalid value; using unweighted moments",
            "_shift": "centroid shifted by more than the maximum allowed amount",
            "_maxIter": "Too many iterations in adaptive moments",
        }
        if config.doMeasurePsf:
            flags["_psf"] = "Failure in measuring PSF model shape"
        for suffix, doc in flags.items():
            schema.add_flag(f"{name}_flag{suffix}", doc=doc)
        alias_centroid_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        rows = batch.start(self.name)
        is_negative = batch.get("is_negative")
        negative = np.zeros(len(batch), dtype=bool) if is_negative is None else is_negative
        outgrown = np.ones(len(rows), dtype=bool)
        for window in growing_windows(batch, rows, batch.x[rows], batch.y[rows], outgrown, 28):
            k, stamps = window.members, window.stamps
            moments = adaptive_moments(
                stamps.image,
                window.x,
                window.y,
                variance=stamps.variance,
                background=self.config.background,
                max_iter=self.config.maxIter,
                max_shift=self.config.maxShift,
                tol1=self.config.tol1,
                tol2=self.config.tol2,
                valid=stamps.valid,
                x0=window.x0,
                y0=window.y0,
                negative=negative[rows[k]],
                whole=False,
            )
            outgrown[k] = moments.outgrown
            fitting = ~moments.outgrown
            self._write(batch, rows[k], moments, fitting)
        batch.fail(rows[outgrown], self.name)
        if self.config.doMeasurePsf:
            self._measure_psf(batch, rows)

    def _write(
        self,
        batch: MeasureBatch,
        rows: npt.NDArray[np.int64],
        moments: AdaptiveMoments,
        wanted: npt.NDArray[np.bool_],
    ) -> None:
        """Write results; flags are overwritten (upstream quirk)."""
        origin_x, origin_y = batch.image_origin
        scale = moments.flux_scale
        errors = moments.errors
        values = {
            "xx": moments.xx,
            "yy": moments.yy,
            "xy": moments.xy,
            "xxErr": errors[:, 0],
            "yyErr": errors[:, 1],
            "xyErr": errors[:, 2],
            "x": moments.x + origin_x,
            "y": moments.y + origin_y,
            "instFlux": moments.flux,
            "instFluxErr": moments.flux_err,
            "instFlux_xx_Cov": scale * moments.covariance[:, 0, 1],
            "instFlux_yy_Cov": scale * moments.covariance[:, 0, 2],
            "instFlux_xy_Cov": scale * moments.covariance[:, 0, 3],
            "flag": moments.flag,
            "flag_unweightedBad": moments.unweighted_bad,
            "flag_unweighted": moments.unweighted,
            "flag_shift": moments.shift,
            "flag_maxIter": moments.max_iter,
        }
        with np.errstate(over="ignore"):
            for suffix, column in values.items():
                batch.catalog[f"{self.name}_{suffix}"][rows[wanted]] = column[wanted]
        with np.errstate(invalid="ignore"):
            singular = moments.xx * moments.yy < (1.0 + 1e-6) * moments.xy**2
        batch.fail(rows[wanted & singular], self.name)

    def _measure_psf(self, batch: MeasureBatch, rows: npt.NDArray[np.int64]) -> None:
        """Measure the PSF where the adaptive moments found the stars."""
        if batch.psf is None:
            batch.set_flag(rows, f"{self.name}_flag_psf")
            return
        catalog = batch.catalog
        color = None if batch.color is None else batch.color[rows]
        x, y = (catalog[f"{self.name}_{axis}"][rows] for axis in "xy")
        shapes = batch.psf.compute_shapes(x, y, color=color)
        batch.set_flag(rows[batch.undrawable(rows, shapes, x, y)], f"{self.name}_flag_psf")
        for k, m in enumerate(("xx", "yy", "xy")):
            catalog[f"{self.name}_psf_{m}"][rows] = shapes[:, k]
