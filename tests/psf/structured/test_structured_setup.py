# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import galsim
import numpy as np
import piff
import pytest

from lsst.meas.finalize.psf.structured._setup import _widths, initial_profile, make_psf
from lsst.meas.finalize.psf.structured._stars import extract_stars

LOG = logging.getLogger(__name__)


@pytest.mark.parametrize(
    "wcs", [galsim.PixelScale(0.26), galsim.JacobianWCS(0.02, 0.25, -0.27, 0.03)], ids=["straight", "turned"]
)
def test_widths_are_piffs(make_star_list: Callable[..., list[piff.Star]], wcs: galsim.BaseWCS) -> None:
    """Measure the widths that Piff has of GalSim, star by star."""
    stars = make_star_list(40, seed=6, stamp=19, wcs=wcs)
    expected = np.array([star.hsm[3] for star in stars])
    measured = np.array([star.hsm[6] == 0 for star in stars])
    assert measured.sum() > 30
    np.testing.assert_allclose(_widths(extract_stars(stars))[measured], expected[measured], rtol=1e-6)


def test_stars_that_cannot_be_measured_are_left_to_piff(
    make_star_list: Callable[..., list[piff.Star]],
    change_star: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Exclude a star without good pixels, and take Piff's -1 without flux."""
    stars = make_star_list(6, seed=3, stamp=19)
    stars = change_star(stars, 2, weight=np.zeros_like)
    stars = change_star(stars, 4, image=np.zeros_like)
    arrays = extract_stars(stars)
    assert np.flatnonzero(np.isnan(_widths(arrays))).tolist() == [2, 4]
    psf = make_psf(make_config(), LOG)
    profile, flagged, removed = initial_profile(psf, stars, arrays, LOG)
    assert flagged.tolist() == [False, False, True, False, False, False]
    assert removed == 1
    assert "Failed initializing star" in caplog.text
    sigma = np.array([stars[i].hsm[3] for i in (0, 1, 3, 4, 5)])
    axis = (np.arange(psf.model.size) - psf.model.size // 2) * psf.model.scale
    lines = np.exp(-0.5 * (axis / sigma[:, np.newaxis]) ** 2)
    lines /= lines.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(profile, (lines.T @ lines).ravel() / 5, rtol=1e-5)
