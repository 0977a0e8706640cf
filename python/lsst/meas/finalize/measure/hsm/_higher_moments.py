# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Third and fourth moments of stars and of the PSF."""

from __future__ import annotations

__all__ = (
    "HigherOrderMomentsConfig",
    "HigherOrderMomentsPsfConfig",
    "HigherOrderMomentsPsfPlugin",
    "HigherOrderMomentsSourceConfig",
    "HigherOrderMomentsSourcePlugin",
)

from collections.abc import MutableMapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Field, FieldValidationError, ListField

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._errors import MeasurementFatalError
from .._plugin import FLUX_ORDER, SingleFramePlugin, SingleFramePluginConfig, alias_centroid_flag, register
from ..pixels import inside_bounds
from ._adaptive import standardized_moments


class HigherOrderMomentsConfig(SingleFramePluginConfig):
    """Options common to the moments of stars and PSF."""

    min_order = Field[int](doc="Minimum order of the higher order moments to compute", default=3)
    max_order = Field[int](doc="Maximum order of the higher order moments to compute", default=4)

    def validate(self) -> None:
        if self.min_order > self.max_order:
            raise FieldValidationError(
                self.__class__.min_order,
                self,
                f"min_order ({self.min_order}) must be less than or equal to max_order ({self.max_order})",
            )
        super().validate()


class HigherOrderMomentsSourceConfig(HigherOrderMomentsConfig):
    """Options of the moments of stars."""

    badMaskPlanes = ListField[str](
        doc="Mask planes used to reject bad pixels.",
        default=["BAD", "SAT"],
    )
    setMaskedPixelsToZero = Field[bool](
        doc="Set masked pixels to zero? If False, they are replaced by the scaled version of the adaptive "
        "weights.",
        default=False,
    )


class HigherOrderMomentsPsfConfig(HigherOrderMomentsConfig):
    """Options of the moments of the PSF."""

    useSourceCentroidOffset = Field[bool](
        doc="Use source centroid offset?",
        default=False,
    )


class HigherOrderMomentsPlugin(SingleFramePlugin):
    """Base of the plugins that measure higher moments."""

    ConfigClass: ClassVar[type[SingleFramePluginConfig]] = HigherOrderMomentsConfig
    execution_order: ClassVar[float] = FLUX_ORDER
    _subject: ClassVar[str]
    _prerequisite: ClassVar[str]

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        schema.add_flag(f"{name}_flag", "General failure flag, set if anything went wrong")
        self.orders = [
            (p, order - p)
            for order in range(self.config.min_order, self.config.max_order + 1)
            for p in range(order + 1)
        ]
        for p, q in self.orders:
            schema.add_field(f"{name}_{p}{q}", "D", doc=f"Higher order moments M_{p}{q} for {self._subject}")

    def prerequisites(
        self, batch: MeasureBatch, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return stars with second moments, and x, y, xx, yy, xy of all.

        Raises
        ------
        MeasurementFatalError
            Raised if the plugin that measures them isn't in the schema.
        """
        names = [f"{self._prerequisite}_{s}" for s in ("flag", "x", "y", "xx", "yy", "xy")]
        missing = [n for n in names if n not in batch.catalog.schema]
        if missing:
            raise MeasurementFatalError(f"Plugin {self.name} needs the fields {', '.join(missing)}.")
        failed = batch.catalog[names[0]][rows]
        batch.fail(rows[failed], self.name)
        return rows[~failed], np.stack([batch.catalog[n] for n in names[1:]], axis=-1)

    def store(self, batch: MeasureBatch, rows: npt.NDArray, moments: npt.NDArray[np.float64]) -> None:
        """Write the moments (n, number of orders) of some stars."""
        for k, (p, q) in enumerate(self.orders):
            batch.catalog[f"{self.name}_{p}{q}"][rows] = moments[:, k]


@register("ext_shapeHSM_HigherOrderMomentsSource")
class HigherOrderMomentsSourcePlugin(HigherOrderMomentsPlugin):
    """Higher moments of a star in its footprint's box (spec 04 §8)."""

    ConfigClass = HigherOrderMomentsSourceConfig
    _subject = "source"
    _prerequisite = "ext_shapeHSM_HsmSourceMoments"

    def measure(self, batch: MeasureBatch) -> None:
        rows, values = self.prerequisites(batch, np.arange(len(batch)))
        boxes = batch.bboxes[rows].astype(np.int64)
        usable = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1) & inside_bounds(boxes, batch.image_box)
        batch.fail(rows[~usable], self.name)
        for part, stamps in batch.footprint_cutouts(rows[usable]):
            members = part.rows
            moments = standardized_moments(
                stamps.image,
                values[members, 0] - part.x0,
                values[members, 1] - part.y0,
                values[members, 2:],
                self.orders,
                good=~stamps.bad(self.config.badMaskPlanes),
                sizes=part.sizes,
                fill_bad=not self.config.setMaskedPixelsToZero,
            )
            self.store(batch, members, moments)


@register("ext_shapeHSM_HigherOrderMomentsPSF")
class HigherOrderMomentsPsfPlugin(HigherOrderMomentsPlugin):
    """Higher moments of the PSF model at a star (spec 04 §8)."""

    ConfigClass = HigherOrderMomentsPsfConfig
    _subject = "PSF"
    _prerequisite = "ext_shapeHSM_HsmPsfMoments"

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        alias_centroid_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        batch.require_psf(self.name)
        rows, values = self.prerequisites(batch, batch.start(self.name))
        if not len(rows):
            return
        if self.config.useSourceCentroidOffset:
            images, x0, y0 = batch.psf_images("star")
            # The recorded centroids are relative to the star's.
            x = batch.x[rows] - x0[rows] + values[rows, 0]
            y = batch.y[rows] - y0[rows] + values[rows, 1]
        else:
            images, _, _ = batch.psf_images("kernel")
            # Quirk: about the central pixel, not the measured centroid.
            x = np.full(len(rows), float(images.shape[2] // 2))
            y = np.full(len(rows), float(images.shape[1] // 2))
        self.store(batch, rows, standardized_moments(images[rows], x, y, values[rows, 2:], self.orders))
