# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
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

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from lsst.afw.fits import MemFileManager
from lsst.geom import Point2D
from lsst.meas.finalize.afw import read_exposure_catalog, write_exposure_catalog
from lsst.meas.finalize.catalogs import ExposureCatalog as OurCatalog
from lsst.meas.finalize.catalogs import ExposureRecord as OurRecord
from lsst.meas.finalize.catalogs import Schema
from lsst.meas.finalize.psf import as_batch_psf


def _contents(source: str | MemFileManager) -> bytes:
    if isinstance(source, MemFileManager):
        return source.getData()
    return Path(source).read_bytes()


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


class _Image:
    """A drawn image."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


class Psf:
    """A PSF."""

    __slots__ = ("_psf",)

    def __init__(self, psf: Any) -> None:
        self._psf = psf

    def computeKernelImage(self, position: Point2D) -> _Image:
        return _Image(as_batch_psf(self._psf).draw_kernel_images([position.x], [position.y])[0])

    def computeImage(self, position: Point2D) -> _Image:
        return _Image(as_batch_psf(self._psf).draw_star_images([position.x], [position.y])[0][0])


class _BoundedField:
    """A function of position."""

    __slots__ = ("_field",)

    def __init__(self, field: Any) -> None:
        self._field = field

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._field(x=x, y=y)


class ApCorrMap:
    """Aperture corrections by name."""

    __slots__ = ("_map",)

    def __init__(self, ap_corr_map: Any) -> None:
        self._map = ap_corr_map

    def items(self) -> list[tuple[str, _BoundedField]]:
        return [(name, _BoundedField(field)) for name, field in self._map.items()]


class ExposureRecord:
    """A row."""

    __slots__ = ("_map", "_psf", "_row")

    def __init__(self, row: Any, psf: Psf | None = None, ap_corr_map: ApCorrMap | None = None) -> None:
        self._row = row
        self._psf = psf
        self._map = ap_corr_map

    def getId(self) -> int:
        return self._row.id

    def getPsf(self) -> Psf | None:
        return self._psf

    def setPsf(self, psf: Psf) -> None:
        assert isinstance(psf, Psf)
        self._psf = psf

    def getApCorrMap(self) -> ApCorrMap | None:
        return self._map

    def setApCorrMap(self, ap_corr_map: ApCorrMap) -> None:
        assert isinstance(ap_corr_map, ApCorrMap)
        self._map = ap_corr_map

    def _copy(self) -> ExposureRecord:
        return ExposureRecord(self._row, self._psf, self._map)

    def _as_ours(self) -> Any:
        psf, ap_corr_map = self._psf and self._psf._psf, self._map and self._map._map
        return OurRecord(self._row.values, psf, ap_corr_map, self._row.components)


class ExposureTable:
    """Where records are from."""

    @staticmethod
    def makeMinimalSchema() -> Schema:
        return Schema.exposure_minimal()


class ExposureCatalog:
    """Rows with PSFs and aperture corrections."""

    __slots__ = ("_metadata", "_records", "_schema")

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._metadata: dict[str, Any] = {}
        self._records: list[ExposureRecord] = []

    @property
    def schema(self) -> Schema:
        return self._schema

    @classmethod
    def readFits(cls, source: str | MemFileManager) -> Self:
        catalog = read_exposure_catalog(io.BytesIO(_contents(source)))
        result = cls(catalog.schema)
        result._metadata = catalog.metadata
        for row in catalog:
            psf = None if row.psf is None else Psf(row.psf)
            ap_corr_map = None if row.ap_corr_map is None else ApCorrMap(row.ap_corr_map)
            result._records.append(ExposureRecord(row, psf, ap_corr_map))
        return result

    def writeFits(self, target: MemFileManager | str) -> None:
        catalog = OurCatalog(self._schema.copy(), metadata=self._metadata)
        for record in self._records:
            catalog.append(record._as_ours())
        stream = io.BytesIO()
        write_exposure_catalog(catalog, stream)
        if isinstance(target, MemFileManager):
            target._store(stream.getvalue())
        else:
            Path(target).write_bytes(stream.getvalue())

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[ExposureRecord]:
        return iter(self._records)

    def __getitem__(self, index: int) -> ExposureRecord:
        return self._records[index]

    def find(self, id: int) -> ExposureRecord | None:
        return next((record for record in self._records if record.getId() == id), None)

    def addNew(self) -> ExposureRecord:
        self._records.append(ExposureRecord(OurCatalog(self._schema, 1)[0]))
        return self._records[-1]

    def append(self, record: ExposureRecord) -> None:
        assert isinstance(record, ExposureRecord)
        self._records.append(record)

    def copy(self, deep: bool = False) -> Self:
        assert deep, "a shallow copy would share its records"
        result = type(self)(self._schema)
        result._metadata = dict(self._metadata)
        # Components are shared, as by the real one.
        result._records = [record._copy() for record in self._records]
        return result

    def get(self, key: str) -> Any:
        raise AssertionError("a catalogue isn't a handle")
