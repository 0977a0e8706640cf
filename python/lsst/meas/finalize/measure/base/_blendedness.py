# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""How much of the light around a star is its neighbours'."""

from __future__ import annotations

__all__ = ("BlendednessConfig", "BlendednessPlugin", "denoised_absolute")

from collections.abc import MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Field

from ...catalogs import Schema, StampSet
from .._batch import MeasureBatch
from .._plugin import SHAPE_ORDER, SingleFramePlugin, SingleFramePluginConfig, register
from ..pixels import box_batches, ellipse_boxes, pixel_regions

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]

_PIXELS = {
    "raw": 'Operates on the "raw" pixel values.',
    "abs": 'Operates on the absolute value of the pixels to try to obtain a "de-noised" value.  '
    "See section 4.9.11 of Bosch et al. 2018, PASJ, 70, S5 for details.",
}
_WEIGHT = "measured with a Gaussian weight matched to the child."


class BlendednessConfig(SingleFramePluginConfig):
    """Options of the blendedness."""

    doOld = Field[bool](
        doc="Whether to compute HeavyFootprint dot products (the old deblend.blendedness parameter)",
        default=True,
    )
    doFlux = Field[bool](
        doc="Whether to compute quantities related to the Gaussian-weighted flux", default=True
    )
    doShape = Field[bool](
        doc="Whether to compute quantities related to the Gaussian-weighted shape", default=True
    )
    nSigmaWeightMax = Field[float](
        doc="Radius factor that sets the maximum extent of the weight function (and hence the flux "
        "measurements)",
        default=3.0,
        check=lambda n: n > 0,
    )


def denoised_absolute(
    image: npt.NDArray[np.floating], variance: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Return absolute pixel values less their bias due to noise.

    Parameters
    ----------
    image, variance : `numpy.ndarray`
        Pixels and their variance.

    Returns
    -------
    values : `numpy.ndarray` of float64
        ``|I|`` minus the mean bias, which is float32 like upstream's.

    Notes
    -----
    Bosch et al. (2018) §4.9.11; spec 03 §3.10.
    """
    from scipy.special import erfc

    data = image.astype(np.float64)
    var = variance.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", under="ignore", over="ignore"):
        norm = 0.5 * erfc(-data / np.sqrt(2.0 * var))
        mean = data + np.sqrt(0.5 * var / np.pi) * np.exp(-0.5 * data**2 / var) / norm
        mean = np.where(norm > 0.0, mean, 0.0)
        bias = np.sqrt(2.0 * var / np.pi) * np.exp(-0.5 * mean**2 / var)
        bias -= mean * erfc(mean / np.sqrt(2.0 * var))
    return np.abs(data) - bias.astype(np.float32)


@register("base_Blendedness")
class BlendednessPlugin(SingleFramePlugin):
    """Compare a star's Gaussian-weighted flux with and without neighbours.

    Its fields are filled after all other plugins have run: the child's when
    stars are alone (`measure_child_pixels`), the parent's on the image with
    all sources (`measure_parent_pixels`).
    """

    ConfigClass = BlendednessConfig
    execution_order = SHAPE_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        if self.config.doOld:
            doc = "Blendedness from dot products: (child.dot(parent)/child.dot(child) - 1)"
            schema.add_field(f"{name}_old", "D", doc=doc)
        if self.config.doFlux:
            self._add_flux_fields(schema)
        if self.config.doShape:
            for kind, pixels in _PIXELS.items():
                for role in ("child", "parent"):
                    for moment in ("xx", "yy", "xy"):
                        schema.add_field(
                            f"{name}_{kind}_{role}_{moment}",
                            "D",
                            doc=f"Shape of the {role}, {_WEIGHT}  {pixels}",
                            unit="pixel^2",
                        )
        schema.add_flag(f"{name}_flag", "General Failure Flag")
        schema.add_flag(f"{name}_flag_noCentroid", "Object has no centroid")
        schema.add_flag(f"{name}_flag_noShape", "Object has no shape")

    def _add_flux_fields(self, schema: Schema) -> None:
        """Add ratio, child's and parent's flux for both kinds of pixels."""
        for kind, pixels in _PIXELS.items():
            ratio = (
                "Measure of how much the flux is affected by neighbors: "
                f"(1 - child_instFlux/parent_instFlux).  {pixels}"
            )
            schema.add_field(f"{self.name}_{kind}", "D", doc=ratio)
            for role in ("child", "parent"):
                schema.add_field(
                    f"{self.name}_{kind}_{role}_instFlux",
                    "D",
                    doc=f"Instrumental flux of the {role}, {_WEIGHT}  {pixels}",
                    unit="count",
                )

    def measure(self, batch: MeasureBatch) -> None:
        """Do nothing: shapes of the slot may not be there yet."""

    def measure_child_pixels(self, batch: MeasureBatch) -> None:
        """Measure stars with only their own pixels present.

        Parameters
        ----------
        batch : `MeasureBatch`
            Stars whose neighbours are replaced by noise.
        """
        if self.config.doMeasure:
            self._measure_role(batch, "child")

    def measure_parent_pixels(self, batch: MeasureBatch) -> None:
        """Measure stars with all sources present, then compare.

        Parameters
        ----------
        batch : `MeasureBatch`
            Stars on the restored image.
        """
        if not self.config.doMeasure:
            return
        if self.config.doOld:
            self._measure_dot_products(batch)
        self._measure_role(batch, "parent")
        if not self.config.doFlux:
            return
        for kind in _PIXELS:
            child, parent = (
                batch.catalog[f"{self.name}_{kind}_{role}_instFlux"] for role in ("child", "parent")
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = 1.0 - child / parent
            if kind == "abs":
                batch.fail(parent == 0.0, self.name)
                ratio[parent == 0.0] = np.nan
            batch.catalog[f"{self.name}_{kind}"][:] = ratio

    def _select(self, batch: MeasureBatch) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return measurable stars, centroids (N, 2) and moments (N, 3)."""
        everyone = np.arange(len(batch))
        centroid = batch.slot_columns("Centroid", ("x", "y"))
        shape = batch.slot_columns("Shape", ("xx", "yy", "xy"))
        if centroid is None or shape is None:
            flag = "flag_noCentroid" if centroid is None else "flag_noShape"
            batch.set_flag(everyone, f"{self.name}_{flag}")
            batch.fail(everyone, self.name)
            return everyone[:0], np.empty((0, 2)), np.empty((0, 3))
        position = np.stack(centroid, axis=-1).astype(np.float64)
        moments = np.stack(shape, axis=-1).astype(np.float64)
        centroid_flag, shape_flag = batch.slot_flag("Centroid"), batch.slot_flag("Shape")
        if centroid_flag is not None:
            batch.set_flag(centroid_flag, f"{self.name}_flag_noCentroid")
        lost = ~np.isfinite(position).all(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            det = moments[:, 0] * moments[:, 1] - moments[:, 2] ** 2
            shapeless = ~((det >= 0.0) & np.isfinite(moments).all(axis=1) & (moments[:, :2] >= 0).all(axis=1))
        no_shape = shapeless if shape_flag is None else shapeless | shape_flag
        batch.set_flag(lost, f"{self.name}_flag_noCentroid")
        batch.set_flag(no_shape, f"{self.name}_flag_noShape")
        batch.fail(lost | no_shape, self.name)
        return np.flatnonzero(~lost & ~shapeless), position, moments

    def _measure_role(self, batch: MeasureBatch, role: str) -> None:
        """Fill the child's or the parent's fluxes and shapes."""
        rows, position, moments = self._select(batch)
        extent = np.square(self.config.nSigmaWeightMax) * moments
        x_min, y_min, x_max, y_max = batch.image_box
        boxes = np.zeros((len(batch), 4), dtype=np.int64)
        boxes[rows] = ellipse_boxes(position[rows, 0], position[rows, 1], extent[rows, 0], extent[rows, 1])
        boxes = np.clip(boxes, (x_min, y_min, x_min, y_min), (x_max, y_max, x_max, y_max))
        for part in box_batches(boxes, rows):
            members = part.rows
            stamps = batch.cutout(part.x0, part.y0, part.width, part.height, members)
            centre = position[members]
            xx, yy, xy = extent[members].T
            regions = pixel_regions(centre[:, 0], centre[:, 1], xx, yy, xy, part.y0, part.height)
            inside = regions.mask(part.x0, part.width)
            if stamps.valid is not None:
                inside &= stamps.valid
            self._weigh(batch, role, members, stamps, inside, centre, moments[members])

    def _weigh(
        self,
        batch: MeasureBatch,
        role: str,
        rows: IntArray,
        stamps: StampSet,
        inside: npt.NDArray[np.bool_],
        position: FloatArray,
        moments: FloatArray,
    ) -> None:
        """Measure some stars on their cut-outs, in pixels ``inside``."""
        height, width = stamps.image.shape[1:]
        dx = (stamps.x0[:, None] + np.arange(width) - position[:, :1])[:, None, :]
        dy = (stamps.y0[:, None] + np.arange(height) - position[:, 1:])[:, :, None]
        ixx, iyy, ixy = (m[:, None, None] for m in moments.T)
        with np.errstate(divide="ignore", invalid="ignore"):
            rho2 = (iyy * dx * dx - 2.0 * ixy * dx * dy + ixx * dy * dy) / (ixx * iyy - ixy * ixy)
        weight = np.where(inside, np.exp(-0.5 * rho2), 0.0).astype(np.float32).astype(np.float64)
        weight_sum, weight2_sum = weight.sum(axis=(1, 2)), np.square(weight).sum(axis=(1, 2))
        for kind in _PIXELS:
            if kind == "raw":
                values = stamps.image.astype(np.float64)
            else:
                values = denoised_absolute(stamps.image, stamps.variance)
            # Pixels outside are not looked at, whatever they hold.
            weighted = np.where(inside, weight * np.where(inside, values, 0.0), 0.0)
            total = weighted.sum(axis=(1, 2))
            prefix = f"{self.name}_{kind}_{role}"
            with np.errstate(divide="ignore", invalid="ignore"):
                if self.config.doFlux:
                    flux = weight_sum * total / weight2_sum
                    flux = np.maximum(flux, 0.0) if kind == "abs" else flux
                    batch.catalog[f"{prefix}_instFlux"][rows] = flux
                if self.config.doShape:
                    for suffix, product in (("xx", dx * dx), ("yy", dy * dy), ("xy", dx * dy)):
                        moment = 2.0 * (weighted * product).sum(axis=(1, 2)) / total
                        batch.catalog[f"{prefix}_{suffix}"][rows] = moment

    def _measure_dot_products(self, batch: MeasureBatch) -> None:
        """Fill the old blendedness; 0 for sources without own pixels."""
        footprints = batch.footprints
        old = np.zeros(len(batch))
        # Deblended children are few, and their footprints all different.
        for row in np.flatnonzero(footprints.is_heavy):
            child = footprints.take(np.array([row])).heavy_image.astype(np.float64)
            _, y, x = footprints.pixels(np.array([row]))
            x_min, y_min, x_max, y_max = (int(v) for v in batch.bboxes[row])
            if not len(x):
                continue
            stamps = batch.cutout(
                np.array([x_min]),
                np.array([y_min]),
                x_max - x_min + 1,
                y_max - y_min + 1,
                np.array([row]),
            )
            parent = stamps.image[0][y - y_min, x - x_min].astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                old[row] = np.dot(child, parent - child) / np.dot(child, child)
        batch.catalog[f"{self.name}_old"][:] = old
