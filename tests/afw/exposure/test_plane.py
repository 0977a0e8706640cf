# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.images import Box
from lsst.meas.finalize.afw import FitsFormatError
from lsst.meas.finalize.afw.exposure._plane import Plane

_SPECIAL = np.array([np.nan, np.inf, -np.inf, 1e-40, -1e-42, -0.0], dtype=np.float32)
_AS_NULLS = [np.nan, np.nan, np.nan, 0.0, 0.0, 0.0]
"""The special numbers as CFITSIO 4.2 gives them when it looks for nulls."""


def _write(array: npt.NDArray[Any], extra: dict[str, Any] | None = None, **options: Any) -> bytes:
    cards = fits.Header([("EXTTYPE", "IMAGE"), *(extra or {}).items()])
    hdu = fits.CompImageHDU(array, cards, **options) if options else fits.ImageHDU(array, cards)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()


def _read(data: bytes, dtype: npt.DTypeLike, box: Box | None = None) -> npt.NDArray[Any]:
    with fits.open(io.BytesIO(data)) as hdulist:
        return Plane(hdulist, 1).read(dtype, box)


def _is_fast(data: bytes) -> bool:
    with fits.open(io.BytesIO(data)) as hdulist:
        plane = Plane(hdulist, 1)
        assert plane.box
        return plane._tiles is not None and plane._tiles.is_fast


def _noise(height: int, width: int, seed: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    result = rng.normal(100, 5, (height, width)).astype(np.float32)
    result[rng.random(result.shape) < 0.05] = np.nan
    result[rng.random(result.shape) < 0.05] = 0
    return result


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 90)),
    st.sampled_from(["RICE_1", "GZIP_1", "GZIP_2"]),
    st.sampled_from([-1, 1, 2]),
    st.integers(1, 4),
    st.integers(1, 10_000),
)
def test_quantized_tiles_are_those_of_astropy(
    shape: tuple[int, int], algorithm: str, method: int, tile_height: int, seed: int
) -> None:
    """Decode every dithering and algorithm to the same bits, tiles of several
    rows and tiles that weren't quantized included.
    """
    array = _noise(*shape, seed)
    data = _write(
        array,
        compression_type=algorithm,
        quantize_level=4.0,
        quantize_method=method,
        dither_seed=seed,
        tile_shape=(min(tile_height, shape[0]), shape[1]),
    )
    with fits.open(io.BytesIO(data)) as hdulist:
        expected = hdulist[1].data.astype(np.float32)
    found = _read(data, np.float32)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    good = ~np.isnan(expected)
    np.testing.assert_array_equal(found[good].view(np.uint32), expected[good].view(np.uint32))
    part = Box.factory[shape[0] // 3 : shape[0], 0 : (shape[1] + 1) // 2]
    np.testing.assert_array_equal(
        _read(data, np.float32, part), found[part.slice_within(Box.factory[0 : shape[0], 0 : shape[1]])]
    )


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 90)),
    st.sampled_from(["RICE_1", "GZIP_1", "GZIP_2"]),
    st.sampled_from([np.int32, np.int16, np.uint8, np.uint16]),
    st.integers(1, 4),
    st.integers(0, 2**32),
)
def test_integers_survive(
    shape: tuple[int, int], algorithm: str, dtype: type[np.integer], tile_height: int, seed: int
) -> None:
    """Read integers of all kinds, compressed or not."""
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    array = rng.integers(max(limits.min, -(2**30)), min(limits.max, 2**30), shape).astype(dtype)
    tile_shape = (min(tile_height, shape[0]), shape[1])
    data = _write(array, compression_type=algorithm, tile_shape=tile_shape)
    np.testing.assert_array_equal(_read(data, np.int64), array)
    np.testing.assert_array_equal(_read(_write(array), np.int64), array)


@pytest.mark.parametrize("algorithm", ["GZIP_1", "GZIP_2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lossless_tiles_keep_special_numbers(algorithm: str, dtype: type[np.floating]) -> None:
    """Leave all bits as they are, as the stack does."""
    array = np.arange(80, dtype=dtype).reshape(4, 20)
    array[2, :6] = _SPECIAL
    data = _write(array, compression_type=algorithm, quantize_level=0.0)
    found = _read(data, dtype)
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(array))
    assert _is_fast(data) == (dtype is np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_numbers_of_plain_planes(dtype: type[np.floating]) -> None:
    """Replace them as the stack's FITS library does."""
    array = np.arange(1, 81, dtype=dtype).reshape(4, 20)
    array[2, :6] = _SPECIAL
    array[3, 0] = np.finfo(dtype).smallest_subnormal
    found = _read(_write(array), dtype)
    expected = array.copy()
    # As doubles they aren't denormal.
    expected[2, :6] = _AS_NULLS if dtype is np.float32 else [np.nan, np.nan, np.nan, *array[2, 3:5], 0.0]
    expected[3, 0] = 0
    np.testing.assert_array_equal(found, expected)
    assert not np.signbit(found[2, 5])


@pytest.mark.parametrize("tiles", [(1, 100), (2, 50)])
@pytest.mark.parametrize("algorithm", ["RICE_1", "GZIP_1", "GZIP_2"])
@pytest.mark.parametrize("method", [-1, 1, 2])
def test_special_numbers_of_quantized_planes(algorithm: str, method: int, tiles: tuple[int, int]) -> None:
    """Replace them in tiles that couldn't be quantized."""
    array = np.random.default_rng(3).normal(10, 3, (6, 100)).astype(np.float32)
    array[3] = 7
    array[3, :6] = _SPECIAL
    options = {"quantize_level": 16.0, "quantize_method": method, "tile_shape": tiles}
    data = _write(array, compression_type=algorithm, dither_seed=7, **options)
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdulist:
        assert any(len(item) for item in hdulist[1].data["GZIP_COMPRESSED_DATA"])
    found = _read(data, np.float32)
    np.testing.assert_array_equal(found[3, :6], _AS_NULLS)
    assert not np.signbit(found[3, 5])
    np.testing.assert_array_equal(found[3, 6:50], 7)
    assert _is_fast(data) == (tiles[1] == 100)


@pytest.mark.parametrize(
    "options",
    [
        {"compression_type": "HCOMPRESS_1", "quantize_level": 16.0, "tile_shape": (4, 20)},
        {"compression_type": "RICE_1", "quantize_level": 16.0, "tile_shape": (4, 7)},
        {"compression_type": "NOCOMPRESS", "quantize_level": 0.0},
    ],
)
def test_rare_tiles_are_left_to_astropy(options: dict[str, Any]) -> None:
    """Read tiles that the stack doesn't write."""
    array = _noise(8, 20, 5)
    np.copyto(array, 100, where=np.isnan(array))
    data = _write(array, **options)
    assert not _is_fast(data)
    with fits.open(io.BytesIO(data)) as hdulist:
        np.testing.assert_array_equal(_read(data, np.float32), hdulist[1].data)


def test_scaled_integers() -> None:
    """Apply the scale of planes stored as integers."""
    hdu = fits.ImageHDU(np.arange(12, dtype=np.int16).reshape(3, 4))
    hdu.header.update(EXTTYPE="IMAGE", BSCALE=0.5, BZERO=10.0)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    expected = 10 + 0.5 * np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(_read(buffer.getvalue(), np.float32), expected)


def _edit_tiles(data: bytes, at: int, value: bytes) -> bytes:
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdulist:
        start = hdulist[1].fileinfo()["datLoc"] + at
    return data[:start] + value + data[start + len(value) :]


@pytest.mark.parametrize("algorithm", ["RICE_1", "GZIP_2"])
def test_tiles_outside_of_the_data(algorithm: str) -> None:
    """Refuse descriptors that point elsewhere."""
    array = np.arange(80, dtype=np.int32).reshape(4, 20)
    data = _write(array, compression_type=algorithm)
    for at, value in [(4, 2**30), (4, -8), (8, -5), (0, 0)]:
        bad = _edit_tiles(data, at, value.to_bytes(4, "big", signed=True))
        with pytest.raises(FitsFormatError, match="unreadable pixels: a tile"):
            _read(bad, np.int32)


def test_tiles_of_wrong_size() -> None:
    """Refuse tiles that expand to another number of pixels, before all of
    them is in memory.
    """
    wide = _write(np.zeros((4, 4000), dtype=np.int32), compression_type="GZIP_1")
    narrow = wide.replace(b"ZNAXIS1 =                 4000", b"ZNAXIS1 =                   30")
    narrow = narrow.replace(b"ZTILE1  =                 4000", b"ZTILE1  =                   30")
    with pytest.raises(FitsFormatError, match="expands to 121 bytes instead of 120"):
        _read(narrow, np.int32)


@pytest.mark.parametrize("seed", ["10001", "2.5", "'one'"])
def test_impossible_dither_seeds(seed: str) -> None:
    """Refuse seeds outside of the table of random numbers."""
    data = _write(_noise(4, 60, 1), compression_type="RICE_1", quantize_method=1, dither_seed=1234)
    assert b"ZDITHER0=                 1234" in data
    data = data.replace(b"ZDITHER0=                 1234", f"ZDITHER0= {seed:>20}".ljust(30).encode())
    with pytest.raises(FitsFormatError, match="ZDITHER0 = "):
        _read(data, np.float32)


@pytest.mark.parametrize("method", [-1, 1, 2])
@pytest.mark.parametrize("offset", [0, 7, 10**6, 2**31 - 1, -5])
def test_tiles_without_bytes_are_nowhere(method: int, offset: int) -> None:
    """Read tiles that weren't quantized, wherever the empty ones point to."""
    array = _noise(4, 60, 1)
    array[2] = 7.5
    options: dict[str, Any] = {"quantize_method": method, "quantize_level": 16.0, "dither_seed": 9}
    data = _write(array, compression_type="RICE_1", tile_shape=(1, 60), **options)
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdulist:
        row_bytes, lengths = hdulist[1].header["NAXIS1"], [len(t) for t in hdulist[1].data["COMPRESSED_DATA"]]
    assert lengths[2] == 0
    moved = _edit_tiles(data, 2 * row_bytes + 4, offset.to_bytes(4, "big", signed=True))
    np.testing.assert_array_equal(_read(moved, np.float32), _read(data, np.float32))
    with fits.open(io.BytesIO(moved)) as hdulist:
        np.testing.assert_array_equal(_read(moved, np.float32), hdulist[1].data)
