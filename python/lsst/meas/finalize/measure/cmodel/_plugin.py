# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The plugin ``modelfit_CModel`` (spec 05 §6)."""

from __future__ import annotations

__all__ = ("CModelPlugin",)

from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ...catalogs import Schema, SourceCatalog
from .._batch import MeasureBatch
from .._errors import MeasurementFatalError
from .._plugin import APCORR_ORDER, SingleFramePlugin, SingleFramePluginConfig, register
from ..base import photometric_calibration
from ..geometry import tangent_jacobians, transform_quadrupole
from ._config import CModelConfig
from ._region import (
    FitPixels,
    final_regions,
    fit_pixels,
    initial_regions,
    parameters_from_quadrupole,
    starting_moments,
)
from ._shapelets import shapelet_moments
from ._stage import CModelInputs, CModelStage, add_ellipse_fields, psf_columns, write_ellipse

if TYPE_CHECKING:
    from lsst.images import VisitImage

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]
type IntArray = npt.NDArray[np.int64]

_KRON_RADIUS = "ext_photometryKron_KronFlux_radius"
_ARCSEC = np.pi / 180 / 3600
_NO_FLUX_DOC = "no flux was measured on the image; this means the error will be non-finite."
_STAGES = (("initial", "initial"), ("exp", "exponential"), ("dev", "de Vaucouleur"))
_FLAGS = (
    ("flag_region_maxArea", "number of pixels in fit region exceeded the region.maxArea value"),
    (
        "flag_region_maxBadPixelFraction",
        "the fraction of bad/clipped pixels in the fit region exceeded region.maxBadPixelFraction",
    ),
    (
        "flags_region_usedFootprintArea",
        "the pixel region for the initial fit was defined by the area of the Footprint",
    ),
    (
        "flags_region_usedPsfArea",
        "the pixel region for the initial fit was set to a fixed factor of the PSF area",
    ),
    (
        "flags_region_usedInitialEllipseMin",
        "the pixel region for the final fit was set to the lower bound defined by the initial fit",
    ),
    (
        "flags_region_usedInitialEllipseMax",
        "the pixel region for the final fit was set to the upper bound defined by the initial fit",
    ),
    ("flag_noShape", "the shape slot needed to initialize the parameters failed or was not defined"),
)


class _Stars(NamedTuple):
    """Stars that have a shapelet PSF and moments to start from."""

    rows: IntArray
    x: FloatArray
    y: FloatArray
    psf: FloatArray
    psf_moments: FloatArray
    psf_centre: FloatArray
    moments: FloatArray

    def take(self, index: npt.NDArray) -> _Stars:
        """Return some of the stars."""
        return _Stars(*(column[index] for column in self))


@register("modelfit_CModel", apcorr=True)
class CModelPlugin(SingleFramePlugin):
    """Flux of the best combination of two galaxy profiles.

    Notes
    -----
    Spec 05 §6.  Pixels are evaluated in float32, as upstream does; where fits
    of stars end depends on rounding, so that single fluxes agree to about
    1e-4 only.
    """

    ConfigClass: ClassVar[type[SingleFramePluginConfig]] = CModelConfig
    execution_order: ClassVar[float] = APCORR_ORDER

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        try:
            self.psf_columns = psf_columns(schema, self.config.psfName)
        except ValueError as err:
            raise MeasurementFatalError(f"Plugin {name}: {err}") from err
        self.initial, self.exp, self.dev = (
            CModelStage(getattr(self.config, stage), f"{name}_{stage}", label, schema)
            for stage, label in _STAGES
        )
        self._add_fields(schema, name)

    def _add_fields(self, schema: Schema, name: str) -> None:
        schema.add_field(f"{name}_instFlux", "D", doc="flux from the final cmodel fit", unit="count")
        schema.add_field(
            f"{name}_instFluxErr", "D", doc="flux uncertainty from the final cmodel fit", unit="count"
        )
        schema.add_flag(f"{name}_flag", doc="flag set if the final cmodel fit (or any previous fit) failed")
        schema.add_field(
            f"{name}_instFlux_inner",
            "D",
            doc="flux within the fit region, with no extrapolation",
            unit="count",
        )
        schema.add_field(f"{name}_fracDev", "D", doc="fraction of flux in de Vaucouleur component")
        schema.add_field(f"{name}_objective", "D", doc="-ln(likelihood) (chi^2) in cmodel fit")
        for flag, doc in _FLAGS:
            schema.add_flag(f"{name}_{flag}", doc=doc)
        schema.add_flag(
            f"{name}_flags_smallShape",
            doc="initial parameter guess resulted in negative radius; used minimum of "
            f"{self.config.minInitialRadius:f} pixels instead.",
        )
        add_ellipse_fields(
            schema, f"{name}_ellipse", "fracDev-weighted average of exp.ellipse and dev.ellipse"
        )
        for which in ("initial", "final"):
            add_ellipse_fields(
                schema,
                f"{name}_region_{which}_ellipse",
                f"ellipse used to set the pixel region for the {which} fit (before applying bad pixel mask)",
            )
        schema.add_flag(
            f"{name}_flag_noShapeletPsf", doc="the multishapelet fit to the PSF model did not succeed"
        )
        schema.add_flag(
            f"{name}_flag_badCentroid",
            doc="input centroid was not within the fit region (probably because it's not within the "
            "Footprint)",
        )
        schema.add_flag(f"{name}_flag_noFlux", doc=_NO_FLUX_DOC)

    def measure(self, batch: MeasureBatch) -> None:
        batch.require_psf(self.name)
        self.check(batch.exposure)
        for prefix in (self.name, self.initial.name, self.exp.name, self.dev.name):
            batch.catalog[f"{prefix}_flag"][:] = True
        # Quirk: regions that are never chosen are unit circles, not NaN.
        everyone = np.arange(len(batch))
        for which in ("initial", "final"):
            ellipse = np.tile([1.0, 1.0, 0.0], (len(batch), 1))
            write_ellipse(batch.catalog, f"{self.name}_region_{which}_ellipse", everyone, ellipse)
        stars = self._read(batch)
        if not len(stars.rows):
            return
        stars, region, pixels = self._initial_region(batch, stars)
        flux, known = self._approximate_flux(batch, stars.rows, pixels)
        for stage in (self.initial, self.exp, self.dev):
            batch.set_flag(stars.rows[~known], f"{stage.name}_flag_numericError")
        stars, region, pixels = stars.take(known), region[known], _take_pixels(pixels, known)
        if not len(stars.rows):
            return
        inputs, parameters = self._start(batch, stars, flux[known])
        good = self.initial.run(batch.catalog, inputs, pixels, parameters)
        self._fit_final(batch, stars.take(good), inputs.take(good), region[good], parameters[good])

    @property
    def mask_planes(self) -> Iterable[str]:
        return list(self.config.region.badMaskPlanes)

    def check(self, exposure: VisitImage) -> None:
        if exposure.sky_projection is None:
            raise MeasurementFatalError(f"Plugin {self.name} needs a WCS, but the exposure has none.")
        x, y = exposure.bbox.x, exposure.bbox.y
        center = np.array([0.5 * (x.min + x.max)]), np.array([0.5 * (y.min + y.max)])
        calibration = photometric_calibration(exposure, *center)
        if calibration is None:
            raise MeasurementFatalError(
                f"Plugin {self.name} needs a photometric calibration, but the exposure has none."
            )
        if calibration[0] == 0.0:
            raise MeasurementFatalError(f"Plugin {self.name}: the photometric calibration is 0.")

    def _read(self, batch: MeasureBatch) -> _Stars:
        """Read centroids, PSFs and shapes (spec 05 §6.4.1 - §6.4.4)."""
        catalog, count = batch.catalog, len(batch)
        centroid = batch.slot_columns("Centroid", ("x", "y"))
        if centroid is None:
            raise MeasurementFatalError(f"Plugin {self.name} needs columns slot_Centroid_x, slot_Centroid_y.")
        psf = np.zeros((count, len(self.psf_columns), 11))
        for c, names in enumerate(self.psf_columns):
            for k, column in enumerate(names):
                psf[:, c, k] = catalog[column]
        with np.errstate(invalid="ignore", over="ignore"):
            positive = (psf[:, :, 0] > 0) & (psf[:, :, 0] * psf[:, :, 1] > psf[:, :, 2] ** 2)
        usable = np.isfinite(psf).all(axis=(1, 2)) & positive.all(axis=1)
        psf_moments, psf_centre = np.full((count, 3), np.nan), np.full((count, 2), np.nan)
        psf_moments[usable], psf_centre[usable] = shapelet_moments(
            psf[usable, :, :3], psf[usable, :, 3:5], psf[usable, :, 5:]
        )
        batch.set_flag(~usable, f"{self.name}_flag_noShapeletPsf")
        moments, usable = self._moments(batch, psf_moments, usable)
        x, y = (np.asarray(c, dtype=np.float64) for c in centroid)
        stars = _Stars(np.arange(count), x, y, psf, psf_moments, psf_centre, moments)
        return stars.take(usable)

    def _moments(
        self, batch: MeasureBatch, psf_moments: FloatArray, usable: BoolArray
    ) -> tuple[FloatArray, BoolArray]:
        """Return moments to start from, and who has some."""
        shape, flag = batch.slot_columns("Shape", ("xx", "yy", "xy")), batch.slot_flag("Shape")
        count = len(psf_moments)
        missing = np.ones(count, dtype=np.bool_)
        moments = np.full((count, 3), np.nan)
        if shape is not None:
            missing = np.zeros(count, dtype=np.bool_) if flag is None else flag.copy()
            moments = np.stack(shape, axis=1).astype(np.float64)
        missing &= usable
        batch.set_flag(missing, f"{self.name}_flag_noShape")
        factor = self.config.fallbackInitialMomentsPsfFactor
        if factor <= 0.0:
            return moments, usable & ~missing
        moments[missing] = psf_moments[missing] * factor**2
        return moments, usable

    def _initial_region(self, batch: MeasureBatch, stars: _Stars) -> tuple[_Stars, FloatArray, FitPixels]:
        """Choose the first fits' pixels (spec 05 §6.4.5)."""
        kron = np.full(len(batch), -1.0)
        if _KRON_RADIUS in batch.catalog.schema:
            kron[:] = batch.catalog[_KRON_RADIUS]
        area = np.asarray(batch.footprints.area)[stars.rows]
        regions = initial_regions(
            stars.moments, stars.psf_moments, kron[stars.rows], area, self.config.region
        )
        name = self.name
        write_ellipse(batch.catalog, f"{name}_region_initial_ellipse", stars.rows, regions.ellipse)
        batch.set_flag(stars.rows[regions.used_footprint], f"{name}_flags_region_usedFootprintArea")
        batch.set_flag(stars.rows[regions.used_psf], f"{name}_flags_region_usedPsfArea")
        batch.set_flag(stars.rows[regions.too_large], f"{name}_flag_region_maxArea")
        pixels, accepted = self._pixels(batch, stars, regions.ellipse)
        return stars.take(accepted), regions.ellipse[accepted], _take_pixels(pixels, accepted)

    def _pixels(self, batch: MeasureBatch, stars: _Stars, ellipse: FloatArray) -> tuple[FitPixels, BoolArray]:
        """Collect pixels, flag stars that lack too many."""
        pixels, valid, accepted = fit_pixels(batch, stars.rows, stars.x, stars.y, ellipse, self.config.region)
        batch.set_flag(stars.rows[valid & ~accepted], f"{self.name}_flag_region_maxBadPixelFraction")
        return pixels, valid & accepted

    def _approximate_flux(
        self, batch: MeasureBatch, rows: IntArray, pixels: FitPixels
    ) -> tuple[FloatArray, BoolArray]:
        """Return flux units (spec 05 §6.4.6), and where they are positive."""
        flux = np.full(len(rows), -1.0)
        column, flag = batch.slot_columns("PsfFlux", ("instFlux",)), batch.slot_flag("PsfFlux")
        if column is not None:
            bad = np.zeros(len(rows), dtype=np.bool_) if flag is None else flag[rows]
            flux = np.where(bad, -1.0, np.asarray(column[0], dtype=np.float64)[rows])
        # Few stars have no PSF flux; their regions differ in size.
        for k in np.flatnonzero(~(flux > 0)):
            values = pixels.image[pixels.start[k] : pixels.start[k] + pixels.length[k]].astype(np.float64)
            flux[k] = max(values.sum(), np.sqrt(np.square(values).sum()))
        return flux, flux > 0

    def _start(self, batch: MeasureBatch, stars: _Stars, flux: FloatArray) -> tuple[CModelInputs, FloatArray]:
        """Set up the fit system (spec 05 §6.5) and where to start (§6.7)."""
        from . import _fit_numba

        # From pixels to arcseconds, x towards decreasing right ascension.
        to_fit = tangent_jacobians(batch.exposure.sky_projection, stars.x, stars.y) / _ARCSEC
        to_fit[:, 0] *= -1
        fixed = -np.einsum("nij,nj->ni", to_fit, stars.psf_centre)
        data = np.empty((len(stars.rows), 7))
        data[:, 0], data[:, 1] = stars.x - stars.psf_centre[:, 0], stars.y - stars.psf_centre[:, 1]
        data[:, 2:6] = np.linalg.inv(to_fit).reshape(-1, 4)
        data[:, 6] = flux
        orders = np.array([{6: 0, 8: 1, 11: 2}[len(names)] for names in self.psf_columns], dtype=np.int64)
        inputs = CModelInputs(stars.rows, data, fixed, stars.psf, orders)
        least = self.config.minInitialRadius
        ellipse, small = starting_moments(
            stars.moments, stars.psf_moments, least, self.initial.moments_factor
        )
        batch.set_flag(stars.rows[small], f"{self.name}_flags_smallShape")
        parameters = np.ones((len(stars.rows), 4))
        parameters[:, :3] = parameters_from_quadrupole(transform_quadrupole(ellipse, to_fit))
        stage = self.initial
        impossible = _fit_numba.prior_values(stage.prior_kind, stage.prior, parameters) == 0
        parameters[impossible, :3] = 0.0, 0.0, np.log(least)
        if np.any(_fit_numba.prior_values(stage.prior_kind, stage.prior, parameters[impossible]) == 0):
            raise MeasurementFatalError(
                f"Plugin {self.name}: minInitialRadius={least} is impossible by the initial stage's prior."
            )
        return inputs, parameters

    def _fit_final(
        self,
        batch: MeasureBatch,
        stars: _Stars,
        inputs: CModelInputs,
        region: FloatArray,
        parameters: FloatArray,
    ) -> None:
        """Fit the two profiles and combine them (spec 05 §6.4.8 ff)."""
        catalog, name = batch.catalog, self.name
        ellipse, used_min, used_max = final_regions(
            self.initial.ellipses(inputs, parameters), stars.psf_moments, region, self.config.region
        )
        write_ellipse(catalog, f"{name}_region_final_ellipse", stars.rows, ellipse)
        batch.set_flag(stars.rows[used_min], f"{name}_flags_region_usedInitialEllipseMin")
        batch.set_flag(stars.rows[used_max], f"{name}_flags_region_usedInitialEllipseMax")
        pixels, accepted = self._pixels(batch, stars, ellipse)
        inputs, pixels, parameters = (
            inputs.take(accepted),
            _take_pixels(pixels, accepted),
            parameters[accepted],
        )
        if not len(inputs.rows):
            return
        exp, dev = parameters.copy(), parameters.copy()
        good = self.exp.run(catalog, inputs, pixels, exp)
        good &= self.dev.run(catalog, inputs, pixels, dev)
        self._combine(catalog, inputs.take(good), _take_pixels(pixels, good), exp[good], dev[good])

    def _combine(
        self,
        catalog: SourceCatalog,
        inputs: CModelInputs,
        pixels: FitPixels,
        exp: FloatArray,
        dev: FloatArray,
    ) -> None:
        """Combine the profiles linearly and write the result (§6.11)."""
        from . import _fit_numba

        if not len(inputs.rows):
            return
        alpha, results = np.full((len(exp), 2), np.nan), np.full((len(exp), 4), np.nan)
        done = np.zeros(len(exp), dtype=np.bool_)
        mixtures = (
            (self.exp.amplitudes, self.exp.variances),
            (self.dev.amplitudes, self.dev.variances),
        )
        _fit_numba.fit_linear(
            *pixels, inputs.stars, inputs.psf, inputs.orders, mixtures, (exp, dev), alpha, results, done
        )
        flux = inputs.flux * alpha.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            fraction = alpha[:, 1] / alpha.sum(axis=1)
            error = np.sqrt(results[:, 2]) * flux / results[:, 1]
        ellipse = (1 - fraction[:, None]) * self.exp.ellipses(inputs, exp)
        ellipse += fraction[:, None] * self.dev.ellipses(inputs, dev)
        rows, name = inputs.rows[done], self.name
        for suffix, values in (
            ("instFlux", flux),
            ("instFluxErr", error),
            ("instFlux_inner", results[:, 1]),
            ("fracDev", fraction),
            ("objective", results[:, 0]),
        ):
            catalog[f"{name}_{suffix}"][rows] = values[done]
        write_ellipse(catalog, f"{name}_ellipse", rows, ellipse[done])
        no_flux = results[done, 1] == 0
        catalog[f"{name}_flag_noFlux"][rows] = no_flux
        catalog[f"{name}_flag"][rows] = no_flux | np.isnan(flux[done])


def _take_pixels(pixels: FitPixels, index: npt.NDArray) -> FitPixels:
    """Return the pixels of some stars; the arrays are shared."""
    return pixels._replace(start=pixels.start[index], length=pixels.length[index])
