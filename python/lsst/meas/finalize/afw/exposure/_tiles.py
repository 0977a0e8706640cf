# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tables of compressed tiles: what is checked before anything is expanded, and
the decoding of the kinds that the stack writes.

Quantized tiles of Rice's method, the usual ones, are expanded by a kernel of
our own (`_rice_numba`).  The loops over other tiles call compiled functions of
`astropy` and `zlib`: each tile is a stream of its own, and some fifty
microseconds of work.
"""

from __future__ import annotations

__all__ = ("TileTable",)

import dataclasses
import functools
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from .._errors import FitsFormatError
from ..fits import Column, TableLayout, header_cards, parse_layout
from ._nulls import replace_nulls
from ._stream_checks import check_stream, is_valid_rice

_DITHERING = {"NO_DITHER": -1, "SUBTRACTIVE_DITHER_1": 1, "SUBTRACTIVE_DITHER_2": 2}
_TARGETS = {-32: np.dtype(np.float32), 32: np.dtype(np.int32)}
_NO_BLANK = 2**32  # no integer of 32 bits
_BLOCK_PIXELS = 2**18
"""Pixels decoded at once: what fits into a cache."""


@functools.cache
def _random_sequence(n: int) -> npt.NDArray[np.float32]:
    """Return the random numbers for dithering (FITS standard 4.0, appendix
    I: the generator of Park and Miller).
    """
    numbers, seed = [], 1
    for _ in range(n):
        seed = 16807 * seed % (2**31 - 1)
        numbers.append(seed / (2**31 - 1))
    return np.array(numbers, dtype=np.float32)


def _setting(header: fits.Header, name: str, default: int) -> Any:
    for n in range(1, 10):
        if str(header.get(f"ZNAME{n}", "")).upper() == name:
            return header.get(f"ZVAL{n}")
    return default


def _gunzip(data: bytes, sizes: tuple[int, ...]) -> bytes:
    """Expand one tile, which must be of one of the sizes."""
    stream = zlib.decompressobj(wbits=31)
    result = stream.decompress(data, max(sizes) + 1)
    if not stream.eof or len(result) not in sizes:
        raise ValueError(f"a tile expands to {len(result)} bytes instead of {max(sizes)}")
    return result


def _unshuffle(data: npt.NDArray[np.uint8], kind: str) -> npt.NDArray[Any]:
    """Put the bytes of numbers together again.

    Parameters
    ----------
    data
        (n, width, n_pixels) first bytes of all numbers of a tile, second
        bytes, and so on, from the most significant one.
    kind
        Kind of the numbers, as in `numpy.dtype.kind`.

    Returns
    -------
    pixels
        (n * n_pixels,) numbers of ``width`` bytes in native byte order.
    """
    n, width, n_pixels = data.shape
    result = np.empty((n, n_pixels, width), dtype=np.uint8)
    for at in range(width):
        result[..., at if sys.byteorder == "big" else width - 1 - at] = data[:, at]
    return result.view(f"={kind}{width}").ravel()


@dataclasses.dataclass(frozen=True, eq=False)
class TileTable:
    """The table whose rows are the compressed tiles of a plane.

    Attributes
    ----------
    header
        Header of the HDU.
    file, start
        The open file, and where the data of the HDU begin.
    shape
        Height and width of the plane.
    tile_shape
        Height and width of a tile, by the header.
    where
        Origin, for messages.
    """

    header: fits.Header
    file: Any
    start: int
    shape: tuple[int, int]
    tile_shape: tuple[int, int]
    where: str

    @functools.cached_property
    def _layout(self) -> TableLayout:
        return parse_layout(header_cards(self.header), self.where)

    @functools.cached_property
    def _columns(self) -> dict[str, Column]:
        return {column.name: column for column in self._layout.columns}

    @functools.cached_property
    def _rows(self) -> npt.NDArray[np.uint8]:
        layout = self._layout
        self.file.seek(self.start)
        data = self.file.read(layout.n_rows * layout.row_bytes)
        return np.frombuffer(data, dtype=np.uint8).reshape(layout.n_rows, layout.row_bytes)

    def _values(self, name: str, dtype: str, row: slice = slice(None)) -> npt.NDArray[Any]:
        column = self._columns[name]
        return self._rows[row, column.offset : column.offset + column.width].copy().view(dtype)

    def _descriptors(self, name: str) -> npt.NDArray[np.int64]:
        """Return (N, 2) numbers of items and offsets in the heap."""
        dtype = ">i8" if self._columns[name].variable == "Q" else ">i4"
        return self._values(name, dtype).astype(np.int64)

    def check(self, tile_bytes: int) -> None:
        """Check that no tile is much longer than its pixels, which GZIP could
        expand without end.

        Parameters
        ----------
        tile_bytes
            Bytes of the pixels of one tile.

        Raises
        ------
        FitsFormatError
            If one is.
        """
        for name, column in self._columns.items():
            if column.variable:
                longest = int(self._descriptors(name)[:, 0].max(initial=0)) * column.item_size
                if longest > 2 * tile_bytes + 1024:
                    raise FitsFormatError(
                        f"{self.where}: a tile of {tile_bytes} bytes of pixels is compressed to "
                        f"{longest} bytes"
                    )

    @functools.cached_property
    def is_fast(self) -> bool:
        """Whether `blocks` knows this kind of tiles: whole rows of 32-bit
        numbers, compressed by Rice's method or GZIP.
        """
        header, columns = self.header, dict(self._columns)
        data = [columns.pop(name, None) for name in ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA")]
        quantized = set(columns) == {"ZSCALE", "ZZERO"}
        return (
            header.get("ZBITPIX") in _TARGETS
            and self.tile_shape[1] == self.shape[1]
            and data[0] is not None
            and all(c.variable and c.code == "B" for c in data if c is not None)
            and all(c.code == "D" and c.count == 1 and not c.variable for c in columns.values())
            and (self._is_quantized_well if quantized else not columns and data[1] is None)
            and header.get("ZCMPTYPE") in ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2")
            and (not self._is_rice or self._is_plain_rice(quantized))
            and not self._is_scaled
        )

    @functools.cached_property
    def _is_rice(self) -> bool:
        return str(self.header.get("ZCMPTYPE")).startswith("RICE")

    @property
    def _is_quantized_well(self) -> bool:
        return self.header["ZBITPIX"] < 0 and self.header.get("ZQUANTIZ", "NO_DITHER") in _DITHERING

    def _is_plain_rice(self, quantized: bool) -> bool:
        is_integer = quantized or self.header["ZBITPIX"] > 0
        block = _setting(self.header, "BLOCKSIZE", 32)
        return is_integer and block in (16, 32) and _setting(self.header, "BYTEPIX", 4) == 4

    @property
    def _is_scaled(self) -> bool:
        header, blank = self.header, self.header.get("ZBLANK", 0)
        return (
            header.get("BZERO", 0) != 0
            or header.get("BSCALE", 1) != 1
            or "BLANK" in header
            or ("ZBLANK" in header and header["ZBITPIX"] > 0)
            or isinstance(blank, bool)
            or not isinstance(blank, int)
        )

    def fallback_rows(self) -> npt.NDArray[np.int64]:
        """Return the numbers of the tiles of a quantized plane that couldn't
        be quantized.
        """
        if "COMPRESSED_DATA" not in self._columns or "ZSCALE" not in self._columns:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self._descriptors("COMPRESSED_DATA")[:, 0] == 0)

    def check_rare(self, first_row: int, last_row: int) -> None:
        """Check tiles that astropy will expand.

        Parameters
        ----------
        first_row, last_row
            Rows that are needed, from the first up to before the last.

        Raises
        ------
        ValueError
            If the sizes they tell are wrong.
        """
        kind = str(self.header.get("ZCMPTYPE"))
        settings = _setting(self.header, "BLOCKSIZE", 32), _setting(self.header, "BYTEPIX", 4)
        if self._is_rice and not is_valid_rice(*settings):
            raise ValueError(f"blocks of {settings[0]} pixels of {settings[1]} bytes aren't known")
        (height, width), (tile_height, tile_width) = self.shape, self.tile_shape
        n_across = -(-width // tile_width)
        rows = slice(first_row // tile_height * n_across, -(-last_row // tile_height) * n_across)
        for name, how in (("COMPRESSED_DATA", kind), ("GZIP_COMPRESSED_DATA", "GZIP_1")):
            column = self._columns.get(name)
            if column is None or not column.variable:
                continue
            descriptors = self._descriptors(name)[rows]
            descriptors[:, 0] *= column.item_size
            tiles = self._heap(descriptors)
            for number, data in enumerate(tiles, rows.start):
                y, x = divmod(number, n_across)
                shape = min(tile_height, height - y * tile_height), min(tile_width, width - x * tile_width)
                if data:
                    check_stream(how, data, shape)

    def _heap(self, descriptors: npt.NDArray[np.int64]) -> list[bytes]:
        """Read the items of some descriptors."""
        data, starts = self._read_heap(descriptors)
        return [data[at : at + n] for n, at in zip(descriptors[:, 0].tolist(), starts.tolist(), strict=True)]

    def _read_heap(self, descriptors: npt.NDArray[np.int64]) -> tuple[bytes, npt.NDArray[np.int64]]:
        """Read the items of some descriptors; return where they start, too."""
        used = descriptors[descriptors[:, 0] > 0]
        if not len(used):
            return b"", np.zeros(len(descriptors), dtype=np.int64)
        limit = self._layout.heap_bytes
        if (descriptors[:, 0] < 0).any() or (used < 0).any() or (used > limit).any():
            raise ValueError("a tile is outside of the data")
        first, last = int(used[:, 1].min()), int(used.sum(axis=1).max())
        if last > limit:
            raise ValueError("a tile is outside of the data")
        origin = self.start + self._layout.heap_offset
        if last - first <= 2 * int(used[:, 0].sum()) + 4096:
            self.file.seek(origin + first)
            return self.file.read(last - first), np.maximum(descriptors[:, 1] - first, 0)
        items = []
        for n, at in descriptors.tolist():
            self.file.seek(origin + at)
            items.append(self.file.read(n) if n else b"")
        return b"".join(items), np.cumsum(descriptors[:, 0]) - descriptors[:, 0]

    def blocks(self, first_row: int, last_row: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Decode rows of a plane whose tiles are of a known kind.

        Parameters
        ----------
        first_row, last_row
            Rows that are needed, from the first up to before the last.

        Yields
        ------
        row : `int`
            Number of the first row of a block.
        pixels : `numpy.ndarray`
            (n, width) array of float32 or int32, all rows of some tiles.
        """
        height = self.tile_shape[0]
        first, last = first_row // height, -(-last_row // height)
        step = max(1, _BLOCK_PIXELS // (height * self.shape[1]))
        for start in range(first, last, step):
            tiles = slice(start, min(start + step, last))
            yield start * height, self._decode(tiles)

    def _decode(self, tiles: slice) -> npt.NDArray[Any]:
        height, width = self.tile_shape[0], self.shape[1]
        # The last tile may be lower than the others.
        sizes = [width * min(height, self.shape[0] - n * height) for n in range(tiles.start, tiles.stop)]
        if "ZSCALE" in self._columns:
            return self._decode_quantized(tiles, sizes).reshape(-1, width)
        data = self._heap(self._descriptors("COMPRESSED_DATA")[tiles])
        if self._is_rice:
            if not all(data):
                raise ValueError("a tile is empty")
            pixels = np.frombuffer(b"".join(self._expand_rice(data, sizes)), dtype=np.int32)
        else:
            pixels = self._expand_gzip(data, sizes, _TARGETS[self.header["ZBITPIX"]])
        return pixels.reshape(sum(sizes) // width, width)

    def _expand_rice(self, data: list[bytes], sizes: list[int]) -> list[bytes]:
        from astropy.io.fits.hdu.compressed import _compression

        block = _setting(self.header, "BLOCKSIZE", 32)
        decode = _compression.decompress_rice_1_c
        return [decode(item, block, 4, size)[: 4 * size] for item, size in zip(data, sizes, strict=True)]

    def _expand_gzip(self, data: list[bytes], sizes: list[int], target: np.dtype[Any]) -> npt.NDArray[Any]:
        """Expand losslessly compressed numbers, of 32 bits or fewer."""
        widths = (4,) if target.kind == "f" else (1, 2, 4)
        shuffled = self.header["ZCMPTYPE"] == "GZIP_2"
        items = [
            _gunzip(item, tuple(n * size for n in widths)) if item else b""
            for item, size in zip(data, sizes, strict=True)
        ]
        parts = []
        for run, width in self._runs(items, sizes):
            joined = np.frombuffer(b"".join(items[run]), dtype=np.uint8)
            if shuffled and width > 1:
                pixels = _unshuffle(joined.reshape(-1, width, sizes[run.start]), target.kind)
            else:
                pixels = joined.view(f">{target.kind}{width}" if width > 1 else "u1")
            parts.append(pixels.astype(target, copy=False))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    @staticmethod
    def _runs(items: list[bytes], sizes: list[int]) -> Iterator[tuple[slice, int]]:
        """Group tiles of equal size and type."""
        keys = [(size, len(item)) for size, item in zip(sizes, items, strict=True)]
        start = 0
        for stop in range(1, len(keys) + 1):
            if stop == len(keys) or keys[stop] != keys[start]:
                size, n_bytes = keys[start]
                if not n_bytes:
                    raise ValueError("a tile is empty")
                yield slice(start, stop), n_bytes // size
                start = stop

    def _decode_quantized(self, tiles: slice, sizes: list[int]) -> npt.NDArray[np.float32]:
        descriptors = self._descriptors("COMPRESSED_DATA")[tiles]
        if self._is_rice:
            pixels = self._expand_quantized(descriptors, sizes, tiles)
        else:
            integers = [
                self._expand_gzip([item], [size], _TARGETS[32]).tobytes() if item else b""
                for item, size in zip(self._heap(descriptors), sizes, strict=True)
            ]
            pixels = self._unquantize(integers, sizes, tiles)
        empty = descriptors[:, 0] == 0
        if empty.any():
            self._fill_fallback(pixels, empty.tolist(), sizes, tiles)
        return pixels

    def _expand_quantized(
        self, descriptors: npt.NDArray[np.int64], sizes: list[int], tiles: slice
    ) -> npt.NDArray[np.float32]:
        """Expand tiles of Rice's method, and scale them."""
        from . import _rice_numba

        data, starts = self._read_heap(descriptors)
        lengths = descriptors[:, 0]
        spans = np.stack([starts, lengths, sizes], axis=1)
        # Where a tile without bytes would be means nothing.
        if (starts + lengths > len(data))[lengths > 0].any():
            raise ValueError("the file ends within a tile")
        pixels = np.zeros(sum(sizes), dtype=np.float32)
        block, method, seed, blank = self._quantization
        bad = _rice_numba.decode_tiles(
            np.frombuffer(data + bytes(_rice_numba.PADDING), dtype=np.uint8),
            spans,
            block,
            self._values("ZSCALE", ">f8", tiles)[:, 0].astype(np.float64),
            self._values("ZZERO", ">f8", tiles)[:, 0].astype(np.float64),
            method,
            seed + tiles.start,
            _random_sequence(_rice_numba.N_RANDOM),
            blank,
            np.empty(max(sizes), dtype=np.int32),
            pixels,
        )
        if bad >= 0:
            raise ValueError(f"tile {tiles.start + bad} ends early")
        return pixels

    @functools.cached_property
    def _quantization(self) -> tuple[int, int, int, int]:
        """Length of blocks, method of dithering, seed, blank value."""
        header = self.header
        method = _DITHERING[header.get("ZQUANTIZ", "NO_DITHER")]
        seed = 1 if method == -1 else self._seed()
        return int(_setting(header, "BLOCKSIZE", 32)), method, seed, header.get("ZBLANK", _NO_BLANK)

    def _seed(self) -> int:
        seed = self.header.get("ZDITHER0", 1)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 1 <= seed <= 10_000:
            raise ValueError(f"ZDITHER0 = {seed!r} isn't an integer from 1 to 10000")
        return seed

    def _unquantize(self, integers: list[bytes], sizes: list[int], tiles: slice) -> npt.NDArray[np.float32]:
        """Convert integers to the numbers they stand for."""
        from astropy.io.fits.hdu.compressed import _compression

        convert = _compression.unquantize_float_c
        scales = self._values("ZSCALE", ">f8", tiles)[:, 0]
        zeros = self._values("ZZERO", ">f8", tiles)[:, 0]
        _, method, seed, blank = self._quantization
        # Tiles that aren't quantized are filled in later.
        items = [item or bytes(4 * size) for item, size in zip(integers, sizes, strict=True)]
        stored = np.frombuffer(b"".join(items), dtype=np.int32)
        if method == -1:
            result = (stored * np.repeat(scales, sizes) + np.repeat(zeros, sizes)).astype(np.float32)
        else:
            numbers = zip(items, sizes, scales.tolist(), zeros.tolist(), strict=True)
            values = [
                convert(item, n, size, scale, zero, method, 0, 0, 0.0, 4)
                for n, (item, size, scale, zero) in enumerate(numbers, seed + tiles.start)
            ]
            result = np.frombuffer(bytearray().join(values), dtype=np.float32)
        if blank != _NO_BLANK:
            np.copyto(result, np.nan, where=stored == blank)
        return result

    def _fill_fallback(
        self, pixels: npt.NDArray[np.float32], wanted: list[bool], sizes: list[int], tiles: slice
    ) -> None:
        """Fill in the tiles that couldn't be quantized."""
        if "GZIP_COMPRESSED_DATA" not in self._columns:
            raise ValueError("a tile is empty")
        data = self._heap(self._descriptors("GZIP_COMPRESSED_DATA")[tiles])
        end = 0
        for compressed, is_wanted, size in zip(data, wanted, sizes, strict=True):
            end += size
            if is_wanted:
                part = pixels[end - size : end]
                part[:] = np.frombuffer(_gunzip(compressed, (4 * size,)), dtype=">f4")
                replace_nulls(part)
