# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Matching kernels and what is done with them, without a plugin."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from lsst.meas.finalize.measure import (
    GaussianizePsfConfig,
    GaussianizePsfTask,
    check_matching_options,
    fit_matching_kernels,
)
from lsst.meas.finalize.measure.gaap._photometry import (
    autocorrelations,
    convolve_stamps,
    unusable_apertures,
    weighted_fluxes,
)
from lsst.meas.finalize.measure.gaap._sums_numba import gaussian_sums
from lsst.meas.finalize.measure.moments._gaussian import fixed_moments_flux


def _profile(kind: str, size: int = 25) -> np.ndarray:
    v, u = np.mgrid[:size, :size] - size // 2
    if kind == "Gaussian":
        image = np.exp(-(u**2 + v**2) / 8.0)
    elif kind == "skewed":
        image = np.exp(-(u**2 + v**2) / 8.0) * (1 + 0.2 * (u / 4) ** 3 - 0.1 * (v / 4) ** 3)
    elif kind == "wide":
        image = (1.0 + (u**2 + v**2 + 0.3 * u * v) / 150.0) ** -4.0
    else:
        image = (1.0 + (u**2 + 1.1 * v**2 + 0.2 * u * v) / 12.0) ** -2.5
    return image / image.sum()


def _fit(kind: str, sigma: float, config: GaussianizePsfConfig | None = None) -> np.ndarray:
    task = GaussianizePsfTask(config=config or GaussianizePsfConfig())
    return task.fit(_profile(kind)[None], np.array([sigma]), np.array([1.15 * sigma]))[0]


def test_kernel_of_gaussian() -> None:
    """Reproduce spec 06 §6 case A: the kernel is a Gaussian."""
    kernel = _fit("Gaussian", 2.0)
    assert kernel.shape == (21, 21)
    values = kernel[10, 10], kernel[10, 11], kernel[11, 11], kernel[10, 12]
    assert values == pytest.approx((0.123375850, 0.083733486, 0.056828762, 0.026176148), abs=1e-9)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-14)


def test_kernel_orientation() -> None:
    """Reproduce spec 06 §6 case B: a skewed PSF."""
    kernel = _fit("skewed", 2.0)
    values = kernel[10, 8], kernel[10, 12], kernel[8, 10], kernel[12, 10]
    assert values == pytest.approx((0.02024435, 0.03362787, 0.02929202, 0.02262241), abs=1e-8)


@pytest.mark.parametrize(("kind", "sigma", "size"), [("Moffat", 2.2, 21), ("wide", 7.0, 23)])
def test_kernel_against_least_squares(kind: str, sigma: float, size: int) -> None:
    """Agree with plain least squares in the same space of functions."""
    kernel = _fit(kind, sigma)
    assert kernel.shape == (size, size)
    half, target_sigma = size // 2, 1.15 * sigma
    v, u = np.mgrid[:size, :size] - float(half)
    gaussian = np.exp(-(u**2 + v**2) / (2 * (target_sigma**2 - sigma**2)))
    gaussian /= gaussian.sum()
    basis = [gaussian * (u / half) ** p * (v / half) ** q for p in range(5) for q in range(5 - p)]
    psf = np.pad(_profile(kind).astype(np.float32).astype(float), 3)
    y, x = np.mgrid[:31, :31] - 15.0
    target = np.exp(-(x**2 + y**2) / (2 * target_sigma**2))
    target = (target / target.sum()).astype(np.float32).astype(float)
    design = np.stack([scipy.signal.correlate(psf, b, mode="valid").ravel() for b in basis], axis=1)
    norms = np.linalg.norm(design, axis=0)
    inner = target[half:-half, half:-half].ravel()
    solution = np.linalg.lstsq(design / norms, inner, rcond=1e-15)[0] / norms
    truth = np.tensordot(solution, basis, axes=1)
    # All other functions of upstream's basis have sum 0 (spec 06 §4.1).
    truth += (1.0 - truth.sum()) * gaussian
    # Condition number 1e5, squared in the normal equations.
    np.testing.assert_allclose(kernel, truth, atol=3e-9 * truth.max())


def test_kernel_size_follows_width() -> None:
    """Give wide PSFs larger kernels; pad the smaller ones of a batch."""
    task = GaussianizePsfTask(config=GaussianizePsfConfig())
    np.testing.assert_array_equal(
        task.kernel_sizes(np.array([0.7, 3.6, 3.7, 5.0, 9.0])), [21, 21, 23, 31, 35]
    )
    psfs = np.stack([_profile("Gaussian"), _profile("wide")])
    kernels = task.fit(psfs, np.array([2.0, 7.0]), np.array([2.3, 8.05]))
    assert kernels.shape == (2, 23, 23)
    np.testing.assert_allclose(kernels[0, 1:-1, 1:-1], _fit("Gaussian", 2.0), atol=1e-14)
    assert not kernels[0, 0].any()


def test_padding_of_psfs() -> None:
    """Pad PSF images as configured."""
    config = GaussianizePsfConfig()
    assert GaussianizePsfTask(config=config).psf_size(25, 25) == 31
    assert GaussianizePsfTask(config=config).psf_size(25, 41) == 41
    config.doAutoPadPsf = False
    config.padPsfBy = 10
    assert GaussianizePsfTask(config=config).psf_size(25, 25) == 35


def test_failed_fits() -> None:
    """Return NaN for bad PSFs and too large kernels, others unharmed."""
    task = GaussianizePsfTask(config=GaussianizePsfConfig())
    psfs = np.stack([_profile("Moffat")] * 4)
    psfs[1, 3, 4] = np.nan
    psfs[2] = 0.0
    psfs[3, 0, 0] = np.inf
    kernels = task.fit(psfs, np.full(4, 2.2), np.full(4, 2.53))
    np.testing.assert_allclose(kernels[0], _fit("Moffat", 2.2), atol=1e-15)
    assert np.isnan(kernels[1:]).all()
    sigma = np.ones(1)
    # 9 pixels for 15 unknowns, and a kernel larger than the PSF.
    for size in (23, 27):
        assert np.isnan(fit_matching_kernels(psfs[:1], psfs[:1], sigma, size, 4)).all()
    with pytest.raises(ValueError, match="narrower"):
        task.fit(psfs[:1], np.full(1, 2.0), np.full(1, 1.9))


def test_unchanged_width() -> None:
    """Use the target's width if there is nothing to widen."""
    task = GaussianizePsfTask(config=GaussianizePsfConfig())
    kernel = task.fit(_profile("Gaussian")[None], np.array([2.0]), np.array([2.0]))
    assert np.isfinite(kernel).all()
    assert kernel.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernelBasisSet", "delta-function"),
        ("alardNGauss", 2),
        ("scaleByFwhm", False),
        ("fitForBackground", True),
        ("usePcaForSpatialKernel", True),
        ("alardDegGauss", [4, 2]),
        ("kernelSize", 20),
        ("kernelSizeMin", 1),
    ],
)
def test_refused_options(name: str, value: object) -> None:
    """Refuse options that ask for another fit, naming them."""
    config = GaussianizePsfConfig()
    setattr(config.kernel["AL"], name, value)
    with pytest.raises(ValueError, match=name):
        check_matching_options(config)


def test_refused_padding() -> None:
    """Refuse an odd padding if it is used."""
    config = GaussianizePsfConfig()
    config.padPsfBy = 3
    check_matching_options(config)
    config.doAutoPadPsf = False
    with pytest.raises(ValueError, match="padPsfBy"):
        GaussianizePsfTask(config=config)


@pytest.mark.parametrize("shape", [(57, 48), (30, 71), (12, 9)])
def test_convolution(shape: tuple[int, int]) -> None:
    """Agree with scipy's, for stamps padded to a common size."""
    rng = np.random.default_rng(3)
    height, width = shape
    images = rng.normal(10.0, 3.0, (2, height + 6, width + 2)).astype(np.float32)
    kernels = rng.normal(0.0, 1.0, (2, 21, 21))
    sizes = np.array([[width, height], [width - 3, height + 6]])
    result = convolve_stamps(images, sizes, kernels, "auto")
    for i, (w, h) in enumerate(sizes):
        truth = scipy.signal.convolve(
            images[i, :h, :w].astype(float), kernels[i], mode="same", method="direct"
        )
        np.testing.assert_allclose(result[i, :h, :w], truth, atol=1e-6 * np.abs(truth).max())


def test_convolution_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolve large stamps in bands of rows with the same result."""
    rng = np.random.default_rng(3)
    images = rng.normal(10.0, 3.0, (2, 205, 60)).astype(np.float32)
    kernels = np.repeat(_fit("Moffat", 2.2)[None], 2, axis=0)
    sizes = np.array([[60, 205], [41, 190]])
    whole = convolve_stamps(images, sizes, kernels, "auto")
    monkeypatch.setattr("lsst.meas.finalize.measure.gaap._photometry._MAX_BAND_PIXELS", 1)
    bands = convolve_stamps(images, sizes, kernels, "auto")
    np.testing.assert_allclose(bands, whole, rtol=1e-6, atol=1e-10)


def test_nan_spreads_as_in_scipy() -> None:
    """Spoil the pixels a NaN spoils with each method, and no other stamp."""
    rng = np.random.default_rng(4)
    images = rng.normal(10.0, 3.0, (2, 60, 60)).astype(np.float32)
    kernels = np.repeat(_fit("Moffat", 2.2)[None], 2, axis=0)
    sizes = np.full((2, 2), 60)
    clean = convolve_stamps(images, sizes, kernels, "auto")
    images[0, 5, 6] = np.nan
    for method in ("auto", "fft"):
        result = convolve_stamps(images, sizes, kernels, method)
        assert np.isnan(result[0]).all()
        np.testing.assert_allclose(result[1], clean[1], rtol=1e-6)
    direct = convolve_stamps(images, sizes, kernels, "direct")
    assert np.isnan(direct[0, :16, :17]).all()
    np.testing.assert_allclose(direct[0, 16:, 17:], clean[0, 16:, 17:], rtol=1e-6)
    parts = convolve_stamps(images, sizes, kernels, "overlap-add")
    assert np.isnan(parts[0, 5, 6])
    # Tiny stamps are convolved directly.
    small = convolve_stamps(images[:, :12, :12], np.full((2, 2), 5), kernels, "auto")
    assert np.isfinite(small[0, :5, :5]).all()


def test_autocorrelation() -> None:
    """Agree with scipy's correlation."""
    kernels = np.random.default_rng(5).normal(size=(3, 21, 21))
    result = autocorrelations(kernels)
    for kernel, correlation in zip(kernels, result, strict=True):
        truth = scipy.signal.correlate(kernel, kernel, mode="full", method="direct")
        np.testing.assert_allclose(correlation, truth, atol=1e-12 * truth.max())


def test_weighted_fluxes() -> None:
    """Agree with the fixed-moments fluxes that round like upstream."""
    rng = np.random.default_rng(6)
    n = 300
    images = rng.normal(50.0, 3.0, (n, 44, 38)).astype(np.float32)
    x, y = rng.uniform(-1, 38, n), rng.uniform(-1, 44, n)
    major, ratio = 10.0 ** rng.uniform(-0.5, 1.4, n), rng.uniform(0.1, 1.0, n)
    angle = rng.uniform(0, np.pi, n)
    c, s, a, b = np.cos(angle), np.sin(angle), major**2, (ratio * major) ** 2
    moments = np.stack([a * c**2 + b * s**2, a * s**2 + b * c**2, (a - b) * c * s], axis=1)
    small = (moments[:, :2].min(axis=1) < 0.25) | (a * b < 0.0625)
    assert 5 < small.sum() < n / 2
    truth, _, failed, _ = fixed_moments_flux(images, moments, x, y)
    several = np.stack([moments, 2 * moments])
    (flux, doubled), (mine_failed, _) = weighted_fluxes(images, np.tile([38, 44], (n, 1)), x, y, several)
    np.testing.assert_array_equal(
        doubled, weighted_fluxes(images, np.tile([38, 44], (n, 1)), x, y, several[1:])[0][0]
    )
    np.testing.assert_array_equal(mine_failed, failed)
    # Upstream's exponents, up to 14, are rounded to float32: 5e-7 per pixel.
    np.testing.assert_allclose(flux[~failed], truth[~failed], rtol=3e-7, atol=1e-5)


def test_averaged_weights() -> None:
    """Integrate very small weights over pixels, if asked to."""
    rng = np.random.default_rng(7)
    n = 50
    x, y = rng.uniform(8, 12, (2, n))
    moments = np.tile([0.2, 0.1, 0.05], (n, 1))
    images = np.ones((n, 20, 20), dtype=np.float32)
    sizes = np.full((n, 2), 20)
    flux, failed = weighted_fluxes(images, sizes, x, y, moments[None], average=True)
    assert not failed.any()
    # Samples of a narrow Gaussian, cut off where it is exp(-7).
    truth = 4 * np.pi * np.sqrt(0.2 * 0.1 - 0.05**2)
    np.testing.assert_allclose(flux[0], truth, rtol=0.01)
    wide = np.tile([4.0, 3.0, 1.0], (n, 1))
    same = [weighted_fluxes(images, sizes, x, y, wide[None], average=k)[0] for k in (False, True)]
    np.testing.assert_array_equal(*same)


def test_singular_weights() -> None:
    """Report weights that can't be used, and stars to be skipped."""
    images = np.ones((5, 20, 20), dtype=np.float32)
    moments = np.array([[1e-4, 1e-4, 0], [np.nan, 4, 0], [4, 4, 4.0], [4, 4, 0], [1e-7, 9e9, 0]])
    centre = np.full(5, 9.0)
    (flux,), (failed,) = weighted_fluxes(images, np.full((5, 2), 20), centre, centre, moments[None])
    assert failed.tolist() == [True, True, True, False, True]
    assert np.isfinite(flux).tolist() == [False, False, False, True, False]
    status, total = np.zeros((1, 1), dtype=np.int64), np.zeros((1, 1))
    nowhere, round_weight = np.full(1, np.inf), moments[None, 3:4]
    gaussian_sums(images[:1], np.full((1, 2), 20), nowhere, np.ones(1), round_weight, False, total, status)
    assert status[0, 0] != 0


def test_unusable_apertures() -> None:
    """Refuse what isn't an ellipse."""
    moments = np.array(
        [[-1, 1, 0], [1, -1, 0], [1, 1, 1.5], [1, 1, 1], [2, 1, np.nan], [0, 1, 0], [2, 1, 0.5]], dtype=float
    )
    assert unusable_apertures(moments).tolist() == [True] * 6 + [False]
