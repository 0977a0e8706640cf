# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compare re-Gaussianized shapes with GalSim's."""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
import pytest

from lsst.meas.finalize.measure.hsm._regauss import RegaussShapes, regauss_shapes

_SIZE = 31
_PSF_SIZE = 23


def _moffat(size: int, x: float, y: float, width: float, e1: float, e2: float, beta: float) -> np.ndarray:
    """Draw an elliptical Moffat profile of unit flux in an infinite image."""
    j, i = np.indices((size, size))
    dx, dy = i - x, j - y
    rho2 = ((1.0 - e1) * dx**2 - 2.0 * e2 * dx * dy + (1.0 + e1) * dy**2) / (width**2 * (1.0 - e1**2 - e2**2))
    profile = (1.0 + rho2) ** -beta
    return profile / (profile.sum() + 1e-30)


def _stars(count: int, seed: int, larger: float) -> dict[str, Any]:
    """Make noisy stars, or galaxies up to so much larger than the PSF."""
    rng = np.random.default_rng(seed)
    images, psfs, guesses = [], [], []
    good = rng.uniform(size=(count, _SIZE, _SIZE)) > 0.01
    for _ in range(count):
        x, y = 15.0 + rng.uniform(-0.5, 0.5, size=2)
        width = rng.uniform(2.5, 4.0)
        e1, e2 = rng.uniform(-0.1, 0.1, size=2)
        psfs.append(_moffat(_PSF_SIZE, x - 4.0, y - 4.0, width, e1, e2, 2.5))
        e1, e2 = rng.uniform(-0.3, 0.3, size=2) if larger > 1.0 else (e1, e2)
        width *= rng.uniform(1.0, larger)
        image = rng.uniform(1e3, 1e5) * _moffat(_SIZE, x, y, width, e1, e2, 2.5)
        images.append(image + rng.normal(scale=2.0, size=image.shape))
        guesses.append((x + 0.1, y - 0.1, 5.0, 2.0))
    return {
        "images": np.array(images, dtype=np.float32),
        "good": good,
        "sizes": np.tile([_SIZE, _SIZE - 1], (count, 1)),
        "guess": np.array(guesses),
        "psf_images": np.array(psfs),
        "sky_variance": np.full(count, 4.0, dtype=np.float32),
    }


def _galsim(stars: dict[str, Any]) -> RegaussShapes:
    """Let GalSim measure the stars."""
    count = len(stars["images"])
    values, measured = np.full((count, 4), np.nan, dtype=np.float32), np.zeros(count, dtype=bool)
    for n in range(count):
        width, height = stars["sizes"][n]
        x, y, sigma, psf_sigma = stars["guess"][n]
        image, weight = (
            galsim.Image(np.ascontiguousarray(a[n, :height, :width]), xmin=0, ymin=0)
            for a in (stars["images"], stars["good"].astype(np.int32))
        )
        try:
            shape = galsim.hsm.EstimateShear(
                image,
                galsim.Image(stars["psf_images"][n], xmin=0, ymin=0),
                weight=weight,
                sky_var=float(stars["sky_variance"][n]),
                shear_est="REGAUSS",
                recompute_flux="FIT",
                guess_sig_gal=sigma,
                guess_sig_PSF=psf_sigma,
                guess_centroid=galsim.PositionD(x, y),
            )
        except galsim.GalSimError:
            continue
        measured[n] = True
        values[n] = (
            shape.corrected_e1,
            shape.corrected_e2,
            shape.corrected_shape_err,
            shape.resolution_factor,
        )
    return RegaussShapes(values, measured, ~measured)


@pytest.mark.parametrize("larger", [1.0, 1.3, 2.0])
def test_like_galsim(larger: float) -> None:
    """Agree to the last digit of float32, times the shapes' condition."""
    stars = _stars(150, 3, larger)
    mine, theirs = regauss_shapes(**stars), _galsim(stars)
    decided = ~mine.undecided
    np.testing.assert_array_equal(mine.measured[decided], theirs.measured[decided])
    measured = mine.measured
    assert np.count_nonzero(measured) > 20
    assert larger > 1.0 or np.count_nonzero(~measured & decided) > 20
    error = np.abs(mine.values[measured] / theirs.values[measured] - 1.0) * theirs.values[measured, 3:]
    assert np.nanmax(error) < 2e-7
    np.testing.assert_array_equal(np.isnan(mine.values), np.isnan(theirs.values) | ~measured[:, np.newaxis])


def test_large_galaxies_are_left_to_galsim() -> None:
    """Decide nothing where GalSim's convolution wraps around."""
    assert regauss_shapes(**_stars(20, 4, 5.0)).undecided.any()


def test_failures() -> None:
    """Fail where GalSim fails: no pixels, NaN, a broken PSF."""
    stars = _stars(6, 5, 1.3)
    stars["good"][0] = False
    stars["images"][1, 14, 15] = np.nan
    stars["images"][2] = 1.0
    stars["images"][3] = 0.0
    stars["psf_images"][4, 3, 3] = np.nan
    stars["psf_images"][5] = 0.0
    mine, theirs = regauss_shapes(**stars), _galsim(stars)
    # GalSim measures a constant, which is no star either.
    np.testing.assert_array_equal(theirs.measured, [False, False, True, False, False, False])
    np.testing.assert_array_equal(mine.measured, theirs.measured)


def test_one_bad_star_spoils_no_other() -> None:
    """Measure a star alone as among broken ones."""
    stars = _stars(5, 6, 1.3)
    alone = regauss_shapes(**{name: values[1:2] for name, values in stars.items()})
    stars["images"][[0, 2]] = np.nan
    stars["sky_variance"][3] = np.nan
    together = regauss_shapes(**stars)
    np.testing.assert_array_equal(together.values[1], alone.values[0])
    assert np.isnan(together.values[3, 2]) or not together.measured[3]
