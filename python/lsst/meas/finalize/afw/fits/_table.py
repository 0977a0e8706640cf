# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Binary tables of FITS files written by ``lsst.afw.table``: reading.

All sizes are checked against the file before anything is allocated.
"""

from __future__ import annotations

__all__ = (
    "FitsTable",
    "TableView",
    "data_stream",
    "hdu_label",
    "raw_data",
    "raw_header",
    "read_header",
    "read_table",
    "table_cards",
)

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from .._errors import FitsFormatError
from ._layout import Column, FlagBit, TableLayout, parse_layout
from ._open import FitsFile
from ._read_cards import blank_stray_continues, read_cards

_LOG = logging.getLogger(__name__)

_DTYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_MAX_HEADER = 2**16
_BLOCK = 2880


def hdu_label(file: fits.HDUList | FitsFile, number: int) -> str:
    """Name a HDU for messages.

    Parameters
    ----------
    file : `astropy.io.fits.HDUList` or `FitsFile`
        Open file.
    number : `int`
        0-based number of the HDU.

    Returns
    -------
    label : `str`
        File name and HDU number.
    """
    name = file.filename()
    # Astropy names file-like objects by their class.
    return f"{'<memory>' if name is None or str(name).startswith('<class') else name}[HDU {number}]"


def raw_file(hdulist: fits.HDUList, number: int) -> tuple[Any, dict[str, Any], str]:
    """Return the file, what astropy knows of a HDU in it, and its name."""
    where = hdu_label(hdulist, number)
    try:
        if number < 0:
            raise IndexError(number)
        # The list's own fileinfo() would parse all the HDUs there are.
        info = hdulist[number].fileinfo()
    except IndexError:
        raise FitsFormatError(f"{where}: the file has only {len(hdulist)} HDUs") from None
    except Exception as error:
        # Astropy raises OSError, VerifyError, ValueError... on bad headers.
        raise FitsFormatError(f"{where}: unreadable HDU: {error}") from error
    if not info or info.get("file") is None or info.get("datLoc") is None:
        raise FitsFormatError(f"{where}: the HDU is not backed by a file")
    return info["file"], info, where


def data_stream(file: fits.HDUList | FitsFile, number: int) -> tuple[Any, int, int]:
    """Find the data of a HDU.

    Parameters
    ----------
    file : `astropy.io.fits.HDUList` or `FitsFile`
        Open file.
    number : `int`
        0-based number of the HDU.

    Returns
    -------
    stream : `typing.BinaryIO`
        The open file.
    start : `int`
        Where the data begin.
    available : `int`
        Bytes from there to the end of the file.

    Raises
    ------
    FitsFormatError
        Raised if there is no such HDU or it can't be parsed.
    """
    if isinstance(file, FitsFile):
        _check_number(file, number)
        stream, start = file.data_stream(number)
    else:
        stream, info, _ = raw_file(file, number)
        start = info["datLoc"]
    stream.seek(0, 2)
    return stream, start, max(stream.tell() - start, 0)


def _check_number(file: FitsFile, number: int) -> None:
    if not 0 <= number < len(file):
        reason = f" ({file.problem})" if file.problem else ""
        raise FitsFormatError(f"{hdu_label(file, number)}: the file has only {len(file)} HDUs{reason}")


def read_header(hdulist: fits.HDUList | FitsFile, number: int) -> fits.Header:
    """Read the header of one HDU, keeping the cards in file order.

    Parameters
    ----------
    hdulist : `astropy.io.fits.HDUList` or `FitsFile`
        Open file.
    number : `int`
        0-based number of the HDU.

    Returns
    -------
    header : `astropy.io.fits.Header`
        Cards as they are in the file, but for stray CONTINUE cards.

    Raises
    ------
    FitsFormatError
        Raised if there is no such HDU or it can't be parsed.
    """
    raw, where = raw_header(hdulist, number)
    try:
        return fits.Header.fromstring(blank_stray_continues(raw))
    except Exception as error:
        # Astropy lets several exception classes out of its parser.
        raise FitsFormatError(f"{where}: unreadable header: {error}") from error


def raw_header(file: fits.HDUList | FitsFile, number: int) -> tuple[bytes, str]:
    """Return the cards of a HDU and its name for messages."""
    if isinstance(file, FitsFile):
        _check_number(file, number)
        return file.read_header(number), hdu_label(file, number)
    stream, info, where = raw_file(file, number)
    if stream.closed:
        raise FitsFormatError(f"{where}: the file was closed before this was read")
    stream.seek(info["hdrLoc"])
    return bytes(stream.read(info["datLoc"] - info["hdrLoc"])), where


def raw_data(file: fits.HDUList | FitsFile, number: int, n_bytes: int) -> bytes | memoryview:
    """Return the data of a HDU, less if the file hasn't so much."""
    if isinstance(file, FitsFile):
        return file.read_data(number, n_bytes)
    stream, start, available = data_stream(file, number)
    stream.seek(start)
    return bytes(stream.read(min(n_bytes, available)))


class FitsTable:
    """The rows of a binary table, decoded column by column when asked for.

    Parameters
    ----------
    layout : `TableLayout`
        Columns, flags and sizes.
    data : `bytes`
        Data of the HDU: rows, gap and heap.
    where : `str`
        Name of file and HDU for messages.
    cards : sequence of (`str`, value, `str`), optional
        Header of the HDU, see `read_cards`.
    error : `type`, optional
        Exception class to raise.
    """

    def __init__(
        self,
        layout: TableLayout,
        data: bytes | memoryview,
        where: str,
        cards: Sequence[tuple[str, Any, str]] = (),
        error: type[FitsFormatError] = FitsFormatError,
    ):
        self.layout = layout
        self.where = where
        self.cards = cards
        self.header = {keyword: value for keyword, value, _ in self.cards}
        self.error = error
        buffer = np.frombuffer(data, dtype=np.uint8)
        n_bytes = layout.n_rows * layout.row_bytes
        self._rows = buffer[:n_bytes].reshape(layout.n_rows, layout.row_bytes)
        self._heap = buffer[layout.heap_offset : layout.heap_offset + layout.heap_bytes]
        self._items = {item.name: item for item in layout.items}
        self._cache: dict[str, npt.NDArray[Any]] = {}
        self._checked: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return self.layout.n_rows

    def __contains__(self, name: object) -> bool:
        return name in self._items

    @property
    def names(self) -> tuple[str, ...]:
        """Names of columns and flags in header order."""
        return tuple(self._items)

    def item(self, name: str) -> Column | FlagBit:
        """Return the description of a column or flag.

        Parameters
        ----------
        name : `str`
            Name of the column or flag.

        Returns
        -------
        item : `Column` | `FlagBit`
            Its description.

        Raises
        ------
        FitsFormatError
            Raised if there is no such column.
        """
        try:
            return self._items[name]
        except KeyError:
            raise self.error(f"{self.where}: no column {name!r} (columns: {', '.join(self.names)})") from None

    def column(self, name: str) -> npt.NDArray[Any]:
        """Decode a column or flag.

        Parameters
        ----------
        name : `str`
            Name of the column or flag.

        Returns
        -------
        values : `numpy.ndarray`
            Native-endian array with one entry per row: (N,) for scalars,
            (N, count) for fixed arrays, ``bool`` for flags, str for strings,
            and an object array of 1-d arrays (or str) for columns of variable
            length.  Not to be modified.

        Raises
        ------
        FitsFormatError
            Raised if there is no such column or its contents are invalid.
        """
        if name not in self._cache:
            item = self.item(name)
            if isinstance(item, FlagBit):
                values = self._flag(item)
            elif item.variable:
                values = self._variable(item)
            else:
                values = self._fixed(item)
            values.flags.writeable = False
            self._cache[name] = values
        return self._cache[name]

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Decode some rows of a column or flag.

        Parameters
        ----------
        name : `str`
            Name of the column or flag.
        start, stop : `int`
            Range of rows.

        Returns
        -------
        values : `numpy.ndarray`
            See `column`.

        Raises
        ------
        FitsFormatError
            Raised if there is no such column or its contents are invalid.
        """
        item = self.item(name)
        if isinstance(item, FlagBit) or not item.variable or name in self._cache:
            return self.column(name)[start:stop]
        # The others may be large, and each is somebody's own.
        return self._variable(item, slice(start, stop))

    def ragged(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Decode a column of variable length into one flat array.

        Parameters
        ----------
        name : `str`
            Name of the column.

        Returns
        -------
        values : `numpy.ndarray`
            All elements, row after row, native-endian.
        counts : `numpy.ndarray` of int64
            Number of elements of each row.

        Raises
        ------
        FitsFormatError
            Raised if there is no such column, it has fixed length, or its
            descriptors point outside of the heap.
        """
        item = self.item(name)
        if isinstance(item, FlagBit) or not item.variable:
            raise self.error(f"{self.where}: column {name!r} is not of variable length")
        counts, offsets = self._descriptors(item)
        size = item.item_size
        total = int(counts.sum())
        first = np.cumsum(counts) - counts
        used = counts > 0
        ends = np.where(used, offsets + counts * size, 0)
        if total and np.array_equal(offsets[used], offsets[used][0] + first[used] * size):
            raw = self._heap[offsets[used][0] : int(ends.max())]
        else:
            starts = np.repeat(offsets - first * size, counts) + np.arange(total) * size
            raw = self._heap[(starts[:, np.newaxis] + np.arange(size)).ravel()]
        return self._convert(item, raw), counts

    def _raw(self, column: Column) -> npt.NDArray[np.uint8]:
        return self._rows[:, column.offset : column.offset + column.width].copy()

    def _convert(self, column: Column, raw: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        if column.code == "A":
            return raw
        if column.code == "B":
            # Pickles of PSFs are most of an archive: they aren't copied.
            return raw.reshape(-1)
        if column.code not in _DTYPES:
            raise self.error(f"{self.where}: column {column.name!r} has the unsupported type {column.code!r}")
        values = np.frombuffer(raw.tobytes(), dtype=_DTYPES[column.code])
        if column.unsigned:
            return (values.astype(np.int32) + 32768).astype(np.uint16)
        return values.astype(values.dtype.newbyteorder("="))

    def _fixed(self, column: Column) -> npt.NDArray[Any]:
        raw = self._raw(column)
        n_rows = len(self)
        if column.code == "A":
            if column.count == 0 or n_rows == 0:
                return np.zeros(n_rows, dtype=f"U{max(column.count, 1)}")
            return self._text(column, raw)
        if column.code == "X":
            return np.unpackbits(raw, axis=1)[:, : column.count].astype(bool)
        if column.code == "L":
            return (raw == ord("T")).reshape((n_rows, column.count) if column.count != 1 else (n_rows,))
        values = self._convert(column, raw)
        if column.count == 1 and column.kind != "Array":
            return values
        return values.reshape(n_rows, column.count)

    def _text(self, column: Column, raw: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Decode texts of fixed length, without trailing blanks."""
        if ((raw[:, :-1] == 0) & (raw[:, 1:] != 0)).any():
            # A NUL ends the string, whatever follows.
            raw[np.logical_or.accumulate(raw == 0, axis=1)] = 0
        if raw.max() > 127:
            return self._decode(column, raw.view(f"S{column.count}").reshape(len(raw)))
        ends_blank = (raw[:, -1] == 32).any() or ((raw[:, :-1] == 32) & (raw[:, 1:] == 0)).any()
        decoded = raw.astype(np.uint32).view(f"U{column.count}").reshape(len(raw))
        return np.strings.rstrip(decoded, " ") if ends_blank else decoded

    def _decode(self, column: Column, values: npt.NDArray[np.bytes_]) -> npt.NDArray[Any]:
        try:
            decoded = np.strings.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{self.where}: column {column.name!r} has undecodable text: {error}") from None
        return np.strings.rstrip(decoded, " ")

    def _flag(self, flag: FlagBit) -> npt.NDArray[np.bool_]:
        column = self.layout.flag_column
        if column is None:
            raise self.error(f"{self.where}: flag {flag.name!r} without a column of flags")
        byte = self._rows[:, column.offset + flag.bit // 8]
        return (byte >> (7 - flag.bit % 8) & 1).astype(bool)

    def _descriptors(self, column: Column) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        dtype = ">i8" if column.variable == "Q" else ">i4"
        pairs = np.frombuffer(self._raw(column).tobytes(), dtype=dtype).astype(np.int64).reshape(-1, 2)
        counts, offsets = pairs[:, 0], pairs[:, 1]
        n_heap = len(self._heap)
        limit = n_heap // column.item_size
        bad = (counts < 0) | (counts > limit)
        bad |= (counts > 0) & (
            (offsets < 0) | (offsets > n_heap - np.clip(counts, 0, limit) * column.item_size)
        )
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise self.error(
                f"{self.where}: row {row} of column {column.name!r} points to {counts[row]} elements "
                f"at byte {offsets[row]} of a heap of {n_heap} bytes"
            )
        if int(counts.sum()) > limit:
            raise self.error(f"{self.where}: rows of column {column.name!r} overlap in the heap")
        return counts, offsets

    def _variable(self, column: Column, rows: slice = slice(None)) -> npt.NDArray[Any]:
        if column.name not in self._checked:
            self._checked[column.name] = self._descriptors(column)
        counts, offsets = (values[rows] for values in self._checked[column.name])
        values = np.empty(len(counts), dtype=object)
        # Rows of different length can't be one array.
        for row, (count, offset) in enumerate(zip(counts.tolist(), offsets.tolist(), strict=True)):
            raw = self._heap[offset : offset + count * column.item_size] if count else self._heap[:0]
            if column.code == "A":
                try:
                    values[row] = raw.tobytes().split(b"\0", 1)[0].decode("utf-8").rstrip(" ")
                except UnicodeDecodeError as error:
                    raise self.error(
                        f"{self.where}: row {row} of column {column.name!r} has undecodable text: {error}"
                    ) from None
            else:
                values[row] = self._convert(column, raw)
        return values


class TableView:
    """Consecutive rows of a `FitsTable`.

    Parameters
    ----------
    table : `FitsTable`
        The table.
    start : `int`, optional
        First row.
    count : `int`, optional
        Number of rows; all up to the end by default.
    """

    def __init__(self, table: FitsTable, start: int = 0, count: int | None = None):
        self.table = table
        self.start = start
        self.stop = len(table) if count is None else start + count
        if not 0 <= self.start <= self.stop <= len(table):
            raise table.error(
                f"{table.where}: rows {self.start} to {self.stop - 1} are outside of the "
                f"{len(table)} rows there are"
            )

    def __len__(self) -> int:
        return self.stop - self.start

    def __contains__(self, name: object) -> bool:
        return name in self.table

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.table.rows(name, self.start, self.stop)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of columns and flags in header order."""
        return self.table.names

    @property
    def where(self) -> str:
        """File and HDU for messages."""
        return self.table.where

    def get(self, name: str, default: Any = None) -> Any:
        """Return a column that may be missing.

        Parameters
        ----------
        name : `str`
            Name of the column or flag.
        default : `object`, optional
            Value to return if there is no such column.

        Returns
        -------
        values : `numpy.ndarray` or `object`
            The column, or ``default``.
        """
        # ``in`` looks for columns; this isn't a dict.
        return self[name] if name in self.table else default


class _ParsedHeader:
    """Cards of a header and, once asked for, the layout of its table."""

    def __init__(self, raw: bytes) -> None:
        self.cards: Sequence[tuple[str, Any, str]] = tuple(read_cards(raw))
        self._layout: TableLayout | None = None

    def layout(self, where: str) -> TableLayout:
        if self._layout is None:
            self._layout = parse_layout(self.cards, where)
        return self._layout


_kept_header = lru_cache(maxsize=256)(_ParsedHeader)


def _parse_header(raw: bytes) -> _ParsedHeader:
    """Parse a header; those of a visit's files are the same."""
    # Wide headers are few, and aren't worth the memory.
    return _kept_header(raw) if len(raw) <= _MAX_HEADER else _ParsedHeader(raw)


def table_cards(raw: bytes) -> Sequence[tuple[str, Any, str]]:
    """List the cards of a header, which may be parsed already.

    Parameters
    ----------
    raw : `bytes`
        Cards of a header, 80 bytes each.

    Returns
    -------
    cards : sequence of (`str`, value, `str`)
        See `read_cards`.
    """
    return _parse_header(raw).cards


def read_table(
    file: fits.HDUList | FitsFile, number: int, error: type[FitsFormatError] = FitsFormatError
) -> FitsTable:
    """Read a binary table.

    Parameters
    ----------
    file : `astropy.io.fits.HDUList` or `FitsFile`
        Open file.
    number : `int`
        0-based number of the HDU.
    error : `type`, optional
        Exception class for problems with columns found later.

    Returns
    -------
    table : `FitsTable`
        The table, independent of the open file.

    Raises
    ------
    FitsFormatError
        Raised if the HDU is missing or invalid, or larger than the file.
    """
    raw, where = raw_header(file, number)
    header = _parse_header(raw)
    layout = header.layout(where)
    padded = raw_data(file, number, -(-layout.data_bytes // _BLOCK) * _BLOCK)
    data = padded[: layout.data_bytes]
    if any(padded[layout.data_bytes :]):
        _LOG.warning(
            "%s: there is data behind the %d bytes announced by NAXIS1, NAXIS2 and PCOUNT", where, len(data)
        )
    if len(data) != layout.data_bytes:
        raise FitsFormatError(
            f"{where}: the header announces {layout.data_bytes} bytes of data "
            f"({layout.n_rows} rows of {layout.row_bytes}), but the file has only {len(data)} more"
        )
    return FitsTable(layout, data, where, header.cards, error)
