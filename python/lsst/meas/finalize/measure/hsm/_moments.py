# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""HSM adaptive moments of stars and of the PSF."""

from __future__ import annotations

__all__ = (
    "HsmMomentsConfig",
    "HsmPsfMomentsConfig",
    "HsmPsfMomentsDebiasedConfig",
    "HsmPsfMomentsDebiasedPlugin",
    "HsmPsfMomentsPlugin",
    "HsmSourceMomentsConfig",
    "HsmSourceMomentsPlugin",
    "HsmSourceMomentsRoundConfig",
    "HsmSourceMomentsRoundPlugin",
)

from collections.abc import MutableMapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import ChoiceField, Field, FieldValidationError, ListField

from ...catalogs import Schema, cut_stamps
from .._batch import MeasureBatch
from .._errors import MeasurementFatalError
from .._plugin import (
    FLUX_ORDER,
    SHAPE_ORDER,
    SingleFramePlugin,
    SingleFramePluginConfig,
    alias_centroid_flag,
    register,
)
from ..noise import seed_state, ziggurat_tables
from ..pixels import inside_bounds
from ._adaptive import HsmMoments, hsm_moments

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]

HSM_FLAGS = {
    "flag": "General failure flag, set if anything went wrong",
    "flag_no_pixels": "No pixels to measure",
    "flag_not_contained": "Center not contained in footprint bounding box",
    "flag_parent_source": "Parent source, ignored",
    "flag_galsim": "GalSim failure",
    "flag_invalid_param": "Invalid combination of moments",
    "flag_edge": "Variance undefined outside image edge",
    "flag_no_psf": "Exposure lacks PSF",
}
"""Flags of HSM plugins in the order of their fields.

Quirk: upstream's failure handler forgets which error it was told of, so of
the specific ones only ``flag_edge`` is ever set (spec 04 §6).
"""


class HsmMomentsConfig(SingleFramePluginConfig):
    """Options common to the plugins that measure HSM moments."""

    roundMoments = Field[bool](doc="Use round weight function?", default=False)
    addFlux = Field[bool](doc="Store measured flux?", default=False)
    subtractCenter = Field[bool](
        doc="Subtract starting center from x/y outputs? Plugins of higher moments count on the default.",
        default=False,
    )


class HsmSourceMomentsConfig(HsmMomentsConfig):
    """Options of the moments of stars."""

    badMaskPlanes = ListField[str](
        doc="Mask planes used to reject bad pixels.",
        default=["BAD", "SAT"],
    )


class HsmSourceMomentsRoundConfig(HsmSourceMomentsConfig):
    """Options of the moments of stars with a round weight."""

    def setDefaults(self) -> None:
        super().setDefaults()
        self.roundMoments = True

    def validate(self) -> None:
        if not self.roundMoments:
            raise FieldValidationError(
                self.__class__.roundMoments, self, "roundMoments should be set to `True`."
            )
        super().validate()


class HsmPsfMomentsConfig(HsmMomentsConfig):
    """Options of the moments of the PSF."""

    useSourceCentroidOffset = Field[bool](
        doc="If True, then draw the PSF to be measured in the coordinate system of the original image "
        "(the PSF model origin - which is commonly the PSF centroid - may end up near a pixel edge or "
        "corner). If False, then draw the PSF to be measured in a shifted coordinate system such that "
        "the PSF model origin lands precisely in the center of the central pixel of the PSF image.",
        default=False,
    )

    def setDefaults(self) -> None:
        super().setDefaults()
        self.subtractCenter = True


class HsmPsfMomentsDebiasedConfig(HsmPsfMomentsConfig):
    """Options of the moments of the PSF with a star's noise."""

    noiseSource = ChoiceField[str](
        doc="Noise source. How to choose variance of the zero-mean Gaussian noise added to image.",
        allowed={
            "meta": "variance = the 'BGMEAN' metadata entry",
            "variance": "variance = the image's variance plane",
        },
        default="variance",
    )
    seedOffset = Field[int](doc="Seed offset for random number generator.", default=0)
    badMaskPlanes = ListField[str](
        doc="Mask planes used to reject bad pixels.",
        default=["BAD", "SAT"],
    )

    def setDefaults(self) -> None:
        super().setDefaults()
        self.useSourceCentroidOffset = True


def trace_radii(batch: MeasureBatch) -> FloatArray:
    """Return the PSF's trace radius at each star's centroid, (N,) pixels."""
    shapes = batch.psf_shapes()
    with np.errstate(invalid="ignore"):
        return np.sqrt(0.5 * (shapes[:, 0] + shapes[:, 1]))


def measurable_boxes(batch: MeasureBatch, rows: IntArray) -> npt.NDArray[np.bool_]:
    """Return which footprints' boxes can be measured on, (len(rows),).

    They must not be empty, not leave the image, and hold the pixel of the
    centroid (spec 04 §2).
    """
    boxes = batch.bboxes[rows].astype(np.int64)
    centre_x = np.floor(batch.x[rows] + 0.5)
    centre_y = np.floor(batch.y[rows] + 0.5)
    return (
        (boxes[:, 2] >= boxes[:, 0])
        & (boxes[:, 3] >= boxes[:, 1])
        & (centre_x >= boxes[:, 0])
        & (centre_x <= boxes[:, 2])
        & (centre_y >= boxes[:, 1])
        & (centre_y <= boxes[:, 3])
        & inside_bounds(boxes, batch.image_box)
    )


class HsmMomentsPlugin(SingleFramePlugin):
    """Base of the plugins that measure HSM moments."""

    ConfigClass: ClassVar[type[SingleFramePluginConfig]] = HsmMomentsConfig
    execution_order: ClassVar[float] = SHAPE_ORDER
    _subject: ClassVar[str]

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        for flag, doc in HSM_FLAGS.items():
            schema.add_flag(f"{name}_{flag}", doc)
        centroid = f"Centroid of {self._subject} via the HSM shape algorithm"
        moments = f"Adaptive moments of {self._subject} via the HSM shape algorithm"
        for suffix in ("x", "y"):
            schema.add_field(f"{name}_{suffix}", "D", doc=centroid, unit="pixel")
        for suffix in ("xx", "yy", "xy"):
            schema.add_field(f"{name}_{suffix}", "D", doc=moments, unit="pixel^2")
        if self.config.addFlux:
            schema.add_field(f"{name}_Flux", "D", doc=f"Flux of {self._subject} via the HSM shape algorithm")
        alias_centroid_flag(schema, name)

    def store(
        self,
        batch: MeasureBatch,
        rows: IntArray,
        result: HsmMoments,
        origin: tuple[FloatArray | IntArray, FloatArray | IntArray],
    ) -> None:
        """Write results to the catalogue.

        Parameters
        ----------
        batch : `MeasureBatch`
            Stars being measured.
        rows : `numpy.ndarray`
            Indices of the measured stars.
        result : `HsmMoments`
            Their moments.
        origin : `tuple` of `numpy.ndarray`
            Added to x and y of ``result``: what these are relative to.
        """
        moments, unphysical = result.second_moments()
        batch.fail(rows[~result.ok | unphysical], self.name)
        good = result.ok
        catalog = batch.catalog
        catalog[f"{self.name}_x"][rows[good]] = (result.x + origin[0])[good]
        catalog[f"{self.name}_y"][rows[good]] = (result.y + origin[1])[good]
        good = good & ~unphysical
        for k, suffix in enumerate(("xx", "yy", "xy")):
            catalog[f"{self.name}_{suffix}"][rows[good]] = moments[good, k]
        if self.config.addFlux:
            catalog[f"{self.name}_Flux"][rows[good]] = result.amplitude[good]


@register("ext_shapeHSM_HsmSourceMoments")
class HsmSourceMomentsPlugin(HsmMomentsPlugin):
    """Adaptive moments of a star in its footprint's box (spec 04 §2)."""

    ConfigClass = HsmSourceMomentsConfig
    _subject = "the source"

    def measure(self, batch: MeasureBatch) -> None:
        rows = batch.start(self.name)
        if batch.psf is None:
            batch.fail(rows, self.name)
            return
        usable = measurable_boxes(batch, rows)
        batch.fail(rows[~usable], self.name)
        rows = batch.drop_undrawable(rows[usable], batch.psf_shapes(), batch.x, batch.y, self.name)
        sigma = 2.5 * trace_radii(batch)
        for part, stamps in batch.footprint_cutouts(rows):
            members = part.rows
            guess_x = batch.x[members] - part.x0
            guess_y = batch.y[members] - part.y0
            result = hsm_moments(
                stamps.image,
                guess_x,
                guess_y,
                sigma[members],
                good=~stamps.bad(self.config.badMaskPlanes),
                sizes=part.sizes,
                round_moments=self.config.roundMoments,
            )
            origin = (-guess_x, -guess_y) if self.config.subtractCenter else (part.x0, part.y0)
            self.store(batch, members, result, origin)


@register("ext_shapeHSM_HsmSourceMomentsRound")
class HsmSourceMomentsRoundPlugin(HsmSourceMomentsPlugin):
    """Moments of a star with a round weight (spec 04 §2, §7.3)."""

    ConfigClass = HsmSourceMomentsRoundConfig


@register("ext_shapeHSM_HsmPsfMoments")
class HsmPsfMomentsPlugin(HsmMomentsPlugin):
    """Adaptive moments of the PSF model at a star (spec 04 §3)."""

    ConfigClass = HsmPsfMomentsConfig
    _subject = "the PSF"

    def measure(self, batch: MeasureBatch) -> None:
        rows = batch.start(self.name)
        if batch.psf is None:
            batch.fail(rows, self.name)
            return
        if not len(rows):
            return
        images, guess_x, guess_y = self._draw(batch)
        rows = self._drop_undrawn(batch, rows, images)
        self._measure_images(batch, rows, images[rows], guess_x[rows], guess_y[rows])

    def _draw(self, batch: MeasureBatch) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return PSF images of all stars and their centres' positions."""
        if self.config.useSourceCentroidOffset:
            images, x0, y0 = batch.psf_images("star")
            return images, batch.x - x0, batch.y - y0
        images, _, _ = batch.psf_images("kernel")
        height, width = images.shape[1:]
        return images, np.full(len(images), float(width // 2)), np.full(len(images), float(height // 2))

    def _drop_undrawn(self, batch: MeasureBatch, rows: IntArray, images: FloatArray) -> IntArray:
        """Mark stars whose PSF cannot be drawn; return the others."""
        drawn = np.isfinite(images[rows]).all(axis=(1, 2))
        batch.fail_psf(rows[~drawn], self.name)
        return rows[drawn]

    def _measure_images(
        self,
        batch: MeasureBatch,
        rows: IntArray,
        images: FloatArray,
        guess_x: FloatArray,
        guess_y: FloatArray,
        good: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Measure the PSF images of some stars."""
        result = hsm_moments(
            images,
            guess_x,
            guess_y,
            trace_radii(batch)[rows],
            good=good,
            round_moments=self.config.roundMoments,
        )
        if self.config.subtractCenter:
            self.store(batch, rows, result, (-guess_x, -guess_y))
        else:
            _, x0, y0 = batch.psf_images("star")
            self.store(batch, rows, result, (x0[rows], y0[rows]))


@register("ext_shapeHSM_HsmPsfMomentsDebiased")
class HsmPsfMomentsDebiasedPlugin(HsmPsfMomentsPlugin):
    """Moments of the PSF with the star's flux and noise (spec 04 §4).

    The noise bias of these moments cancels that of the star's moments.
    """

    ConfigClass = HsmPsfMomentsDebiasedConfig
    execution_order = FLUX_ORDER + 0.1

    def measure(self, batch: MeasureBatch) -> None:
        rows = batch.start(self.name)
        flux = batch.slot_columns("PsfFlux", ("instFlux",))
        if batch.psf is None or flux is None:
            batch.fail(rows, self.name)
            return
        if not len(rows):
            return
        images, x0, y0 = batch.psf_images("star")
        rows = self._drop_undrawn(batch, rows, images)
        height, width = images.shape[1:]
        boxes = np.stack([x0, y0, x0 + width - 1, y0 + height - 1], axis=-1)[rows]
        edge = rows[~inside_bounds(boxes, batch.image_box)]
        batch.set_flag(edge, f"{self.name}_flag_edge")
        if self.config.noiseSource == "variance":
            batch.fail(edge, self.name)
            rows = np.setdiff1d(rows, edge)
        if not len(rows):
            return
        stamps = cut_stamps(batch.exposure, x0[rows], y0[rows], width, height)
        images, guess_x, guess_y = self._draw(batch)
        noisy = images[rows] * flux[0][rows, None, None]
        noisy += self._noise(batch, rows, stamps.variance)
        self._measure_images(
            batch,
            rows,
            noisy,
            guess_x[rows],
            guess_y[rows],
            ~stamps.bad(self.config.badMaskPlanes),
        )

    def _noise(self, batch: MeasureBatch, rows: IntArray, variance: npt.NDArray[np.float32]) -> FloatArray:
        """Draw each star's noise from its own seed, like ``variance``."""
        from ..noise.replacement_numba import draw_normal

        height, width = variance.shape[1:]
        seeds = batch.catalog["id"][rows] + self.config.seedOffset
        noise = np.empty((len(rows), height, width))
        tables = ziggurat_tables()
        # Every star has a generator of its own, seeded with its id.
        for pixels, seed in zip(noise, seeds, strict=True):
            draw_normal(seed_state(int(seed)), *tables, pixels.reshape(-1))
        if self.config.noiseSource == "variance":
            with np.errstate(invalid="ignore"):
                return noise * np.sqrt(variance.astype(np.float64))
        mean = batch.exposure.metadata.get("BGMEAN")
        if not isinstance(mean, int | float) or not mean >= 0:
            raise MeasurementFatalError(
                f"Plugin {self.name} needs a BGMEAN >= 0 in the exposure's metadata, which has {mean!r}."
            )
        return noise * np.sqrt(mean)
