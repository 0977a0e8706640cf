# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Fluxes in compensated apertures, blind to a constant background."""

from __future__ import annotations

__all__ = (
    "CompensatedGaussianFluxConfig",
    "CompensatedGaussianFluxPlugin",
    "CompensatedTophatFluxConfig",
    "CompensatedTophatFluxPlugin",
)

from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Field, FieldValidationError, ListField

from ...catalogs import AFW_MASK_PLANES, Schema, StampSet
from .._batch import MeasureBatch
from .._plugin import FLUX_ORDER, SingleFramePlugin, SingleFramePluginConfig, register
from ..pixels import inside_bounds
from ._naive import aperture_flux
from ._sinc import ApertureFlux

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]

_MAX_SINC_RADIUS = 10.0
"""Quirk: the default of apertures, whatever CircularApertureFlux uses."""

_GAUSSIAN_EXTENT = 2.5758293
_MAX_BATCH_PIXELS = 1_000_000
"""Pixels weighted at a time, unless a single star has more."""


def _afw_bits(stamps: StampSet) -> npt.NDArray[np.int32]:
    """Return the OR of each stamp's mask, with afw's plane numbers.

    The detection planes follow afw's standard ones, as in a process that has
    no other planes; then come all others.
    """
    seen = np.bitwise_or.reduce(stamps.mask.reshape(len(stamps), -1), axis=1).astype(np.uint64)
    numbers = {**AFW_MASK_PLANES}
    others = sorted((bit, name) for name, bit in stamps.planes.items() if name not in numbers)
    for name in ("THISDET", "OTHERDET", *(name for _, name in others)):
        numbers.setdefault(name, len(numbers))
    bits = np.zeros(len(stamps), dtype=np.uint64)
    for name, bit in stamps.planes.items():
        bits |= ((seen >> np.uint64(bit)) & np.uint64(1)) << np.uint64(numbers[name])
    return bits.astype(np.uint32).view(np.int32)


class CompensatedTophatFluxConfig(SingleFramePluginConfig):
    """Options of the compensated top-hats."""

    apertures = ListField[int](
        doc="The aperture radii (in pixels) to measure the top-hats.",
        default=[12],
        minLength=1,
        itemCheck=lambda radius: radius > 0,
    )
    inner_scale = Field[float](
        doc="Inner background annulus scale (relative to aperture).",
        default=1.0,
        check=lambda scale: scale > 0,
    )
    outer_scale = Field[float](doc="Outer background annulus scale (relative to aperture).", default=1.7)

    def validate(self) -> None:
        super().validate()
        if self.outer_scale <= self.inner_scale:
            raise FieldValidationError(
                self.__class__.outer_scale,
                self,
                f"outer_scale ({self.outer_scale}) must be greater than inner_scale ({self.inner_scale})",
            )


class CompensatedGaussianFluxConfig(SingleFramePluginConfig):
    """Options of the compensated Gaussians."""

    kernel_widths = ListField[int](
        doc="The widths (in pixels) of the kernels for which to measure compensated apertures.",
        default=[3, 5],
        minLength=1,
        itemCheck=lambda width: width > 0,
    )
    t = Field[float](
        doc="Scale parameter of outer Gaussian compared to inner Gaussian.",
        default=2.0,
        check=lambda scale: scale > 1,
    )


class _Stars(NamedTuple):
    """Some stars of the batch, their centres and windows."""

    rows: IntArray
    x: FloatArray
    y: FloatArray
    stamps: StampSet


class CompensatedFluxPlugin(SingleFramePlugin):
    """Base of the compensated apertures.

    There is no general flag, and centroids are those of the slot, whatever
    its flag says: one that is NaN is out of bounds.
    """

    execution_order: ClassVar[float] = FLUX_ORDER
    _kind: ClassVar[str]

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        self.prefixes = {size: f"{name}_{size}" for size in self.sizes()}
        for prefix in self.prefixes.values():
            flux_doc = f"Compensated {self._kind} flux"
            schema.add_field(f"{prefix}_instFlux", "D", doc=f"{flux_doc} measurement.", unit="count")
            schema.add_field(f"{prefix}_instFluxErr", "D", doc=f"{flux_doc} error.", unit="count")
            schema.add_field(f"{prefix}_mask_bits", "I", doc="Mask bits set within aperture.")
        for prefix in self.prefixes.values():
            schema.add_flag(f"{prefix}_flag", f"Compensated {self._kind} measurement failed")
            schema.add_flag(f"{prefix}_flag_bounds", f"Compensated {self._kind} out-of-bounds")

    def sizes(self) -> Sequence[int]:
        """Return the configured sizes in pixels."""
        raise NotImplementedError()

    def extent(self, size: int) -> int:
        """Return the half-width of the window for one size in pixels."""
        raise NotImplementedError()

    def compute(self, batch: MeasureBatch, size: int, stars: _Stars) -> tuple[FloatArray, FloatArray]:
        """Measure flux and error of some stars."""
        raise NotImplementedError()

    def measure(self, batch: MeasureBatch) -> None:
        x, y = batch.slot_centroids()
        for size, prefix in self.prefixes.items():
            extent = self.extent(size)
            rows, x0, y0 = self._windows(batch, prefix, extent, x, y)
            width = 2 * extent + 1
            portion = max(1, _MAX_BATCH_PIXELS // width**2)
            for start in range(0, len(rows), portion):
                part = slice(start, start + portion)
                own = rows[part]
                stamps = batch.cutout(x0[part], y0[part], width, width, own, detection_planes=True)
                flux, error = self.compute(batch, size, _Stars(own, x[own], y[own], stamps))
                batch.catalog[f"{prefix}_instFlux"][own] = flux
                batch.catalog[f"{prefix}_instFluxErr"][own] = error
                batch.catalog[f"{prefix}_mask_bits"][own] = _afw_bits(stamps)

    def _windows(
        self, batch: MeasureBatch, prefix: str, extent: int, x: FloatArray, y: FloatArray
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Return the stars whose window is complete, and its origins."""
        x_min, y_min, x_max, y_max = batch.image_box
        bounds = x_min + extent, y_min + extent, x_max - extent, y_max - extent
        centre = np.floor(np.stack([x, y, x, y], axis=-1) + 0.5)
        corner = np.floor(np.stack([x, y], axis=-1)) - extent
        window = np.concatenate([corner, corner + 2 * extent], axis=-1)
        usable = inside_bounds(centre, bounds) & inside_bounds(window, batch.image_box)
        for flag in ("flag", "flag_bounds"):
            batch.set_flag(~usable, f"{prefix}_{flag}")
        corner = corner[usable].astype(np.int64)
        return np.flatnonzero(usable), corner[:, 0], corner[:, 1]


@register("base_CompensatedTophatFlux")
class CompensatedTophatFluxPlugin(CompensatedFluxPlugin):
    """Flux in a circle minus that of an annulus (spec 03 §3.8.5)."""

    ConfigClass = CompensatedTophatFluxConfig
    _kind = "Tophat"

    def sizes(self) -> Sequence[int]:
        return list(self.config.apertures)

    def extent(self, size: int) -> int:
        return int(np.ceil(self.config.outer_scale * size))

    def compute(self, batch: MeasureBatch, size: int, stars: _Stars) -> tuple[FloatArray, FloatArray]:
        def circle(radius: float) -> ApertureFlux:
            axes = np.full(len(stars.rows), float(radius))
            return aperture_flux(
                lambda x0, y0, width, height, k: batch.cutout(x0, y0, width, height, stars.rows[k]),
                stars.x,
                stars.y,
                axes,
                axes,
                np.zeros(len(axes)),
                bounds=batch.image_box,
                max_sinc_radius=_MAX_SINC_RADIUS,
            )

        inner, outer = self.config.inner_scale, self.config.outer_scale
        disc, hole, field = (circle(radius) for radius in (size, inner * size, outer * size))
        q = 1.0 / (outer**2 - inner**2)
        flux = disc.flux - q * (field.flux - hole.flux)
        variance = disc.flux_err**2 + q**2 * (field.flux_err**2 - hole.flux_err**2)
        with np.errstate(invalid="ignore"):
            return flux, np.sqrt(variance)


@register("base_CompensatedGaussianFlux")
class CompensatedGaussianFluxPlugin(CompensatedFluxPlugin):
    """Flux weighted with a difference of Gaussians (spec 03 §3.8.6)."""

    ConfigClass = CompensatedGaussianFluxConfig
    _kind = "Gaussian"

    def sizes(self) -> Sequence[int]:
        return list(self.config.kernel_widths)

    def extent(self, size: int) -> int:
        return int(np.ceil(_GAUSSIAN_EXTENT * size * self.config.t))

    def compute(self, batch: MeasureBatch, size: int, stars: _Stars) -> tuple[FloatArray, FloatArray]:
        t2 = self.config.t**2
        stamps = stars.stamps
        steps = np.arange(stamps.image.shape[2])
        u = stamps.x0[:, None] + steps - stars.x[:, None]
        v = stamps.y0[:, None] + steps - stars.y[:, None]

        def gaussian(variance: float) -> FloatArray:
            # The factors along x are float32 upstream.
            along_x = np.exp(-0.5 * u**2 / variance).astype(np.float32)
            along_y = np.exp(-0.5 * v**2 / variance)
            return along_y[:, :, None] * along_x[:, None, :]

        weight = gaussian(size**2) - gaussian(size**2 * t2) / t2
        flux = 2.0 * (t2 + 1.0) / (t2 - 1.0) * np.sum(weight * stamps.image, axis=(1, 2))
        weight *= weight
        mean_variance = np.sum(weight * stamps.variance, axis=(1, 2)) / np.sum(weight, axis=(1, 2))
        with np.errstate(invalid="ignore"):
            return flux, np.sqrt(mean_variance * 4.0 * np.pi * size**2 * (t2 + 1.0) / t2)
