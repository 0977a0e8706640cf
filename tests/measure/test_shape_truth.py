# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Shapes of known ellipses: Gaussian stars, a Gaussian PSF, noise or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

P = "ext_shapeHSM_"
SOURCE, ROUND, PSF = (f"{P}Hsm{n}Moments{s}" for n, s in (("Source", ""), ("Source", "Round"), ("Psf", "")))
REGAUSS, HIGHER = f"{P}HsmShapeRegauss", f"{P}HigherOrderMomentsSource"
PSF_MOMENTS = np.array([3.9, 3.5, 0.2])
N_SIDE, SPACING, FLUX = 20, 56, 1e6


def _gaussian(dx: np.ndarray, dy: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Sample unit Gaussians; the moments are those of the samples, too."""
    xx, yy, xy = moments
    det = xx * yy - xy**2
    exponent = (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / det
    return np.exp(-exponent / 2) / (2 * np.pi * np.sqrt(det))


class _GaussianPsf:
    """Batch PSF that samples a Gaussian, the same everywhere."""

    _index = np.arange(31) - 15

    def draw_kernel_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        return np.repeat(_gaussian(self._index, self._index[:, None], PSF_MOMENTS)[None], len(x), axis=0)

    def draw_star_images(
        self, x: np.ndarray, y: np.ndarray, color: Any = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x0, y0 = (np.floor(v + 0.5).astype(np.int64) - 15 for v in (x, y))
        dx = (x0 - x)[:, None, None] + np.arange(31)
        dy = (y0 - y)[:, None, None] + np.arange(31)[:, None]
        return _gaussian(dx, dy, PSF_MOMENTS), x0, y0

    def compute_shapes(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        return np.tile(PSF_MOMENTS, (len(x), 1))


@pytest.fixture(scope="module")
def ellipses() -> tuple[np.ndarray, ...]:
    """Make an image of ellipses blurred by the PSF: image, x, y, moments."""
    rng = np.random.default_rng(1)
    n = N_SIDE**2
    corner_y, corner_x = np.indices((N_SIDE, N_SIDE)).reshape(2, -1) * SPACING
    dx, dy = rng.uniform(-0.5, 0.5, (2, n)) + SPACING / 2
    size, e, angle = rng.uniform(6, 14, n), rng.uniform(0, 0.4, n), rng.uniform(0, 2 * np.pi, n)
    intrinsic = np.stack([1 + e * np.cos(angle), 1 - e * np.cos(angle), e * np.sin(angle)], axis=1)
    moments = intrinsic * size[:, None] / 2 + PSF_MOMENTS
    index = np.arange(SPACING)
    stamps = FLUX * _gaussian(
        index - dx[:, None, None], index[:, None] - dy[:, None, None], moments.T[..., None, None]
    )
    image = stamps.reshape(N_SIDE, N_SIDE, SPACING, SPACING).swapaxes(1, 2).reshape((N_SIDE * SPACING,) * 2)
    return image, corner_x + dx, corner_y + dy, moments


def _measure(
    run_plugins: Callable,
    make_exposure: Callable,
    image: np.ndarray,
    noise: float,
    x: np.ndarray,
    y: np.ndarray,
) -> Any:
    centre = np.floor(np.stack([x, y], axis=1) + 0.5).astype(int)
    return run_plugins(
        [SOURCE, ROUND, PSF, REGAUSS, HIGHER],
        make_exposure(image, variance=np.full(image.shape, noise**2)),
        x,
        y,
        np.hstack([centre - 20, centre + 20]),
        psf=_GaussianPsf(),
        columns={"flux_instFlux": np.full(len(x), FLUX)},
        aliases={"slot_PsfFlux": "flux"},
        shape=SOURCE,
    )


def _distortion(moments: np.ndarray) -> np.ndarray:
    size = moments[:, 0] + moments[:, 1]
    return np.stack([moments[:, 0] - moments[:, 1], 2 * moments[:, 2]], axis=1) / size[:, None]


def _round_weighted(moments: np.ndarray) -> np.ndarray:
    """Return moments of Gaussians under the round weight that fits them.

    Its variance is sqrt(xx yy - xy^2): that makes the trace of the weighted
    moments, (C^-1 + W^-1)^-1, the trace of W/2.
    """
    weight = np.sqrt(moments[:, 0] * moments[:, 1] - moments[:, 2] ** 2)[:, None, None]
    matrix = moments[:, [0, 2, 2, 1]].reshape(-1, 2, 2)
    weighted = np.linalg.inv(np.linalg.inv(matrix) + np.eye(2) / weight)
    return weighted.reshape(-1, 4)[:, [0, 3, 1]]


def _errors(catalog: Any, true: np.ndarray) -> dict[str, np.ndarray]:
    """Return measured minus true values by name, shape (N, ...)."""
    source, psf, round_ = (
        np.stack([catalog[f"{name}_{m}"] for m in ("xx", "yy", "xy")], axis=1)
        for name in (SOURCE, PSF, ROUND)
    )
    corrected = np.stack([catalog[f"{REGAUSS}_e{i}"] for i in (1, 2)], axis=1)
    trace, psf_trace = true[:, :2].sum(axis=1), PSF_MOMENTS[:2].sum()
    higher = {"04": 0.75, "13": 0, "22": 0.25, "31": 0, "40": 0.75, "03": 0, "12": 0, "21": 0, "30": 0}
    return {
        "source e": _distortion(source) - _distortion(true),
        "source size": source[:, :2].sum(axis=1) / trace - 1,
        "psf e": _distortion(psf) - _distortion(PSF_MOMENTS[None]),
        "psf size": psf[:, :2].sum(axis=1) / psf_trace - 1,
        "round e": _distortion(round_) - _distortion(_round_weighted(true)),
        "regauss e": corrected - _distortion(true - PSF_MOMENTS),
        "regauss resolution": catalog[f"{REGAUSS}_resolution"] - (1 - psf_trace / trace),
        "higher moments": np.stack([catalog[f"{HIGHER}_{k}"] - v for k, v in higher.items()], axis=1),
    }


def test_known_ellipses(run_plugins: Callable, make_exposure: Callable, ellipses: tuple) -> None:
    """Recover every ellipse, at any position within a pixel."""
    image, x, y, true = ellipses
    catalog = _measure(run_plugins, make_exposure, image, 1.0, x, y)
    assert not np.any(catalog[f"{SOURCE}_flag"] | catalog[f"{REGAUSS}_flag"] | catalog[f"{HIGHER}_flag"])
    for name, error in _errors(catalog, true).items():
        assert np.max(np.abs(error)) < 1e-6, name


def test_known_ellipses_with_noise(run_plugins: Callable, make_exposure: Callable, ellipses: tuple) -> None:
    """Be unbiased to 1e-4 at a signal-to-noise ratio of 300.

    Noise and its negative cancel to first order, and leave the bias of second
    order, which goes as the inverse square of that ratio.
    """
    image, x, y, true = ellipses
    width = np.sqrt(np.median(true[:, 0] * true[:, 1] - true[:, 2] ** 2))
    noise = FLUX / np.sqrt(4 * np.pi * width) / 300
    pattern = np.random.default_rng(5).normal(0, noise, image.shape)
    plus, minus = (
        _errors(_measure(run_plugins, make_exposure, image + sign * pattern, noise, x, y), true)
        for sign in (1, -1)
    )
    for name in plus:
        bias = (plus[name] + minus[name]) / 2
        assert np.all(np.abs(bias.mean(axis=0)) < 1e-4), name
    # There was noise: sigma(e) is 2 over the signal-to-noise ratio.
    assert np.std(plus["source e"]) == pytest.approx(2 / 300, rel=0.2)
