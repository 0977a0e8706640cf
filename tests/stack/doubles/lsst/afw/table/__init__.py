# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""A stand-in for ``lsst.afw.table``.

A source catalogue is the FITS file it came from; an exposure catalogue is
rows whose components are objects of this package.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any, Self

from lsst.afw.fits import MemFileManager
from lsst.meas.finalize.afw import read_exposure_catalog, write_exposure_catalog


def _contents(source: str | MemFileManager) -> bytes:
    if isinstance(source, MemFileManager):
        return source.getData()
    with open(source, "rb") as stream:
        return stream.read()


class SourceCatalog:
    """A source catalogue that nobody looks into."""

    __slots__ = ("_file",)

    def __init__(self) -> None:
        self._file = b""

    @classmethod
    def readFits(cls, source: str | MemFileManager) -> Self:
        result = cls()
        result._file = _contents(source)
        return result

    def writeFits(self, target: MemFileManager) -> None:
        target._store(self._file)

    def get(self, key: str) -> Any:
        raise AssertionError("a catalogue isn't a handle")


class ExposureRecord:
    """A row."""

    __slots__ = ("_row",)

    def __init__(self, row: Any) -> None:
        self._row = row

    def getId(self) -> int:
        return self._row.id

    def getPsf(self) -> Any:
        return self._row.psf

    def getApCorrMap(self) -> Any:
        return self._row.ap_corr_map


class ExposureCatalog:
    """Rows with PSFs and aperture corrections."""

    __slots__ = ("_catalog", "_records")

    def __init__(self) -> None:
        self._records: list[ExposureRecord] = []

    @property
    def schema(self) -> Any:
        return self._catalog.schema

    @classmethod
    def readFits(cls, source: str | MemFileManager) -> Self:
        result = cls()
        result._catalog = read_exposure_catalog(io.BytesIO(_contents(source)))
        result._records = [ExposureRecord(row) for row in result._catalog]
        return result

    def writeFits(self, target: MemFileManager | str) -> None:
        catalog = type(self._catalog)(self._catalog.schema.copy(), metadata=dict(self._catalog.metadata))
        for record in self._records:
            catalog.append(record._row)
        stream = io.BytesIO()
        write_exposure_catalog(catalog, stream)
        if isinstance(target, MemFileManager):
            target._store(stream.getvalue())
        else:
            with open(target, "wb") as file:
                file.write(stream.getvalue())

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[ExposureRecord]:
        return iter(self._records)

    def __getitem__(self, index: int) -> ExposureRecord:
        return self._records[index]

    def find(self, id: int) -> ExposureRecord | None:
        return next((record for record in self._records if record.getId() == id), None)

    def append(self, record: ExposureRecord) -> None:
        assert isinstance(record, ExposureRecord)
        self._records.append(record)

    def copy(self, deep: bool = False) -> Self:
        assert deep, "a shallow copy would share its records"
        result = type(self)()
        result._catalog = copy.copy(self._catalog)
        # Components are shared, as by the real one.
        result._records = [ExposureRecord(record._row) for record in self._records]
        return result

    def get(self, key: str) -> Any:
        raise AssertionError("a catalogue isn't a handle")
