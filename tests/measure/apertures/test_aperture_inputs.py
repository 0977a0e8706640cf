# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Aperture plugins: bad stars, and independence of the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.measure import MeasurementFatalError

PLUGINS = {
    f"base_{name}": prefix
    for name, prefix in (
        ("CircularApertureFlux", ("_4_5", "_12_0")),
        ("ScaledApertureFlux", ("",)),
        ("PeakLikelihoodFlux", ("",)),
        ("CompensatedTophatFlux", ("_6",)),
        ("CompensatedGaussianFlux", ("_2",)),
    )
}
WITHOUT_GENERAL_FLAG = ("base_CompensatedTophatFlux", "base_CompensatedGaussianFlux")
WITH_PSF = ("base_ScaledApertureFlux", "base_PeakLikelihoodFlux")
SPACING = 64


class SpoiltPsf:
    """Round Gaussian PSF that cannot be drawn around some columns."""

    def __init__(self, *undrawn: float) -> None:
        self.undrawn = np.array(undrawn)

    def _bad(self, x: np.ndarray) -> np.ndarray:
        return (np.abs(np.asarray(x)[:, None] - self.undrawn) < 1).any(axis=1)

    def draw_kernel_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        r = np.arange(-12, 13)
        image = np.exp(-0.5 * (r[:, None] ** 2 + r**2) / 4.0)
        images = np.repeat(image[None] / image.sum(), len(x), axis=0)
        images[self._bad(x)] = np.nan
        return images

    def draw_star_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> Any:
        raise AssertionError("Apertures draw no stars.")

    def compute_shapes(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        shapes = np.tile([4.0, 4.0, 0.0], (len(x), 1))
        shapes[self._bad(x)] = np.nan
        return shapes

    def compute_aperture_fluxes(self, radius: float, x: Any, y: Any, color: Any = None) -> np.ndarray:
        return np.ones(len(x))


def _configure(config: Any) -> None:
    config.plugins["base_CircularApertureFlux"].radii = [4.5, 12.0]
    config.plugins["base_CompensatedTophatFlux"].apertures = [6]
    config.plugins["base_CompensatedGaussianFlux"].kernel_widths = [2]


def _field(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Make a row of stars: image, x, y, boxes; positions are exact in
    float32 wherever the image is.
    """
    rng = np.random.default_rng(21)
    x = SPACING * (np.arange(count) + 0.5) + np.round(rng.uniform(-0.5, 0.5, count) * 64) / 64
    y = SPACING / 2 + np.round(rng.uniform(-0.5, 0.5, count) * 64) / 64
    j, i = np.mgrid[:SPACING, : SPACING * count]
    image = rng.normal(0.0, 3.0, j.shape)
    for k in range(count):
        image += 1e4 * np.exp(-0.125 * ((i - x[k]) ** 2 + (j - y[k]) ** 2)) / (8 * np.pi)
    corner = np.stack([x, y], axis=1).astype(int)
    return image.astype(np.float32), x, y, np.hstack([corner - 15, corner + 15])


def _values(catalog: Any, plugin: str) -> dict[str, np.ndarray]:
    return {name: catalog[name].copy() for name in catalog.schema.names if name.startswith(plugin)}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_bad_stars_spoil_only_themselves(make_exposure: Any, run_plugins: Any, plugin: str) -> None:
    """Flag what cannot be measured; pixels are taken as they are."""
    count = 10
    image, x, y, boxes = _field(count)
    variance = np.full(image.shape, 9.0)
    mask = np.zeros(image.shape, dtype=np.uint8)
    arguments: dict[str, Any] = {"configure": _configure}
    good = run_plugins(
        [plugin], make_exposure(image, variance=variance), x, y, boxes, psf=SpoiltPsf(), **arguments
    )
    image, x, y = image.copy(), x.copy(), y.copy()

    def stamp(k: int) -> tuple[slice, slice]:
        return np.s_[:, SPACING * k : SPACING * (k + 1)]

    image[int(y[0]) + 1, int(x[0]) + 1] = np.nan
    variance[stamp(1)] = 0.0
    variance[stamp(2)] = -1.0
    image[stamp(3)] *= -1.0
    mask[stamp(4)] = 0b111
    x[5] = np.nan
    y[6] = 2.0
    exposure = make_exposure(image, variance=variance, mask=mask)
    catalog = run_plugins([plugin], exposure, x, y, boxes, psf=SpoiltPsf(x[7]), **arguments)
    needs_psf = plugin in WITH_PSF
    for suffix in PLUGINS[plugin]:
        name = f"{plugin}{suffix}"
        flux, error, flag = (catalog[f"{name}_{end}"] for end in ("instFlux", "instFluxErr", "flag"))
        assert flag.tolist() == [k in (5, 6) or (k == 7 and needs_psf) for k in range(count)]
        assert np.isnan(flux).tolist() == [k in (0, 5, 6) or (k == 7 and needs_psf) for k in range(count)]
        assert np.isnan(error[1])
        assert np.isnan(error[2])
        assert np.isfinite(error[0])
        assert flux[3] == -good[f"{name}_instFlux"][3]
        assert flux[4] == good[f"{name}_instFlux"][4]
    assert catalog["base_InvalidPsf_flag"].tolist() == [k == 7 and needs_psf for k in range(count)]
    for name, values in _values(good, plugin).items():
        np.testing.assert_array_equal(catalog[name][8:], values[8:], err_msg=name)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_missing_slot(make_exposure: Any, run_plugins: Any, plugin: str) -> None:
    """End the run if there are no centroids at all."""
    image, x, y, boxes = _field(1)
    aliases = {"slot_Centroid": "nowhere"}
    with pytest.raises(MeasurementFatalError, match="slot_Centroid"):
        run_plugins([plugin], make_exposure(image), x, y, boxes, psf=SpoiltPsf(), aliases=aliases)


@pytest.mark.parametrize("plugin", PLUGINS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(6)),
    split=st.integers(1, 5),
    origin=st.tuples(st.integers(-5000, 5000), st.integers(-5000, 5000)),
)
def test_order_parts_and_origin(
    make_exposure: Any, run_plugins: Any, plugin: str, order: list[int], split: int, origin: tuple[int, int]
) -> None:
    """Measure the same in any order, in parts and at any XY0."""
    image, x, y, boxes = _field(6)

    def run(rows: np.ndarray, origin: tuple[int, int] = (0, 0)) -> dict[str, np.ndarray]:
        dx, dy = origin
        return _values(
            run_plugins(
                [plugin], make_exposure(image, origin=origin), x[rows] + dx, y[rows] + dy,
                boxes[rows] + [dx, dy, dx, dy], psf=SpoiltPsf(), configure=_configure,
            ),
            plugin,
        )  # fmt: skip

    truth = run(np.arange(6))
    for rows in (np.array(order[:split]), np.array(order[split:])):
        for name, values in run(rows, origin).items():
            np.testing.assert_allclose(values, truth[name][rows], rtol=1e-12, err_msg=name)
