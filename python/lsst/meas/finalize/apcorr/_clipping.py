# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Fits of several fluxes of the same stars, with clipping."""

from __future__ import annotations

__all__ = ("ClippedFits", "fit_clipped", "medians")

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .._robust import SIGMA_TO_MAD
from ._chebyshev import fit_several, n_coefficients

if TYPE_CHECKING:
    from lsst.images import Box

    from ._chebyshev import ChebyshevBoundedFieldConfig

type _Failures = dict[int, tuple[int, int | None]]

# The floor that upstream adds to its estimate of sigma (spec 01 §6.3).
_SIGMA_FLOOR = 1e-7


@dataclasses.dataclass
class ClippedFits:
    """Fits of several fluxes, (K), to the same stars, (N)."""

    coefficients: list[npt.NDArray[np.float64]]
    """Coefficients of each, (order in y + 1, order in x + 1)."""
    sigma: npt.NDArray[np.float64]
    """Robust scatter before the last clipping, (K,)."""
    used: npt.NDArray[np.bool_]
    """Stars that survived, (K, N)."""
    residuals: npt.NDArray[np.float64]
    """Model minus value, (K, N); meaningless for other stars."""
    failures: _Failures
    """Fluxes with too few stars: how many there were, and the iteration, from
    1, in which that was found; `None` before the first.
    """

    def statistics(self) -> tuple[npt.NDArray[np.float64], ...]:
        """Return median, robust scatter and RMS of the residuals, (K,)."""
        center = medians(self.residuals, self.used)
        scatter = medians(np.abs(self.residuals - center[:, None]), self.used) / SIGMA_TO_MAD
        squares = np.sum(self.residuals**2, axis=1, where=self.used)
        return center, scatter, np.sqrt(squares / np.maximum(np.count_nonzero(self.used, axis=1), 1))


def medians(values: npt.NDArray[np.float64], used: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the median of each row.

    Parameters
    ----------
    values
        Values, (K, N).
    used
        Which of them count, (K, N).

    Returns
    -------
    medians
        Medians, (K,); NaN where no value counts or one is NaN.
    """
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    count = np.count_nonzero(used, axis=1)
    ordered = np.sort(np.where(used, values, np.inf), axis=1)
    last = values.shape[1] - 1
    low, high = (np.clip(n, 0, last)[:, None] for n in ((count - 1) // 2, count // 2))
    middle = np.take_along_axis(ordered, low, axis=1) + np.take_along_axis(ordered, high, axis=1)
    bad = (count == 0) | np.isnan(ordered[:, -1])
    return np.where(bad, np.nan, middle[:, 0] / 2)


def fit_clipped(
    bbox: Box,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    z: npt.NDArray[np.float64],
    used: npt.NDArray[np.bool_],
    config: ChebyshevBoundedFieldConfig,
    *,
    least: int,
    n_iter: int,
    n_sigma: float,
    shifts: bool,
) -> ClippedFits:
    """Fit Chebyshev polynomials with clipping and order reduction, spec 01
    §6.3.

    Parameters
    ----------
    bbox
        Region mapped to [-1, 1] squared.
    x, y
        Positions of the stars, (N,), pixels, parent coordinates.
    z
        Values of the fluxes at the stars, (K, N).
    used
        Which of them can be used, (K, N).
    config
        Orders to begin with.
    least
        Degrees of freedom that must be left; orders are reduced for that.
    n_iter, n_sigma
        Iterations of the clipping, and its limit in robust scatters.
    shifts
        Whether residuals are made to have a median of zero in the end.

    Returns
    -------
    fits
        The fits.

    Raises
    ------
    ValueError
        Raised if a position or value that is left isn't finite.
    """
    used, z = used.copy(), np.where(used, z, 0.0)
    orders: dict[int, tuple[int, int]] = {}
    failures: _Failures = {}
    for k, count in enumerate(np.count_nonzero(used, axis=1)):
        if count - 1 < least:
            failures[k] = int(count), None
        else:
            orders[k] = config.orderX, config.orderY
    coefficients = [np.zeros((0, 0))] * len(z)
    model = np.broadcast_to(medians(z, used)[:, None], z.shape).copy()
    sigma = np.full(len(z), np.nan)
    for iteration in range(1, n_iter + 1):
        residuals = z - model
        deviations = np.abs(residuals - medians(residuals, used)[:, None])
        sigma = medians(deviations, used) / SIGMA_TO_MAD + _SIGMA_FLOOR
        used &= np.abs(residuals) <= n_sigma * sigma[:, None]
        _reduce_orders(orders, failures, np.count_nonzero(used, axis=1), config.triangular, least, iteration)
        for order in set(orders.values()):
            same = [k for k, other in orders.items() if other == order]
            fitted, model[same] = fit_several(bbox, x, y, z[same], used[same], *order, config.triangular)
            for k, found in zip(same, fitted, strict=True):
                coefficients[k] = found
    if shifts:
        shift = medians(model - z, used)
        model -= shift[:, None]
        for k in orders:
            coefficients[k][0, 0] -= shift[k]
    return ClippedFits(coefficients, sigma, used, model - z, failures)


def _reduce_orders(
    orders: dict[int, tuple[int, int]],
    failures: _Failures,
    counts: npt.NDArray[np.intp],
    triangular: bool,
    least: int,
    iteration: int,
) -> None:
    """Reduce orders until enough stars are left for them; those for which
    there are too few become failures.
    """
    for k, (order_x, order_y) in list(orders.items()):
        while counts[k] - n_coefficients(order_x, order_y, triangular) < least:
            if order_x == 0 or order_y == 0:
                failures[k] = int(counts[k]), iteration
                del orders[k]
                break
            order_x, order_y = order_x - 1, order_y - 1
        else:
            orders[k] = order_x, order_y
