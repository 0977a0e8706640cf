# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The plugin ``modelfit_DoubleShapeletPsfApprox`` (spec 05 §5)."""

from __future__ import annotations

__all__ = (
    "DoubleShapeletFit",
    "DoubleShapeletPsfApproxConfig",
    "DoubleShapeletPsfApproxPlugin",
    "fit_double_shapelet",
)

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import ConfigField, Field, RangeField

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import SHAPE_ORDER, SingleFramePlugin, SingleFramePluginConfig, alias_centroid_flag, register
from ._optimizer_config import OptimizerConfig
from ._shapelets import MAX_ORDER, shapelet_size

type FloatArray = npt.NDArray[np.float64]

_DOC = "Double-Shapelet approximation to the PSF model at the position of this source"


class DoubleShapeletPsfApproxConfig(SingleFramePluginConfig):
    """Options of the approximation by two shapelet functions."""

    innerOrder = RangeField(
        dtype=int,
        doc="Order of the inner expansion (0: a Gaussian).",
        default=2,
        min=0,
        max=MAX_ORDER,
        inclusiveMax=True,
    )
    outerOrder = RangeField(
        dtype=int,
        doc="Order of the outer expansion (0: a Gaussian).",
        default=1,
        min=0,
        max=MAX_ORDER,
        inclusiveMax=True,
    )
    radiusRatio = Field[float](doc="First outer radius divided by the inner one.", default=2.0)
    peakRatio = Field[float](doc="First outer peak divided by the inner one.", default=0.1)
    minRadius = Field[float](doc="Least minor semi-axis of a component (pixels).", default=0.25)
    minRadiusDiff = Field[float](doc="Least difference of the two determinant radii (pixels).", default=0.5)
    maxRadiusBoxFraction = Field[float](
        doc="Largest major semi-axis of a component in units of the width of the PSF image.", default=0.4
    )
    optimizer = ConfigField[OptimizerConfig](doc="Optimiser of the profile fit.")


@dataclass(frozen=True)
class DoubleShapeletFit:
    """Approximations of PSFs by two concentric shapelet functions.

    Attributes
    ----------
    status : `numpy.ndarray` of int64, (N,)
        0: done; 1: bad moments; 2: too many iterations; 3: not a number.
    centre : `numpy.ndarray` of float64, (N, 2)
        Centre x, y of both components in pixels.
    ellipse : `numpy.ndarray` of float64, (N, 2, 3)
        Quadrupoles xx, yy, xy of inner and outer component in pixel².
    coefficients : `numpy.ndarray` of float64, (N, 2, 6)
        HERMITE coefficients; zero beyond the order.
    profile : `numpy.ndarray` of float64, (N, 4)
        Zeroth coefficients and radii in units of the moments' ellipse.
    """

    status: npt.NDArray[np.int64]
    centre: FloatArray
    ellipse: FloatArray
    coefficients: FloatArray
    profile: FloatArray


def fit_double_shapelet(images: FloatArray, config: DoubleShapeletPsfApproxConfig) -> DoubleShapeletFit:
    """Approximate kernel images by two shapelet functions.

    Parameters
    ----------
    images : `numpy.ndarray`
        Images whose central pixel is (0, 0), float64 of shape (N, h, w).
    config : `DoubleShapeletPsfApproxConfig`
        Options.

    Returns
    -------
    fit : `DoubleShapeletFit`
        The approximations; values are only valid where the status is 0.

    Notes
    -----
    Spec 05 §5.2.  The fit of the two radii stops before its minimum; where it
    stops is the definition, another optimiser would not do.
    """
    from . import _shapelet_psf_numba

    images = np.ascontiguousarray(images, dtype=np.float64)
    count = len(images)
    sizes = np.array([shapelet_size(config.innerOrder), shapelet_size(config.outerOrder)], dtype=np.int64)
    terms = int(sizes.sum()) - 2
    limits = np.array(
        [
            config.radiusRatio,
            config.peakRatio,
            config.minRadius,
            config.minRadiusDiff,
            config.maxRadiusBoxFraction,
        ],
        dtype=np.float64,
    )
    status = np.zeros(count, dtype=np.int64)
    moments, profile = np.full((count, 6), np.nan), np.full((count, 4), np.nan)
    gram, rhs = np.zeros((count, terms, terms)), np.zeros((count, terms))
    _shapelet_psf_numba.fit_double_shapelets(
        images, limits, config.optimizer.pack(), sizes, status, moments, profile, gram, rhs
    )
    done = status == 0
    coefficients = np.zeros((count, 2, shapelet_size(MAX_ORDER)))
    coefficients[:, :, 0] = profile[:, :2]
    if terms:
        solution = _solve(gram[done], rhs[done])
        coefficients[done, 0, 1 : sizes[0]] = solution[:, : sizes[0] - 1]
        coefficients[done, 1, 1 : sizes[1]] = solution[:, sizes[0] - 1 :]
    ellipse = profile[:, 2:, None] ** 2 * moments[:, None, 3:]
    return DoubleShapeletFit(status, moments[:, 1:3], ellipse, coefficients, profile)


def _solve(gram: FloatArray, rhs: FloatArray) -> FloatArray:
    """Solve normal equations without directions that are not determined."""
    values, vectors = np.linalg.eigh(gram)
    good = values > np.finfo(np.float64).eps * values[:, -1:]
    good[:, -1] = True
    with np.errstate(divide="ignore", invalid="ignore"):
        projected = np.where(good, np.einsum("nij,ni->nj", vectors, rhs) / values, 0.0)
    return np.einsum("nij,nj->ni", vectors, projected)


@register("modelfit_DoubleShapeletPsfApprox")
class DoubleShapeletPsfApproxPlugin(SingleFramePlugin):
    """Two shapelet functions that stand for the PSF."""

    ConfigClass: ClassVar[type[SingleFramePluginConfig]] = DoubleShapeletPsfApproxConfig
    execution_order: ClassVar[float] = SHAPE_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        self.sizes = [shapelet_size(self.config.innerOrder), shapelet_size(self.config.outerOrder)]
        for c, size in enumerate(self.sizes):
            for suffix in ("xx", "yy", "xy"):
                schema.add_field(f"{name}_{c}_{suffix}", "D", doc=_DOC, unit="pixel^2")
            for suffix in ("x", "y"):
                schema.add_field(f"{name}_{c}_{suffix}", "D", doc=_DOC, unit="pixel")
            for k in range(size):
                schema.add_field(f"{name}_{c}_{k}", "D", doc=_DOC)
        schema.add_flag(f"{name}_flag", doc="General Failure Flag")
        for suffix, doc in (
            ("invalidPointForPsf", "PSF model could not be evaluated at the source position"),
            ("invalidMoments", "Moments of the PSF model were not a valid ellipse"),
            ("maxIterations", "optimizer exceeded the maximum number (inner or outer) iterations"),
        ):
            schema.add_flag(f"{name}_flag_{suffix}", doc=doc)
        alias_centroid_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        batch.require_psf(self.name)
        rows = batch.start(self.name)
        images, drawn = self._draw(batch, rows)
        self._flag(batch, rows[~drawn], "invalidPointForPsf")
        rows = rows[drawn]
        if not len(rows):
            return
        fit = fit_double_shapelet(images, self.config)
        self._flag(batch, rows[fit.status == 1], "invalidMoments")
        self._flag(batch, rows[fit.status == 2], "maxIterations")
        batch.fail(rows[fit.status == 3], self.name)
        done = fit.status == 0
        columns = batch.catalog
        for c, size in enumerate(self.sizes):
            for k, suffix in enumerate(("xx", "yy", "xy")):
                columns[f"{self.name}_{c}_{suffix}"][rows[done]] = fit.ellipse[done, c, k]
            for k, suffix in enumerate("xy"):
                columns[f"{self.name}_{c}_{suffix}"][rows[done]] = fit.centre[done, k]
            for k in range(size):
                columns[f"{self.name}_{c}_{k}"][rows[done]] = fit.coefficients[done, c, k]

    def _flag(self, batch: MeasureBatch, rows: npt.NDArray[np.int64], suffix: str) -> None:
        batch.fail(rows, self.name)
        batch.set_flag(rows, f"{self.name}_flag_{suffix}")

    def _draw(
        self, batch: MeasureBatch, rows: npt.NDArray[np.int64]
    ) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Draw the PSF at each star's colour; tell where that is possible."""
        try:
            images, drawn = batch.psf_images("kernel")[0][rows], np.ones(len(rows), dtype=np.bool_)
        except Exception:
            images, drawn = self._draw_singly(batch, rows)
        finite = np.isfinite(images).all(axis=(1, 2))
        drawn[drawn] = finite
        return images[finite], drawn

    def _draw_singly(
        self, batch: MeasureBatch, rows: npt.NDArray[np.int64]
    ) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Find out at which stars the PSF can't be drawn."""
        psf = batch.require_psf(self.name)
        images, drawn = [], np.zeros(len(rows), dtype=np.bool_)
        # Only a drawing of its own tells which star is to blame.
        for k, row in enumerate(rows):
            color = None if batch.color is None else batch.color[row : row + 1]
            try:
                images.append(
                    psf.draw_kernel_images(batch.x[row : row + 1], batch.y[row : row + 1], color)[0]
                )
            except Exception:
                continue
            drawn[k] = True
        return (np.stack(images) if images else np.zeros((0, 1, 1))), drawn
