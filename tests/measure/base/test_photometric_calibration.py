# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import astropy.units as u
import numpy as np
import pytest

from lsst.images import Box
from lsst.images.fields import ChebyshevField
from lsst.meas.finalize.measure.base._local_calib import photometric_calibration

X = np.array([0.0, 5.0])
SCALING = ChebyshevField(Box.from_shape((10, 10)), np.array([[2.5]]), unit=u.uJy / u.electron)


@pytest.mark.parametrize(
    ("unit", "scaling", "expected"),
    [
        (u.electron, SCALING, 2500.0),
        (u.electron, None, None),
        # What has been calibrated needs no scaling and isn't scaled again.
        (u.nJy, None, 1.0),
        (u.uJy, None, 1000.0),
        (u.nJy, SCALING, 1.0),
    ],
)
def test_factor_to_nanojansky(unit: u.UnitBase, scaling: Any, expected: float | None) -> None:
    """Calibrate counts, and leave calibrated images alone."""
    exposure: Any = SimpleNamespace(image=SimpleNamespace(unit=unit), photometric_scaling=scaling)
    calibration = photometric_calibration(exposure, X, X)
    if expected is None:
        assert calibration is None
    else:
        np.testing.assert_allclose(calibration, [expected, expected], rtol=1e-12)
