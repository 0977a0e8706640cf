# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""PSF photometry (spec 03 §3.2)."""

from __future__ import annotations

__all__ = ("PsfFluxConfig", "PsfFluxPlugin", "fit_psf_fluxes")

from collections.abc import MutableMapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from lsst.pex.config import ListField

from ...catalogs import Schema, StampSet
from .._batch import MeasureBatch
from .._plugin import (
    FLUX_ORDER,
    SingleFramePlugin,
    SingleFramePluginConfig,
    add_flux_fields,
    alias_centroid_flag,
    register,
)

type FloatArray = npt.NDArray[np.float64]

_AT_ONCE = 128
"""Stars of which there are arrays of all pixels."""


class PsfFits(NamedTuple):
    """Results of `fit_psf_fluxes`, float64 and int64 of shape (N,)."""

    flux: FloatArray
    flux_err: FloatArray
    area: FloatArray
    chi2: FloatArray
    n_pixels: npt.NDArray[np.int64]


def fit_psf_fluxes(stamps: StampSet, models: FloatArray, used: npt.NDArray[np.bool_]) -> PsfFits:
    """Fit amplitudes of PSF images, without weights.

    Parameters
    ----------
    stamps : `StampSet`
        Pixels of the stars.
    models : `numpy.ndarray`
        PSF images on the same pixels, (N, h, w).
    used : `numpy.ndarray`
        Pixels to use, bool (N, h, w).

    Returns
    -------
    fits : `PsfFits`
        Flux ``ΣPD / ΣP²``, its error ``sqrt(ΣP²V) / ΣP²``, effective area
        ``(ΣP)² / ΣP²``, chi² and number of pixels.
    """
    p = np.where(used, models, 0.0)
    d = np.where(used, stamps.image, 0.0).astype(np.float64)
    v = np.where(used, stamps.variance, 0.0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        alpha = np.einsum("nij,nij->n", p, p)
        flux = np.einsum("nij,nij->n", p, d) / alpha
        flux_err = np.sqrt(np.einsum("nij,nij->n", p * p, v)) / alpha
        area = p.sum(axis=(1, 2)) ** 2 / alpha
        residual = (d - flux[:, None, None] * p) ** 2
        chi2 = np.where(used, residual / v, 0.0).sum(axis=(1, 2))
    return PsfFits(flux, flux_err, area, chi2, used.sum(axis=(1, 2)))


class PsfFluxConfig(SingleFramePluginConfig):
    """Options of ``base_PsfFlux``."""

    badMaskPlanes = ListField[str](doc="Mask planes of pixels to exclude from the fit.", default=[])


@register("base_PsfFlux", apcorr=True)
class PsfFluxPlugin(SingleFramePlugin):
    """Fit of the PSF at the centroid, with flux as the only parameter."""

    ConfigClass = PsfFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(
        self,
        config: PsfFluxConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        add_flux_fields(schema, name, "instFlux derived from linear least-squares fit of PSF model")
        schema.add_field(f"{name}_area", "F", doc="effective area of PSF", unit="pixel")
        schema.add_field(f"{name}_chi2", "F", doc="chi2 of the fitted PSF")
        schema.add_field(
            f"{name}_npixels", "I", doc="number of pixels that were included in the PSF fit", unit="pixel"
        )
        schema.add_flag(f"{name}_flag", doc="General Failure Flag")
        schema.add_flag(
            f"{name}_flag_noGoodPixels",
            doc="not enough non-rejected pixels in data to attempt the fit",
        )
        schema.add_flag(
            f"{name}_flag_edge",
            doc="object was too close to the edge of the image to use the full PSF model",
        )
        alias_centroid_flag(schema, name)

    def measure(self, batch: MeasureBatch) -> None:
        batch.require_psf(self.name)
        bad = np.uint32(batch.bits(self.config.badMaskPlanes, self.name))
        rows = batch.start(self.name)
        models, x0, y0 = batch.psf_images("star")
        drawn = np.isfinite(models[rows]).all(axis=(1, 2))
        batch.fail_psf(rows[~drawn], self.name)
        rows = rows[drawn]
        if not len(rows):
            return
        # A few stars at a time, for less memory.
        parts = [rows[i : i + _AT_ONCE] for i in range(0, len(rows), _AT_ONCE)]
        fitted = [self._fit(batch, part, models[part], x0[part], y0[part], bad) for part in parts]
        fits = PsfFits(*(np.concatenate(column) for column in zip(*(fit for fit, _ in fitted), strict=True)))
        edge = rows[np.concatenate([at_edge for _, at_edge in fitted])]
        empty = fits.n_pixels == 0
        batch.set_flag(edge, f"{self.name}_flag_edge")
        batch.set_flag(rows[empty], f"{self.name}_flag_noGoodPixels")
        finite = np.isfinite(fits.flux) & np.isfinite(fits.flux_err)
        batch.fail(np.concatenate([edge, rows[empty | ~finite]]), self.name)
        self._write(batch, rows, fits, ~empty, ~empty & finite)

    def _fit(
        self,
        batch: MeasureBatch,
        rows: npt.NDArray[np.int64],
        models: FloatArray,
        x0: npt.NDArray[np.int64],
        y0: npt.NDArray[np.int64],
        bad: np.uint32,
    ) -> tuple[PsfFits, npt.NDArray[np.bool_]]:
        """Fit some stars; return the results, and whose image is cut off."""
        height, width = models.shape[1:]
        stamps = batch.cutout(x0, y0, width, height, rows)
        inside = np.ones(stamps.image.shape, dtype=bool) if stamps.valid is None else stamps.valid
        used = inside & ((stamps.mask & bad) == 0)
        return fit_psf_fluxes(stamps, models, used), ~inside.all(axis=(1, 2))

    def _write(
        self,
        batch: MeasureBatch,
        rows: npt.NDArray[np.int64],
        fits: PsfFits,
        some: npt.NDArray[np.bool_],
        good: npt.NDArray[np.bool_],
    ) -> None:
        """Write area and number of pixels, and fluxes where they are good."""
        catalog, name = batch.catalog, self.name
        catalog[f"{name}_npixels"][rows[some]] = fits.n_pixels[some]
        with np.errstate(over="ignore"):
            catalog[f"{name}_area"][rows[some]] = fits.area[some]
            catalog[f"{name}_chi2"][rows[good]] = fits.chi2[good]
        catalog[f"{name}_instFlux"][rows[good]] = fits.flux[good]
        catalog[f"{name}_instFluxErr"][rows[good]] = fits.flux_err[good]
