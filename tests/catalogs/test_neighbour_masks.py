# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.ndimage

from lsst.images import Box, Image, Interval, Mask, MaskPlane, MaskSchema
from lsst.meas.finalize.catalogs import Footprints, PsfCandidates

X0, Y0, WIDTH, HEIGHT = 100, -30, 90, 80


def make_exposure(detected: np.ndarray, planes: tuple[str, ...] = ("DETECTED", "INTERPOLATED")) -> Any:
    """Make an image with a DETECTED plane."""
    box = Box(Interval(Y0, Y0 + HEIGHT), Interval(X0, X0 + WIDTH))
    mask = Mask(schema=MaskSchema([MaskPlane(p, "") for p in planes]), bbox=box)
    mask.set("DETECTED", detected)
    rng = np.random.default_rng(1)
    plane = rng.normal(size=(HEIGHT, WIDTH)).astype(np.float32)
    return SimpleNamespace(
        bbox=box, image=Image(plane, bbox=box), variance=Image(plane**2, bbox=box), mask=mask
    )


def make_candidates(
    exposure: Any, x: np.ndarray, y: np.ndarray, footprints: Footprints | None = None
) -> PsfCandidates:
    """Make candidates without colours."""
    n = len(x)
    return PsfCandidates(exposure, np.arange(n), x, y, np.full(n, np.nan), np.full(n, ""), 27, footprints)


def expected_masks(
    detected: np.ndarray, x: np.ndarray, y: np.ndarray, size: int, blends: list[list[Any]] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mask star by star and pixel by pixel, as spec 01 §4 words it."""
    killed = np.zeros((len(x), size, size), dtype=bool)
    left = np.zeros_like(killed)
    for k in range(len(x)):
        cx, cy = int(np.floor(x[k] + 0.5)), int(np.floor(y[k] + 0.5))
        px, py = cx - size // 2, cy - size // 2
        stamp = detected[py - Y0 : py - Y0 + size, px - X0 : px - X0 + size].copy()
        if blends is not None and len(blends[k][1]) > 1:
            spans, peaks = blends[k]
            central = min(
                range(len(peaks)), key=lambda i: (peaks[i][0] - x[k]) ** 2 + (peaks[i][1] - y[k]) ** 2
            )
            for sy, first, last in spans:
                for sx in range(first, last + 1):
                    d2 = [(sx - a) ** 2 + (sy - b) ** 2 for a, b, _ in peaks]
                    if min(d2) < d2[central] and 0 <= sy - py < size and 0 <= sx - px < size:
                        killed[k, sy - py, sx - px] = True
                        stamp[sy - py, sx - px] = False
        labels, count = scipy.ndimage.label(stamp, structure=np.ones((3, 3)))
        if count >= 2:
            for label in range(1, count + 1):
                if label == labels[size // 2, size // 2]:
                    continue
                for iy, ix in zip(*np.nonzero(labels == label), strict=True):
                    for dy, half in zip(range(-3, 4), (0, 2, 2, 3, 2, 2, 0), strict=True):
                        for dx in range(-half, half + 1):
                            if 0 <= iy + dy < size and 0 <= ix + dx < size:
                                killed[k, iy + dy, ix + dx] = True
        left[k] = stamp & ~killed[k]
    return killed, left


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("with_blends", [False, True])
def test_masks_are_those_of_a_loop(seed: int, with_blends: bool) -> None:
    """Agree with a literal loop over stars, components and pixels."""
    rng = np.random.default_rng(seed)
    detected = scipy.ndimage.binary_dilation(rng.random((HEIGHT, WIDTH)) < 0.012, iterations=2)
    n = 12
    x, y = rng.uniform(X0 + 16, X0 + 73, n), rng.uniform(Y0 + 16, Y0 + 63, n)
    x[0] = np.floor(x[0]) + 0.5
    blends, footprints = None, None
    if with_blends:
        blends = []
        for k in range(n):
            cx, cy = int(x[k]), int(y[k])
            spans = [(yy, cx - 16, cx + int(rng.integers(2, 14))) for yy in range(cy - 15, cy + 6)]
            peaks = [
                (float(cx + dx), float(cy + dy), 1.0)
                for dx, dy in rng.integers(-5, 6, (rng.integers(1, 5), 2))
            ]
            blends.append([spans, peaks])
        footprints = Footprints.from_spans([b[0] for b in blends], peaks=[b[1] for b in blends])
    candidates = make_candidates(make_exposure(detected), x, y, footprints)
    for size in (25, 27):
        stamps = candidates.stamps(size)
        killed, left = expected_masks(detected, x, y, size, blends)
        np.testing.assert_array_equal(stamps.bad(["INTRP"]), killed)
        np.testing.assert_array_equal(stamps.bad(["DETECTED"]), left)
    # Otherwise nothing was tested; lonely stars have their own test.
    assert killed.any()
    assert left.any()


def test_central_component_and_single_ones_survive() -> None:
    """Keep a lonely component, even beside the centre; kill all if two."""
    detected = np.zeros((HEIGHT, WIDTH), bool)
    detected[40, 50:53] = True  # one component, not at the centre of the star
    x, y = np.array([X0 + 45.0]), np.array([Y0 + 40.0])
    assert not make_candidates(make_exposure(detected), x, y).stamps(25).bad(["INTRP"]).any()
    detected[30, 40] = True
    stamps = make_candidates(make_exposure(detected), x, y).stamps(25)
    assert stamps.bad(["INTRP"])[0, 12, 17:20].all()
    assert stamps.bad(["INTRP"])[0, 2, 7]
    assert not stamps.bad(["DETECTED"]).any()


def test_diagonal_neighbours_are_connected() -> None:
    """Connect pixels that share a corner only."""
    detected = np.zeros((HEIGHT, WIDTH), bool)
    detected[np.arange(35, 46), np.arange(40, 51)] = True
    stamps = make_candidates(make_exposure(detected), np.array([X0 + 45.0]), np.array([Y0 + 40.0])).stamps(25)
    assert not stamps.bad(["INTRP"]).any()


def test_stamps_do_not_touch_the_exposure_and_depend_on_size() -> None:
    """Mask copies only, from the original mask, for each size."""
    detected = np.zeros((HEIGHT, WIDTH), bool)
    detected[40, 45] = detected[40, 58] = True  # the second is outside 25 pixels
    exposure = make_exposure(detected)
    before = exposure.mask.array.copy()
    candidates = make_candidates(exposure, np.array([X0 + 45.0]), np.array([Y0 + 40.0]))
    assert candidates.stamps(27).bad(["INTRP"]).any()
    assert not candidates.stamps(25).bad(["INTRP"]).any()
    assert candidates.stamps(27).bad(["INTRP"]).any()
    np.testing.assert_array_equal(exposure.mask.array, before)


def test_images_without_the_planes() -> None:
    """Find a free bit for INTRP, and do nothing without DETECTED."""
    detected = np.zeros((HEIGHT, WIDTH), bool)
    detected[40, 45] = detected[40, 50] = True
    x, y = np.array([X0 + 45.0]), np.array([Y0 + 40.0])
    stamps = make_candidates(make_exposure(detected, ("DETECTED",)), x, y).stamps(25)
    assert stamps.bad(["INTRP"]).any()
    assert stamps.bad(["DETECTED"]).sum() == 1
    exposure = make_exposure(detected)
    exposure.mask = Mask(schema=MaskSchema([MaskPlane("BAD", "")]), bbox=exposure.bbox)
    assert not make_candidates(exposure, x, y).stamps(25).mask.any()


def test_taking_keeps_stamps() -> None:
    """Take some candidates with their stamps and colours."""
    rng = np.random.default_rng(0)
    detected = rng.random((HEIGHT, WIDTH)) < 0.05
    x, y = rng.uniform(X0 + 16, X0 + 73, 5), rng.uniform(Y0 + 16, Y0 + 63, 5)
    candidates = make_candidates(make_exposure(detected), x, y, Footprints.empty(5))
    stamps = candidates.stamps(25)
    taken = candidates.take(np.array([3, 1]))
    assert taken.id.tolist() == [3, 1]
    np.testing.assert_array_equal(taken.stamps(25).mask, stamps.mask[[3, 1]])
    fresh = make_candidates(make_exposure(detected), x, y, Footprints.empty(5)).take(np.array([3, 1]))
    np.testing.assert_array_equal(fresh.stamps(25).mask, stamps.mask[[3, 1]])
    assert len(candidates.take(np.zeros(5, bool)).stamps(25)) == 0


def test_unequal_lengths_are_refused() -> None:
    """Refuse attributes of different lengths."""
    with pytest.raises(ValueError, match="2 candidates"):
        PsfCandidates(None, np.arange(2), np.zeros(2), np.zeros(3), np.zeros(2), np.full(2, ""), 27)  # type: ignore[arg-type]
