# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Apertures against the tables of spec 03 §9 and brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import j1

from lsst.meas.finalize.catalogs import StampSet
from lsst.meas.finalize.measure import (
    aperture_flux,
    box_batches,
    ellipse_boxes,
    naive_flux,
    pixel_regions,
    sinc_coefficients,
    sinc_flux,
    sinc_half_size,
)


def _cutout(image: np.ndarray, variance: np.ndarray, origin: tuple[int, int] = (0, 0)) -> Any:
    def cut(x0: Any, y0: Any, width: int, height: int, rows: Any) -> StampSet:
        columns = np.asarray(x0)[:, None] - origin[0] + np.arange(width)
        lines = np.asarray(y0)[:, None] - origin[1] + np.arange(height)
        in_x, in_y = ((v >= 0) & (v < n) for v, n in ((columns, image.shape[1]), (lines, image.shape[0])))
        valid = in_y[:, :, None] & in_x[:, None, :]
        index = (
            np.clip(lines, 0, image.shape[0] - 1)[:, :, None],
            np.clip(columns, 0, image.shape[1] - 1)[:, None, :],
        )
        planes = (np.where(valid, plane[index], 0).astype(plane.dtype) for plane in (image, variance))
        return StampSet(*planes, np.zeros(valid.shape, np.uint32), x0, y0, {}, valid)

    return cut


def _reference() -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]:
    """Return the image of spec 03 §9, its variance and its box."""
    j, i = np.mgrid[:61, :61]
    image = 10000.0 * np.exp(-0.5 * ((i - 30.3) ** 2 / 4 + (j - 29.6) ** 2 / 5.29)) / (2 * np.pi * 4.6)
    return image.astype(np.float32), np.ones((61, 61), np.float32), (0, 0, 60, 60)


def _measure(method: Any, a: float, b: float, theta: float, **kwargs: Any) -> Any:
    image, variance, bounds = _reference()
    values = (np.array([v]) for v in (30.3, 29.6, a, b, theta))
    return method(_cutout(image, variance), *values, bounds=bounds, **kwargs)


@pytest.mark.parametrize(
    ("radius", "size", "centre", "neighbour", "edge", "squares"),
    [
        (3.0, 15, 1.1470218057, 0.9737333680, 0.4858783030, 26.5942381777),
        (4.5, 31, 0.9918792316, 0.9862000457, 0.9337357523, 61.0135462836),
        (6.0, 31, 0.9240376442, 1.0067904823, 0.4922608958, 109.6836208104),
        (9.0, 63, 1.0423972678, 1.0035305918, 0.4897595286, 249.3273906461),
        (12.0, 63, 0.9619385269, 1.0025368630, 0.4967451639, 445.5285627436),
    ],
)
def test_coefficients(
    radius: float, size: int, centre: float, neighbour: float, edge: float, squares: float
) -> None:
    """Reproduce the spec's coefficients; they sum to the area."""
    c = sinc_coefficients(radius)
    h = size // 2
    assert c.shape == (size, size)
    values = c[h, h], c[h, h + 1], c[h, h + int(radius)], np.sum(c**2)
    np.testing.assert_allclose(values, (centre, neighbour, edge, squares), rtol=0, atol=2e-10)
    assert c.sum() == pytest.approx(np.pi * radius**2, rel=1e-13)
    np.testing.assert_allclose(c, c.T, atol=1e-14)


def test_elliptical_coefficients() -> None:
    """Reproduce the spec's ellipse."""
    c = sinc_coefficients(6.0, 4.0, 0.7)
    values = c[15, 15], c[15, 20], c[18, 18], c[18, 12]
    np.testing.assert_allclose(
        values, (1.0514631435, 0.3607630051, 0.9009411487, 0.1701566180), rtol=0, atol=1e-10
    )
    assert c.sum() == pytest.approx(np.pi * 24.0, rel=1e-13)


def test_coefficients_are_a_fourier_sum() -> None:
    """Sum the Fourier series by hand."""
    a, b, theta = 3.5, 2.0, -0.4
    c = sinc_coefficients(a, b, theta)
    h = sinc_half_size(a)
    n = 2 * h - 1
    k = np.arange(1 - h, h) / n
    ky, kx = np.meshgrid(k, k, indexing="ij")
    u, v = kx * np.cos(theta) + ky * np.sin(theta), ky * np.cos(theta) - kx * np.sin(theta)
    s = b / a
    rho = np.sqrt(u**2 + (s * v) ** 2)
    rho[h - 1, h - 1] = 1.0
    transform = s * a * j1(2 * np.pi * a * rho) / rho
    transform[h - 1, h - 1] = s * np.pi * a**2
    for x, y in ((0, 0), (2, -1), (-3, 3)):
        value = np.sum(transform * np.cos(2 * np.pi * (kx * x + ky * y))) / n**2
        assert c[h - 1 + y, h - 1 + x] == pytest.approx(value, abs=1e-13)


def test_coefficients_are_protected() -> None:
    """Share read-only arrays, and refuse impossible shapes."""
    with pytest.raises(ValueError, match="read-only"):
        sinc_coefficients(3.0)[0, 0] = 1.0
    for a, b in ((0.0, None), (-1.0, None), (np.nan, None), (3.0, 4.0), (3.0, 0.0)):
        with pytest.raises(ValueError, match="aperture"):
            sinc_coefficients(a, b)
    with pytest.raises(ValueError, match="must be in"):
        sinc_half_size(1e9)


@pytest.mark.parametrize(
    ("a", "b", "theta", "flux", "error", "truncated"),
    [
        (3.0, 3.0, 0.0, 6373.28446, 5.2085058, False),
        (6.0, 6.0, 0.0, 9784.01070, 10.4568528, False),
        (9.0, 9.0, 0.0, 9996.56241, 15.7745358, True),
        (12.0, 12.0, 0.0, 9999.94253, 21.0920951, True),
        (6.0, 4.0, 0.7, 9017.78269, 8.5023375, False),
    ],
)
def test_sinc_flux(a: float, b: float, theta: float, flux: float, error: float, truncated: bool) -> None:
    """Reproduce the spec's sinc fluxes."""
    result = _measure(sinc_flux, a, b, theta)
    # The table's own sums are of float32 coefficients: 2e-8 of the flux.
    assert result.flux[0] == pytest.approx(flux, rel=5e-8)
    assert result.flux_err[0] == pytest.approx(error, rel=5e-8)
    assert result.coefficients_truncated[0] == truncated
    assert not result.aperture_truncated[0]


def test_naive_flux() -> None:
    """Reproduce the spec's naive aperture; count its pixels."""
    result = _measure(naive_flux, 12.0, 12.0, 0.0)
    assert result.flux[0] == pytest.approx(9999.99660, abs=1e-5)
    assert result.flux_err[0] ** 2 == pytest.approx(454, abs=1e-9)


def test_choice_of_method() -> None:
    """Take sinc up to the limit of the minor axis, naive beyond."""
    for limit, method in ((4.0, sinc_flux), (3.9, naive_flux)):
        chosen = _measure(aperture_flux, 6.0, 4.0, 0.7, max_sinc_radius=limit)
        assert chosen.flux[0] == _measure(method, 6.0, 4.0, 0.7).flux[0]


def test_truncation_and_bad_shapes() -> None:
    """Flag apertures that leave the image; one star spoils no other."""
    image, variance, bounds = _reference()
    # Inside; coefficients out; aperture out; beside; wild; NaN centre; b = 0.
    x = np.array([30.3, 10.0, 3.0, 500.0, 30.0, np.nan, 30.0])
    y = np.full(7, 29.6)
    a = np.array([6.0, 6.0, 6.0, 6.0, 1e30, 6.0, 6.0])
    b = np.array([6.0, 6.0, 6.0, 6.0, 3.0, 6.0, 0.0])
    cut = _cutout(image, variance)
    result = aperture_flux(cut, x, y, a, b, np.zeros(7), bounds=bounds)
    assert result.aperture_truncated.tolist() == [False, False, True, True, True, False, False]
    assert result.coefficients_truncated.tolist() == [False, True, True, True, True, False, False]
    assert np.isfinite(result.flux).tolist() == [True, True] + [False] * 5
    assert result.flux[0] == _measure(sinc_flux, 6.0, 6.0, 0.0).flux[0]
    naive = aperture_flux(cut, x, y, a, b, np.zeros(7), bounds=bounds, max_sinc_radius=0.0)
    assert naive.aperture_truncated.tolist() == [False, False, True, True, True, False, False]
    assert not naive.coefficients_truncated.any()


def test_mixed_sizes_and_origin() -> None:
    """Measure stars of all sizes together as one by one, at any XY0."""
    rng = np.random.default_rng(3)
    image = rng.normal(0, 10, (150, 160)).astype(np.float32)
    variance = rng.uniform(1, 2, (150, 160)).astype(np.float32)
    x, y = rng.uniform(60, 90, (2, 12))
    # Exact in float32 wherever the image is (upstream rounds centres).
    x, y = np.round(x * 64) / 64, np.round(y * 64) / 64
    a = rng.uniform(1.5, 25, 12)
    b, theta = a * rng.uniform(0.3, 1.0, 12), rng.uniform(-1.5, 1.5, 12)
    bounds = (0, 0, 159, 149)
    together = aperture_flux(_cutout(image, variance), x, y, a, b, theta, bounds=bounds)
    assert np.isfinite(together.flux).all()
    for n in range(12):
        rows = slice(n, n + 1)
        alone = aperture_flux(
            _cutout(image, variance), x[rows], y[rows], a[rows], b[rows], theta[rows], bounds=bounds
        )
        assert alone.flux[0] == pytest.approx(together.flux[n], rel=1e-7, abs=1e-5)
        assert alone.flux_err[0] == pytest.approx(together.flux_err[n], rel=1e-7)
    shift = (3000, -500)
    moved = aperture_flux(
        _cutout(image, variance, shift), x + shift[0], y + shift[1], a, b, theta,
        bounds=(3000, -500, 3159, -351),
    )  # fmt: skip
    np.testing.assert_allclose(moved.flux, together.flux, rtol=1e-6, atol=1e-4)


def test_regions_of_ellipses() -> None:
    """Find exactly the pixels inside or on ellipses."""
    rng = np.random.default_rng(4)
    n = 40
    x, y = rng.uniform(20, 30, (2, n))
    xx, yy = rng.uniform(0.5, 60, (2, n))
    xy = rng.uniform(-0.95, 0.95, n) * np.sqrt(xx * yy)
    x[0], y[0], xx[0], yy[0], xy[0] = 25.0, 25.0, 25.0, 25.0, 0.0
    regions = pixel_regions(x, y, xx, yy, xy, np.zeros(n, dtype=np.int64), 50)
    mask = regions.mask(np.zeros(n, dtype=np.int64), 50)
    j, i = np.mgrid[:50, :50]
    for k in range(n):
        dx, dy = i - x[k], j - y[k]
        rho2 = (yy[k] * dx**2 - 2 * xy[k] * dx * dy + xx[k] * dy**2) / (xx[k] * yy[k] - xy[k] ** 2)
        np.testing.assert_array_equal(mask[k], rho2 <= 1.0 + 1e-12)
    boxes = ellipse_boxes(x, y, xx, yy)
    assert boxes[0].tolist() == [20, 20, 30, 30]


def test_batches_hold_all_stars_once() -> None:
    """Sort boxes into batches that fit them."""
    rng = np.random.default_rng(5)
    corner = rng.integers(-50, 50, (200, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 400, (200, 2))], axis=1)
    seen = []
    for part in box_batches(boxes, np.arange(0, 200, 2)):
        seen.extend(part.rows)
        size = boxes[part.rows, 2:] - boxes[part.rows, :2] + 1
        np.testing.assert_array_equal(part.sizes, size)
        assert (size <= (part.width, part.height)).all()
    assert sorted(seen) == list(range(0, 200, 2))
