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

__all__ = ("open_fits", "open_fits_in_memory")

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from ._errors import FitsFormatError


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
        return fits.open(_NamedBytes(Path(path).read_bytes(), name), lazy_load_hdus=True)


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
    with _translate(name), fits.open(name, memmap=False, lazy_load_hdus=True) as hdulist:
        yield hdulist
