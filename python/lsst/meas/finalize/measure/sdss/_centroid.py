# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Centroids at the maximum of PSF-smoothed stars (spec 03 §3.4)."""

from __future__ import annotations

__all__ = ("SdssCentroidConfig", "SdssCentroidPlugin")

from collections.abc import MutableMapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Field

from ...catalogs import Schema
from .._batch import MeasureBatch
from .._plugin import CENTROID_ORDER, SingleFramePlugin, SingleFramePluginConfig, register
from ..base import add_centroid_fields
from ..geometry import determinant_radius
from ._peak import PeakFits, fit_peaks

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]
type BoolArray = npt.NDArray[np.bool_]

_FALLBACK_SIGMA = 0.5
_FLAGS = {
    "edge": "Object too close to edge; peak used.",
    "noSecondDerivative": "Vanishing second derivative",
    "almostNoSecondDerivative": "Almost vanishing second derivative",
    "notAtMaximum": "Object is not at a maximum",
    "near_edge": "Object close to edge; fallback kernel used.",
    "resetToPeak": "set if CentroidChecker reset the centroid",
    "badError": "Error on x and/or y position is NaN",
}


class SdssCentroidConfig(SingleFramePluginConfig):
    """Options of ``base_SdssCentroid``."""

    binmax = Field[int](doc="maximum allowed binning", default=16)
    peakMin = Field[float](doc="if the peak's less than this insist on binning at least once", default=-1.0)
    wfac = Field[float](doc="fiddle factor for adjusting the binning", default=1.5)
    doFootprintCheck = Field[bool](doc="Do check that the centroid is contained in footprint.", default=True)
    maxDistToPeak = Field[float](
        doc="If set > 0, Centroid Check distance to footprint peak in pixels.", default=1.0
    )


class _Search:
    """State of the search for maxima, one element per star.

    ``bins`` (n, 2) is the binning, ``fallback`` who is smoothed with the
    small kernel, ``active`` who is still searching, ``failed`` who has no
    result.

    Parameters
    ----------
    batch : `MeasureBatch`
        The stars.
    psf : `BatchPsf`
        The PSF.
    rows : `numpy.ndarray`
        Stars in question.
    x, y : `numpy.ndarray`
        Their central pixels, PARENT.
    """

    def __init__(self, batch: MeasureBatch, psf: Any, rows: IntArray, x: IntArray, y: IntArray) -> None:
        self.rows, self.x, self.y = rows, x, y
        self.bins = np.ones((len(rows), 2), dtype=np.int64)
        self.fallback = np.zeros(len(rows), dtype=bool)
        self.active = np.ones(len(rows), dtype=bool)
        self.failed = np.zeros(len(rows), dtype=bool)
        color = None if batch.color is None else batch.color[rows]
        at = x.astype(np.float64), y.astype(np.float64)
        self.kernels = psf.draw_kernel_images(*at, color=color).astype(np.float32)
        self.sigma = determinant_radius(psf.compute_shapes(*at, color=color))
        grid = np.arange(-2.0, 3.0)
        line = np.exp(-0.5 * (grid / _FALLBACK_SIGMA) ** 2)
        small = np.outer(line, line)
        self._small = (small / small.sum()).astype(np.float32)[None]

    def kernels_of(self, members: IntArray, fallback: bool) -> tuple[npt.NDArray[np.float32], FloatArray]:
        """Return kernels and sizes of some stars."""
        if fallback:
            n = len(members)
            return np.broadcast_to(self._small, (n, 5, 5)), np.full(n, _FALLBACK_SIGMA)
        return self.kernels[members], self.sigma[members]

    def fits(self, batch: MeasureBatch, width: int, height: int) -> BoolArray:
        """Tell whose windows for a kernel of some size are on the image."""
        x_min, y_min, x_max, y_max = batch.image_box
        x0 = self.x - self.bins[:, 0] * (2 + width // 2)
        y0 = self.y - self.bins[:, 1] * (2 + height // 2)
        x1 = x0 + self.bins[:, 0] * (width + 4) - 1
        y1 = y0 + self.bins[:, 1] * (height + 4) - 1
        return np.asarray((x0 >= x_min) & (y0 >= y_min) & (x1 <= x_max) & (y1 <= y_max))

    def fail(self, members: np.ndarray) -> None:
        """Give up on some stars."""
        self.failed[members] = True
        self.active[members] = False


def _bin(images: np.ndarray, bin_x: int, bin_y: int) -> np.ndarray:
    """Average blocks of pixels, in the images' type."""
    if bin_x == bin_y == 1:
        return images
    n, height, width = images.shape
    blocks = images.reshape(n, height // bin_y, bin_y, width // bin_x, bin_x)
    return blocks.sum(axis=(2, 4), dtype=np.float32) / np.float32(bin_x * bin_y)


def _smooth_3x3(images: np.ndarray, kernels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Correlate with kernels at the 3 × 3 central pixels.

    ``images`` are 4 pixels wider and higher than ``kernels``.  As upstream's,
    sums are float32, first along rows: what remains agrees to 1e-9 pixels.
    """
    height, width = kernels.shape[1:]
    result = np.empty((len(images), 3, 3), dtype=np.float32)
    for i in range(3):
        for j in range(3):
            products = images[:, i + 1 : i + 1 + height, j + 1 : j + 1 + width] * kernels
            rows = np.cumsum(products, axis=2, dtype=np.float32)[:, :, -1]
            result[:, i, j] = np.cumsum(rows, axis=1, dtype=np.float32)[:, -1]
    return result


@register("base_SdssCentroid")
class SdssCentroidPlugin(SingleFramePlugin):
    """Centroid from second differences of the smoothed star."""

    ConfigClass = SdssCentroidConfig
    execution_order: ClassVar[float] = CENTROID_ORDER

    def __init__(
        self,
        config: SdssCentroidConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        add_centroid_fields(schema, name, "centroid from Sdss Centroid algorithm", errors=True)
        schema.add_flag(f"{name}_flag", doc="General Failure Flag")
        for suffix, doc in _FLAGS.items():
            schema.add_flag(f"{name}_flag_{suffix}", doc=doc)
        self._is_slot = schema.aliases.get("slot_Centroid") == name
        if not self._is_slot and "slot_Centroid" in schema.aliases:
            target = schema.apply_aliases("slot_Centroid_flag")
            schema.set_alias(f"{name}_flag_badInitialCentroid", target)

    def measure(self, batch: MeasureBatch) -> None:
        psf = batch.require_psf(self.name)
        x, y, ok = self._initial(batch)
        batch.fail(~ok, self.name)
        rows = np.flatnonzero(ok)
        batch.catalog[f"{self.name}_x"][rows] = x[rows]
        batch.catalog[f"{self.name}_y"][rows] = y[rows]
        x_min, y_min, x_max, y_max = batch.image_box
        px, py = np.floor(x[rows] + 0.5), np.floor(y[rows] + 0.5)
        inside = (px >= x_min) & (px <= x_max) & (py >= y_min) & (py <= y_max)
        self._flag(batch, rows[~inside], "edge")
        rows = rows[inside]
        if not len(rows):
            return
        px, py = px[inside].astype(np.int64), py[inside].astype(np.int64)
        search = _Search(batch, psf, rows, px, py)
        undrawn = ~np.isfinite(search.kernels).all(axis=(1, 2))
        batch.fail_psf(rows[undrawn], self.name)
        search.fail(undrawn)
        self._iterate(batch, search)
        self._check(batch, rows[~search.failed])

    def _flag(self, batch: MeasureBatch, rows: npt.ArrayLike, suffix: str) -> None:
        """Set a flag and the general one."""
        batch.set_flag(rows, f"{self.name}_flag_{suffix}")
        batch.fail(rows, self.name)

    def _initial(self, batch: MeasureBatch) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return slot centroids where finite, else first peaks."""
        x, y, ok = batch.first_peaks()
        columns = None if self._is_slot else batch.slot_columns("Centroid", ("x", "y"))
        if columns is not None:
            finite = np.isfinite(columns[0]) & np.isfinite(columns[1])
            x, y = np.where(finite, columns[0], x), np.where(finite, columns[1], y)
            ok = ok | finite
        return x, y, ok & np.isfinite(x) & np.isfinite(y)

    def _iterate(self, batch: MeasureBatch, search: _Search) -> None:
        """Bin until stars are small enough."""
        height, width = search.kernels.shape[1:]
        bin_size = 1
        while bin_size <= self.config.binmax and search.active.any():
            outside = search.active & ~search.fallback & ~search.fits(batch, width, height)
            search.fallback |= outside
            lost = search.active & search.fallback & ~search.fits(batch, 5, 5)
            self._flag(batch, search.rows[lost], "edge")
            self._flag(batch, search.rows[outside & ~lost], "near_edge")
            search.fail(lost)
            # Stars of one binning and kernel are measured together.
            keys = np.column_stack([search.bins, search.fallback])
            for key in np.unique(keys[search.active], axis=0):
                members = np.flatnonzero(search.active & (keys == key).all(axis=1))
                fits, sigma = self._fit_group(batch, search, members, bin_size)
                self._decide(search, members, fits, sigma, bin_size)
            bin_size *= 2

    def _fit_group(
        self, batch: MeasureBatch, search: _Search, k: IntArray, bin_size: int
    ) -> tuple[PeakFits, FloatArray]:
        """Do one pass for stars of one binning; also return kernel sizes."""
        bx, by = (int(b) for b in search.bins[k[0]])
        kernels, sigma = search.kernels_of(k, bool(search.fallback[k[0]]))
        height, width = kernels.shape[1:]
        rows = search.rows[k]
        x0, y0 = search.x[k] - bx * (2 + width // 2), search.y[k] - by * (2 + height // 2)
        stamps = batch.cutout(x0, y0, bx * (width + 4), by * (height + 4), rows)
        with np.errstate(invalid="ignore", over="ignore"):
            image = _smooth_3x3(_bin(stamps.image, bx, by), kernels)
            variance = _smooth_3x3(_bin(stamps.variance, bx, by) / np.float32(bx * by), kernels**2)
            variance *= (bx * by * 4 * np.pi * sigma**2)[:, None, None].astype(np.float32)
        is_negative = batch.get("is_negative")
        negative = np.zeros(len(k), dtype=bool) if is_negative is None else is_negative[rows]
        fits = fit_peaks(image, variance, sigma, negative)
        if bin_size > 1:
            fits.x, fits.y = (fits.x + 0.5) * bx - 0.5, (fits.y + 0.5) * by - 0.5
            fits.x_err, fits.y_err = fits.x_err * bx, fits.y_err * by
            fits.tau2_x, fits.tau2_y = fits.tau2_x * bx**2, fits.tau2_y * by**2
        self._flag(batch, rows[fits.no_second_derivative], "noSecondDerivative")
        self._flag(batch, rows[fits.not_at_maximum], "notAtMaximum")
        bad = fits.no_second_derivative | fits.not_at_maximum
        search.fail(k[bad])
        self._write(batch, rows, search.x[k], search.y[k], fits, ~bad)
        return fits, sigma

    def _decide(self, search: _Search, k: IntArray, fits: PeakFits, sigma: FloatArray, bin_size: int) -> None:
        """End the search, or double the binning of stars that are too wide."""
        if search.fallback[k[0]]:
            search.active[k] = False
            return
        limit = (self.config.wfac * (1 + sigma**2))[:, None] * search.bins[k] ** 2
        size2 = np.stack([fits.tau2_x, fits.tau2_y], axis=1)
        shift2 = np.stack([fits.x, fits.y], axis=1) ** 2
        # NaN, from pixels without data, counts as narrow and ends the search.
        wide = (size2 >= limit) | (shift2 >= limit)
        faint = (bin_size == 1) & (self.config.peakMin >= 0) & ~(fits.peak > self.config.peakMin)
        search.active[k[~wide.any(axis=1) & ~faint]] = False
        search.bins[k] = np.where(wide, 2 * search.bins[k], search.bins[k])

    def _write(
        self,
        batch: MeasureBatch,
        rows: IntArray,
        px: IntArray,
        py: IntArray,
        fits: PeakFits,
        good: BoolArray,
    ) -> None:
        """Write positions and errors; later passes overwrite them."""
        catalog, name, k = batch.catalog, self.name, rows[good]
        catalog[f"{name}_x"][k] = px[good] + fits.x[good]
        catalog[f"{name}_y"][k] = py[good] + fits.y[good]
        with np.errstate(over="ignore"):
            catalog[f"{name}_xErr"][k] = np.abs(fits.x_err[good])
            catalog[f"{name}_yErr"][k] = np.abs(fits.y_err[good])

    def _check(self, batch: MeasureBatch, rows: IntArray) -> None:
        """Reset centroids far from the peak or off the footprint."""
        catalog, name = batch.catalog, self.name
        x, y = catalog[f"{name}_x"], catalog[f"{name}_y"]
        bad_error = np.isnan(catalog[f"{name}_xErr"][rows]) | np.isnan(catalog[f"{name}_yErr"][rows])
        self._flag(batch, rows[bad_error], "badError")
        if not self.config.doFootprintCheck and self.config.maxDistToPeak < 0:
            return
        peak_x, peak_y, has_peak = batch.first_peaks()
        batch.fail(rows[~has_peak[rows]], name)
        rows = rows[has_peak[rows]]
        reset = np.zeros(len(rows), dtype=bool)
        if self.config.doFootprintCheck:
            reset |= ~self._inside_footprints(batch, rows, x[rows], y[rows])
        if self.config.maxDistToPeak > 0:
            distance = np.hypot(x[rows] - peak_x[rows], y[rows] - peak_y[rows])
            reset |= distance > self.config.maxDistToPeak
        far = rows[reset]
        x[far], y[far] = peak_x[far], peak_y[far]
        self._flag(batch, far, "resetToPeak")

    def _inside_footprints(
        self, batch: MeasureBatch, rows: IntArray, x: FloatArray, y: FloatArray
    ) -> BoolArray:
        """Tell whose centroid is in a pixel of the footprint."""
        f = batch.footprints
        n_spans = np.diff(f.span_offsets)[rows]
        star = np.repeat(np.arange(len(rows)), n_spans)
        spans = np.arange(len(star)) + np.repeat(
            f.span_offsets[rows] - (np.cumsum(n_spans) - n_spans), n_spans
        )
        px, py = np.floor(x + 0.5)[star], np.floor(y + 0.5)[star]
        hit = (f.span_y[spans] == py) & (f.span_x0[spans] <= px) & (px <= f.span_x1[spans])
        inside = np.zeros(len(rows), dtype=bool)
        inside[star[hit]] = True
        return inside
