# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Detectors of a visit's model as genuine Piff PSFs."""

from __future__ import annotations

__all__ = ("export_order", "export_piff")

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...focal_plane import FieldBasis
from ..structured import FitState, basis_terms, fill_psf, make_psf
from ._frames import from_focal
from ._model import VisitPsfModel

if TYPE_CHECKING:
    import galsim
    import piff

_LOG = logging.getLogger(__name__)

_GRID = 9
"""Least number of positions per axis of a detector where polynomials are
fitted.
"""

_TOLERANCE = 0.055
"""Largest error of the export on a lattice, in units of the model's own error,
so that it is below a tenth elsewhere, too.
"""


def _lattice(basis: FieldBasis, detector: int) -> tuple[npt.NDArray[np.float64], ...]:
    """Return positions u, v from -1 to 1 and x, y of a Chebyshev lattice.

    It tells all polynomials of the fields apart: n + 1 positions per axis do
    those of degree n.
    """
    number = max(_GRID, basis.focal_order + 1, basis.detector_order + 1)
    node = np.cos(np.pi * (np.arange(number) + 0.5) / number)
    u, v = (c.ravel() for c in np.meshgrid(node, node))
    x_min, x_max, y_min, y_max = basis.frames[detector].bounds
    x, y = 0.5 * (x_min + x_max + u * (x_max - x_min)), 0.5 * (y_min + y_max + v * (y_max - y_min))
    return u, v, x, y


def _design(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64], order: int) -> npt.NDArray[np.float64]:
    return np.stack([u ** (n - i) * v**i for n in range(order + 1) for i in range(n + 1)], axis=1)


def export_order(model: VisitPsfModel, detector: int) -> int:
    """Return the least order of polynomials that loses nothing of weight.

    Parameters
    ----------
    model
        The model of the visit.
    detector
        Index of the detector.

    Returns
    -------
    order
        Least order whose pixels' rms error is below 0.055 of the model's
        own, without the scatter of stars.
    """
    basis = model.fields.basis
    highest = max(basis.focal_order, basis.detector_order)
    u, v, x, y = _lattice(basis, detector)
    values = model.fields.values(detector, x, y)
    vectors = model.basis.vectors.reshape(len(model.basis.vectors), -1)
    own = (model.fields.variances(detector, x, y) @ (vectors**2).sum(axis=1)).mean()
    # One fit per order.
    for order in range(highest):
        design = _design(u, v, order)
        residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        if ((residual @ vectors) ** 2).sum(axis=1).mean() <= _TOLERANCE**2 * own:
            return order
    return highest


def _pixel_polynomials(model: VisitPsfModel, detector: int, order: int) -> npt.NDArray[np.float64]:
    """Return the coefficients [order + 1, order + 1, K] of x^i y^j."""
    u, v, x, y = _lattice(model.fields.basis, detector)
    values = model.fields.values(detector, x, y)
    solution = np.linalg.lstsq(_design(u, v, order), values, rcond=None)[0]
    in_scaled = np.zeros((order + 1, order + 1, values.shape[1]))
    pairs = [(n - i, i) for n in range(order + 1) for i in range(n + 1)]
    in_scaled[tuple(np.transpose(pairs))] = solution
    bounds = model.fields.basis.frames[detector].bounds
    expand = [_expansion(order, bounds[2 * axis], bounds[2 * axis + 1]) for axis in (0, 1)]
    return np.einsum("ip,jq,ijk->pqk", *expand, in_scaled)


def _expansion(order: int, first: float, last: float) -> npt.NDArray[np.float64]:
    """Return the coefficients [n, p] of x^p in u^n for scaled u of x."""
    scale = 2.0 / max(last - first, 1.0)
    shift = -(last + first) / max(last - first, 1.0)
    matrix = np.zeros((order + 1, order + 1))
    for n in range(order + 1):
        for p in range(n + 1):
            matrix[n, p] = math.comb(n, p) * scale**p * shift ** (n - p)
    return matrix


def export_piff(
    model: VisitPsfModel,
    detector: int,
    stars: Sequence[piff.Star],
    used: npt.NDArray[np.bool_],
    index: npt.NDArray[np.intp],
    piff_config: Mapping[str, Any],
    wcs: Mapping[int, galsim.BaseWCS],
) -> piff.SimplePSF:
    """Write a detector's PSF as Piff would have fitted it.

    Parameters
    ----------
    model
        The model of the visit.
    detector
        Index of the detector.
    stars
        Piff's stars of this detector.
    used
        Which of them were used [N].
    index
        Their rows in the arrays of the fit [N].
    piff_config
        Configuration of a PixelGrid whose nodes are the image's pixels, and
        of a BasisPolynomial of x and y, whose order is replaced.
    wcs
        Pixel coordinates by chip number.

    Returns
    -------
    psf
        A fitted `piff.SimplePSF`.
    """
    order = export_order(model, detector)
    config = copy.deepcopy(dict(piff_config))
    config["interp"] |= {"order": [order, order], "keys": ["x", "y"]}
    psf = make_psf(config, _LOG)
    psf.set_context(wcs)
    coefficients = _pixel_polynomials(model, detector, order)[np.nonzero(psf.interp._mask)]
    orientation = np.array(model.fields.basis.frames[detector].orientation)
    vectors = from_focal(model.basis.vectors, orientation).reshape(coefficients.shape[1], -1)
    mean = from_focal(model.basis.mean, orientation).ravel()
    q = vectors.T @ coefficients.T
    q[:, 0] += mean
    fill_psf(psf, stars, _state(model, psf, stars, used, index, q), mean)
    if not len(stars):
        psf.stars = [_predicted_star(model, detector, mean, wcs[0])]
    return psf


def _predicted_star(
    model: VisitPsfModel, detector: int, mean: npt.NDArray[np.float64], wcs: galsim.BaseWCS
) -> piff.Star:
    """Make a star of no weight, flagged; Piff writes no PSF without stars."""
    import galsim
    import piff

    x_min, x_max, y_min, y_max = model.fields.basis.frames[detector].bounds
    x, y = 0.5 * (x_min + x_max), 0.5 * (y_min + y_max)
    size = math.isqrt(len(mean))
    place = {"xmin": round(x) - size // 2, "ymin": round(y) - size // 2, "wcs": wcs}
    data = piff.StarData(
        galsim.Image(mean.reshape(size, size).copy(), **place),
        galsim.PositionD(x, y),
        weight=galsim.Image(np.zeros((size, size)), **place),
        properties={"is_flagged": True, "starId": 0, "colorValue": 0.0},
    )
    return piff.Star(data, piff.StarFit(mean, flux=1.0, center=(0.0, 0.0), chisq=0.0, dof=0))


def _state(
    model: VisitPsfModel,
    psf: piff.SimplePSF,
    stars: Sequence[piff.Star],
    used: npt.NDArray[np.bool_],
    index: npt.NDArray[np.intp],
    q: npt.NDArray[np.float64],
) -> FitState:
    """Collect what Piff keeps of the stars of a fit."""
    freedom = np.array([np.count_nonzero(s.weight.array) - 3 for s in stars], dtype=np.int64)
    reduced = model.states.chisq[index]
    chisq = np.where(np.isfinite(reduced), reduced * freedom, np.nan)
    terms = basis_terms(psf.interp, stars) if len(stars) else np.zeros((0, q.shape[1]))
    return FitState(
        q=q,
        params=terms @ q.T,
        flux=model.states.flux[index],
        center=(model.states.center[index] - _offsets(stars)) * psf.model.scale,
        chisq=chisq,
        dof=freedom,
        flagged=~used,
        reserved=np.zeros(len(stars), dtype=bool),
        total_chisq=float(chisq[used].sum()),
        total_dof=int(freedom[used].sum()),
        removed=int(np.count_nonzero(~used)),
        iterations=1,
    )


def _offsets(stars: Sequence[piff.Star]) -> npt.NDArray[np.float64]:
    """Return the positions relative to the middles of the stamps [N, 2],
    from where the fit's centres count; Piff's count from the positions.
    """
    middles = [s.image.bounds.true_center for s in stars]
    offsets = [(s.image_pos.x - m.x, s.image_pos.y - m.y) for s, m in zip(stars, middles, strict=True)]
    return np.array(offsets).reshape(len(stars), 2)
