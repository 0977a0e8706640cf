# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Aperture corrections of all detectors of a visit, fitted together."""

from __future__ import annotations

__all__ = (
    "DetectorFluxes",
    "TooFewRatiosError",
    "VisitRatioFit",
    "chebyshev_projections",
    "fit_visit_ratio",
)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._robust import SIGMA_TO_MAD, robust_scatter
from ..focal_plane import DetectorFrame, FieldBasis, FieldModel, Scores, StarPlaces, fit_fields

if TYPE_CHECKING:
    from lsst.images import Box

_FLOOR = 1e-7
"""Least error of a ratio, relative, and of a scatter."""

_UPDATES, _LAST_UPDATES = 4, 8
"""Updates of the prior between rejections of stars and after the last."""


class TooFewRatiosError(RuntimeError):
    """Raised if too few stars have a ratio, or are left by the rejection.

    Parameters
    ----------
    number
        How many there are.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"There are {number} ratios of fluxes only.")
        self.number = number


@dataclass
class DetectorFluxes:
    """A detector with its measured stars."""

    bbox: Box
    """Its pixels."""

    frame: DetectorFrame
    """Where it is in the focal plane."""

    catalog: Any
    """Uncorrected fluxes, by columns."""


@dataclass
class VisitRatioFit:
    """A ratio of fluxes as a function of detector and position."""

    offset: float
    """Median of the stars' ratios, about which the fields vary."""

    model: FieldModel
    """Fields of one coefficient."""

    used: npt.NDArray[np.bool_]
    """Stars that weren't rejected [N]."""

    residuals: npt.NDArray[np.float64]
    """Model minus ratio at all stars [N]."""

    @property
    def sigma(self) -> float:
        """Scatter of the used stars about the model."""
        return robust_scatter(self.residuals[self.used]) + _FLOOR

    def coefficients(
        self, detector: int, projections: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    ) -> npt.NDArray[np.float64]:
        """Return Chebyshev coefficients [order + 1, order + 1] (y, x)."""
        focal, own = projections
        result = focal @ self.model.focal[0] + own @ self.model.own[0, detector]
        result[0, 0] += self.offset
        return result


def fit_visit_ratio(
    places: StarPlaces,
    ratio: npt.NDArray[np.float64],
    error: npt.NDArray[np.float64],
    basis: FieldBasis,
    *,
    n_iter: int,
    n_sigma: float,
    least: int = 1,
) -> VisitRatioFit:
    """Fit the ratio of two fluxes over all detectors of a visit.

    Parameters
    ----------
    places
        Where the stars are.
    ratio, error
        Ratios [N] and their errors, as far as known [N].
    basis
        Polynomials over the focal plane and the detectors.
    n_iter
        Number of fits.
    n_sigma
        Stars further off are left out of the next fit.
    least
        Least number of stars of a fit.

    Returns
    -------
    fit
        The fields.

    Raises
    ------
    TooFewRatiosError
        Raised if there are fewer than ``least`` stars.

    Notes
    -----
    Rejected stars may return, other than in the fit of a detector: in the
    first fit those of a detector unlike the others are all far off.  Errors
    are scaled up if the stars scatter more than they say.
    """
    if len(ratio) < least:
        raise TooFewRatiosError(len(ratio))
    offset = float(np.median(ratio))
    error = _usable_errors(ratio, error)
    used = np.ones(len(ratio), dtype=bool)
    # Each fit rejects for the next.
    for i in range(n_iter):
        last = i == n_iter - 1
        weight = error**-2.0
        scores = Scores(weight[:, np.newaxis, np.newaxis], (weight * (ratio - offset))[:, np.newaxis])
        model = fit_fields(scores, places, used, basis, _LAST_UPDATES if last else _UPDATES)
        residuals = offset + _at_stars(model, places) - ratio
        if not last:
            pull = np.abs(residuals) / np.sqrt(error**2 + model.prior.star[0])
            usual = float(np.median(pull[used])) / SIGMA_TO_MAD
            used = pull <= n_sigma * max(usual, _FLOOR)
            if np.count_nonzero(used) < least:
                raise TooFewRatiosError(int(np.count_nonzero(used)))
            # Errors too small would make structure of noise.
            error = error * max(usual, 1.0)
    return VisitRatioFit(offset, model, used, residuals)


def _usable_errors(ratio: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Replace errors that aren't known by usual ones."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(error) & (error > 0.0)
    usual = float(np.median(error[known])) if known.any() else robust_scatter(ratio)
    return np.maximum(np.where(known, error, usual), _FLOOR * np.maximum(np.abs(ratio), 1.0))


def _at_stars(model: FieldModel, places: StarPlaces) -> npt.NDArray[np.float64]:
    """Evaluate the fields at the stars [N]."""
    values = np.empty(len(places))
    # One pass per detector.
    for d in range(len(places.frames)):
        mine = places.detector == d
        values[mine] = model.values(d, places.x[mine], places.y[mine])[:, 0]
    return values


def chebyshev_projections(
    basis: FieldBasis, boxes: Sequence[Box]
) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Write the fields' polynomials as Chebyshev polynomials of detectors.

    This is exact, since on a detector all of them are polynomials of its
    pixel coordinates.

    Parameters
    ----------
    basis
        Polynomials over the focal plane and the detectors.
    boxes
        Pixels of each detector.

    Returns
    -------
    projections
        Per detector two arrays [order + 1, order + 1, terms] of Chebyshev
        coefficients (y, x) of the terms over the focal plane and of those
        over the detector.
    """
    order = max(basis.focal_order, basis.detector_order)
    nodes = np.cos(np.pi * (np.arange(order + 1) + 0.5) / (order + 1))
    u, v = (c.ravel() for c in np.meshgrid(nodes, nodes))
    j, i = np.nonzero(np.add.outer(np.arange(order + 1), np.arange(order + 1)) <= order)
    vander = np.polynomial.chebyshev.chebvander
    inverse = np.linalg.pinv(vander(v, order)[:, j] * vander(u, order)[:, i])
    result = []
    # One detector at a time.
    for frame, box in zip(basis.frames, boxes, strict=True):
        x = (box.x.min + box.x.max) / 2 + 0.5 * box.x.size * u
        y = (box.y.min + box.y.max) / 2 + 0.5 * box.y.size * v
        terms = basis.focal_terms(frame.focal(x, y)), basis.detector_terms(frame.scaled(x, y))
        pair = [np.zeros((order + 1, order + 1, t.shape[1])) for t in terms]
        for target, t in zip(pair, terms, strict=True):
            target[j, i] = inverse @ t
        result.append((pair[0], pair[1]))
    return result
