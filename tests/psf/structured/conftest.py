# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import piff
import pytest

_SCALE = 0.2
_FIELD = 1000.0
_REAL_STARS = Path(__file__).parents[4] / "shared" / "golden" / "real_stars" / "rubin31.npz"


def _profile(x: float, y: float) -> galsim.GSObject:
    """Make a PSF that changes over the detector."""
    fwhm = 0.7 * (1.0 + 0.1 * x / _FIELD + 0.05 * (y / _FIELD) ** 2)
    return galsim.Moffat(beta=3, fwhm=fwhm).shear(g1=0.03 * x / _FIELD, g2=-0.02 * y / _FIELD)


def _weight(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """Mask single pixels of half the stars and a column of some."""
    good = rng.uniform(size=image.shape) >= 0.01 * (rng.uniform() < 0.5)
    if rng.uniform() < 0.2:
        good[:, rng.integers(image.shape[1])] = False
    weight = np.where(good, 1.0 / variance, 0.0)
    power = (weight * image**2).sum()
    signal_to_noise = max(power - good.sum(), 0.0) / np.sqrt(power)
    return weight * min(1.0, (200.0 / max(signal_to_noise, 1.0)) ** 2)


@pytest.fixture(scope="session")
def make_star_list() -> Callable[..., list[piff.Star]]:
    """Simulate noisy stars, with galaxies, blends and masked pixels."""

    def make(
        count: int,
        *,
        seed: int = 1,
        stamp: int = 9,
        wcs: galsim.BaseWCS | None = None,
        pointing: galsim.CelestialCoord | None = None,
        flagged: float = 0.0,
        reserved: float = 0.0,
    ) -> list[piff.Star]:
        rng = np.random.default_rng(seed)
        wcs = wcs or galsim.PixelScale(_SCALE)
        stars = []
        for i in range(count):
            x, y = rng.uniform(20.0, _FIELD - 20.0, 2)
            profile = _profile(x, y) * 10 ** rng.uniform(3.5, 5.0)
            if rng.uniform() < 0.05:
                profile = galsim.Convolve(profile, galsim.Exponential(half_light_radius=0.3))
            image = galsim.ImageD(stamp, stamp)
            image.setCenter(int(np.floor(x + 0.5)), int(np.floor(y + 0.5)))
            offset = galsim.PositionD(*rng.normal(scale=0.05, size=2))
            center = galsim.PositionD(x, y) + offset
            profile.drawImage(image, center=center, scale=_SCALE)
            if rng.uniform() < 0.05:
                neighbour = center + galsim.PositionD(4.0, -3.0)
                (0.2 * profile).drawImage(image, center=neighbour, scale=_SCALE, add_to_image=True)
            image.array[:] += rng.normal(scale=10.0, size=image.array.shape)
            image.wcs = wcs
            weight = galsim.Image(_weight(image.array, 100.0, rng), wcs=wcs, bounds=image.bounds)
            properties: dict[str, Any] = {"starId": i, "colorValue": rng.normal(1.0, 0.5)}
            if rng.uniform() < flagged:
                properties["is_flagged"] = True
            if rng.uniform() < reserved:
                properties["is_reserve"] = True
            data = piff.StarData(
                image, galsim.PositionD(x, y), weight=weight, pointing=pointing, properties=properties
            )
            stars.append(piff.Star(data, None))
        return stars

    return make


@pytest.fixture(scope="session")
def change_star() -> Callable[..., list[piff.Star]]:
    """Change the pixels of one star of a list."""

    def change(
        stars: list[piff.Star],
        index: int,
        *,
        image: Callable[[np.ndarray], Any] | None = None,
        weight: Callable[[np.ndarray], Any] | None = None,
    ) -> list[piff.Star]:
        star = stars[index]
        new_image, new_weight = star.image.copy(), star.weight.copy()
        if image is not None:
            new_image.array[:] = image(new_image.array)
        if weight is not None:
            new_weight.array[:] = weight(new_weight.array)
        properties = {k: v for k, v in star.data.properties.items() if k not in ("x", "y", "u", "v")}
        data = piff.StarData(new_image, star.image_pos, weight=new_weight, properties=properties)
        return [*stars[:index], piff.Star(data, None), *stars[index + 1 :]]

    return change


@pytest.fixture(scope="session")
def make_config() -> Callable[..., dict[str, Any]]:
    """Write a Piff configuration as the determiner does."""

    def make(
        *,
        size: int = 9,
        scale: float = _SCALE,
        order: int = 1,
        orders: list[int] | None = None,
        keys: tuple[str, ...] = ("x", "y"),
        interp: str = "Lanczos(11)",
        centered: bool = True,
        solver: str = "scipy",
        outliers: Mapping[str, Any] | None = None,
        **psf: Any,
    ) -> dict[str, Any]:
        # One unit less in the last place passes Piff's check of stamp sizes.
        model = {
            "type": "PixelGrid",
            "scale": float(np.nextafter(scale, 0.0)),
            "size": size,
            "interp": interp,
            "centered": centered,
        }
        return {
            "type": "Simple",
            "model": model,
            "interp": {
                "type": "BasisPolynomial",
                "order": orders or [order] * len(keys),
                "keys": list(keys),
                "solver": solver,
            },
            "outliers": dict(outliers or {"type": "Chisq", "nsigma": 4.0, "max_remove": 0.05}),
            "max_iter": 15,
        } | psf

    return make


@pytest.fixture(scope="session")
def fit_with_piff() -> Callable[..., piff.SimplePSF]:
    """Fit with Piff itself."""

    def fit(
        stars: list[piff.Star],
        config: Mapping[str, Any],
        wcs: galsim.BaseWCS | None = None,
        pointing: galsim.CelestialCoord | None = None,
    ) -> piff.SimplePSF:
        psf = piff.PSF.process(copy.deepcopy(dict(config)))
        psf.set_context({0: wcs or galsim.PixelScale(_SCALE)}, pointing)
        psf.fit(stars)
        return psf

    return fit


def _values(stars: list[piff.Star], name: str) -> np.ndarray:
    """Collect an attribute of the stars' fits; NaN where it is None."""
    values = [getattr(s.fit, name) for s in stars]
    return np.array([np.nan if v is None else v for v in values], dtype=float)


@pytest.fixture(scope="session")
def assert_same_psf() -> Callable[..., None]:
    """Compare two fits of the same stars."""

    def check(psf: piff.SimplePSF, reference: piff.SimplePSF, *, tolerance: float = 1e-9) -> None:
        assert type(psf) is type(reference)
        assert [s.is_flagged for s in psf.stars] == [s.is_flagged for s in reference.stars]
        assert [s.is_reserve for s in psf.stars] == [s.is_reserve for s in reference.stars]
        assert [s.data.properties for s in psf.stars] == [s.data.properties for s in reference.stars]
        assert (psf.niter, psf.nremoved, psf.dof) == (reference.niter, reference.nremoved, reference.dof)
        np.testing.assert_allclose(psf.chisq, reference.chisq, rtol=tolerance)
        np.testing.assert_allclose(
            psf.last_delta_chisq, reference.last_delta_chisq, atol=tolerance * abs(reference.chisq)
        )
        np.testing.assert_array_equal(_values(psf.stars, "dof"), _values(reference.stars, "dof"))
        # What a rejected star with few pixels goes through later is chaotic.
        used = [i for i, s in enumerate(reference.stars) if not s.is_flagged]
        flux = _values(reference.stars, "flux")[used]
        np.testing.assert_allclose(_values(psf.stars, "flux")[used], flux, rtol=100 * tolerance)
        np.testing.assert_allclose(
            _values(psf.stars, "center")[used], _values(reference.stars, "center")[used], atol=tolerance
        )
        np.testing.assert_allclose(
            _values(psf.stars, "chisq")[used], _values(reference.stars, "chisq")[used], rtol=100 * tolerance
        )
        assert psf.model.__dict__.keys() == reference.model.__dict__.keys()
        assert psf.__dict__.keys() == reference.__dict__.keys()
        np.testing.assert_allclose(
            [psf.model._maxk, psf.model._stepk], [reference.model._maxk, reference.model._stepk], rtol=1e-3
        )
        extra = {key: 1.0 for key in reference.interp_property_names if key not in ("x", "y", "u", "v")}
        for x in np.linspace(0.0, _FIELD, 3):
            for y in np.linspace(0.0, _FIELD, 3):
                image = psf.draw(x, y, stamp_size=25, **extra).array
                expected = reference.draw(x, y, stamp_size=25, **extra).array
                assert np.abs(image - expected).max() < tolerance * expected.max()

    return check


@pytest.fixture(scope="session")
def real_stars() -> list[piff.Star]:
    """Real Rubin stars, which are kept outside the repository."""
    if not _REAL_STARS.exists():
        pytest.skip(f"{_REAL_STARS} is not there")
    wcs = galsim.PixelScale(_SCALE)
    with np.load(_REAL_STARS) as data:
        stars = []
        for i in range(len(data["x"])):
            corner = {"xmin": int(data["xmin"][i]), "ymin": int(data["ymin"][i])}
            image = galsim.Image(data["image"][i].copy(), wcs=wcs, **corner)
            weight = galsim.Image(data["weight"][i].copy(), wcs=wcs, **corner)
            position = galsim.PositionD(float(data["x"][i]), float(data["y"][i]))
            stars.append(piff.Star(piff.StarData(image, position, weight=weight), None))
    return stars
