# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Gaussian-aperture-and-PSF photometry (spec 06 §3; Kuijken 2008, A&A 482,
1053).
"""

from __future__ import annotations

__all__ = ("GaapFluxPlugin",)

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ...apcorr import add_ap_corr_name
from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import FLUX_ORDER, SingleFramePlugin, add_flux_fields, register
from ..pixels import BoxBatch
from ._config import GaapFluxConfig, gaap_result_name
from ._matching import GaussianizePsfTask
from ._photometry import (
    LocalGeometry,
    autocorrelations,
    convolve_stamps,
    local_geometry,
    unusable_apertures,
    weighted_fluxes,
)

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]
type IntArray = npt.NDArray[np.int64]

_MOMENTS = ("xx", "yy", "xy")
_MAX_PORTION, _MAX_PORTION_PIXELS = 64, 500_000
"""Stars and pixels convolved at a time: few enough for the cache, and so many
that calls of Python take little of the time.
"""


@dataclass
class _Stars:
    """What is known of all stars of the batch before any flux.

    ``alive`` ends where a star raises what upstream doesn't catch: it gets no
    further results, and what it has so far stays.
    """

    x: FloatArray
    y: FloatArray
    sigma: FloatArray
    boxes: IntArray
    optimal: FloatArray | None
    geometry: LocalGeometry | None
    alive: BoolArray


@dataclass
class _Portion:
    """Stars whose stamps have been convolved, in the order of ``rows``."""

    rows: IntArray
    x: FloatArray
    y: FloatArray
    sizes: IntArray
    images: npt.NDArray[np.float32]
    correlations: FloatArray
    variance: FloatArray
    inside: BoolArray

    def central_values(self, planes: npt.NDArray[np.float32]) -> None:
        """Take the variance at the centres, truncated (upstream quirk)."""
        column, row = np.trunc(self.x), np.trunc(self.y)
        width, height = self.sizes.T
        self.inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
        j = np.where(self.inside, column, 0).astype(np.int64)
        i = np.where(self.inside, row, 0).astype(np.int64)
        self.variance = planes[np.arange(len(j)), i, j].astype(np.float64)


@dataclass
class _Weight:
    """Weights of one result for some stars.

    ``moments`` (n, 3) are NaN where the PSF is bigger than the aperture;
    sums under the weights are multiplied by ``scale``, (n,).
    """

    name: str
    moments: FloatArray
    scale: FloatArray
    big_psf: BoolArray

    def take(self, index: IntArray) -> _Weight:
        """Return those of some of the stars."""
        return _Weight(self.name, self.moments[index], self.scale[index], self.big_psf[index])


def _aperture_weight(name: str, aperture: FloatArray, target: FloatArray, too_small: BoolArray) -> _Weight:
    """Return the weight that makes up an aperture with the PSF."""
    weight = aperture - target
    bad = too_small | unusable_apertures(weight)
    weight[bad] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(_determinants(weight + target) / _determinants(weight))
    return _Weight(name, weight, 0.5 * ratio, bad)


def _portions(boxes: IntArray, rows: IntArray) -> Iterator[BoxBatch]:
    """Sort stars into portions of nearly equal box size."""
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    order = rows[np.argsort(sizes[rows].max(axis=1), kind="stable")]
    while len(order):
        largest = int(sizes[order[min(_MAX_PORTION, len(order)) - 1]].max())
        count = min(max(1, _MAX_PORTION_PIXELS // largest**2), _MAX_PORTION)
        part, order = order[:count], order[count:]
        width, height = (int(v) for v in sizes[part].max(axis=0))
        yield BoxBatch(part, boxes[part, 0], boxes[part, 1], width, height, sizes[part])


@register("ext_gaap_GaapFlux")
class GaapFluxPlugin(SingleFramePlugin):
    """Fluxes through Gaussian apertures before seeing."""

    ConfigClass = GaapFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(
        self,
        config: GaapFluxConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        self.matching: GaussianizePsfTask = config._modelPsfMatch.apply(name="modelPsfMatch")
        self._add_fields(schema)
        if config.registerForApCorr:
            for result in config.getAllGaapResultNames(name):
                add_ap_corr_name(result)

    def _add_fields(self, schema: Schema) -> None:
        """Add fields in upstream's order (spec 06 §3.3)."""
        name, factors = self.name, list(self.config.scalingFactors)

        def add_flux(factor: float, sigma: float | str, aperture: str) -> None:
            doc = f"GAaP Flux with {aperture} aperture after multiplying the seeing by {factor}"
            add_flux_fields(schema, gaap_result_name(factor, sigma, name), doc)

        for factor in factors:
            for sigma in self.config.sigmas:
                add_flux(factor, sigma, str(sigma))
        if self.config.doPsfPhotometry:
            for factor in factors:
                add_flux(factor, "PsfFlux", "PSF")
        if self.config.doOptimalPhotometry:
            for k in _MOMENTS:
                schema.add_field(
                    f"{name}_OptimalShape_{k}",
                    "D",
                    doc="Pre-seeing aperture used for optimal GAaP photometry",
                    unit="pixel^2",
                )
            for factor in factors:
                add_flux(factor, "Optimal", "optimal")
        for sigmas in self._groups():
            for factor in factors:
                for sigma in sigmas:
                    self._add_result_flags(schema, factor, sigma)
        for factor in factors:
            schema.add_flag(
                f"{gaap_result_name(factor, None, name)}_flag_gaussianization",
                "PSF Gaussianization failed when trying to scale by this factor.",
            )
        schema.add_flag(f"{name}_flag_edge", "Source is too close to the edge")
        schema.add_flag(f"{name}_flag_no_pixel", "No pixels in the footprint")
        schema.add_flag(f"{name}_flag", "Set for any fatal failure")

    def _groups(self) -> list[list[float | str]]:
        """Return the results whose flags stand together for all factors."""
        results, n = self.config.results(), len(self.config.sigmas)
        return [results[:n], *([result] for result in results[n:])]

    def _add_result_flags(self, schema: Schema, factor: float, sigma: float | str) -> None:
        result = gaap_result_name(factor, sigma, self.name)
        if sigma != "PsfFlux":
            schema.add_flag(f"{result}_flag_bigPsf", "The Gaussianized PSF is bigger than the aperture")
        schema.add_flag(f"{result}_flag", "Generic failure flag for this set of config parameters. ")

    def measure(self, batch: MeasureBatch) -> None:
        batch.require_psf(self.name)
        optimal = None
        if self.config.doOptimalPhotometry:
            optimal = self._optimal_shapes(batch)
            if optimal is None:
                batch.fail(np.arange(len(batch)), self.name)
                return
        rows = self._with_pixels(batch)
        images = batch.psf_images("kernel")[0]
        drawn = ~np.isnan(images).all(axis=(1, 2))
        batch.fail_psf(rows[~drawn[rows]], self.name)
        rows = rows[drawn[rows]]
        with np.errstate(invalid="ignore"):
            sigma = np.sqrt(0.5 * batch.psf_shapes()[:, :2].sum(axis=1))
        measured = (sigma > 0) & np.isfinite(sigma)
        for factor in self.config.scalingFactors:
            self._fail_factor(batch, rows[~measured[rows]], factor)
        rows = rows[measured[rows]]
        stars = self._collect(batch, rows, sigma, optimal)
        unmatched = [
            self._measure_factor(batch, stars, rows, factor, images) for factor in self.config.scalingFactors
        ]
        for factor, failed in zip(self.config.scalingFactors, unmatched, strict=True):
            self._fail_factor(batch, failed[stars.alive[failed]], factor)

    def _optimal_shapes(self, batch: MeasureBatch) -> FloatArray | None:
        """Store the sum of source's and PSF's moments, whatever they are."""
        shape = batch.slot_columns("Shape", _MOMENTS)
        psf_shape = batch.slot_columns("PsfShape", _MOMENTS)
        if shape is None or psf_shape is None:
            return None
        optimal = np.stack(shape, axis=1) + np.stack(psf_shape, axis=1)
        for k, suffix in enumerate(_MOMENTS):
            batch.catalog[f"{self.name}_OptimalShape_{suffix}"][:] = optimal[:, k]
        return np.asarray(optimal, dtype=np.float64)

    def _with_pixels(self, batch: MeasureBatch) -> IntArray:
        """Return the stars that have a footprint with pixels."""
        present = batch.footprints.present
        empty = np.flatnonzero(present & (batch.footprints.area == 0))
        batch.fail(~present, self.name)
        batch.fail(empty, self.name)
        batch.set_flag(empty, f"{self.name}_flag_no_pixel")
        for result in self.config.getAllGaapResultNames(self.name):
            batch.set_flag(empty, f"{result}_flag")
        return np.flatnonzero(present & (batch.footprints.area > 0))

    def _fail_factor(self, batch: MeasureBatch, rows: IntArray, factor: float) -> None:
        """Mark stars whose PSF could not be made Gaussian."""
        name = gaap_result_name(factor, None, self.name)
        batch.set_flag(rows, f"{name}_flag_gaussianization")
        for sigma in self.config.results():
            batch.set_flag(rows, f"{gaap_result_name(factor, sigma, self.name)}_flag")

    def _collect(
        self, batch: MeasureBatch, rows: IntArray, sigma: FloatArray, optimal: FloatArray | None
    ) -> _Stars:
        """Find out positions, stamps and local WCS; flag stamps at edges."""
        x, y = batch.slot_centroids()
        margin = self.matching.margin
        limits = np.array(batch.image_box)
        grown = batch.bboxes.astype(np.int64) + np.array([-margin, -margin, margin, margin])
        boxes = np.hstack([np.maximum(grown[:, :2], limits[:2]), np.minimum(grown[:, 2:], limits[2:])])
        batch.set_flag(rows[(boxes != grown).any(axis=1)[rows]], f"{self.name}_flag_edge")
        projection = batch.exposure.sky_projection
        geometry = None if projection is None else local_geometry(projection, x, y)
        return _Stars(x, y, sigma, boxes, optimal, geometry, np.ones(len(x), dtype=bool))

    def _measure_factor(
        self, batch: MeasureBatch, stars: _Stars, rows: IntArray, factor: float, images: FloatArray
    ) -> IntArray:
        """Measure with one target PSF; return stars for which there's none."""
        rows = rows[stars.alive[rows]]
        target_sigma = factor * stars.sigma[rows]
        kernels = self.matching.fit(images[rows], stars.sigma[rows], target_sigma)
        matched = (
            np.isfinite(kernels).all(axis=(1, 2))
            & np.isfinite(stars.x[rows])
            & np.isfinite(stars.y[rows])
            & (stars.boxes[rows, 2:] >= stars.boxes[rows, :2]).all(axis=1)
        )
        index = np.zeros(len(batch), dtype=np.int64)
        index[rows] = np.arange(len(rows))
        weights = self._weights(stars, rows, target_sigma, factor)
        for part in _portions(stars.boxes, rows[matched]):
            which = index[part.rows]
            portion = self._convolve(batch, stars, part, kernels[which])
            self._measure_portion(batch, stars, portion, [weight.take(which) for weight in weights])
        return rows[~matched]

    def _convolve(
        self,
        batch: MeasureBatch,
        stars: _Stars,
        part: BoxBatch,
        kernels: FloatArray,
    ) -> _Portion:
        """Cut out some stars and make their PSFs Gaussian.

        The kernels are fitted as correlations, but applied as convolutions
        (upstream quirk: the odd part of a PSF gets worse), unless
        ``doConvolveAsFitted``.
        """
        if self.config.doConvolveAsFitted:
            kernels = kernels[:, ::-1, ::-1]
        stamps = batch.cutout(part.x0, part.y0, part.width, part.height, part.rows)
        portion = _Portion(
            rows=part.rows,
            x=stars.x[part.rows] - part.x0,
            y=stars.y[part.rows] - part.y0,
            sizes=part.sizes,
            images=convolve_stamps(stamps.image, part.sizes, kernels, self.config.gaussianizationMethod),
            correlations=autocorrelations(kernels),
            variance=np.empty(0),
            inside=np.empty(0, dtype=bool),
        )
        portion.central_values(stamps.variance)
        return portion

    def _measure_portion(
        self, batch: MeasureBatch, stars: _Stars, portion: _Portion, weights: list[_Weight]
    ) -> None:
        """Measure all results of convolved stars, then write them in
        upstream's order.
        """
        moments = np.stack([weight.moments for weight in weights])
        moments[:, ~(stars.alive[portion.rows] & portion.inside)] = np.nan
        average = self.config.doAverageSubpixels
        flux, failed = weighted_fluxes(
            portion.images, portion.sizes, portion.x, portion.y, moments, average=average
        )
        size = portion.correlations.shape[1]
        middle = np.full(len(portion.rows), float(size // 2))
        full = np.full((len(portion.rows), 2), size)
        noise, noise_failed = weighted_fluxes(
            portion.correlations, full, middle, middle, 2 * moments, average=average
        )
        with np.errstate(invalid="ignore"):
            area = np.pi * np.sqrt(_determinants(moments))
            error = 2 * np.sqrt(portion.variance * area) * np.sqrt(0.5 * noise)
        for k, weight in enumerate(weights):
            self._store(batch, stars, portion.rows, weight, flux[k], error[k], failed[k] | noise_failed[k])
        if stars.geometry is None and self.config.sigmas:
            self._abort(batch, stars, portion.rows[stars.alive[portion.rows]])

    def _weights(
        self, stars: _Stars, rows: IntArray, target_sigma: FloatArray, factor: float
    ) -> list[_Weight]:
        """Return the weights of all results, in upstream's order."""
        target = target_sigma[:, None] ** 2 * np.array([1.0, 1.0, 0.0])
        count = len(rows)
        never = np.zeros(count, dtype=bool)
        weights = []
        if self.config.doPsfPhotometry:
            name = gaap_result_name(factor, "PsfFlux", self.name)
            weights.append(_Weight(name, target, np.ones(count), never))
        if stars.optimal is not None:
            name = gaap_result_name(factor, "Optimal", self.name)
            weights.append(_aperture_weight(name, stars.optimal[rows], target, never))
        if stars.geometry is None:
            return weights
        geometry = LocalGeometry(*(v[rows] for v in stars.geometry))
        for sigma in self.config.sigmas:
            name = gaap_result_name(factor, sigma, self.name)
            with np.errstate(invalid="ignore"):
                too_small = sigma <= target_sigma * geometry.scale
            weights.append(_aperture_weight(name, geometry.circles(sigma), target, too_small))
        return weights

    def _store(
        self,
        batch: MeasureBatch,
        stars: _Stars,
        rows: IntArray,
        weight: _Weight,
        flux: FloatArray,
        error: FloatArray,
        failed: BoolArray,
    ) -> None:
        """Write fluxes under one weight, and their errors."""
        alive = stars.alive[rows]
        flagged = rows[weight.big_psf & alive]
        if len(flagged):
            for flag in ("flag_bigPsf", "flag"):
                batch.set_flag(flagged, f"{weight.name}_{flag}")
        chosen = alive & ~weight.big_psf
        self._abort(batch, stars, rows[chosen & failed])
        good = chosen & ~failed
        batch.catalog[f"{weight.name}_instFlux"][rows[good]] = (weight.scale * flux)[good]
        batch.catalog[f"{weight.name}_instFluxErr"][rows[good]] = (weight.scale * error)[good]

    def _abort(self, batch: MeasureBatch, stars: _Stars, rows: IntArray) -> None:
        """Give up stars after an error that upstream doesn't expect."""
        if len(rows):
            batch.fail(rows, self.name)
            stars.alive[rows] = False


@np.errstate(over="ignore", invalid="ignore")
def _determinants(moments: FloatArray) -> FloatArray:
    return np.asarray(moments[..., 0] * moments[..., 1] - moments[..., 2] ** 2)
