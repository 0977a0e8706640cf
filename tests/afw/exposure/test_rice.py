# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of expanding tiles of Rice's method, against astropy's encoder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io.fits.hdu.compressed import _compression
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.afw.exposure import _rice_numba
from lsst.meas.finalize.afw.exposure._tiles import _random_sequence

type Integers = npt.NDArray[np.int32]

RANDOM = _random_sequence(_rice_numba.N_RANDOM)
NO_BLANK = 2**40


def decode(
    tiles: list[bytes], sizes: list[int], block: int = 32, cut: int = 0
) -> tuple[int, npt.NDArray[np.float32]]:
    """Expand tiles to integers as float32, whose zero point is 0."""
    lengths = np.array([len(tile) - cut for tile in tiles])
    starts = np.cumsum([0, *map(len, tiles)])[:-1]
    pixels = np.zeros(sum(sizes), dtype=np.float32)
    bad = _rice_numba.decode_tiles(
        np.frombuffer(b"".join(tiles) + bytes(_rice_numba.PADDING), dtype=np.uint8),
        np.stack([starts, lengths, np.array(sizes)], axis=1),
        block,
        np.ones(len(tiles)),
        np.zeros(len(tiles)),
        -1,
        1,
        RANDOM,
        NO_BLANK,
        np.empty(max(sizes), dtype=np.int32),
        pixels,
    )
    return bad, pixels


def encode(values: Integers, block: int = 32) -> bytes:
    """Compress integers."""
    return _compression.compress_rice_1_c(values.tobytes(), block, 4)


@st.composite
def integers(draw: st.DrawFn) -> Integers:
    """Make a row of numbers whose differences are of all sizes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    parts = []
    for exponent in draw(st.lists(st.integers(0, 33), min_size=1, max_size=6)):
        size = draw(st.integers(1, 80))
        values = rng.integers(-(2**exponent) // 2, 2**exponent // 2 + 1, size)
        # Single ones far off are stored as long runs of zeros.
        values[rng.random(size) < draw(st.sampled_from([0.0, 0.05]))] *= 1000
        parts.append(values.clip(-(2**31), 2**31 - 1).astype(np.int32))
    return np.concatenate(parts)


@settings(max_examples=300, deadline=None)
@given(st.lists(integers(), min_size=1, max_size=4), st.sampled_from([16, 32]))
def test_what_was_compressed_is_expanded(rows: list[Integers], block: int) -> None:
    """Expand tiles of different lengths, one behind the other."""
    bad, pixels = decode([encode(row, block) for row in rows], [len(row) for row in rows], block)
    assert bad == -1
    np.testing.assert_array_equal(pixels, np.concatenate(rows).astype(np.float32))


@settings(max_examples=100, deadline=None)
@given(integers(), st.integers(1, 12))
def test_tiles_that_end_early(row: Integers, cut: int) -> None:
    """Name the tile of which bytes are missing, whatever follows it."""
    good = encode(np.arange(9, dtype=np.int32))
    tile = encode(row)
    cut = min(cut, len(tile) - 1)
    bad, _ = decode([good, tile[:-cut], good][:2], [9, len(row)])
    assert bad == 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.integers(1, 300), st.sampled_from([16, 32]))
def test_any_bytes(data: bytes, size: int, block: int) -> None:
    """Expand no more than there is, of bytes that nobody compressed."""
    bad, pixels = decode([encode(np.zeros(1, dtype=np.int32)), data], [1, size], block)
    assert len(pixels) == 1 + size
    # Each pixel or block takes a bit at least, and empty tiles are left out.
    assert bad in (-1, 1)
    if 0 < len(data) < 4 + -(-size // block) * 5 // 8:
        assert bad == 1


@pytest.mark.parametrize("method", [1, 2])
def test_random_numbers_for_dithering(method: int) -> None:
    """Use the sequence of the standard, round its end."""
    assert RANDOM[0] == np.float32(16807 / (2**31 - 1))
    # The standard gives the 10,000th seed as a check.
    assert round(float(RANDOM[-1]) * (2**31 - 1)) == pytest.approx(1043618065, abs=64)
    values = np.arange(-(2**31) + 1, -(2**31) + 12_001, dtype=np.int64).astype(np.int32)
    for seed in (1, 9_999, 10_000):
        expected = _compression.unquantize_float_c(
            values.tobytes(), seed, len(values), 0.37, 5.0, method, 0, 0, 0.0, 4
        )
        pixels = np.zeros(len(values), dtype=np.float32)
        tile = encode(values)
        bad = _rice_numba.decode_tiles(
            np.frombuffer(tile + bytes(_rice_numba.PADDING), dtype=np.uint8),
            np.array([[0, len(tile), len(values)]]),
            32,
            np.array([0.37]),
            np.array([5.0]),
            method,
            seed,
            RANDOM,
            NO_BLANK,
            np.empty(len(values), dtype=np.int32),
            pixels,
        )
        assert bad == -1
        np.testing.assert_array_equal(pixels, np.frombuffer(expected, dtype=np.float32))
