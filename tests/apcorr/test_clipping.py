# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of fits of several fluxes at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.images import Box, Interval
from lsst.images.fields import ChebyshevField
from lsst.meas.finalize.apcorr import ChebyshevBoundedFieldConfig
from lsst.meas.finalize.apcorr._clipping import fit_clipped, medians

BOX = Box(Interval(-20, 180), Interval(10, 310))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_medians(seed: int, n: int) -> None:
    """Be NumPy's medians of what counts, bit by bit."""
    rng = np.random.default_rng(seed)
    values, used = rng.normal(size=(20, n)), rng.random((20, n)) < 0.6
    expected = [np.median(v[u]) if u.any() else np.nan for v, u in zip(values, used, strict=True)]
    np.testing.assert_array_equal(medians(values, used), expected)
    used[3, 0], values[3, 0] = True, np.nan
    assert np.isnan(medians(values, used)[3])
    assert np.isnan(medians(values[:, :0], used[:, :0])).all()


def _fit_one(x, y, z, *, least: int, n_iter: int = 4, n_sigma: float = 4.0):
    """Fit one flux step by step (spec 01 §6.3), with another solver; return
    the order, what is left, and the residuals, or where there was too little.
    """
    if len(z) - 1 < least:
        return len(z), None
    order, index, model = 2, np.arange(len(z)), np.full(len(z), np.median(z))
    for iteration in range(1, n_iter + 1):
        residuals = z[index] - model
        sigma = np.median(np.abs(residuals - np.median(residuals))) / 0.6744897501960817 + 1e-7
        index = index[np.abs(residuals) <= n_sigma * sigma]
        while len(index) - (order + 1) * (order + 2) // 2 < least:
            if order == 0:
                return len(index), iteration
            order -= 1
        where = {"x": x[index], "y": y[index]}
        field = ChebyshevField.fit(BOX, z[index], **where, x_order=order, y_order=order, triangular=True)
        model = field(**where)
    residuals = model - z[index]
    return order, index, residuals - np.median(residuals), sigma


@pytest.mark.parametrize("least", [1, 2])
def test_each_flux_is_fitted_alone(least: int) -> None:
    """Do for each flux what a fit of nothing else does, whatever the number
    of its stars.
    """
    rng = np.random.default_rng(least)
    n = 40
    x, y = rng.uniform(10, 310, n), rng.uniform(-20, 180, n)
    counts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 40, 40]
    used = np.array([rng.permutation(n) < count for count in counts])
    z = 1.1 + 1e-4 * x + rng.standard_t(1.5, used.shape) * 1e-3
    # A value among three of which the others agree is clipped.
    z[3, np.flatnonzero(used[3])] = 1.0, 1.0, 2.0
    fits = fit_clipped(
        BOX, x, y, np.where(used, z, np.nan), used, ChebyshevBoundedFieldConfig(),
        least=least, n_iter=4, n_sigma=4.0, shifts=True,
    )  # fmt: skip
    failures = {}
    for k, mine in enumerate(used):
        found = _fit_one(x[mine], y[mine], z[k, mine], least=least)
        if len(found) == 2:
            failures[k] = found
            continue
        order, index, residuals, sigma = found
        assert fits.coefficients[k].shape == (order + 1, order + 1)
        np.testing.assert_array_equal(np.flatnonzero(fits.used[k]), np.flatnonzero(mine)[index])
        np.testing.assert_allclose(fits.residuals[k, fits.used[k]], residuals, rtol=0, atol=1e-12)
        np.testing.assert_allclose(fits.sigma[k], sigma, rtol=1e-9)
    assert fits.failures == failures
    assert failures[0] == (0, None)
    assert ((2, 1) in failures.values()) == (least == 2)
