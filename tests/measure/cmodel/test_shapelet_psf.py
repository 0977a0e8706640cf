# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The approximation of PSFs by two shapelet functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.measure import (
    DoubleShapeletPsfApproxConfig,
    MeasurementFatalError,
    fit_double_shapelet,
)

_NAME = "modelfit_DoubleShapeletPsfApprox"


def _moffat(
    size: int, fwhm: float, exponent: float, stretch: np.ndarray, centre: tuple[float, float]
) -> np.ndarray:
    axis = np.arange(size) - size // 2
    x, y = np.meshgrid(axis - centre[0], axis - centre[1])
    u = np.einsum("ij,jkl->ikl", stretch, np.stack([x, y]))
    scale = 0.5 * fwhm / np.sqrt(2 ** (1 / exponent) - 1)
    image = (1 + (u**2).sum(axis=0) / scale**2) ** -exponent
    return image / image.sum()


def test_double_gaussian() -> None:
    """Vector (a) of spec 05 §8: the sum of two Gaussians."""
    axis = np.arange(41) - 20.0
    r2 = axis[:, None] ** 2 + axis**2
    image = 0.8 * np.exp(-0.5 * r2 / 1.5**2) / 1.5**2 + 0.2 * np.exp(-0.5 * r2 / 3.0**2) / 3.0**2
    fit = fit_double_shapelet((image / image.sum())[None], DoubleShapeletPsfApproxConfig())
    assert fit.status[0] == 0
    np.testing.assert_allclose(
        fit.profile[0],
        [0.22568137725505, 0.05641272725390, 0.79057374162612, 1.58124547797555],
        rtol=1e-12,
    )
    np.testing.assert_allclose(fit.ellipse[0, :, 0], [2.250024627041, 9.001214140328], rtol=1e-12)
    np.testing.assert_allclose(fit.coefficients[0, 0, [3, 5]], 5.2857e-7, rtol=1e-4)
    assert np.abs(fit.coefficients[0, 0, [1, 2, 4]]).max() < 1e-15


def test_elliptical_moffat() -> None:
    """Vector (b) of spec 05 §8."""
    stretch = np.array([[0.95, 0.02], [0.02, 1.05]]) / np.sqrt(1 - 0.0029)
    fit = fit_double_shapelet(
        _moffat(41, 4.0, 3.5, stretch, (0.1, -0.05))[None], DoubleShapeletPsfApproxConfig()
    )
    np.testing.assert_allclose(
        fit.profile[0], [0.128796223735, 0.148416443131, 0.617796273209, 1.108871657881], rtol=1e-11
    )
    np.testing.assert_allclose(
        fit.ellipse[0],
        [
            [2.525657677007, 2.074410426307, -0.091140982354],
            [8.136665924018, 6.682926503390, -0.293620046831],
        ],
        rtol=1e-11,
    )
    np.testing.assert_allclose(fit.centre[0], [0.099927608920, -0.049976290096], rtol=1e-10)
    np.testing.assert_allclose(
        fit.coefficients[0, 0, 1:],
        [-1.30095e-6, 4.09357e-6, -1.0684683e-4, -2.356558e-5, 1.0035789e-4],
        rtol=5e-6,
    )
    np.testing.assert_allclose(fit.coefficients[0, 1, 1:3], [-1.05039e-6, 2.67904e-6], rtol=5e-6)


def test_small_moffat() -> None:
    """Vector (c) of spec 05 §8, on a stamp that cuts the wings."""
    stretch = np.array([[0.97, -0.01], [-0.01, 1.03]]) / np.sqrt(1 - 0.001)
    fit = fit_double_shapelet(
        _moffat(25, 3.5, 3.0, stretch, (0.0, 0.0))[None], DoubleShapeletPsfApproxConfig()
    )
    np.testing.assert_allclose(
        fit.profile[0], [0.125776252884, 0.149936886281, 0.580225124319, 1.101843253445], rtol=1e-11
    )


def test_shapes_that_cannot_be() -> None:
    """Points, flat and empty stamps have no valid moments."""
    point = np.zeros((25, 25))
    point[12, 12] = 1.0
    images = np.stack([point, np.full((25, 25), 1 / 625), np.zeros((25, 25)), np.full((25, 25), np.nan)])
    images = np.concatenate([images, _moffat(25, 3.5, 3.0, np.eye(2), (0.0, 0.0))[None]])
    fit = fit_double_shapelet(images, DoubleShapeletPsfApproxConfig())
    np.testing.assert_array_equal(fit.status, [1, 1, 1, 1, 0])


def test_orders() -> None:
    """Other orders change only the coefficients that are fitted."""
    image = _moffat(25, 3.5, 3.0, np.array([[0.97, -0.01], [-0.01, 1.03]]), (0.1, 0.2))[None]
    full = fit_double_shapelet(image, DoubleShapeletPsfApproxConfig())
    config = DoubleShapeletPsfApproxConfig()
    config.innerOrder, config.outerOrder = 0, 0
    plain = fit_double_shapelet(image, config)
    np.testing.assert_array_equal(plain.profile, full.profile)
    assert np.all(plain.coefficients[:, :, 1:] == 0)
    with pytest.raises(ValueError, match="outerOrder"):
        config.outerOrder = 3


class _PartialPsf:
    """PSF that cannot be drawn left of a column, and is a point above."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def draw_kernel_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        if np.any(x < 10):
            raise ValueError("The PSF is undefined there.")
        images = self.inner.draw_kernel_images(x, y)
        images[y > 50] = 0.0
        images[y > 50, 12, 12] = 1.0
        return images


def test_flags(make_exposure: Callable[..., Any], moffat_psf: Any, run_plugins: Callable[..., Any]) -> None:
    """Failures are flagged star by star and leave the others alone."""
    x, y = np.array([20.0, 5.0, 30.0, 40.0, np.nan]), np.array([20.0, 20.0, 60.0, 20.0, 20.0])
    boxes = np.zeros((5, 4), dtype=int)
    exposure = make_exposure(np.zeros((80, 80)))
    psf = _PartialPsf(moffat_psf)
    catalog = run_plugins([_NAME], exposure, np.nan_to_num(x, nan=20.0), y, boxes, psf=psf)
    failed = [False, True, True, False, False]
    np.testing.assert_array_equal(catalog[f"{_NAME}_flag"], failed)
    np.testing.assert_array_equal(
        catalog[f"{_NAME}_flag_invalidPointForPsf"], [False, True, False, False, False]
    )
    np.testing.assert_array_equal(catalog[f"{_NAME}_flag_invalidMoments"], [False, False, True, False, False])
    np.testing.assert_array_equal(np.isnan(catalog[f"{_NAME}_0_xx"]), failed)
    good = run_plugins([_NAME], exposure, x[[0, 3]], y[[0, 3]], boxes[:2], psf=moffat_psf)
    for name in (f"{_NAME}_0_5", f"{_NAME}_1_xx"):
        np.testing.assert_array_equal(catalog[name][[0, 3]], good[name])
    # A star without a centroid fails alone.
    catalog = run_plugins([_NAME], exposure, x[3:], y[3:], boxes[:2], psf=moffat_psf)
    np.testing.assert_array_equal(catalog[f"{_NAME}_flag"], [False, True])


def test_iteration_limit(
    make_exposure: Callable[..., Any], moffat_psf: Any, run_plugins: Callable[..., Any]
) -> None:
    """Too few iterations are flagged."""

    def configure(config: Any) -> None:
        config.plugins[_NAME].optimizer.maxOuterIterations = 1

    catalog = run_plugins(
        [_NAME],
        make_exposure(np.zeros((40, 40))),
        np.array([20.0]),
        np.array([20.0]),
        np.zeros((1, 4), dtype=int),
        psf=moffat_psf,
        configure=configure,
    )
    assert catalog[f"{_NAME}_flag"][0]
    assert catalog[f"{_NAME}_flag_maxIterations"][0]


def test_no_psf(make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]) -> None:
    """Without a PSF nothing can be measured."""
    with pytest.raises(MeasurementFatalError, match="needs a PSF"):
        run_plugins(
            [_NAME],
            make_exposure(np.zeros((40, 40))),
            np.array([20.0]),
            np.array([20.0]),
            np.zeros((1, 4), dtype=int),
        )
