# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""HSM kernels against GalSim and the vectors of spec 04 §12."""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.measure import HsmStatus, hsm_moments, standardized_moments

X0, Y0 = 1000, 2000
GUESS_X, GUESS_Y = 1016.2 - X0, 2015.7 - Y0
ORDERS = [(p, n - p) for n in (3, 4) for p in range(n + 1)]


def _profile(size: int, x: float, y: float, amplitude: float, width: float, form: tuple, beta: float) -> Any:
    j, i = np.mgrid[:size, :size].astype(float)
    dx, dy = i - x, j - y
    a, b, c = form
    return amplitude * (1.0 + (a * dx * dx + 2 * b * dx * dy + c * dy * dy) / width) ** (-beta)


def star(amplitude: float = 20000.0, width: float = 9.0) -> np.ndarray:
    """Return image S (or g) of the spec."""
    j, i = np.mgrid[:33, :33].astype(float)
    image = _profile(33, 16.27, 15.62, amplitude, width, (1.06, 0.05, 0.96), 3.0)
    return (image + 5.0 * np.sin(1.3 * i + 0.7 * j + 0.11 * i * j)).astype(np.float32)


def bad_star() -> tuple[np.ndarray, np.ndarray]:
    """Return image B of the spec, and its good pixels."""
    image, good = star(), np.ones((33, 33), dtype=bool)
    image[12:15, 10:12] = 5000.0
    good[12:15, 10:12] = False
    return image, good


def gaussian() -> np.ndarray:
    """Return image G of the spec: moments 5, 4, 0.7."""
    j, i = np.mgrid[:33, :33].astype(float)
    dx, dy, det = i - 16.3, j - 15.6, 19.51
    form = 4 * dx * dx - 1.4 * dx * dy + 5 * dy * dy
    return (1000.0 / (2 * np.pi * np.sqrt(det)) * np.exp(-0.5 * form / det)).astype(np.float32)


def kernel() -> np.ndarray:
    """Return image K of the spec."""
    image = _profile(25, 12.03, 11.98, 1.0, 8.5, (1.03, -0.04, 0.98), 3.2)
    return image / image.sum()


def _one(image: np.ndarray, x: float, y: float, sigma: float, **kwargs: Any) -> Any:
    good = kwargs.pop("good", None)
    return hsm_moments(
        image[None],
        np.array([x]),
        np.array([y]),
        np.array([sigma]),
        good=None if good is None else good[None],
        **kwargs,
    )


def test_images_of_the_spec() -> None:
    """Check the test images themselves."""
    assert star()[16, 16] == pytest.approx(18687.158, abs=1e-3)
    assert star()[0, 0] == pytest.approx(0.0880003, rel=1e-6)
    assert kernel()[12, 12] == pytest.approx(0.08274611970, rel=1e-9)


# x, y, xx, yy, xy, sigma, e1, e2, amplitude, number of passes.
VECTORS = {
    "source S": (star(), None, False, 5.0, (1016.269927496, 2015.620026309, 2.039174743, 2.251681408),
                 (-0.106214458, 1.462929010, -0.049525470, -0.049507350, 244721.84, 17)),
    "source B": (*bad_star(), False, 5.0, (1016.269938837, 2015.620030336, 2.039040175, 2.251660609),
                 (-0.106261018, 1.462900639, -0.049553778, -0.049530845, 244716.84, 17)),
    "round S": (star(), None, True, 5.0, (1016.269933870, 2015.620029681, 2.092876068, 2.189833620),
                (-0.048455826, 1.462961912, -0.022639301, -0.022628583, 244590.00, 12)),
    "round B": (*bad_star(), True, 5.0, (1016.269953, 2015.620036, 2.092704479, 2.189745074),
                (-0.048489739, None, None, None, None, None)),
    "source g": (star(9000.0, 20.0), None, False, 5.0, (1016.27, 2015.62, 4.531315089, 5.003327154),
                 (-0.236005997, None, None, None, None, None)),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    """Reproduce the spec's moments of stars."""
    image, good, is_round, sigma, (x, y, xx, yy), rest = VECTORS[name]
    result = _one(image, GUESS_X, GUESS_Y, sigma, good=good, round_moments=is_round)
    moments, unphysical = result.second_moments()
    assert not unphysical[0]
    # As many digits as the spec prints.
    digits = 2e-5 if name == "source g" else 1e-6 if name == "round B" else 1e-9
    assert result.x[0] + X0 == pytest.approx(x, abs=digits)
    assert result.y[0] + Y0 == pytest.approx(y, abs=digits)
    np.testing.assert_allclose(moments[0], (xx, yy, rest[0]), rtol=0, atol=1.1e-9)
    if rest[1] is not None:
        assert result.sigma[0] == pytest.approx(rest[1], abs=1e-9)
        assert result.e1[0] == pytest.approx(rest[2], abs=1e-9)
        assert result.e2[0] == pytest.approx(rest[3], abs=1e-9)
        assert result.amplitude[0] == pytest.approx(rest[4], abs=0.02)
        assert result.iterations[0] == rest[5]


def test_gaussian_vector() -> None:
    """Recover the moments of a Gaussian, and its fourth moment 2."""
    result = _one(gaussian(), 16.0, 16.0, 5.0)
    np.testing.assert_allclose(
        result.second_moments()[0][0], (5.000000330, 4.000000318, 0.700000009), rtol=0, atol=1e-9
    )
    assert result.iterations[0] == 10
    assert result.rho4[0] == pytest.approx(1.99999999, abs=1e-8)
    is_round = _one(gaussian(), 16.0, 16.0, 5.0, round_moments=True)
    np.testing.assert_allclose(
        is_round.second_moments()[0][0], (4.686545215, 4.188877296, 0.348367553), rtol=0, atol=1e-9
    )
    assert is_round.rho4[0] == -1.0


def test_kernel_vector() -> None:
    """Reproduce the spec's moments of a PSF stamp."""
    result = _one(kernel(), 12.0, 12.0, 2.0)
    assert result.x[0] - 12 == pytest.approx(0.029974314, abs=1e-9)
    assert result.y[0] - 12 == pytest.approx(-0.019988997, abs=1e-9)
    np.testing.assert_allclose(
        result.second_moments()[0][0], (1.810417331, 1.903051754, 0.073872912), rtol=0, atol=1.1e-9
    )
    assert result.iterations[0] == 10
    assert result.rho4[0] == pytest.approx(2.16422356, abs=1e-8)


def _higher(image: np.ndarray, centre: tuple, moments: Any, **kwargs: Any) -> np.ndarray:
    good = kwargs.pop("good", None)
    return standardized_moments(
        image[None],
        np.array(centre[:1]),
        np.array(centre[1:]),
        np.asarray(moments).reshape(1, 3),
        ORDERS,
        good=None if good is None else good[None],
        **kwargs,
    )[0]


HIGHER = {
    "S": (-3.576156695e-5, 6.823625457e-6, -4.571141783e-6, 1.161459595e-4, 0.8152122285, 2.177990177e-6,
          0.2717625360, 1.223816135e-6, 0.8152693352),
    "B fill": (-3.469615359e-5, 1.239480148e-5, 1.416310148e-5, 1.646325275e-4, 0.8152123535,
               -1.215426905e-6, 0.2717429112, -6.357149167e-5, 0.8151103681),
    "B zero": (-3.459433527e-5, 1.267712082e-5, 1.498013724e-5, 1.670724176e-4, 0.8152122472,
               -1.595233689e-6, 0.2717418714, -6.661713296e-5, 0.8151013126),
    "K": (-0.01030428598, 0.005187046495, -0.003430606762, 0.01559036268, 0.8117643698, -1.088633404e-4,
          0.2705241425, -1.057845242e-4, 0.8121588193),
}  # fmt: skip


@pytest.mark.parametrize("name", HIGHER)
def test_higher_moment_vectors(name: str) -> None:
    """Reproduce the spec's third and fourth moments."""
    good = None
    if name == "K":
        image, centre = kernel(), (12.0, 12.0)
        moments = _one(image, 12.0, 12.0, 2.0).second_moments()[0]
    else:
        image, good = (star(), None) if name == "S" else bad_star()
        result = _one(image, GUESS_X, GUESS_Y, 5.0, good=good)
        centre, moments = (result.x[0], result.y[0]), result.second_moments()[0]
    values = _higher(image, centre, moments, good=good, fill_bad=name != "B zero")
    # The printed digits; centres are those of the measured moments.
    np.testing.assert_allclose(values, HIGHER[name], rtol=1e-8, atol=1e-12)


def test_higher_moments_of_gaussian() -> None:
    """Find 3/4, 1/4, 3/4 and no odd moments for a Gaussian."""
    values = _higher(gaussian().astype(np.float64), (16.3, 15.6), (5.0, 4.0, 0.7))
    # The stamp cuts the Gaussian at 7 sigma; pixels are float32.
    np.testing.assert_allclose(values, [0, 0, 0, 0, 0.75, 0, 0.25, 0, 0.75], atol=2e-7)
    assert np.isnan(_higher(gaussian(), (16.3, 15.6), (1.0, 1.0, 1.5))).all()


def _random_stars(count: int, seed: int) -> dict[str, np.ndarray]:
    """Make noisy, partly masked Moffat stars in boxes of many sizes."""
    rng = np.random.default_rng(seed)
    size = 41
    j, i = np.mgrid[:size, :size]
    images = np.empty((count, size, size), dtype=np.float32)
    good = np.ones(images.shape, dtype=bool)
    sizes = rng.integers(21, size + 1, (count, 2))
    centre = sizes / 2 + rng.normal(0, 1, (count, 2))
    for n in range(count):
        xx, yy = rng.uniform(2, 8, 2)
        xy = rng.uniform(-0.3, 0.3) * np.sqrt(xx * yy)
        dx, dy = i - centre[n, 0], j - centre[n, 1]
        rho2 = (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / (xx * yy - xy**2)
        model = 10 ** rng.uniform(1, 5) * (1 + rho2 / 4) ** -2.5
        images[n] = (model + rng.normal(0, 5, model.shape)) * (-1 if n % 17 == 0 else 1)
        masked = rng.integers(0, size, (2, rng.integers(0, 15)))
        good[n, masked[0], masked[1]] = False
    guess = centre + rng.normal(0, 0.3, (count, 2))
    return {
        "images": images,
        "x": guess[:, 0],
        "y": guess[:, 1],
        "sigma": rng.uniform(3, 6, count),
        "good": good,
        "sizes": sizes,
    }


@pytest.mark.parametrize("is_round", [False, True])
def test_agrees_with_galsim(is_round: bool) -> None:
    """Reproduce GalSim's float32 results, passes and failures exactly."""
    stars = _random_stars(600, 5)
    result = hsm_moments(**stars, round_moments=is_round)
    failures = 0
    for n in range(len(result.x)):
        width, height = stars["sizes"][n]
        image = galsim.Image(stars["images"][n, :height, :width].copy(), xmin=0, ymin=0)
        weight = galsim.Image(stars["good"][n, :height, :width].astype(np.int32), xmin=0, ymin=0)
        try:
            truth = galsim.hsm.FindAdaptiveMom(
                image,
                weight=weight,
                guess_sig=stars["sigma"][n],
                guess_centroid=galsim.PositionD(stars["x"][n], stars["y"][n]),
                precision=1e-6,
                round_moments=is_round,
            )
        except galsim.GalSimHSMError:
            failures += 1
            assert not result.ok[n]
            continue
        assert result.ok[n]
        assert truth.moments_n_iter == result.iterations[n]
        # One unit in the last place of float32 is allowed for.
        for name, mine in (("sigma", result.sigma), ("amp", result.amplitude)):
            np.testing.assert_array_max_ulp(np.float32(getattr(truth, f"moments_{name}")), mine[n], 1)
        np.testing.assert_allclose(
            (mine := (result.e1[n], result.e2[n])), (truth.observed_e1, truth.observed_e2), rtol=0, atol=6e-8
        )
        assert np.isfinite(mine).all()
        assert truth.moments_centroid.x == pytest.approx(result.x[n], abs=1e-11)
        assert truth.moments_centroid.y == pytest.approx(result.y[n], abs=1e-11)
        assert truth.moments_rho4 == pytest.approx(result.rho4[n], abs=1e-11)
    assert failures < 60


def _failure_cases() -> dict[str, tuple[np.ndarray, np.ndarray | None, tuple[float, float, float]]]:
    size = 41
    delta, row = np.zeros((size, size)), np.zeros((size, size))
    delta[20, 20] = 1000.0
    row[20] = 1000.0
    j, i = np.mgrid[:size, :size].astype(float)
    blob = 1000.0 * np.exp(-0.5 * ((i - 20) ** 2 + (j - 20) ** 2) / 4)
    far = 1000.0 * np.exp(-0.5 * ((i - 37) ** 2 + (j - 20) ** 2) / 4)
    spoiled = blob.copy()
    spoiled[25, 22] = np.nan
    infinite = blob.copy()
    infinite[25, 22] = np.inf
    nothing = np.zeros((size, size), dtype=bool)
    guess = (20.0, 20.0, 5.0)
    return {
        "COLLAPSED delta": (delta, None, guess),
        "COLLAPSED row": (row, None, guess),
        "NO_PIXELS": (blob, nothing, guess),
        "ALL_ZERO": (np.zeros((size, size)), None, guess),
        "RAN_AWAY": (far, None, guess),
        "OUT_OF_BOUNDS": (blob, None, (20.0, 220.0, 5.0)),
        "NOT_A_NUMBER far": (blob, None, (220.0, 20.0, 5.0)),
        "NOT_A_NUMBER pixel": (spoiled, None, guess),
        "NOT_A_NUMBER masked": (spoiled, np.isfinite(spoiled), guess),
        "NOT_A_NUMBER inf": (infinite, None, guess),
        "NOT_A_NUMBER guess": (blob, None, (20.0, 20.0, np.nan)),
    }


@pytest.mark.parametrize("name", _failure_cases())
def test_failures(name: str) -> None:
    """Fail like GalSim (spec 04 §12), with NaN results."""
    image, good, guess = _failure_cases()[name]
    result = _one(image, *guess, good=good)
    assert HsmStatus(result.status[0]).name == name.split()[0]
    assert np.isnan([result.x[0], result.y[0], result.sigma[0], result.e1[0], result.amplitude[0]]).all()


def test_nan_pixel_with_round_weight_is_no_failure() -> None:
    """Return NaN moments without a failure for a round weight (quirk)."""
    image, _, guess = _failure_cases()["NOT_A_NUMBER pixel"]
    result = _one(image, *guess, round_moments=True)
    moments, unphysical = result.second_moments()
    assert result.ok[0]
    assert not unphysical[0]
    assert np.isnan(moments).all()


def test_constant_image_and_noise() -> None:
    """Converge on a constant image, and not on pure noise."""
    result = _one(np.full((41, 41), 7.0), 20.0, 20.0, 5.0)
    assert result.sigma[0] == pytest.approx(14.641961, abs=1e-6)
    noise = np.random.default_rng(1).normal(0, 1, (30, 41, 41))
    centre = np.full(30, 20.0)
    status = hsm_moments(noise, centre, centre, np.full(30, 5.0)).status
    assert np.count_nonzero(status != HsmStatus.OK) > 15


def test_negative_image() -> None:
    """Give -I the moments of I and the opposite amplitude."""
    plus, minus = _one(star(), GUESS_X, GUESS_Y, 5.0), _one(-star(), GUESS_X, GUESS_Y, 5.0)
    assert np.array_equal(plus.second_moments()[0], minus.second_moments()[0])
    assert plus.amplitude[0] == -minus.amplitude[0]


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    is_round=st.booleans(),
    permutation=st.permutations(range(12)),
    split=st.integers(1, 11),
)
def test_stars_are_independent(seed: int, is_round: bool, permutation: list[int], split: int) -> None:
    """Measure the same in any order, in parts, and next to a NaN star."""
    stars = _random_stars(12, seed)
    stars["images"][permutation[0], 10, 10] = np.nan
    whole = hsm_moments(**stars, round_moments=is_round)
    for rows in (np.array(permutation), np.array(permutation[:split]), np.array(permutation[split:])):
        part = hsm_moments(**{k: v[rows] for k, v in stars.items()}, round_moments=is_round)
        for name in ("x", "y", "sigma", "e1", "e2", "amplitude", "status", "iterations"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows])


def test_padding_is_not_looked_at() -> None:
    """Ignore pixels beyond a star's true size."""
    stars = _random_stars(20, 8)
    clean = hsm_moments(**stars)
    higher = standardized_moments(
        stars["images"], stars["x"], stars["y"], np.tile([4.0, 4.0, 0.0], (20, 1)), ORDERS,
        good=stars["good"], sizes=stars["sizes"],
    )  # fmt: skip
    column = np.arange(41)
    padding = (column >= stars["sizes"][:, 0, None, None]) | (
        column[:, None] >= stars["sizes"][:, 1, None, None]
    )
    stars["images"][padding] = np.nan
    np.testing.assert_array_equal(hsm_moments(**stars).sigma, clean.sigma)
    again = standardized_moments(
        stars["images"], stars["x"], stars["y"], np.tile([4.0, 4.0, 0.0], (20, 1)), ORDERS,
        good=stars["good"], sizes=stars["sizes"],
    )  # fmt: skip
    np.testing.assert_array_equal(again, higher)


def test_empty_batch() -> None:
    """Measure no stars."""
    nothing = np.empty(0)
    assert len(hsm_moments(np.empty((0, 9, 9)), nothing, nothing, nothing).x) == 0
    moments = standardized_moments(np.empty((0, 9, 9)), nothing, nothing, np.empty((0, 3)), ORDERS)
    assert moments.shape == (0, 9)


def test_wrong_shapes() -> None:
    """Refuse arrays that do not fit together."""
    one = np.ones(1)
    with pytest.raises(ValueError, match="stack of stamps"):
        hsm_moments(np.ones((9, 9)), one, one, one)
    with pytest.raises(ValueError, match="does not fit images"):
        hsm_moments(np.ones((1, 9, 9)), one, one, one, good=np.ones((1, 9, 8), dtype=bool))
    with pytest.raises(ValueError, match="do not fit 1 stamps"):
        hsm_moments(np.ones((1, 9, 9)), one, one, one, sizes=np.array([[10, 9]]))
    with pytest.raises(ValueError, match="do not fit 2 stamps"):
        hsm_moments(np.ones((2, 9, 9)), np.ones(3), np.ones(3), np.ones(3))
