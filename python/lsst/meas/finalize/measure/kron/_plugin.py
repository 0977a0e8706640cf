# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Elliptical aperture photometry scaled by Kron radii (spec 05 §7)."""

from __future__ import annotations

__all__ = ("KronFluxConfig", "KronFluxPlugin")

from collections.abc import MutableMapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Field

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
from ..apertures import aperture_flux
from ..geometry import axes_from_quadrupole, determinant_radius
from ._radius import Ellipses, footprint_radii, measure_radii

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]
type BoolArray = npt.NDArray[np.bool_]

_NAME = "ext_photometryKron_KronFlux"
_FLAGS = (
    ("flag", "general failure flag, set if anything went wrong"),
    ("flag_edge", "bad measurement due to image edge"),
    ("flag_bad_shape_no_psf", "bad shape and no PSF"),
    ("flag_no_minimum_radius", "minimum radius could not enforced: no minimum value or PSF"),
    ("flag_no_fallback_radius", "no minimum radius and no PSF provided"),
    ("flag_bad_radius", "bad Kron radius"),
    ("flag_used_minimum_radius", "used the minimum radius for the Kron aperture"),
    ("flag_used_psf_radius", "used the PSF Kron radius for the Kron aperture"),
    ("flag_small_radius", "measured Kron radius was smaller than that of the PSF"),
    ("flag_bad_shape", "shape for measuring Kron radius is bad; used PSF shape"),
)


class KronFluxConfig(SingleFramePluginConfig):
    """Options of ``ext_photometryKron_KronFlux``."""

    fixed = Field[bool](
        doc="if true, use existing shape and centroid measurements instead of fitting", default=False
    )
    nSigmaForRadius = Field[float](
        doc="Multiplier of rms size for aperture used to initially estimate the Kron radius", default=6.0
    )
    nIterForRadius = Field[int](doc="Number of times to iterate when setting the Kron radius", default=1)
    nRadiusForFlux = Field[float](doc="Number of Kron radii for Kron flux", default=2.5)
    maxSincRadius = Field[float](
        doc="Largest aperture for which to use the slow, accurate, sinc aperture code", default=10.0
    )
    minimumRadius = Field[float](
        doc="Minimum Kron radius (if == 0.0 use PSF's Kron radius) if enforceMinimumRadius. Also functions "
        "as fallback aperture radius if set.",
        default=0.0,
    )
    enforceMinimumRadius = Field[bool](
        doc="If true check that the Kron radius exceeds some minimum", default=True
    )
    useFootprintRadius = Field[bool](
        doc="Use the Footprint size as part of initial estimate of Kron radius", default=False
    )
    smoothingSigma = Field[float](
        doc="Smooth image with N(0, smoothingSigma^2) Gaussian while estimating R_K", default=-1.0
    )
    refRadiusName = Field[str](
        doc="Name of field specifying reference Kron radius for forced measurement",
        default="ext_photometryKron_KronFlux_radius",
    )


@register(_NAME, apcorr=True)
class KronFluxPlugin(SingleFramePlugin):
    """Flux in an ellipse of a few Kron (first-moment) radii."""

    ConfigClass = KronFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(
        self,
        config: KronFluxConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        add_flux_fields(schema, name, "flux from Kron Flux algorithm")
        schema.add_field(f"{name}_radius", "F", doc="Kron radius (sqrt(a*b))")
        schema.add_field(f"{name}_radius_for_radius", "F", doc="radius used to estimate <radius> (sqrt(a*b))")
        schema.add_field(f"{name}_psf_radius", "F", doc="Radius of PSF")
        for flag, doc in _FLAGS:
            schema.add_flag(f"{name}_{flag}", doc)
        alias_centroid_flag(schema, name, "flag_badInitialCentroid")
        metadata[f"{name.upper()}_NRADIUSFORFLUX"] = float(config.nRadiusForFlux)

    def measure(self, batch: MeasureBatch) -> None:
        x, y = self._centres(batch)
        # Where the centroid is not even finite upstream finds no pixels.
        found = np.isfinite(x) & np.isfinite(y)
        batch.fail(~found, self.name)
        psf_radius, rows = self._psf_radii(batch, x, y, np.flatnonzero(found))
        slot, start, bad, rows = self._shapes(batch, x, y, rows)
        aperture = start.copy()
        radius_for_radius = np.full(len(batch), np.nan)
        if not self.config.fixed:
            if self.config.useFootprintRadius:
                self._grow_to_footprints(batch, aperture, rows)
            no_sum, broken = measure_radii(batch, self.config, aperture, radius_for_radius, rows)
            bad |= broken
            rows = self._fall_back(
                batch, slot, aperture, radius_for_radius, psf_radius, no_sum | broken, rows
            )
        rows = self._enforce_minimum(batch, aperture, psf_radius, rows)
        with np.errstate(invalid="ignore"):
            tiny = aperture.radius[rows] < np.finfo(np.float64).eps
        self._fail(batch, rows[tiny], "flag_bad_radius")
        rows = self._measure_fluxes(batch, aperture, rows[~tiny])
        catalog = batch.catalog
        with np.errstate(over="ignore"):
            catalog[f"{self.name}_radius"][rows] = aperture.radius[rows]
            catalog[f"{self.name}_radius_for_radius"][rows] = radius_for_radius[rows]
            catalog[f"{self.name}_psf_radius"][rows] = psf_radius[rows]
        batch.fail(rows[bad[rows]], self.name)

    def _fail(self, batch: MeasureBatch, rows: IntArray, flag: str) -> None:
        """Set a flag together with the general one."""
        batch.set_flag(rows, f"{self.name}_{flag}")
        batch.fail(rows, self.name)

    def _centres(self, batch: MeasureBatch) -> tuple[FloatArray, FloatArray]:
        """Return centroids or, where there are none, first peaks.

        Like a centroider, this plugin doesn't care for the centroid's flag.
        """
        x, y = batch.x.copy(), batch.y.copy()
        columns = batch.slot_columns("Centroid", ("x", "y"))
        if columns is not None:
            x, y = (np.array(c, dtype=np.float64) for c in columns)
        peak_x, peak_y, has_peak = batch.first_peaks()
        lost = ~(np.isfinite(x) & np.isfinite(y)) & has_peak
        x[lost], y[lost] = peak_x[lost], peak_y[lost]
        return x, y

    def _psf_radii(
        self, batch: MeasureBatch, x: FloatArray, y: FloatArray, rows: IntArray
    ) -> tuple[FloatArray, IntArray]:
        """Return Kron radii of the PSF, and the stars to go on with.

        A Gaussian's Kron radius is sqrt(pi / 2) sigma.  -1 without a PSF.
        """
        if batch.psf is None:
            return np.full(len(batch), -1.0), rows
        same = ((x == batch.x) & (y == batch.y))[rows].all()
        shapes = batch.psf_shapes() if same else batch.psf.compute_shapes(x, y, color=batch.color)
        rows = batch.drop_undrawable(rows, shapes, x, y, self.name)
        smoothing = max(0.0, self.config.smoothingSigma)
        return np.sqrt(0.5 * np.pi) * np.hypot(determinant_radius(shapes), smoothing), rows

    def _shapes(
        self, batch: MeasureBatch, x: FloatArray, y: FloatArray, rows: IntArray
    ) -> tuple[Ellipses, Ellipses, BoolArray, IntArray]:
        """Return the shape slot, the ellipses to start from, and whose shape
        is flagged; of these only stars with a PSF remain.
        """
        count = len(batch)
        columns = batch.slot_columns("Shape", ("xx", "yy", "xy"))
        moments = np.full((count, 3), np.nan) if columns is None else np.stack(columns, axis=-1)
        slot = Ellipses(x, y, *axes_from_quadrupole(moments))
        flag = batch.slot_flag("Shape")
        flagged = np.zeros(count, dtype=np.bool_)
        if flag is not None:
            flagged[rows] = flag[rows]
        start = slot.copy()
        if flagged.any():
            if batch.psf is None:
                self._fail(batch, np.flatnonzero(flagged), "flag_bad_shape_no_psf")
                return slot, start, flagged, rows[~flagged[rows]]
            batch.set_flag(flagged, f"{self.name}_flag_bad_shape")
            nowhere = np.full(1, np.nan)
            start.set_axes(flagged, axes_from_quadrupole(batch.psf.compute_shapes(nowhere, nowhere)))
        return slot, start, flagged, rows

    def _grow_to_footprints(self, batch: MeasureBatch, ellipses: Ellipses, rows: IntArray) -> None:
        """Scale ellipses so that the first aperture is as large as the
        footprint.
        """
        wanted = np.sqrt(2.0) * footprint_radii(batch.footprints, rows)
        current = self.config.nSigmaForRadius * ellipses.radius[rows]
        with np.errstate(invalid="ignore", divide="ignore"):
            larger = wanted > current
            ellipses.scale(rows[larger], (wanted / current)[larger])

    def _fall_back(
        self,
        batch: MeasureBatch,
        slot: Ellipses,
        aperture: Ellipses,
        radius_for_radius: FloatArray,
        psf_radius: FloatArray,
        failed: BoolArray,
        rows: IntArray,
    ) -> IntArray:
        """Replace radii that could not be measured; return who has one."""
        lost = rows[failed[rows]]
        batch.set_flag(lost, f"{self.name}_flag_bad_radius")
        radius_for_radius[lost] = np.nan
        minimum = self.config.minimumRadius
        with np.errstate(invalid="ignore"):
            has_psf = psf_radius[lost] > 0
        if minimum > 0:
            batch.set_flag(lost, f"{self.name}_flag_used_minimum_radius")
            radius, known = np.full(len(lost), minimum), np.ones(len(lost), dtype=np.bool_)
        else:
            batch.set_flag(lost[has_psf], f"{self.name}_flag_used_psf_radius")
            self._fail(batch, lost[~has_psf], "flag_no_fallback_radius")
            radius, known = psf_radius[lost], has_psf
        aperture.set_axes(lost, (slot.a[lost], slot.b[lost], slot.theta[lost]))
        with np.errstate(invalid="ignore", divide="ignore"):
            aperture.scale(lost, radius / aperture.radius[lost])
        return np.setdiff1d(rows, lost[~known])

    def _enforce_minimum(
        self, batch: MeasureBatch, aperture: Ellipses, psf_radius: FloatArray, rows: IntArray
    ) -> IntArray:
        """Enlarge apertures that are smaller than the PSF's; return the stars
        for which there is a minimum.
        """
        if not self.config.enforceMinimumRadius:
            return rows
        if self.config.minimumRadius > 0:
            minimum, flag = np.full(len(rows), self.config.minimumRadius), "flag_used_minimum_radius"
        elif batch.psf is None:
            self._fail(batch, rows, "flag_no_minimum_radius")
            return rows[:0]
        else:
            minimum, flag = psf_radius[rows], "flag_used_psf_radius"
        with np.errstate(invalid="ignore", divide="ignore"):
            small = aperture.radius[rows] < minimum
            aperture.scale(rows[small], (minimum / aperture.radius[rows])[small])
        batch.set_flag(rows[small], f"{self.name}_{flag}")
        batch.set_flag(rows[small], f"{self.name}_flag_small_radius")
        return rows

    def _measure_fluxes(self, batch: MeasureBatch, aperture: Ellipses, rows: IntArray) -> IntArray:
        """Write fluxes; return the stars whose aperture makes sense."""
        scale = self.config.nRadiusForFlux
        a, b, theta = aperture.a * scale, aperture.b * scale, aperture.theta
        with np.errstate(invalid="ignore"):
            proper = np.isfinite(a[rows]) & np.isfinite(theta[rows]) & (b[rows] > 0) & (b[rows] <= a[rows])
        batch.fail(rows[~proper], self.name)
        rows = rows[proper]
        limit = self.config.maxSincRadius
        result = aperture_flux(
            batch.cutout,
            aperture.x,
            aperture.y,
            a,
            b,
            theta,
            bounds=batch.image_box,
            max_sinc_radius=limit,
            rows=rows,
            tight=True,
        )
        # Truncated sinc apertures are NaN but not flagged (upstream quirk).
        truncated = result.aperture_truncated[rows] & (b[rows] > limit)
        self._fail(batch, rows[truncated], "flag_edge")
        rows = rows[~truncated]
        batch.catalog[f"{self.name}_instFlux"][rows] = result.flux[rows]
        batch.catalog[f"{self.name}_instFluxErr"][rows] = result.flux_err[rows]
        return rows
