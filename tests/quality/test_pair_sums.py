# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
from __future__ import annotations

import numpy as np
import pytest
import treecorr

from lsst.meas.finalize.quality import (
    PairSums,
    distortion,
    make_patches,
    rho_statistics,
    size_residuals,
    sum_close_pairs,
)
from lsst.meas.finalize.quality._correlations import _plane


@pytest.mark.parametrize("spherical", [False, True])
def test_jackknife_equals_that_of_treecorr(spherical: bool) -> None:
    """Compare values and errors with TreeCorr's own of patches."""
    rng = np.random.default_rng(8)
    x, y = rng.uniform(-0.01, 0.01, (2, 400)) if spherical else rng.uniform(-30, 30, (2, 400))
    star, psf = (np.array([3.0, 2.8, 0.1]) + 0.1 * rng.normal(size=(400, 3)) for _ in range(2))
    rho = rho_statistics(x, y, star, psf, n_patches=8, spherical=spherical)
    where = {"ra": x, "dec": y, "ra_units": "rad", "dec_units": "rad"} if spherical else {"x": x, "y": y}
    e, p = distortion(star) / 2, distortion(psf) / 2
    patch = make_patches(*(_plane(x, y) if spherical else (x, y)), 8)
    t = size_residuals(star, psf)
    fields = {"e": e, "de": e - p, "et": e * t[:, None]}
    catalogs = {
        name: treecorr.Catalog(**where, g1=g[:, 0], g2=g[:, 1], k=t, patch=patch)
        for name, g in fields.items()
    }
    options = {"sep_units": "arcmin", "metric": "Arc"} if spherical else {}
    options |= {"nbins": 21, "min_sep": 0.01, "max_sep": 100, "num_threads": 1}
    options |= {"var_method": "jackknife", "cross_patch_weight": "match"}
    scalar = treecorr.KKCorrelation(**options)
    scalar.process(catalogs["e"])
    assert rho.error_method == "jackknife"
    np.testing.assert_array_equal(rho.n_pairs, scalar.npairs)
    # Bins with pairs in few patches have no error here.
    known = rho.n_pairs > 50
    assert known.sum() > 6
    np.testing.assert_allclose(rho.mean_r[known], scalar.meanr[known], rtol=1e-12)
    expected = {"rho3alt": (scalar.xi, scalar.varxi)}
    pairs = {"rho1": ("de",), "rho2": ("e", "de"), "rho3": ("et",), "rho4": ("de", "et"), "rho5": ("e", "et")}
    for name, names in pairs.items():
        shapes = treecorr.GGCorrelation(**options)
        shapes.process(*(catalogs[n] for n in names))
        expected[name] = shapes.xip, shapes.varxip
    for name, (value, variance) in expected.items():
        error = np.sqrt(variance)[known]
        # TreeCorr keeps values at single precision.
        difference = (rho.values[name] - value)[known] / error
        np.testing.assert_allclose(difference, 0, atol=1e-9 if spherical else 1e-6, err_msg=name)
        np.testing.assert_allclose(rho.errors[name][known], error, rtol=1e-9 if spherical else 1e-6)


def test_close_pairs_are_those_of_all_pairs() -> None:
    """Compare sums of products with sums over a matrix of all pairs."""
    rng = np.random.default_rng(3)
    x, y, a, b = rng.normal(size=(4, 200))
    x[7], y[7] = x[9], y[9]  # at the same place: no pair
    patch = rng.integers(0, 3, 200)
    sums = sum_close_pairs(x, y, [(a, a), (a, b)], 0.5, patch)
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    near = (distance > 0) & (distance < 0.5)
    np.testing.assert_allclose(sums.mean(), [np.outer(a, v)[near].mean() for v in (a, b)], rtol=1e-12)
    inside = near & (patch == 1) & (patch[:, None] == 1)
    one = (sums.first == 1) & (sums.second == 1)
    assert sums.weight[one, 0] == inside.sum() / 2


def test_a_single_patch_has_no_error() -> None:
    """Say nothing of errors that the jackknife can't know."""
    sums = PairSums(np.array([0, 0]), np.array([0, 1]), np.array([[4.0], [0.0]]), np.array([[2.0], [0.0]]))
    assert sums.mean()[0] == 2
    assert np.isnan(sums.jackknife_error()[0])


def test_too_many_close_pairs_are_left_to_trees() -> None:
    """Refuse to list the pairs of stars that are all at one place."""
    n = 5000
    assert (
        sum_close_pairs(np.zeros(n), np.zeros(n), [(np.ones(n), np.ones(n))], 1.0, np.zeros(n, int)) is None
    )
