# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Kron radii of many stars: mean radii, weighted by flux."""

from __future__ import annotations

__all__ = ("Ellipses", "footprint_radii", "measure_radii")

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...catalogs import Footprints
from .._batch import MeasureBatch
from ..apertures import quadrupole_diagonal
from ..convolution import Blurring
from ..pixels import box_batches, ellipse_boxes, inside_bounds, pixel_regions

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]
type BoolArray = npt.NDArray[np.bool_]

_MAX_RADIUS = 200.0
"""Radii beyond this (pixels) are failures; upstream has no option for it."""

# An ellipse's pixels come close to its box, unless it's a needle.
_BOX_MARGIN = 16


@dataclass
class Ellipses:
    """Centres and axes of N ellipses, in pixels and radians; (N,) each."""

    x: FloatArray
    y: FloatArray
    a: FloatArray
    b: FloatArray
    theta: FloatArray

    @property
    def radius(self) -> FloatArray:
        """Geometric mean of the semi-axes."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.sqrt(self.a * self.b)

    def copy(self) -> Ellipses:
        """Return a copy whose arrays are its own."""
        return Ellipses(*(v.copy() for v in (self.x, self.y, self.a, self.b, self.theta)))

    def scale(self, rows: npt.NDArray[Any], factor: npt.ArrayLike) -> None:
        """Scale some of the ellipses."""
        with np.errstate(invalid="ignore", over="ignore"):
            self.a[rows] *= factor
            self.b[rows] *= factor

    def set_axes(self, rows: npt.NDArray[Any], axes: tuple[FloatArray, FloatArray, FloatArray]) -> None:
        """Replace axes a, b, theta of some of the ellipses."""
        self.a[rows], self.b[rows], self.theta[rows] = axes


def footprint_radii(footprints: Footprints, rows: IntArray) -> FloatArray:
    """Compute determinant radii of footprints' second moments.

    Parameters
    ----------
    footprints : `Footprints`
        Footprints of all stars.
    rows : `numpy.ndarray`
        Which of them, int64 of shape (n,).

    Returns
    -------
    radius : `numpy.ndarray`
        Radii in pixels, (n,); NaN without pixels.
    """
    source, y, x = footprints.pixels(rows)

    def mean(values: npt.NDArray[Any]) -> FloatArray:
        return np.bincount(source, weights=values, minlength=len(rows)) / area

    with np.errstate(invalid="ignore", divide="ignore"):
        area = np.bincount(source, minlength=len(rows)).astype(np.float64)
        dx, dy = x - mean(x)[source], y - mean(y)[source]
        return np.asarray((mean(dx * dx) * mean(dy * dy) - mean(dx * dy) ** 2) ** 0.25)


def measure_radii(
    batch: MeasureBatch, config: Any, ellipses: Ellipses, radius_for_radius: FloatArray, rows: IntArray
) -> tuple[BoolArray, BoolArray]:
    """Scale ellipses to the Kron radii of the stars (spec 05 §7.3).

    Parameters
    ----------
    batch : `MeasureBatch`
        The N stars.
    config : `KronFluxConfig`
        Options.
    ellipses : `Ellipses`
        Moments of the stars; changed in place.
    radius_for_radius : `numpy.ndarray` of float64, (N,)
        Receives the size of the aperture in which the radius is measured.
    rows : `numpy.ndarray` of int64
        Which stars to measure.

    Returns
    -------
    no_sum : `numpy.ndarray` of bool, (N,)
        Stars with a flux or first moment that is not positive, or with a
        radius above 200 pixels.
    broken : `numpy.ndarray` of bool, (N,)
        Stars whose ellipse makes no sense.

    Notes
    -----
    Where the aperture leaves the image, or where the Kron radius is not
    larger than the moments' radius, the ellipse is left with the size of the
    aperture (upstream quirks).
    """
    count = len(batch)
    no_sum, broken = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    previous = ellipses.radius
    active = rows
    for _ in range(config.nIterForRadius):
        ellipses.scale(active, config.nSigmaForRadius)
        radius_for_radius[active] = ellipses.radius[active]
        sensible = np.isfinite(ellipses.a[active]) & (ellipses.b[active] > 0)
        broken[active[~sensible]] = True
        active = active[sensible]
        total, moment, inside = _radius_sums(batch, ellipses, config.smoothingSigma, active)
        active = active[inside[active]]
        with np.errstate(invalid="ignore", divide="ignore"):
            positive = (total > 0) & (moment > 0)
            radius = moment / total * np.sqrt(ellipses.b / ellipses.a)
            no_sum[active[~positive[active]]] = True
            active = active[(positive & (radius > previous))[active]]
        previous = np.where(np.isin(np.arange(count), active), radius, previous)
        ellipses.scale(active, (radius / ellipses.radius)[active])
        too_large = radius[active] > _MAX_RADIUS
        no_sum[active[too_large]] = True
        active = active[~too_large]
    return no_sum, broken


def _radius_sums(
    batch: MeasureBatch, ellipses: Ellipses, smoothing: float, rows: IntArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Sum pixels and pixels times radii within ellipses.

    Returns the sums and whose pixels are all on the image, (N,) each.
    """
    from ._radius_numba import radius_sums

    count = len(batch)
    total, moment = np.full(count, np.nan), np.full(count, np.nan)
    inside = np.zeros(count, dtype=np.bool_)
    x, y, a, b, theta = ellipses.x, ellipses.y, ellipses.a, ellipses.b, ellipses.theta
    ixx, iyy, ixy = (np.zeros(count) for _ in range(3))
    ixx[rows], iyy[rows] = quadrupole_diagonal(a[rows], b[rows], theta[rows])
    ixy[rows] = ((a * a - b * b) * np.cos(theta) * np.sin(theta))[rows]
    boxes = np.zeros((count, 4), dtype=np.int64)
    boxes[rows] = ellipse_boxes(x[rows], y[rows], ixx[rows], iyy[rows])
    bounds = np.array(batch.image_box, dtype=np.int64)
    outward = np.array([-1, -1, 1, 1])
    rows = rows[inside_bounds(boxes[rows], bounds + outward * _BOX_MARGIN)]
    smoothed = _smoothing(count, smoothing)
    margin = max(int(smoothed.half.max(initial=0)), 0)
    for part in box_batches(boxes, rows):
        members = part.rows
        regions = pixel_regions(
            x[members], y[members], ixx[members], iyy[members], ixy[members], part.y0, part.height
        )
        inside[members] = inside_bounds(regions.boxes() + outward * margin, bounds)
        images, _, _ = smoothed.windows(batch, part.x0, part.y0, part.width, part.height, members)
        sums = np.empty((2, len(members)))
        radius_sums(
            images[:, 0],
            np.maximum(regions.x_low - part.x0[:, None], 0),
            np.minimum(regions.x_high - part.x0[:, None], part.width - 1),
            x[members] - part.x0,
            y[members] - part.y0,
            a[members] / b[members],
            theta[members],
            sums[0],
            sums[1],
        )
        total[members], moment[members] = sums
    return total, moment, inside


def _smoothing(count: int, sigma: float) -> Blurring:
    """Return the kernels to smooth images with; none for sigma <= 0."""
    half = np.full((count, 1), int(2.0 * sigma) if sigma > 0 else -1, dtype=np.int64)
    far = np.iinfo(np.int64).max // 4
    regions = np.tile(np.array([-far, -far, far, far]), (count, 1, 1))
    return Blurring.make(np.full((count, 1), float(sigma)), half, regions)
