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

from lsst.meas.finalize.measure.moments._gaussian import adaptive_moments, fixed_moments_flux


def _star(size: int = 61) -> np.ndarray:
    """Return the reference image of spec 03 §9."""
    y, x = np.mgrid[:size, :size]
    exponent = -0.5 * ((x - 30.3) ** 2 / 4 + (y - 29.6) ** 2 / 5.29)
    return (10000 * np.exp(exponent) / (2 * np.pi * 2 * 2.3)).astype(np.float32)


def test_adaptive_reference() -> None:
    """Compare with the reference values, which have 10 decimals."""
    image = _star()[None]
    r = adaptive_moments(image, 30.25, 29.65, variance=np.ones_like(image))
    expected = {
        "x": 30.2750133428,
        "y": 29.6249878136,
        "xx": 4.0024230589,
        "yy": 5.2923764130,
        "xy": -0.0024862282,
    }
    for name, value in expected.items():
        assert getattr(r, name)[0] == pytest.approx(value, abs=6e-11), name
    assert r.flux[0] == pytest.approx(9999.8850615, abs=6e-8)
    assert r.flux_err[0] == pytest.approx(10.755071825, abs=6e-10)
    np.testing.assert_allclose(r.errors[0], [0.00860937, 0.01138411, 0.00700036], atol=6e-9)
    assert r.n_passes[0] == 4
    assert not r.flag[0]


def test_adaptive_psf_reference() -> None:
    """Measure the Gaussian K of spec 03 §9, double precision."""
    y, x = np.mgrid[-12:13, -12:13]
    kernel = np.exp(-0.5 * (x**2 + y**2) / 2.15**2)
    r = adaptive_moments((kernel / kernel.sum())[None], 12, 12)
    assert r.xx[0] == pytest.approx(4.622334166, abs=6e-10)
    assert r.yy[0] == r.xx[0]
    assert np.isnan(r.covariance).all()


def test_fixed_reference() -> None:
    """Compare with the reference values."""
    image = _star()[None]
    flux, err, failed, outgrown = fixed_moments_flux(
        image, [[4.0, 5.29, 0.0]], 30.3, 29.6, variance=np.ones_like(image)
    )
    assert flux[0] == pytest.approx(9999.9916498, abs=6e-8)
    assert err[0] == pytest.approx(7.6029799964, abs=6e-11)
    assert not failed[0]
    assert not outgrown[0]


def test_stamp_equals_image() -> None:
    """Find the same bits in a stamp as in the image it was cut from."""
    image = np.zeros((200, 1400), dtype=np.float32)
    image[100:161, 1300:1361] = _star()
    image += np.random.default_rng(3).normal(size=image.shape).astype(np.float32)
    x, y = 1330.3, 129.6
    whole = adaptive_moments(image[None], x, y)
    stamp = image[None, 100:161, 1300:1361]
    cut = adaptive_moments(stamp, x, y, x0=[1300], y0=[100], whole=False)
    for name in ("x", "y", "xx", "yy", "xy", "amplitude"):
        assert getattr(whole, name)[0] == getattr(cut, name)[0], name
    small = image[None, 125:136, 1325:1336]
    assert adaptive_moments(small, x, y, x0=[1325], y0=[125], whole=False).outgrown[0]
    assert fixed_moments_flux(small, [[4, 5, 0]], x, y, x0=[1325], y0=[125], whole=False)[3][0]


def test_valid_is_an_edge() -> None:
    """Treat invalid pixels like pixels beyond the image."""
    image = _star()
    short = adaptive_moments(image[None, :, :34], 30.3, 29.6)
    padded, valid = image.copy(), np.ones_like(image, dtype=bool)
    padded[:, 34:], valid[:, 34:] = 0, False
    r = adaptive_moments(padded[None], 30.3, 29.6, valid=valid[None], whole=False)
    assert not r.outgrown[0]
    assert (r.xx[0], r.yy[0]) == (short.xx[0], short.yy[0])


def test_subpixel_mode() -> None:
    """Measure a star smaller than a pixel; its flux is 16 times too large."""
    y, x = np.mgrid[:21, :21]
    image = np.exp(-0.5 * ((x - 10.2) ** 2 + (y - 9.9) ** 2) / 0.4**2)
    image *= 100 / image.sum()
    r = adaptive_moments(image[None], 10.2, 9.9)
    assert not r.flag[0]
    # Pixels this coarse give the true 0.16 only roughly.
    assert r.xx[0] == pytest.approx(0.16, rel=0.1)
    # The 4 × 4 samples of a pixel are summed, not averaged (upstream quirk).
    flux = fixed_moments_flux(image[None], [[0.2, 0.2, 0.0]], 10.2, 9.9)[0][0]
    expected = 0.0
    for dy in (-0.375, -0.125, 0.125, 0.375):
        for dx in (-0.375, -0.125, 0.125, 0.375):
            radius2 = (x + dx - 10.2) ** 2 + (y + dy - 9.9) ** 2
            expected += 2 * (image * np.exp(-0.5 * radius2 / 0.2)).sum()
    # Pixels with a corner beyond 3 sigma are left out: a few percent.
    assert flux == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize(
    ("image", "x", "flag"),
    [
        (np.zeros((21, 21)), 10.0, "unweighted_bad"),
        (np.full((21, 21), -1.0), 10.0, "unweighted_bad"),
        (np.full((21, 21), np.nan), 10.0, "unweighted_bad"),
        (np.ones((21, 21)), np.nan, "unweighted_bad"),
        (np.ones((21, 21)), np.inf, "unweighted_bad"),
        (np.ones((21, 21)), 1e300, "unweighted_bad"),
    ],
)
def test_failures(image: np.ndarray, x: float, flag: str) -> None:
    """Flag stars that cannot be measured."""
    r = adaptive_moments(image[None], x, 10.0)
    assert getattr(r, flag)[0]
    assert r.flag[0]


def test_negative_and_shift() -> None:
    """Measure holes, and notice centroids that are far off."""
    hole = adaptive_moments(-_star()[None], 30.3, 29.6, negative=True)
    assert not hole.flag[0]
    assert hole.flux[0] == pytest.approx(-10000, rel=1e-4)
    assert adaptive_moments(-_star()[None], 30.3, 29.6).flag[0]
    assert adaptive_moments(_star()[None], 21.0, 29.6).shift[0]


def test_max_iter() -> None:
    """Fall back to unweighted moments when iterations run out."""
    r = adaptive_moments(_star()[None], 30.3, 29.6, max_iter=2)
    assert r.max_iter[0]
    assert r.unweighted[0]
    assert np.isnan(r.amplitude[0])


def test_fixed_failures() -> None:
    """Flag weights without inverse and centres off the image."""
    image = np.stack([_star()] * 5)
    moments = [[4, 4, 4.1], [np.nan, 4, 0], [0, 0, 0], [4, 4, 0], [4, 4, 0]]
    x = [30, 30, 30, -5, np.nan]
    _, _, failed, _ = fixed_moments_flux(image, moments, x, 30, variance=np.ones_like(image))
    assert failed.all()


def test_no_stars() -> None:
    """Accept an empty stack, refuse an image."""
    assert len(adaptive_moments(np.zeros((0, 5, 5)), [], []).x) == 0
    with pytest.raises(ValueError, match="three dimensions"):
        adaptive_moments(np.zeros((5, 5)), 2, 2)
