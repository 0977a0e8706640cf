# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
import piff
import pytest

from lsst.meas.finalize.psf.structured._outliers import reject_by_chisq
from lsst.meas.finalize.psf.structured._stars import NotCoveredError


def _stars(chisq: np.ndarray, dof: np.ndarray, flagged: np.ndarray, reserved: np.ndarray) -> list[piff.Star]:
    """Make Piff stars with these values."""
    stars = []
    image = galsim.ImageD(3, 3, wcs=galsim.PixelScale(1.0))
    for values in zip(chisq, dof, flagged, reserved, strict=True):
        properties = {"is_flagged": bool(values[2]), "is_reserve": bool(values[3])}
        data = piff.StarData(image, galsim.PositionD(1, 1), properties=properties)
        fit = piff.StarFit(None, chisq=values[0], dof=values[1])
        stars.append(piff.Star(data, fit))
    return stars


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [
        {"nsigma": 4.0, "max_remove": 0.05},
        {"nsigma": 2.0, "max_remove": 3},
        {"nsigma": 2.0},
        {"ndof": 1.3, "max_remove": 0.3},
        {"prob": 0.05},
        {"thresh": 50.0, "max_remove": 0.1},
        {"thresh": 1e9},
    ],
    ids=repr,
)
def test_same_choice_as_piff(options: dict[str, Any], seed: int) -> None:
    """Reject the stars Piff rejects."""
    rng = np.random.default_rng(seed)
    dof = rng.integers(30, 60, size=40)
    chisq = dof * rng.lognormal(sigma=0.5, size=40)
    flagged, reserved = rng.uniform(size=(2, 40)) < 0.2
    outliers = piff.ChisqOutliers(**options)
    result, removed = reject_by_chisq(outliers, chisq, dof, flagged, reserved)
    stars, expected = outliers.removeOutliers(_stars(chisq, dof, flagged, reserved))
    assert removed == expected
    assert result.tolist() == [s.is_flagged for s in stars]


def test_nobody_left() -> None:
    """Leave it to Piff to fail if all stars have been rejected."""
    with pytest.raises(NotCoveredError, match="no star is left"):
        reject_by_chisq(
            piff.ChisqOutliers(nsigma=4.0),
            np.ones(3),
            np.ones(3, dtype=int),
            np.ones(3, dtype=bool),
            np.zeros(3, dtype=bool),
        )
