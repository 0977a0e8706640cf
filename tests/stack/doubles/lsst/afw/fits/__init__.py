# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""A stand-in for ``lsst.afw.fits``."""

from __future__ import annotations


class MemFileManager:
    """A FITS file in memory."""

    __slots__ = ("_data",)

    def __init__(self, size: int = 0) -> None:
        self._data = bytes(size)

    def getData(self) -> bytes:
        return self._data

    def setData(self, data: bytes, size: int) -> None:
        assert isinstance(data, bytes)
        # The real one copies into the room it was made with.
        assert len(self._data) == size == len(data)
        self._data = data

    def _store(self, data: bytes) -> None:
        self._data = data
