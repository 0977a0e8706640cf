# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Objects left in the archive of the file they are from."""

from __future__ import annotations

__all__ = ("ArchiveSource", "StoredObject")

import threading
from typing import Any

from astropy.io import fits

from ...catalogs import Deferred
from .._errors import ArchiveError, FitsFormatError, MalformedArchiveError
from ..fits import FitsFile, hdu_label
from ._reader import ArchiveReader

_OPENING = threading.RLock()
"""Held while an index is read, so that threads get the same archive."""


class ArchiveSource:
    """An archive whose index is read when the first object is asked for.

    Parameters
    ----------
    file : `astropy.io.fits.HDUList` or `FitsFile`
        Open file; must stay open as long as objects are read.
    index_hdu_number : `int`
        0-based number of the HDU with the index.
    """

    def __init__(self, file: fits.HDUList | FitsFile, index_hdu_number: int) -> None:
        self._file = file
        self._number = index_hdu_number
        self._archive: ArchiveReader | None = None
        self.where = hdu_label(file, index_hdu_number)

    def open(self) -> ArchiveReader:
        """Return the archive; the same one each time.

        Raises
        ------
        MalformedArchiveError
            Raised if the index is missing or invalid.
        """
        if self._archive is None:
            with _OPENING:
                if self._archive is None:
                    self._archive = ArchiveReader(self._file, self._number)
        return self._archive


class StoredObject(Deferred):
    """An object that is made from its archive when it is asked for.

    Written as it was stored, with all that it refers to, if it was never
    asked for or can't be made.

    Parameters
    ----------
    source : `ArchiveSource` or `ArchiveReader`
        The archive.
    archive_id : `int`
        Its id.
    expected : `type`, optional
        Class it must have.
    what : `str`, optional
        What it is, for messages.
    """

    def __init__(
        self,
        source: ArchiveSource | ArchiveReader,
        archive_id: int,
        expected: type = object,
        what: str = "object",
    ) -> None:
        self._source = source
        self.archive_id = int(archive_id)
        self._expected = expected
        self.what = what
        self.is_made = False

    @property
    def archive(self) -> ArchiveReader:
        """The archive (`MalformedArchiveError` if it has no valid index)."""
        return self._source if isinstance(self._source, ArchiveReader) else self._source.open()

    @property
    def name(self) -> str:
        """Persistence name of its class."""
        return self.archive.name(self.archive_id)

    def get(self) -> Any:
        """Make the object; the same one each time.

        Returns
        -------
        obj : `object`
            The object.

        Raises
        ------
        UnsupportedPersistableError
            Raised if objects of its class can't be read.
        ArchiveError
            Raised if it is damaged, or of an unexpected class.
        """
        try:
            obj = self.archive.get(self.archive_id)
            if not isinstance(obj, self._expected):
                raise MalformedArchiveError(f"archive id {self.archive_id} is a {self.name}")
        except (ArchiveError, FitsFormatError) as error:
            text = str(error).removeprefix(f"{self._source.where}: ")
            raise type(error)(f"{self._source.where}: {self.what}: {text}") from error
        self.is_made = True
        return obj
