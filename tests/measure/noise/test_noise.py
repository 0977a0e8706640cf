# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.catalogs import Footprints, StampSet, cut_stamps
from lsst.meas.finalize.measure import DetectedFootprints, NoiseReplacer, NoiseReplacerConfig
from lsst.meas.finalize.measure.noise._ziggurat import TAIL, seed_state, ziggurat_tables

# Spec 03 §2.5, seed 1.
_DEVIATES = [
    -0.49192363822600427,
    -1.5460562802245437,
    0.00042694841091477396,
    0.08722184515017163,
    0.5142327983881565,
    0.3651699727981886,
]
_SHAPE = (40, 50)


def _draw(seed: int, n: int) -> np.ndarray:
    from lsst.meas.finalize.measure.noise.replacement_numba import draw_normal

    out = np.empty(n)
    draw_normal(seed_state(seed), *ziggurat_tables(), out)
    return out


def _box(x0: int, y0: int, x1: int, y1: int) -> list[tuple[int, int, int]]:
    return [(y, x0, x1) for y in range(y0, y1 + 1)]


def _detected(
    spans: list, parents: list[int], heavy: dict[int, np.ndarray] | None = None
) -> DetectedFootprints:
    """Make footprints with ids 1, 2, …; ``heavy`` gives pixels by row."""
    light = Footprints.from_spans(spans)
    heavy = heavy or {}
    pixels = [heavy.get(k, np.zeros(0, dtype=np.float32)) for k in range(len(spans))]
    values = np.concatenate([*pixels, np.zeros(0, dtype=np.float32)]).astype(np.float32)
    footprints = Footprints(
        light.span_offsets,
        light.span_y,
        light.span_x0,
        light.span_x1,
        heavy_offsets=np.concatenate([[0], np.cumsum([len(p) for p in pixels])]),
        is_heavy=np.array([k in heavy for k in range(len(spans))]),
        heavy_image=values,
        heavy_mask=np.zeros(len(values)),
        heavy_variance=np.zeros(len(values)),
    )
    n = len(spans)
    return DetectedFootprints(np.arange(1, n + 1), np.array(parents), footprints)


def _config(**options: Any) -> NoiseReplacerConfig:
    config = NoiseReplacerConfig()
    config.update(**options)
    return config


class _Upstream:
    """Replacement as specified: one image, changed for star after star."""

    def __init__(self, image: np.ndarray, detected: DetectedFootprints, mean: float, std: float) -> None:
        self.image = image.copy()
        self.detected = detected
        f = detected.footprints
        self.where, self.pixels, self.noise = {}, {}, {}
        deviates = iter(_draw(1, 100_000).astype(np.float32))
        for k, (identifier, parent) in enumerate(zip(detected.id, detected.parent, strict=True)):
            if parent != 0 and not f.is_heavy[k]:
                continue
            _, y, x = f.pixels(np.array([k]))
            self.where[identifier] = y, x
            own = f.heavy_image[f.heavy_offsets[k] : f.heavy_offsets[k + 1]]
            self.pixels[identifier] = own if f.is_heavy[k] else image[y, x]
            x_min, y_min, x_max, y_max = f.bboxes[k]
            box = np.array([next(deviates) for _ in range((y_max - y_min + 1) * (x_max - x_min + 1))])
            box = box.reshape(y_max - y_min + 1, -1)[y - y_min, x - x_min]
            self.noise[identifier] = box * np.float32(std) + np.float32(mean)
            self.image[y, x] = self.noise[identifier]

    def resolve(self, identifier: int) -> int:
        while identifier not in self.where:
            identifier = int(self.detected.parent[identifier - 1])
        return identifier

    def insert(self, identifier: int) -> None:
        u = self.resolve(identifier)
        self.image[self.where[u]] = self.pixels[u]

    def remove(self, identifier: int) -> None:
        u = self.resolve(identifier)
        self.image[self.where[u]] = self.noise[u]

    def end(self) -> None:
        for identifier in self.where:
            if self.detected.parent[identifier - 1] == 0:
                self.image[self.where[identifier]] = self.pixels[identifier]


def _blend() -> DetectedFootprints:
    """Make a parent with three children, and others that overlap."""
    rng = np.random.default_rng(11)
    return _detected(
        [_box(5, 5, 24, 20), _box(30, 8, 40, 18), _box(6, 6, 15, 14), _box(12, 8, 22, 19), _box(7, 7, 9, 9),
         _box(38, 14, 46, 30)],
        [0, 0, 1, 1, 1, 0],
        {2: rng.normal(50, 5, 90), 3: rng.normal(80, 5, 132), 5: rng.normal(20, 5, 153)},
    )  # fmt: skip


def _image(origin: tuple[int, int] = (0, 0)) -> np.ndarray:
    return np.random.default_rng(12).normal(10, 3, _SHAPE).astype(np.float32)


def _whole(exposure: Any, n: int) -> StampSet:
    box = exposure.bbox
    return cut_stamps(exposure, np.full(n, box.x.start), np.full(n, box.y.start), _SHAPE[1], _SHAPE[0])


def test_generator() -> None:
    """Draw the deviates of the specification, bit by bit."""
    assert _draw(1, 6).tolist() == _DEVIATES
    assert _draw(1 + 2**32, 6).tolist() == _DEVIATES


def test_generator_distribution() -> None:
    """Draw normal deviates, also in the tail beyond the last strip."""
    x = _draw(7, 1_000_000)
    assert abs(x.mean()) < 5e-3  # 5 standard errors
    assert abs(x.var() - 1) < 7.1e-3
    assert abs(np.mean(x**4) - 3) < 0.05
    # 2 (1 - Φ(R)) = 5.7e-4, so 573 ± 24 of a million.
    assert 450 < np.count_nonzero(np.abs(x) > TAIL) < 700


def test_words_are_those_of_numpy() -> None:
    """Generate the 32-bit words of MT19937."""
    from lsst.meas.finalize.measure.noise.replacement_numba import _word

    state = seed_state(202603040110)
    expected = np.random.RandomState(202603040110 & 0xFFFFFFFF)
    reference = np.random.MT19937()
    reference.state = {"bit_generator": "MT19937", "state": expected.get_state(legacy=False)["state"]}
    assert [_word(state) for _ in range(1500)] == reference.random_raw(1500).tolist()


def test_tables() -> None:
    """Close the ziggurat at height 1."""
    tables = ziggurat_tables()
    assert tables.height[0] == 1.0
    assert tables.accept[0] == 0
    assert np.all(np.diff(tables.height) < 0)
    assert tables.width[-1] == pytest.approx((TAIL + 1 / TAIL) / 2**24, rel=1e-11)
    area = tables.width[:-1] * 2**24 * (tables.height[:-1] - tables.height[1:])
    np.testing.assert_allclose(area, area[0], rtol=1e-8)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("order", [[1, 2, 3, 4, 5, 6], [4, 1, 5, 3, 6, 2], [3, 6]])
def test_same_as_one_after_the_other(
    order: list[int], in_place: bool, make_exposure: Callable[..., Any]
) -> None:
    """Show every star as if the image had been changed for each in turn."""
    image, detected = _image(), _blend()
    exposure = make_exposure(image.copy())
    config = _config(noiseSource="variance_median")
    replacer = NoiseReplacer(config, exposure, detected, np.array(order), in_place=in_place)
    assert np.shares_memory(replacer._plane, exposure.image.array) == in_place
    reference = _Upstream(image, detected, 0.0, 1.0)
    stamps = _whole(exposure, len(order))
    replacer.insert(stamps, np.arange(len(order)))
    for k, identifier in enumerate(order):
        reference.insert(identifier)
        np.testing.assert_array_equal(stamps.image[k], reference.image)
        reference.remove(identifier)
    reference.end()
    restored = _whole(exposure, 1)
    replacer.restore(restored)
    np.testing.assert_array_equal(restored.image[0], reference.image)
    replacer.end()
    replacer.end()
    np.testing.assert_array_equal(exposure.image.array, image)


def _mapped(image: np.ndarray, path: Path) -> np.ndarray:
    image.tofile(path)
    return np.memmap(path, dtype=image.dtype, mode="r+", shape=image.shape)


def _of_another_library(image: np.ndarray, path: Path) -> np.ndarray:
    return np.frombuffer(bytearray(image.tobytes()), dtype=image.dtype).reshape(image.shape)


def _read_only(image: np.ndarray, path: Path) -> np.ndarray:
    image.flags.writeable = False
    return image


def _strided(image: np.ndarray, path: Path) -> np.ndarray:
    return np.repeat(image, 2, axis=1)[:, ::2]


@pytest.mark.parametrize("make", [_mapped, _of_another_library, _read_only, _strided])
def test_pixels_of_others_are_never_changed(
    make: Callable[[np.ndarray, Path], np.ndarray], tmp_path: Path, make_exposure: Callable[..., Any]
) -> None:
    """Copy pixels that somebody else may look at."""
    expected = _image().astype(np.float32)
    array = make(expected.copy(), tmp_path / "pixels")
    exposure = make_exposure(expected)
    view = SimpleNamespace(image=SimpleNamespace(array=array), bbox=exposure.bbox, metadata={})
    replacer = NoiseReplacer(_config(), view, _blend(), np.array([1]), in_place=True)
    assert not np.shares_memory(replacer._plane, array)
    np.testing.assert_array_equal(array, expected)


def test_image_is_restored_after_errors(make_exposure: Callable[..., Any]) -> None:
    """Leave no noise behind if it can't be made."""
    exposure, detected = make_exposure(_image()), _blend()
    noise = np.zeros((3, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="noise image is"):
        NoiseReplacer(_config(), exposure, detected, np.array([1]), noise_image=noise, in_place=True)
    np.testing.assert_array_equal(exposure.image.array, _image())


def test_windows_and_origin(make_exposure: Callable[..., Any]) -> None:
    """Cut the same pixels out of small windows of a shifted image."""
    detected = _detected([_box(105, 205, 110, 210), _box(120, 215, 125, 220)], [0, 0])
    exposure = make_exposure(_image(), origin=(100, 200))
    replacer = NoiseReplacer(_config(), exposure, detected, np.array([2, 1]))
    whole = _whole(exposure, 1)
    replacer.insert(whole, np.array([1]))
    window = cut_stamps(exposure, np.array([95, 121]), np.array([203, 216]), 12, 9)
    replacer.insert(window, np.array([1, 0]))
    np.testing.assert_array_equal(window.image[0, :, 5:], whole.image[0, 3:12, :7])
    assert np.all(window.image[0, :, :5] == 0)
    own = exposure.image.array[16:21, 21:26]
    np.testing.assert_array_equal(window.image[1, :5, :5], own)


def test_noise_sources(make_exposure: Callable[..., Any]) -> None:
    """Take mean and width of the noise from where the option says."""
    image = _image()
    variance = np.full(_SHAPE, 4.0)
    variance[:20] = 16.0
    variance[0, 0] = np.inf
    exposure = make_exposure(image, variance=variance, metadata={"BGMEAN": 25.0})
    detected = _detected([_box(0, 1, 49, 39)], [0])
    deviates = _draw(1, 50 * 39).reshape(39, 50)

    def noise(**options: Any) -> np.ndarray:
        replacer = NoiseReplacer(_config(**options), exposure, detected, np.array([1]))
        return replacer._plane[1:]

    tolerance = {"rtol": 1e-5, "atol": 1e-5}  # float32 noise of order 30
    np.testing.assert_allclose(noise(noiseSource="meta", noiseOffset=3.0), deviates * 5 + 3, **tolerance)
    np.testing.assert_allclose(noise(noiseSource="variance_median"), deviates * 2, **tolerance)
    per_pixel = noise(noiseSource="variance", noiseOffset=1.0)
    np.testing.assert_allclose(per_pixel, deviates * np.sqrt(variance[1:]) + 1, **tolerance)
    measured = noise(noiseSource="measure")
    assert measured.mean() == pytest.approx(10, abs=0.4)  # 5 standard errors
    assert measured.std() == pytest.approx(3, abs=0.3)
    exposure.metadata = {}
    np.testing.assert_array_equal(noise(noiseSource="meta"), measured)


def test_seeds(make_exposure: Callable[..., Any]) -> None:
    """Seed with multiplier times exposure id."""
    exposure = make_exposure(_image())
    detected = _detected([_box(5, 5, 9, 9)], [0])

    def plane(multiplier: int, exposure_id: int | None) -> np.ndarray:
        config = _config(noiseSeedMultiplier=multiplier)
        return NoiseReplacer(config, exposure, detected, np.array([1]), exposure_id)._plane

    np.testing.assert_array_equal(plane(1, None), plane(0, 42))
    np.testing.assert_array_equal(plane(3, 14), plane(1, 42))
    np.testing.assert_array_equal(plane(5, 0), plane(1, 5))
    assert np.any(plane(1, 42) != plane(1, None))


def test_given_noise(make_exposure: Callable[..., Any]) -> None:
    """Use an image of noise that is given."""
    exposure, detected = make_exposure(_image()), _blend()
    noise = np.random.default_rng(1).normal(size=_SHAPE).astype(np.float32)
    replacer = NoiseReplacer(
        _config(), exposure, detected, np.array([2, 1]), noise_image=noise, in_place=True
    )
    stamps = _whole(exposure, 2)
    replacer.insert(stamps, np.arange(2))
    np.testing.assert_array_equal(stamps.image[0, 5:21, 5:25], noise[5:21, 5:25])
    np.testing.assert_array_equal(stamps.image[1, 8:14, 30:38], noise[8:14, 30:38])
    with pytest.raises(ValueError, match="noise image is"):
        NoiseReplacer(_config(), exposure, detected, np.array([1]), noise_image=noise[1:])


def test_detection_planes(make_exposure: Callable[..., Any]) -> None:
    """Mark the star's own pixels and those of the others."""
    exposure, detected = make_exposure(_image()), _blend()
    replacer = NoiseReplacer(_config(), exposure, detected, np.array([1, 3]))
    stamps = _whole(exposure, 2)
    replacer.add_detection_planes(stamps, np.arange(2))
    this, other = stamps.bad(["THISDET"]), stamps.bad(["OTHERDET"])
    assert this.sum(axis=(1, 2)).tolist() == [20 * 16, 10 * 9]
    assert this[1, 6:15, 6:16].all()
    assert not (this & other).any()
    np.testing.assert_array_equal((this | other)[0], (this | other)[1])


def test_not_finite_pixels(make_exposure: Callable[..., Any]) -> None:
    """Measure noise on the finite pixels; complain if there are none."""
    image = _image()
    image[:10] = np.nan
    detected = _detected([_box(5, 15, 9, 19)], [0])
    replacer = NoiseReplacer(_config(), make_exposure(image), detected, np.array([1]))
    assert np.isfinite(replacer._plane[10:]).all()
    empty = make_exposure(np.full(_SHAPE, np.nan))
    with pytest.raises(ValueError, match="No pixel of the image is finite"):
        NoiseReplacer(_config(), empty, detected, np.array([1]))
    dark = make_exposure(_image(), variance=np.full(_SHAPE, np.inf))
    with pytest.raises(ValueError, match="No pixel has a positive, finite variance"):
        NoiseReplacer(_config(noiseSource="variance_median"), dark, detected, np.array([1]))
    odd = make_exposure(_image(), metadata={"BGMEAN": "dark"})
    negative = make_exposure(_image(), variance=np.full(_SHAPE, -2.0), metadata={"BGMEAN": [1.0, -4.0]})
    for source, message in (
        ("meta", r"BGMEAN is no variance: \[1.0, -4.0\]"),
        ("variance_median", "No pixel has a positive, finite variance"),
    ):
        with pytest.raises(ValueError, match=message):
            NoiseReplacer(_config(noiseSource=source), negative, detected, np.array([1]))
    with pytest.raises(ValueError, match="BGMEAN is not a number: 'dark'"):
        NoiseReplacer(_config(noiseSource="meta"), odd, detected, np.array([1]))


def test_bad_footprints(make_exposure: Callable[..., Any]) -> None:
    """Refuse footprints that don't fit, with one clear error each."""
    exposure = make_exposure(_image())
    one = np.array([1])
    with pytest.raises(ValueError, match=r"sources 2 reach outside the image .*\[45, 5, 50, 9\]"):
        NoiseReplacer(_config(), exposure, _detected([_box(1, 1, 3, 3), _box(45, 5, 50, 9)], [0, 0]), one)
    good = _detected([_box(1, 1, 3, 3), _box(5, 5, 8, 9)], [0, 0])
    with pytest.raises(ValueError, match=r"Measured sources have no footprint in .*: 7\."):
        NoiseReplacer(_config(), exposure, good, np.array([1, 7]))
    twice = DetectedFootprints(np.array([4, 4]), good.parent, good.footprints)
    with pytest.raises(ValueError, match=r"ids are not unique: 4\."):
        NoiseReplacer(_config(), exposure, twice, np.array([4]))
    orphan = DetectedFootprints(good.id, np.array([0, 99]), good.footprints)
    with pytest.raises(ValueError, match=r"Parents have no footprint .*: 99\."):
        NoiseReplacer(_config(), exposure, orphan, np.array([2]))
    cycle = DetectedFootprints(good.id, np.array([2, 1]), good.footprints)
    with pytest.raises(ValueError, match=r"Parents of sources 1 form a cycle"):
        NoiseReplacer(_config(), exposure, cycle, one)
    good.footprints.present[1] = False
    with pytest.raises(ValueError, match=r"without a footprint: 2\."):
        NoiseReplacer(_config(), exposure, good, one)


def test_special_numbers_come_back_bit_by_bit(make_exposure: Callable[..., Any]) -> None:
    """Take noise out of pixels that are NaN of any kind, infinite or -0."""
    image = np.random.default_rng(1).normal(10, 3, (40, 50)).astype(np.float32)
    bits = image.view(np.uint32)
    for k, special in enumerate((0x7FC00123, 0x7F800001, 0x80000000, 0x00000001, 0xFF800000)):
        bits[5 + k : 30 : 5, 5:40:3] = special
    exposure = make_exposure(image.copy())
    spans = [[(y, 4, 41) for y in range(4, 32)], [(y, 0, 49) for y in range(40)]]
    detected = DetectedFootprints(np.array([1, 2]), np.array([0, 0]), Footprints.from_spans(spans))
    replacer = NoiseReplacer(_config(), exposure, detected, np.array([1]), in_place=True)
    assert (exposure.image.array.view(np.uint32) != bits).all()
    replacer.end()
    np.testing.assert_array_equal(exposure.image.array.view(np.uint32), bits)
