# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of aperture corrections as tables and images."""

from __future__ import annotations

import numpy as np
import pytest

from lsst.images import Box
from lsst.images.fields import ChebyshevField
from lsst.meas.finalize.apcorr import ap_corr_image, ap_corr_table, constant_field

BOX = Box.factory[10:110, 20:220]
COEFFICIENTS = np.array([[1.0, 0.02, 0.003], [0.01, 0.004, 0.0], [-0.005, 0.0, 0.0]])


def truth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Evaluate the polynomial by NumPy; the box is -1 to 1 at its edges."""
    return np.polynomial.chebyshev.chebval2d((y - 59.5) / 50, (x - 119.5) / 100, COEFFICIENTS)


def test_table_has_values_at_positions() -> None:
    """Evaluate each correction at each position."""
    corrections = {"b_instFlux": ChebyshevField(BOX, COEFFICIENTS), "a_instFlux": constant_field(BOX, 1.5)}
    x, y = np.array([25.0, 100.5, 219.0]), np.array([11.0, 60.0, 100.0])
    table = ap_corr_table(corrections, x, y)
    assert table.colnames == ["x", "y", "a_instFlux", "b_instFlux"]
    np.testing.assert_allclose(table["b_instFlux"], truth(x, y), rtol=1e-12)
    np.testing.assert_array_equal(table["a_instFlux"], [1.5] * 3)
    assert ap_corr_table(corrections, 100.0, 60)["b_instFlux"][0] == pytest.approx(truth(100.0, 60.0))


def test_image_has_rows_and_columns() -> None:
    """Evaluate a correction at each pixel, or at every tenth."""
    field = ChebyshevField(BOX, COEFFICIENTS)
    y, x = np.mgrid[10:110, 20:220]
    np.testing.assert_allclose(ap_corr_image(field, BOX), truth(x, y), rtol=1e-12)
    np.testing.assert_allclose(ap_corr_image(field, BOX, step=10), truth(x, y)[::10, ::10], rtol=1e-12)
    assert ap_corr_image(constant_field(BOX, 2.0), BOX, step=30).tolist() == [[2.0] * 7] * 4


def test_what_is_missing_is_said() -> None:
    """Refuse a record without corrections, and what can't be meant."""
    with pytest.raises(ValueError, match="There are no aperture corrections"):
        ap_corr_table(None, 1.0, 1.0)
    with pytest.raises(ValueError, match="same length"):
        ap_corr_table({}, [1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="step=0"):
        ap_corr_image(constant_field(BOX, 2.0), BOX, step=0)
