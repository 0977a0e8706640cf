# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Fluxes in an image blurred to given seeings (spec 06 §2)."""

from __future__ import annotations

__all__ = ("ConvolvedApertureConfig", "ConvolvedFluxConfig", "ConvolvedFluxPlugin")

from collections.abc import MutableMapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import ConfigField, Field, ListField

from ...apcorr import add_ap_corr_name
from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import (
    FLUX_ORDER,
    FluxFields,
    SingleFramePlugin,
    SingleFramePluginConfig,
    add_flux_fields,
    alias_centroid_flag,
    register,
)
from ..apertures import ApertureFlux, Axes, Circles, CircularApertures, naive_flux, store_aperture
from ..convolution import Blurring, blurred_sinc_fluxes
from ..geometry import axes_from_quadrupole, determinant_radius

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]
type BoolArray = npt.NDArray[np.bool_]

_NAME = "ext_convolved_ConvolvedFlux"
_SIGMA_TO_FWHM = 2.0 * float(np.sqrt(2.0 * np.log(2.0)))
_KRON_KERNEL_ORDER = 5
_FARTHEST = 1e9


class ConvolvedApertureConfig(CircularApertures):
    """Circular apertures on the convolved image."""

    def setDefaults(self) -> None:
        super().setDefaults()
        self.radii = [3.3, 4.5, 6.0]


class ConvolvedFluxConfig(SingleFramePluginConfig):
    """Options of ``ext_convolved_ConvolvedFlux``."""

    seeing = ListField[float](doc="list of target seeings (FWHM, pixels)", default=[3.5, 5.0, 6.5])
    kernelScale = Field[float](
        doc="scaling factor of kernel sigma for kernel size", default=4.0, check=lambda scale: scale >= 0
    )
    aperture = ConfigField[ConvolvedApertureConfig](doc="Aperture photometry parameters")
    kronRadiusName = Field[str](
        doc="name of Kron radius field in reference", default="ext_photometryKron_KronFlux_radius"
    )
    maxSincRadius = Field[float](
        doc="Largest aperture for which to use the sinc aperture code for Kron (pixels)", default=10.0
    )
    kronRadiusForFlux = Field[float](doc="Number of Kron radii for Kron flux", default=2.5)
    registerForApCorr = Field[bool](
        doc="Register measurements for aperture correction?\n"
        "The aperture correction registration is done when the plugin is\n"
        "instantiated because the column names are derived from the configuration\n"
        "rather than being static. Sometimes you want to turn this off, e.g.,\n"
        "when you will use aperture corrections derived from somewhere else\n"
        "through the 'proxy' mechanism.",
        default=True,
    )

    def getBaseNameForSeeing(self, seeing: float, name: str = _NAME) -> str:
        """Return the prefix of the fields for one seeing.

        Parameters
        ----------
        seeing : `float`
            Target seeing, one of the configured ones.
        name : `str`, optional
            Name of the plugin.

        Raises
        ------
        RuntimeError
            Raised unless exactly one of the seeings is equal to it.
        """
        indices = [i for i, target in enumerate(self.seeing) if target == seeing]
        if len(indices) != 1:
            raise RuntimeError(f"Seeing {seeing} is {len(indices)} times in {list(self.seeing)}, not once.")
        return f"{name}_{indices[0]}"

    def getApertureResultName(self, seeing: float, radius: float, name: str = _NAME) -> str:
        """Return the prefix of a circular aperture's fields.

        Parameters
        ----------
        seeing : `float`
            Target seeing, one of the configured ones.
        radius : `float`
            Radius in pixels.
        name : `str`, optional
            Name of the plugin.
        """
        return f"{self.getBaseNameForSeeing(seeing, name)}_{radius:.1f}".replace(".", "_")

    def getKronResultName(self, seeing: float, name: str = _NAME) -> str:
        """Return the prefix of a Kron aperture's fields.

        Parameters
        ----------
        seeing : `float`
            Target seeing, one of the configured ones.
        name : `str`, optional
            Name of the plugin.
        """
        return f"{self.getBaseNameForSeeing(seeing, name)}_kron"

    def getAllApertureResultNames(self, name: str = _NAME) -> list[str]:
        """Return the prefixes of all circular apertures.

        Parameters
        ----------
        name : `str`, optional
            Name of the plugin.
        """
        indices = range(len(self.seeing))
        return [
            f"{name}_{i}_{radius:.1f}".replace(".", "_") for i in indices for radius in self.aperture.radii
        ]

    def getAllKronResultNames(self, name: str = _NAME) -> list[str]:
        """Return the prefixes of all Kron apertures.

        Parameters
        ----------
        name : `str`, optional
            Name of the plugin.
        """
        return [f"{name}_{i}_kron" for i in range(len(self.seeing))]

    def getAllResultNames(self, name: str = _NAME) -> list[str]:
        """Return the prefixes of all fluxes.

        Parameters
        ----------
        name : `str`, optional
            Name of the plugin.
        """
        return self.getAllApertureResultNames(name) + self.getAllKronResultNames(name)


@register(_NAME)
class ConvolvedFluxPlugin(SingleFramePlugin):
    """Fluxes in circles and Kron ellipses, after blurring to given seeings.

    The error does not include the covariance that blurring creates (as
    upstream).
    """

    ConfigClass = ConvolvedFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER + 0.1

    def __init__(
        self,
        config: ConvolvedFluxConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        self.circles = Circles(config.aperture)
        schema.add_field(
            f"{name}_seeing", "F", doc="original seeing (Gaussian sigma) at position", unit="pixel"
        )
        self.prefixes = [self._add_fields(schema, i, seeing) for i, seeing in enumerate(config.seeing)]
        for i in range(len(config.seeing)):
            metadata[f"{name.upper()}_{i}_RADII"] = list(self.circles.radii)
        schema.add_flag(f"{name}_flag", "error in running ConvolvedFluxPlugin")
        alias_centroid_flag(schema, name)
        if config.registerForApCorr:
            for result in config.getAllResultNames(name):
                add_ap_corr_name(result)

    def _add_fields(self, schema: Schema, index: int, seeing: float) -> list[str]:
        """Add the fields of one seeing; return the circles' prefixes."""
        base = f"{self.name}_{index}"
        schema.add_flag(
            f"{base}_deconv", f"deconvolution required for seeing {seeing:f}; no measurement made"
        )
        prefixes = self.circles.add_fields(schema, base)
        alias_centroid_flag(schema, base)
        add_flux_fields(schema, f"{base}_kron", f"convolved Kron flux: seeing {seeing:f}")
        schema.add_flag(f"{base}_kron_flag", f"convolved Kron flux failed: seeing {seeing:f}")
        return prefixes

    def measure(self, batch: MeasureBatch) -> None:
        rows = batch.start(self.name)
        if batch.psf is None:
            batch.fail(rows, self.name)
            return
        axes, has_kron, rows = self._kron_axes(batch, rows)
        shapes = batch.psf_shapes()
        rows = batch.drop_undrawable(rows, shapes, batch.x, batch.y, self.name)
        sigma = determinant_radius(shapes)
        batch.catalog[f"{self.name}_seeing"][rows] = sigma[rows]
        blurring, active = self._plan(batch, rows, sigma, axes)
        self._measure_circles_and_kron(batch, blurring, active, axes, has_kron)

    def _kron_axes(self, batch: MeasureBatch, rows: IntArray) -> tuple[Axes, BoolArray, IntArray]:
        """Return Kron ellipses (radius 1), who has one, and stars to measure.

        A star without Kron radius does without; one with a radius needs a
        shape.
        """
        count = len(batch)
        column = batch.get(self.config.kronRadiusName)
        radius = np.full(count, np.nan) if column is None else np.asarray(column, dtype=np.float64)
        has_kron = np.isfinite(radius)
        moments = batch.slot_columns("Shape", ("xx", "yy", "xy"))
        if moments is None:
            batch.fail(rows[has_kron[rows]], self.name)
            rows = rows[~has_kron[rows]]
            moments = [np.full(count, np.nan)] * 3
        a, b, theta = axes_from_quadrupole(np.stack(moments, axis=-1))
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            scale = radius / np.sqrt(a * b)
            return (a * scale, b * scale, theta), has_kron, rows

    def _plan(
        self, batch: MeasureBatch, rows: IntArray, sigma: FloatArray, axes: Axes
    ) -> tuple[Blurring, BoolArray]:
        """Decide on kernels and regions, and who is measured in what seeing.

        Returns the kernels, and who is measured, (N, P).  What aborts a
        measurement leaves all later seeings undone (upstream quirk).
        """
        target = np.array(self.config.seeing, dtype=np.float64) / _SIGMA_TO_FWHM
        chosen = np.zeros(len(batch), dtype=np.bool_)
        chosen[rows] = True
        with np.errstate(invalid="ignore"):
            too_sharp = target < sigma[:, None]
            kernel = np.sqrt(target**2 - np.square(sigma[:, None]))
            largest = np.fmax(
                max(self.config.aperture.radii, default=0.0),
                self.config.kronRadiusForFlux * np.sqrt(axes[0] * axes[1]),
            )
        problem = ~too_sharp & (np.isnan(sigma) | ~batch.footprints.present)[:, None]
        batch.fail(chosen & problem.any(axis=1), self.name)
        active = chosen[:, None] & ~np.logical_or.accumulate(problem, axis=1)
        usable = active & ~too_sharp
        half = np.where(usable, self.config.kernelScale * np.where(usable, kernel, 0.0) + 0.5, -1.0)
        half = np.minimum(half, _FARTHEST).astype(np.int64)
        # Beyond the image's own size growing makes no difference.
        margin = (np.clip(largest, 0.0, _FARTHEST) + 0.5).astype(np.int64)
        bounds = np.array(batch.image_box, dtype=np.int64)
        boxes = (
            batch.bboxes.astype(np.int64)[:, None, :]
            + np.array([-1, -1, 1, 1]) * (half + margin[:, None])[..., None]
        )
        regions = np.concatenate(
            [np.maximum(boxes[..., :2], bounds[:2]), np.minimum(boxes[..., 2:], bounds[2:])], axis=-1
        )
        size = (regions[..., 2:] - regions[..., :2] + 1).min(axis=-1)
        empty = (batch.bboxes[:, 2] < batch.bboxes[:, 0])[:, None]
        left = ~usable | empty | (size < 2 * half + 1)
        # Where blurring isn't possible, upstream measures the image as it is.
        regions = np.where(left[..., None], bounds, regions)
        for i in range(len(target)):
            batch.set_flag(active[:, i] & left[:, i], f"{self.name}_{i}_deconv")
        return Blurring.make(kernel, np.where(left, -1, half), regions), active

    def _measure_circles_and_kron(
        self, batch: MeasureBatch, blurring: Blurring, active: BoolArray, axes: Axes, has_kron: BoolArray
    ) -> None:
        """Measure all apertures and write the results."""
        count = len(batch)
        present = active.any(axis=1)
        # Far off the image there is nothing, and sums of pixels overflow.
        with np.errstate(invalid="ignore"):
            near = present & (np.abs(batch.x) < _FARTHEST) & (np.abs(batch.y) < _FARTHEST)
        circles, small = self.circles.axes(count), self.circles.small
        a, b, theta = axes[0], axes[1], axes[2]
        kron: Axes = (a * self.config.kronRadiusForFlux, b * self.config.kronRadiusForFlux, theta)
        with np.errstate(invalid="ignore"):
            good = has_kron & near & np.isfinite(kron[0]) & (kron[1] > 0) & (kron[1] <= kron[0])
            sinc = good & (kron[1] <= self.config.maxSincRadius)
        results = blurred_sinc_fluxes(
            batch,
            blurring,
            [*circles, kron],
            [self.circles.order] * len(circles) + [_KRON_KERNEL_ORDER],
            np.vstack([np.array(small, dtype=np.bool_)[:, None] & near, sinc]),
        )
        for i, prefixes in enumerate(self.prefixes):
            cutout = blurring.cutout(batch, i)
            bounds = blurring.regions[:, i]
            for k, prefix in enumerate(prefixes):
                rows = np.flatnonzero(active[:, i])
                batch.fail(rows[batch.centroid_flagged[rows]], prefix)
                result = results[k][i]
                if not small[k]:
                    result = naive_flux(cutout, batch.x, batch.y, *circles[k], bounds=bounds, rows=rows)
                lost = ~near[rows]
                result.aperture_truncated[rows[lost]] = result.coefficients_truncated[rows[lost]] = True
                store_aperture(batch, prefix, rows, result)
            large = np.flatnonzero(good & ~sinc & active[:, i])
            result = results[-1][i]
            if len(large):
                naive = naive_flux(cutout, batch.x, batch.y, *kron, bounds=bounds, rows=large, tight=True)
                result.flux[large], result.flux_err[large] = naive.flux[large], naive.flux_err[large]
            self._store_kron(batch, i, np.flatnonzero(active[:, i] & has_kron), result)

    def _store_kron(self, batch: MeasureBatch, index: int, rows: IntArray, result: ApertureFlux) -> None:
        """Write Kron fluxes; those that aren't finite are flagged."""
        prefix = f"{self.name}_{index}_kron"
        fields = FluxFields(f"{prefix}_instFlux", f"{prefix}_instFluxErr")
        batch.catalog[fields.instFlux][rows] = result.flux[rows]
        batch.catalog[fields.instFluxErr][rows] = result.flux_err[rows]
        batch.fail(rows[~(np.isfinite(result.flux[rows]) & np.isfinite(result.flux_err[rows]))], prefix)
