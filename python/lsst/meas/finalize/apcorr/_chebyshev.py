# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Chebyshev fits in two dimensions."""

from __future__ import annotations

__all__ = ("ChebyshevBoundedFieldConfig", "constant_field", "fit_chebyshev", "n_coefficients")

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Config, Field, RangeField

if TYPE_CHECKING:
    from lsst.images import Box
    from lsst.images.fields import ChebyshevField

_EIGENVALUE_CUT = np.finfo(np.float64).eps


class ChebyshevBoundedFieldConfig(Config):
    """Orders of a two-dimensional Chebyshev fit."""

    orderX: Field[int] = RangeField("maximum Chebyshev function order in x", dtype=int, default=2, min=0)
    orderY: Field[int] = RangeField("maximum Chebyshev function order in y", dtype=int, default=2, min=0)
    triangular: Field[bool] = Field(
        "if true, only include terms where the sum of the x and y order is less than or equal to "
        "max(orderX, orderY)",
        dtype=bool,
        default=True,
    )


@functools.lru_cache(maxsize=64)
def _terms(order_x: int, order_y: int, triangular: bool) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the (y, x) orders of the fitted terms, row-major; not to be
    changed.
    """
    j, i = np.indices((order_y + 1, order_x + 1))
    keep = i + j <= max(order_x, order_y) if triangular else np.ones(i.shape, bool)
    return j[keep], i[keep]


def n_coefficients(order_x: int, order_y: int, triangular: bool = True) -> int:
    """Count the free coefficients of a fit.

    Parameters
    ----------
    order_x, order_y : `int`
        Maximum orders.
    triangular : `bool`, optional
        Whether only terms up to total order ``max(order_x, order_y)`` are
        free.

    Returns
    -------
    count : `int`
        Number of coefficients; 6, 3, 1 for triangular orders 2, 1, 0.
    """
    return len(_terms(order_x, order_y, triangular)[0])


def fit_chebyshev(
    bbox: Box,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    z: npt.NDArray[np.float64],
    *,
    order_x: int = 2,
    order_y: int = 2,
    triangular: bool = True,
) -> tuple[ChebyshevField, npt.NDArray[np.float64]]:
    """Fit a Chebyshev polynomial to scattered points, without weights.

    Parameters
    ----------
    bbox : `lsst.images.Box`
        Region mapped to [-1, 1] squared, from pixel edge to pixel edge.
    x, y : `numpy.ndarray`
        Positions of the points, (N,) float64, pixels, parent coordinates.
    z : `numpy.ndarray`
        Values at the points, (N,) float64.
    order_x, order_y : `int`, optional
        Maximum orders.
    triangular : `bool`, optional
        Whether to fit only terms up to total order
        ``max(order_x, order_y)``; the other coefficients are 0.

    Returns
    -------
    field : `lsst.images.fields.ChebyshevField`
        Best fit.
    model : `numpy.ndarray`
        Its values at the points, (N,).

    Raises
    ------
    ValueError
        Raised if there are no points, the lengths differ, or a value isn't
        finite.

    Notes
    -----
    Normal equations solved through a symmetric eigen-decomposition in which
    eigenvalues below 2.2e-16 of the largest are dropped (spec 01 §6.4), so a
    degenerate arrangement of points gives the minimum-norm solution.
    """
    x, y, z = (np.asarray(a, dtype=np.float64) for a in (x, y, z))
    if not x.shape == y.shape == z.shape or x.ndim != 1 or not len(x):
        raise ValueError(f"A Chebyshev fit needs equally many x, y, z, not {x.shape}, {y.shape}, {z.shape}.")
    if not (np.isfinite(x) & np.isfinite(y) & np.isfinite(z)).all():
        raise ValueError("A Chebyshev fit needs finite positions and values.")
    coefficients, model = fit_several(
        bbox, x, y, z[None], np.ones((1, len(z)), bool), order_x, order_y, triangular
    )
    from lsst.images.fields import ChebyshevField

    return ChebyshevField(bbox, coefficients[0]), model[0]


def fit_several(
    bbox: Box,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    z: npt.NDArray[np.float64],
    used: npt.NDArray[np.bool_],
    order_x: int,
    order_y: int,
    triangular: bool,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit several sets of values at the same points, as `fit_chebyshev` does
    each.

    Parameters
    ----------
    bbox, x, y, order_x, order_y, triangular
        As of `fit_chebyshev`.
    z
        Values, (K, N).
    used
        Which of them are fitted, (K, N); the others must be finite, too.

    Returns
    -------
    coefficients
        Coefficients, (K, order_y + 1, order_x + 1).
    model
        Values of the polynomials at all points, (K, N).

    Raises
    ------
    ValueError
        Raised if a value that is fitted isn't finite.
    """
    if not np.isfinite(z[used]).all():
        raise ValueError("A Chebyshev fit needs finite positions and values.")
    scaled = np.stack(
        [(v - (side.min + side.max) / 2) * (2 / side.size) for v, side in ((x, bbox.x), (y, bbox.y))]
    )
    j, i = _terms(order_x, order_y, triangular)
    polynomials = np.polynomial.chebyshev.chebvander(scaled, max(order_x, order_y))
    design = polynomials[1][:, j] * polynomials[0][:, i]
    n_terms = len(j)
    products = (design[:, :, None] * design[:, None, :]).reshape(-1, n_terms**2)
    normal = (used.astype(np.float64) @ products).reshape(-1, n_terms, n_terms)
    eigenvalues, vectors = np.linalg.eigh(normal)
    keep = eigenvalues >= _EIGENVALUE_CUT * eigenvalues[:, -1:]
    keep[:, -1] = True
    projected = (np.where(used, z, 0.0) @ design)[:, None, :] @ vectors
    solved = np.divide(
        projected, eigenvalues[:, None, :], where=keep[:, None, :], out=np.zeros(projected.shape)
    )
    fitted = (vectors @ solved.transpose(0, 2, 1))[:, :, 0]
    coefficients = np.zeros((len(z), order_y + 1, order_x + 1))
    coefficients[:, j, i] = fitted
    return coefficients, fitted @ design.T


def constant_field(bbox: Box, value: float) -> ChebyshevField:
    """Make a field with the same value everywhere.

    Parameters
    ----------
    bbox : `lsst.images.Box`
        Region of the field.
    value : `float`
        The value.

    Returns
    -------
    field : `lsst.images.fields.ChebyshevField`
        Field with a single coefficient.
    """
    from lsst.images.fields import ChebyshevField

    return ChebyshevField(bbox, np.full((1, 1), value, dtype=np.float64))
