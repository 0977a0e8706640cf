# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Opening FITS files safely, and errors that name the file."""

from __future__ import annotations

__all__ = (
    "NATIVE",
    "FitsFile",
    "FitsSource",
    "check_structure",
    "is_native",
    "open_fits",
    "open_fits_in_memory",
    "open_stream",
)

import contextlib
import dataclasses
import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Container, Iterator
from typing import Any, BinaryIO

from .._errors import FitsFormatError
from ._read_cards import blank_stray_continues

_BLOCK = 2880
_END = b"END".ljust(80)
_SIZE_KEY = re.compile(rb"(BITPIX|NAXIS\d{0,3}|PCOUNT|GCOUNT) *=(.*)")
_SIZE_LETTERS = b"BNPGE"
"""First ones of these keywords and of END."""
_INTEGER = re.compile(rb" *(-?\d{1,18}) *(/.*)?")
_GZIP = b"\x1f\x8b"
_MAX_EXPANDED = 2**33
"""Bytes that a compressed file may have, so that it can't fill the memory."""

type FitsSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path, the contents of a file, or an open binary file."""


@dataclasses.dataclass(frozen=True)
class _Extent:
    """Where a HDU is in its file; bytes of data are without padding."""

    header: int
    data: int
    n_bytes: int


class FitsFile:
    """A FITS file whose HDUs have been found.

    Parameters
    ----------
    stream : `typing.BinaryIO`
        The file; must stay open as long as HDUs are read.
    name : `str`
        Its name for messages.
    complete : `bool`, optional
        Whether to refuse a file that ends early or goes on with something
        else; ``problem`` has the reason otherwise.

    Raises
    ------
    FitsFormatError
        Raised if it is no FITS file, is truncated, or has impossible sizes.
    """

    def __init__(self, stream: BinaryIO, name: str, complete: bool = True) -> None:
        self._stream = stream
        self._contents: bytes | None = None
        self._name = name
        self._extents, self.problem = _find_hdus(stream, name)
        if self.problem and (complete or not self._extents):
            raise FitsFormatError(self.problem)

    @classmethod
    def from_bytes(cls, contents: bytes, name: str) -> FitsFile:
        """Take the contents of a file, whose parts aren't copied again.

        Parameters
        ----------
        contents : `bytes`
            The file.
        name : `str`
            Its name for messages.

        Returns
        -------
        file : `FitsFile`
            The file.

        Raises
        ------
        FitsFormatError
            As the constructor.
        """
        result = cls(io.BytesIO(contents), name)
        result._contents = contents
        return result

    def __getstate__(self) -> dict[str, Any]:
        # The contents are enough.
        return self.__dict__ if self._contents is None else {**self.__dict__, "_stream": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._contents is not None:
            self._stream = io.BytesIO(self._contents)

    def __len__(self) -> int:
        return len(self._extents)

    def filename(self) -> str:
        """Return the name for messages."""
        return self._name

    def read_header(self, number: int) -> bytes:
        """Return the cards of a HDU as they are in the file.

        Parameters
        ----------
        number : `int`
            0-based number of the HDU.
        """
        extent = self._extents[number]
        return bytes(self._read(extent.header, extent.data - extent.header))

    def data_stream(self, number: int) -> tuple[BinaryIO, int]:
        """Return the open file, and where the data of a HDU begin.

        Parameters
        ----------
        number : `int`
            0-based number of the HDU.
        """
        return self._stream, self._extents[number].data

    def read_data(self, number: int, n_bytes: int) -> bytes | memoryview:
        """Return the first bytes of a HDU's data, with its padding.

        Parameters
        ----------
        number : `int`
            0-based number of the HDU.
        n_bytes : `int`
            Number of bytes; the file may have fewer.
        """
        return self._read(self._extents[number].data, n_bytes)

    def _read(self, position: int, n_bytes: int) -> bytes | memoryview:
        if self._contents is not None:
            return memoryview(self._contents)[position : position + n_bytes]
        self._stream.seek(position)
        return self._stream.read(n_bytes)


@contextlib.contextmanager
def _translate(path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, FitsFormatError):
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise FitsFormatError(f"{path}: not a readable FITS file: {error}") from error


def _read_sizes(stream: BinaryIO, where: str) -> dict[str, int] | None:
    """Read a header's size cards; `None` at the end of the file."""
    sizes: dict[str, int] = {}
    first = True
    while True:
        block = stream.read(_BLOCK)
        if first and not block.strip(b"\0 "):
            return None
        if len(block) < _BLOCK:
            raise FitsFormatError(f"{where}: the header has no end")
        for start, letter in zip(range(0, _BLOCK, 80), block[::80], strict=True):
            if letter not in _SIZE_LETTERS:
                continue
            card = block[start : start + 80]
            if card == _END:
                return sizes
            if not (match := _SIZE_KEY.fullmatch(card)):
                continue
            key = match[1].decode()
            value = _INTEGER.fullmatch(match[2])
            if key in sizes or value is None:
                raise FitsFormatError(f"{where}: invalid or repeated card {card.rstrip()!r}")
            sizes[key] = int(value[1])
        first = False


def _data_bytes(sizes: dict[str, int], where: str) -> int:
    """Return the size of a HDU's data."""
    n_axes = sizes.get("NAXIS", 0)
    if missing := [i for i in range(1, min(n_axes, 1000) + 1) if f"NAXIS{i}" not in sizes]:
        raise FitsFormatError(f"{where}: NAXIS is {n_axes}, but there is no NAXIS{missing[0]}")
    shape = [sizes[f"NAXIS{i}"] for i in range(1, n_axes + 1)]
    bits = sizes.get("BITPIX", 8)
    counts = sizes.get("PCOUNT", 0), sizes.get("GCOUNT", 1)
    if n_axes < 0 or min([*shape, *counts]) < 0 or bits not in (8, 16, 32, 64, -32, -64):
        raise FitsFormatError(f"{where}: impossible sizes {sizes}")
    return counts[1] * (counts[0] + (math.prod(shape) if shape else 0)) * abs(bits) // 8


def _card_text(sizes: dict[str, int]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in list(sizes.items())[:10])


def _find_hdus(stream: BinaryIO, name: str) -> tuple[list[_Extent], str]:
    """Return the HDUs up to the first problem, and that problem."""
    stream.seek(0, os.SEEK_END)
    size = stream.tell()
    stream.seek(0)
    if stream.read(6) != b"SIMPLE":
        raise FitsFormatError(f"{name}: not a FITS file (or a compressed one)")
    extents: list[_Extent] = []
    position = 0
    sizes: dict[str, int] | None = None
    while position < size:
        where = f"{name}[HDU {len(extents)}]"
        stream.seek(position)
        before = f", where the data of HDU {len(extents) - 1} ({_card_text(sizes)}) end" if sizes else ""
        try:
            sizes = _read_sizes(stream, where)
            if sizes is None:
                break
            n_bytes = _data_bytes(sizes, where)
        except FitsFormatError as error:
            # A wrong size sends us to what is no header.
            return extents, f"{error}{before}"
        start = stream.tell()
        extents.append(_Extent(position, start, n_bytes))
        if n_bytes > size - start:
            return extents, (
                f"{where}: the header announces {n_bytes} bytes of data ({_card_text(sizes)}), "
                f"but the file has only {size - start} more"
            )
        position = start + -(-n_bytes // _BLOCK) * _BLOCK
    return extents, ""


def check_structure(stream: BinaryIO, name: str) -> BinaryIO:
    """Check a FITS file before `astropy.io.fits` gets it.

    Negative sizes would send `astropy.io.fits` round in circles, and it glues
    CONTINUE cards that continue nothing to the card in front.

    Parameters
    ----------
    stream : `typing.BinaryIO`
        The file.
    name : `str`
        Its name for messages.

    Returns
    -------
    stream : `typing.BinaryIO`
        The file, at its start; in memory and without stray CONTINUE cards if
        there are any.

    Raises
    ------
    FitsFormatError
        Raised if it is no FITS file, is truncated, or has impossible sizes.
    """
    file = FitsFile(stream, name)
    strays: list[tuple[int, bytes]] = []
    for number, extent in enumerate(file._extents):
        raw = file.read_header(number)
        if (cleaned := blank_stray_continues(raw)) != raw:
            strays.append((extent.header, cleaned))
    stream.seek(0)
    if not strays:
        return stream
    contents = _NamedBytes(stream.read(), name)
    for position, cleaned in strays:
        contents.seek(position)
        contents.write(cleaned)
    contents.seek(0)
    return contents


class _NamedBytes(io.BytesIO):
    """File contents that know where they are from, for messages."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name


def _expand(stream: BinaryIO, name: str) -> BinaryIO:
    with gzip.open(stream) as compressed:
        data = compressed.read(_MAX_EXPANDED + 1)
    if len(data) > _MAX_EXPANDED:
        raise FitsFormatError(f"{name}: expands to more than {_MAX_EXPANDED} bytes")
    return _NamedBytes(data, name)


NATIVE = "this is a file of lsst.images; use lsst.images.VisitImage.read"
"""What to say of a file for which `is_native` is true."""


def is_native(primary: Container[str]) -> bool:
    """Return whether a file is one that lsst.images wrote.

    Parameters
    ----------
    primary
        Its primary header, or the keywords in it.
    """
    return "JSONADDR" in primary or "DATAMODL" in primary


@contextlib.contextmanager
def open_stream(source: FitsSource) -> Iterator[tuple[BinaryIO, str]]:
    """Open what may be a path, bytes or an open file, compressed or not.

    Parameters
    ----------
    source : `str`, `os.PathLike`, bytes-like or `typing.BinaryIO`
        FITS file, or one compressed by gzip.

    Yields
    ------
    stream : `typing.BinaryIO`
        The file at its start.
    name : `str`
        Its name for messages.

    Raises
    ------
    TypeError
        Raised if it is something else.
    """
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
    else:
        name = str(getattr(source, "name", "<memory>"))
    with _translate(name), contextlib.ExitStack() as stack:
        if isinstance(source, str | os.PathLike):
            stream: BinaryIO = stack.enter_context(open(source, "rb"))
        elif isinstance(source, bytes | bytearray | memoryview):
            stream = io.BytesIO(source)
        elif hasattr(source, "seek") and hasattr(source, "read"):
            stream = source
        else:
            raise TypeError(f"a {type(source).__name__} is no file name, nor bytes or an open file")
        stream.seek(0)
        compressed = stream.read(2) == _GZIP
        stream.seek(0)
        yield (_expand(stream, name) if compressed else stream), name


def open_fits_in_memory(source: FitsSource) -> FitsFile:
    """Load a FITS file, so that parts of it can be decoded much later.

    Parameters
    ----------
    source : `str`, `os.PathLike`, bytes-like or `typing.BinaryIO`
        The file.

    Returns
    -------
    file : `FitsFile`
        File contents, independent of the file.

    Raises
    ------
    FitsFormatError
        Raised if it is no FITS file.
    """
    with open_stream(source) as (stream, name):
        return FitsFile.from_bytes(stream.read(), name)


@contextlib.contextmanager
def open_fits(source: FitsSource, complete: bool = True) -> Iterator[FitsFile]:
    """Open a FITS file for reading.

    Parameters
    ----------
    source : `str`, `os.PathLike`, bytes-like or `typing.BinaryIO`
        The file.
    complete : `bool`, optional
        Whether to refuse a file that ends early.

    Yields
    ------
    file : `FitsFile`
        The open file.

    Raises
    ------
    FitsFormatError
        Raised if it is no FITS file.
    """
    with open_stream(source) as (stream, name):
        yield FitsFile(stream, name, complete)
