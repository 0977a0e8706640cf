# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Flux plugins with centroids, shapes, radii and boxes that make no sense."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

GAAP, KRON, CONVOLVED = (
    "ext_gaap_GaapFlux",
    "ext_photometryKron_KronFlux",
    "ext_convolved_ConvolvedFlux",
)
NAMES = [
    *(f"base_{n}Flux" for n in ("CircularAperture", "ScaledAperture", "PeakLikelihood")),
    *(f"base_Compensated{n}Flux" for n in ("Tophat", "Gaussian")),
    GAAP,
    KRON,
    CONVOLVED,
]
COUNT, SPACING = 24, 64
WILD = {
    "position": [np.inf, -np.inf, 1e300, -1e18, 1e9, 2.0**31, 3e9, -0.49, np.nan, 1e-300, 1e5],
    "moment": [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-30, 1e30, 1e-8, 1e300, 1e8],
    "radius": [np.nan, np.inf, -np.inf, 0.0, -3.0, 1e-30, 1e30, 500.0, 1e-9],
    "sigma": [0.0, np.nan, 1e-8, 1e8, 50.0],
}
BOXES = [
    [0, 0, -1, -1],
    [0, 0, 511, 191],
    [511, 191, 511, 191],
    [900, 900, 910, 910],
    [5, 5, 5, 5],
    [1, 10, 3, 150],
]


class RoundPsf:
    """PSF with an image of its own, whatever its moments are said to be."""

    def __init__(self, sigma: np.ndarray) -> None:
        self.sigma = sigma

    def draw_kernel_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        r = np.arange(-12, 13)
        image = np.exp(-0.5 * (r[:, None] ** 2 + r**2) / 2.56)
        return np.repeat(image[None] / image.sum(), len(x), axis=0)

    def draw_star_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> Any:
        raise AssertionError("No star images are needed.")

    def compute_shapes(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        variance = np.square(self.sigma[: len(x)])
        return np.stack([variance, variance, 0.0 * variance], axis=-1)

    def compute_aperture_fluxes(self, radius: float, x: Any, y: Any, color: Any = None) -> np.ndarray:
        return np.ones(len(x))


class Plane:
    """Sky of a flat image near the origin, 0.2 arcsec per pixel."""

    @property
    def pixel_to_sky_transform(self) -> Plane:
        return self

    def apply_forward(self, *, x: np.ndarray, y: np.ndarray) -> SimpleNamespace:
        scale = np.radians(0.2 / 3600)
        return SimpleNamespace(x=scale * np.asarray(x), y=scale * np.asarray(y))


def _stars(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
    k = np.arange(COUNT)
    x, y = SPACING * (k % 8) + 32.0, SPACING * (k // 8) + 32.0
    j, i = np.mgrid[: SPACING * 3, : SPACING * 8]
    image = rng.normal(0.0, 5.0, j.shape)
    for a, b in zip(x, y, strict=True):
        image += 600.0 * np.exp(-((i - a) ** 2 + (j - b) ** 2) / 5.12)
    return image, {
        "x": x,
        "y": y,
        "boxes": np.stack([x - 15, y - 15, x + 15, y + 15], axis=-1).astype(int),
        "moments": np.tile([2.56, 2.56, 0.0], (COUNT, 1)),
        "radius": np.full(COUNT, 2.0),
        "sigma": np.full(COUNT, 1.6),
    }


def _spoil(rng: np.random.Generator, stars: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """Return wild stars, and which ones aren't."""
    stars = {name: value.copy() for name, value in stars.items()}
    chosen = rng.permutation(COUNT)[: COUNT // 2]
    for k in chosen:
        kind = rng.choice(list(stars))
        if kind == "boxes":
            stars[kind][k] = BOXES[rng.integers(len(BOXES))]
        else:
            values = WILD[{"x": "position", "y": "position", "moments": "moment"}.get(kind, kind)]
            stars[kind][k] = rng.choice(values, np.shape(stars[kind][k]))
    return stars, np.setdiff1d(np.arange(COUNT), chosen)


@pytest.mark.parametrize("seed", range(4))
def test_wild_stars(
    make_exposure: Any, run_plugins: Any, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """Get through without a warning, and measure the others as without."""
    rng = np.random.default_rng(seed)
    image, stars = _stars(rng)
    exposure = make_exposure(image)
    exposure.sky_projection = Plane()

    def configure(config: Any) -> None:
        config.plugins[GAAP].doPsfPhotometry = True
        config.plugins[CONVOLVED].kronRadiusName = "radius"

    def run(stars: dict[str, Any]) -> Any:
        columns = {f"q_{k}": stars["moments"][:, i] for i, k in enumerate(("xx", "yy", "xy"))}
        columns |= {f"p_{k}": np.full(COUNT, v) for k, v in (("xx", 2.56), ("yy", 2.56), ("xy", 0.0))}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return run_plugins(
                NAMES, exposure, stars["x"], stars["y"], stars["boxes"], psf=RoundPsf(stars["sigma"]),
                configure=configure, columns={**columns, "radius": stars["radius"]},
                aliases={"slot_Shape": "q", "slot_PsfShape": "p"},
            )  # fmt: skip

    good = run(stars)
    wild, others = _spoil(rng, stars)
    catalog = run(wild)
    assert not caplog.records
    for name in good.schema.names:
        values = catalog[name][others]
        if values.dtype.kind == "f":
            # Stamps of other sizes are rounded otherwise.
            np.testing.assert_allclose(values, good[name][others], rtol=3e-6, atol=1e-4, err_msg=name)
        elif values.dtype == bool:
            np.testing.assert_array_equal(values, good[name][others], err_msg=name)
