# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Aperture photometry plugins: circles, PSF-scaled circles, PSF peaks."""

from __future__ import annotations

__all__ = (
    "CircularApertureFluxConfig",
    "CircularApertureFluxPlugin",
    "CircularApertures",
    "PeakLikelihoodFluxConfig",
    "PeakLikelihoodFluxPlugin",
    "ScaledApertureFluxConfig",
    "ScaledApertureFluxPlugin",
    "kernel_order",
    "store_aperture",
)

import re
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Config, Field, ListField

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import (
    FLUX_ORDER,
    SingleFramePlugin,
    SingleFramePluginConfig,
    add_flux_fields,
    alias_centroid_flag,
    register,
)
from ..geometry import determinant_radius
from ..pixels import inside_bounds, lanczos_weights
from ._naive import naive_flux
from ._sinc import ApertureFlux, Axes, sinc_flux, sinc_fluxes, single_windows

type IntArray = npt.NDArray[np.int64]

_SHIFT_DOC = "Warping kernel used to shift Sinc photometry coefficients to different center positions"
_FWHM = 2.0 * float(np.sqrt(2.0 * np.log(2.0)))


def kernel_order(name: str) -> int:
    """Return the order of a warping kernel.

    Parameters
    ----------
    name : `str`
        Name of the kernel, such as ``lanczos5``.

    Returns
    -------
    order : `int`
        Order of the Lanczos kernel, 1 to 7: the smallest grid of sinc
        coefficients has 15 pixels.

    Raises
    ------
    ValueError
        Raised for any other kernel.
    """
    match = re.fullmatch(r"lanczos([1-7])", name)
    if match is None:
        raise ValueError(f"Warping kernel {name!r} is not supported; use 'lanczos1' to 'lanczos7'.")
    return int(match[1])


class CircularApertures(Config):
    """Options of circular apertures, wherever they are measured."""

    radii = ListField[float](
        doc="Radius (in pixels) of apertures.",
        default=[3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0],
        itemCheck=lambda radius: radius > 0,
    )
    maxSincRadius = Field[float](
        doc="Maximum radius (in pixels) for which the sinc algorithm should be used instead of the faster "
        "naive algorithm.  For elliptical apertures, this is the minor axis radius.",
        default=10.0,
    )
    shiftKernel = Field[str](doc=_SHIFT_DOC, default="lanczos5")


class CircularApertureFluxConfig(CircularApertures, SingleFramePluginConfig):
    """Options of ``base_CircularApertureFlux``."""


class Circles:
    """Circular apertures as configured, and their fields.

    Parameters
    ----------
    config : `CircularApertures`
        Options.

    Attributes
    ----------
    radii : `list` [`float`]
        Radii in pixels.
    small : `list` [`bool`]
        Which of them are measured with sinc coefficients.
    order : `int`
        Order of the Lanczos kernel that shifts these.
    """

    def __init__(self, config: Any) -> None:
        self.order = kernel_order(config.shiftKernel)
        self.radii = [float(radius) for radius in config.radii]
        self.small = [radius <= config.maxSincRadius for radius in self.radii]

    def add_fields(self, schema: Schema, name: str) -> list[str]:
        """Add the fields of all circles.

        Parameters
        ----------
        schema : `Schema`
            Schema to extend.
        name : `str`
            Start of the fields' names.

        Returns
        -------
        prefixes : `list` [`str`]
            Start of each circle's fields.
        """
        prefixes = [f"{name}_{radius:.1f}".replace(".", "_") for radius in self.radii]
        for radius, small, prefix in zip(self.radii, self.small, prefixes, strict=True):
            add_aperture_fields(schema, prefix, f"instFlux within {radius:f}-pixel aperture", small)
        return prefixes

    def axes(self, count: int) -> list[Axes]:
        """Return semi-axes and angles of each circle, for ``count`` stars."""
        # Upstream's cache of coefficients is keyed on float32 radii.
        radii = [
            float(np.float32(radius)) if small else radius
            for radius, small in zip(self.radii, self.small, strict=True)
        ]
        zeros = np.zeros(count)
        return [(circle, circle, zeros) for circle in (np.full(count, radius) for radius in radii)]


def add_aperture_fields(schema: Schema, prefix: str, doc: str, sinc: bool) -> None:
    """Add flux and flags of an aperture to a schema.

    Parameters
    ----------
    schema : `Schema`
        Schema to extend.
    prefix : `str`
        Start of the fields' names.
    doc : `str`
        Description of the flux.
    sinc : `bool`
        Add the flag of truncated sinc coefficients?
    """
    add_flux_fields(schema, prefix, doc)
    schema.add_flag(f"{prefix}_flag", "General Failure Flag")
    schema.add_flag(f"{prefix}_flag_apertureTruncated", "aperture did not fit within measurement image")
    if sinc:
        schema.add_flag(
            f"{prefix}_flag_sincCoeffsTruncated",
            "full sinc coefficient image did not fit within measurement image",
        )


@register("base_CircularApertureFlux")
class CircularApertureFluxPlugin(SingleFramePlugin):
    """Fluxes in circular apertures (spec 03 §3.8.1)."""

    ConfigClass = CircularApertureFluxConfig
    execution_order = FLUX_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        self.circles = Circles(self.config)
        self.prefixes = self.circles.add_fields(schema, name)
        metadata[f"{name.upper()}_RADII"] = list(self.circles.radii)
        alias_centroid_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        axes, small = self.circles.axes(len(batch)), self.circles.small
        wanted = np.array(small)[:, None] & batch.centroid_ok
        bounds = np.array(batch.image_box, dtype=np.int64)
        results = sinc_fluxes(
            single_windows(batch.cutout),
            batch.x,
            batch.y,
            axes,
            [self.circles.order] * len(axes),
            wanted,
            regions=np.broadcast_to(bounds, (len(batch), 1, 4)),
        )
        for k, prefix in enumerate(self.prefixes):
            rows = batch.start(prefix)
            result = results[k][0]
            if not small[k]:
                result = naive_flux(
                    batch.cutout, batch.x, batch.y, *axes[k], bounds=batch.image_box, rows=rows
                )
            store_aperture(batch, prefix, rows, result)


def store_aperture(batch: MeasureBatch, prefix: str, rows: IntArray, result: ApertureFlux) -> None:
    """Write aperture fluxes and their flags to the catalogue.

    Parameters
    ----------
    batch : `MeasureBatch`
        Stars being measured.
    prefix : `str`
        Start of the field names.
    rows : `numpy.ndarray`
        Indices of the measured stars.
    result : `ApertureFlux`
        Result of all N stars of the batch.
    """
    batch.catalog[f"{prefix}_instFlux"][rows] = result.flux[rows]
    batch.catalog[f"{prefix}_instFluxErr"][rows] = result.flux_err[rows]
    batch.fail(rows[result.aperture_truncated[rows]], prefix)
    batch.set_flag(rows[result.aperture_truncated[rows]], f"{prefix}_flag_apertureTruncated", missing_ok=True)
    batch.set_flag(
        rows[result.coefficients_truncated[rows]], f"{prefix}_flag_sincCoeffsTruncated", missing_ok=True
    )


class ScaledApertureFluxConfig(SingleFramePluginConfig):
    """Options of the PSF-scaled aperture."""

    scale = Field[float](doc="Scaling factor of PSF FWHM for aperture radius.", default=3.14)
    shiftKernel = Field[str](doc=_SHIFT_DOC, default="lanczos5")


@register("base_ScaledApertureFlux")
class ScaledApertureFluxPlugin(SingleFramePlugin):
    """Flux in a circle that scales with the PSF (spec 03 §3.8.7)."""

    ConfigClass = ScaledApertureFluxConfig
    execution_order = FLUX_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        self.order = kernel_order(self.config.shiftKernel)
        doc = "flux in an aperture whose radius is a multiple of the PSF's FWHM"
        add_aperture_fields(schema, name, doc, True)
        alias_centroid_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        batch.require_psf(self.name)
        rows = batch.start(self.name)
        shapes = batch.psf_shapes()
        rows = batch.drop_undrawable(rows, shapes, batch.x, batch.y, self.name)
        radius = self.config.scale * _FWHM * determinant_radius(shapes)
        with np.errstate(invalid="ignore"):
            usable = radius[rows] > 0
        batch.fail(rows[~usable], self.name)
        rows = rows[usable]
        result = sinc_flux(
            batch.cutout,
            batch.x,
            batch.y,
            radius,
            radius,
            np.zeros(len(batch)),
            bounds=batch.image_box,
            rows=rows,
            order=self.order,
        )
        store_aperture(batch, self.name, rows, result)


class PeakLikelihoodFluxConfig(SingleFramePluginConfig):
    """Options of the peak likelihood flux."""

    warpingKernelName = Field[str](
        doc='Name of warping kernel (e.g. "lanczos4") used to compute the peak',
        default="lanczos4",
    )


@register("base_PeakLikelihoodFlux")
class PeakLikelihoodFluxPlugin(SingleFramePlugin):
    """Flux from the peak of an image convolved with its PSF.

    The interpolated value at the centroid times the PSF's effective area
    (spec 03 §3.8.7).
    """

    ConfigClass = PeakLikelihoodFluxConfig
    execution_order = FLUX_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        self.order = kernel_order(self.config.warpingKernelName)
        add_flux_fields(schema, name, "instFlux from the peak of a PSF-convolved image")
        schema.add_flag(f"{name}_flag", "General Failure Flag")
        alias_centroid_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        psf = batch.require_psf(self.name)
        rows = batch.start(self.name)
        x, y = batch.x[rows], batch.y[rows]
        column, line = np.floor(x + 0.5), np.floor(y + 0.5)
        color = None if batch.color is None else batch.color[rows]
        images = psf.draw_kernel_images(column, line, color=color)
        drawn = np.isfinite(images).all(axis=(1, 2))
        batch.fail_psf(rows[~drawn], self.name)
        # The image is shifted by minus the fraction, to centre the star.
        with np.errstate(invalid="ignore"):
            fx, fy = column - x, line - y
        x_taps, x_centres = lanczos_weights(fx, self.order)
        y_taps, y_centres = lanczos_weights(fy, self.order)
        x0, y0 = column - x_centres, line - y_centres
        size = 2 * self.order
        usable = inside_bounds(np.stack([x0, y0, x0 + size - 1, y0 + size - 1], axis=-1), batch.image_box)
        batch.fail(rows[~usable], self.name)
        good = usable & drawn
        stamps = batch.cutout(x0[good].astype(np.int64), y0[good].astype(np.int64), size, size, rows[good])
        taps = y_taps[good], x_taps[good]
        peak = np.einsum("nji,nj,ni->n", stamps.image.astype(np.float64), *taps)
        variance = np.einsum("nji,nj,ni->n", stamps.variance.astype(np.float64), *(t**2 for t in taps))
        area = np.square(images[good].sum(axis=(1, 2))) / np.square(images[good]).sum(axis=(1, 2))
        rows = rows[good]
        batch.catalog[f"{self.name}_instFlux"][rows] = peak * area
        with np.errstate(invalid="ignore"):
            batch.catalog[f"{self.name}_instFluxErr"][rows] = area * np.sqrt(variance)
        # Quirk: success clears the flag of a doubtful centroid.
        batch.catalog[f"{self.name}_flag"][rows] = False
