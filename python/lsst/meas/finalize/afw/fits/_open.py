# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Opening of FITS files that may be damaged."""

from __future__ import annotations

__all__ = ("check_structure", "open_fits", "open_fits_in_memory")

import contextlib
import io
import math
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from .._errors import FitsFormatError

_BLOCK = 2880
_END = b"END".ljust(80)
_SIZE_KEY = re.compile(rb"(BITPIX|NAXIS\d{0,3}|PCOUNT|GCOUNT) *=(.*)")
_INTEGER = re.compile(rb" *(-?\d{1,18}) *(/.*)?")


class _NamedBytes(io.BytesIO):
    """File contents that know where they are from, for messages."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name


@contextlib.contextmanager
def _translate(path: str) -> Iterator[None]:
    with warnings.catch_warnings():
        # Sizes are checked by the table reader, with better messages.
        warnings.simplefilter("ignore", AstropyUserWarning)
        try:
            yield
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except FitsFormatError:
            raise
        except OSError as error:
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
        for start in range(0, _BLOCK, 80):
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


def check_structure(stream: BinaryIO, name: str) -> None:
    """Check the sizes in all headers of a FITS file.

    Negative sizes would send `astropy.io.fits` round in circles.

    Parameters
    ----------
    stream : `typing.BinaryIO`
        The file, at its start.
    name : `str`
        Its name for messages.

    Raises
    ------
    FitsFormatError
        Raised if it is no FITS file, is truncated, or has impossible sizes.
    """
    stream.seek(0, os.SEEK_END)
    size = stream.tell()
    stream.seek(0)
    if stream.read(6) != b"SIMPLE":
        raise FitsFormatError(f"{name}: not a FITS file (or a compressed one)")
    position, number = 0, 0
    while position < size:
        where = f"{name}[HDU {number}]"
        stream.seek(position)
        sizes = _read_sizes(stream, where)
        if sizes is None:
            return
        n_axes = sizes.get("NAXIS", 0)
        if missing := [i for i in range(1, min(n_axes, 1000) + 1) if f"NAXIS{i}" not in sizes]:
            raise FitsFormatError(f"{where}: NAXIS is {n_axes}, but there is no NAXIS{missing[0]}")
        shape = [sizes[f"NAXIS{i}"] for i in range(1, n_axes + 1)]
        bits = sizes.get("BITPIX", 8)
        counts = sizes.get("PCOUNT", 0), sizes.get("GCOUNT", 1)
        if n_axes < 0 or min([*shape, *counts]) < 0 or bits not in (8, 16, 32, 64, -32, -64):
            raise FitsFormatError(f"{where}: impossible sizes {sizes}")
        n_items = counts[1] * (counts[0] + (math.prod(shape) if shape else 0))
        n_bytes = n_items * abs(bits) // 8
        if n_bytes > size - stream.tell():
            raise FitsFormatError(
                f"{where}: the header announces {n_bytes} bytes of data, "
                f"but the file has only {size - stream.tell()} more"
            )
        position = stream.tell() + -(-n_bytes // _BLOCK) * _BLOCK
        number += 1


def open_fits_in_memory(path: str | os.PathLike[str]) -> fits.HDUList:
    """Load a FITS file, so that parts of it can be decoded much later.

    Parameters
    ----------
    path : `str` or `os.PathLike`
        The file.

    Returns
    -------
    hdulist : `astropy.io.fits.HDUList`
        File contents, independent of the file.

    Raises
    ------
    FitsFormatError
        Raised if it is no FITS file.
    """
    name = os.fspath(path)
    with _translate(name):
        stream = _NamedBytes(Path(path).read_bytes(), name)
        check_structure(stream, name)
        stream.seek(0)
        return fits.open(stream, lazy_load_hdus=True)


@contextlib.contextmanager
def open_fits(path: str | os.PathLike[str]) -> Iterator[fits.HDUList]:
    """Open a FITS file for reading.

    Parameters
    ----------
    path : `str` or `os.PathLike`
        The file.

    Yields
    ------
    hdulist : `astropy.io.fits.HDUList`
        The open file, whose HDUs are found when asked for.

    Raises
    ------
    FitsFormatError
        Raised if it is no FITS file.
    """
    name = os.fspath(path)
    with _translate(name), open(path, "rb") as stream:
        check_structure(stream, name)
        stream.seek(0)
        with fits.open(stream, memmap=False, lazy_load_hdus=True) as hdulist:
            yield hdulist
