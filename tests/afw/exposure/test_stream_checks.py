# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of what tiles tell of themselves before astropy expands them.

All files here are ones that astropy refuses, or expands to too much, without
harm.
"""

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from lsst.images import Box
from lsst.meas.finalize.afw import FitsFormatError
from lsst.meas.finalize.afw.exposure._plane import Plane
from lsst.meas.finalize.afw.exposure._stream_checks import check_stream
from lsst.meas.finalize.afw.fits import open_fits


def write(array: Any, **options: Any) -> bytes:
    """Compress an image."""
    buffer = io.BytesIO()
    hdu = fits.CompImageHDU(array, fits.Header([("EXTTYPE", "IMAGE")]), **options)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()


def edit(data: bytes, **cards: Any) -> bytes:
    """Change cards of the compressed image."""
    for name, value in cards.items():
        start = data.rindex(f"{name:<8}=".encode())
        data = data[: start + 10] + f"{value:>20}".ljust(70).encode() + data[start + 80 :]
    return data


def read(data: bytes, box: Box | None = None) -> Any:
    """Read the image."""
    with open_fits(data) as file:
        return Plane(file, 1).read(np.float32, box)


@pytest.fixture(scope="module")
def image() -> Any:
    """Make an image whose tiles aren't all of the same size."""
    return np.random.default_rng(1).integers(0, 3000, (22, 30)).astype(np.int32)


@pytest.mark.parametrize("settings", [{"ZVAL2": 3}, {"ZVAL2": 5.0}, {"ZVAL1": "'x'"}, {"ZVAL1": 33}])
def test_unknown_settings_of_rice(image: Any, settings: dict[str, Any]) -> None:
    """Name settings that the standard doesn't have."""
    data = write(image, compression_type="RICE_1", tile_shape=(11, 16))
    np.testing.assert_array_equal(read(data), image)
    with pytest.raises(FitsFormatError, match=r"unreadable pixels: blocks of .* pixels of .* bytes aren't"):
        read(edit(data, **settings))


def test_hcompress_of_another_size(image: Any) -> None:
    """Compare what a tile tells with the header, at the edge as well."""
    data = write(image, compression_type="HCOMPRESS_1", tile_shape=(11, 16))
    np.testing.assert_array_equal(read(data), image)
    with pytest.raises(
        FitsFormatError, match=r"tile of \(11, 15\) pixels was compressed as one of \(11, 14\)"
    ):
        read(edit(data, ZNAXIS1=31))
    # Of the first column of tiles all is well.
    np.testing.assert_array_equal(read(data, Box.factory[3:20, 1:29]), image[3:20, 1:29])


def test_lists_of_pixels_beyond_their_end(image: Any) -> None:
    """Refuse a list that tells a word more than there is."""
    data = write(image, compression_type="PLIO_1", tile_shape=(1, 30))
    np.testing.assert_array_equal(read(data), image)
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdulist:
        words = hdulist[1].data["COMPRESSED_DATA"][4].astype(">i2")
        start = data.index(words.tobytes())
    assert words[:4].tolist() == [0, 7, -100, len(words)]
    longer = data[: start + 6] + (len(words) + 1).to_bytes(2) + data[start + 8 :]
    with pytest.raises(FitsFormatError, match=rf"a tile has {len(words)} of {len(words) + 1} words"):
        read(longer)
    np.testing.assert_array_equal(read(longer, Box.factory[5:22, 0:30]), image[5:])
    for head in ([], [0, 0, 4], [0, -1, 0, 5, 0], [0, 7, 0, 0, 1]):
        with pytest.raises(ValueError, match="words"):
            check_stream("PLIO_1", np.array(head, dtype=">i2").tobytes(), (1, 30))


@pytest.mark.parametrize("column", ["COMPRESSED_DATA", "GZIP_COMPRESSED_DATA"])
def test_tiles_that_expand_to_more(image: Any, column: str) -> None:
    """Expand no more than a tile can have, whatever follows."""
    if column == "COMPRESSED_DATA":
        data = write(image, compression_type="GZIP_1", tile_shape=(11, 16))
    else:
        data = write(np.full((22, 30), np.nan, "f4"), compression_type="RICE_1", tile_shape=(11, 16))
    assert read(data).shape == image.shape
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdulist:
        stored = hdulist[1].data[column][0].tobytes()
    small = gzip.compress(bytes(9 * 11 * 16))[: len(stored)].ljust(len(stored), b"\0")
    with pytest.raises(FitsFormatError, match="a tile expands to more than 1408 bytes"):
        read(data.replace(stored, small))


@pytest.mark.parametrize("kind", ["GZIP_1", "GZIP_2"])
def test_expanding_is_given_up_early(kind: str) -> None:
    """Don't expand the rest of a tile that is too long."""
    data = gzip.compress(bytes(2**24))
    with pytest.raises(ValueError, match="more than 800 bytes"):
        check_stream(kind, data[:8000], (10, 10))
    check_stream(kind, gzip.compress(bytes(800)), (10, 10))
