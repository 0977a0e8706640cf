# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Copying of stored objects from archive to archive, without making them."""

from __future__ import annotations

__all__ = ("ArchiveCopier", "load_tables")

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._runs import run_rows
from ...catalogs import Schema
from .._errors import MalformedArchiveError, UnsupportedPersistableError
from ..fits import FitsTable, table_schema
from ._builder import ArchiveBuilder
from ._reader import ArchiveReader

type _Ints = npt.NDArray[np.int64]

_KERNEL = ("components", "kernelfunction", "spatialfunctions")
_CATALOG = (
    "wcs",
    "psf",
    "photoCalib",
    "calib",
    "apCorrMap",
    "validPolygon",
    "visitInfo",
    "transmissionCurve",
    "detector",
)
_REFERENCES: dict[str, tuple[str, ...]] = {
    "ApCorrMap": ("field",),
    "ChebyshevBoundedField": (),
    "ProductBoundedField": ("id",),
    "TransformBoundedField": (),
    "PixelAreaBoundedField": ("wcs",),
    "CoaddBoundedField": ("coaddWcs", "field", "wcs", "validPolygon"),
    "PhotoCalib": ("field",),
    "Calib": (),
    "SkyWcs": (),
    "TanWcs": (),
    "Wcs": (),
    "FilterLabel": (),
    "Polygon": (),
    "VisitInfo": (),
    "ExposureSummaryStats": (),
    "CoaddInputs": _CATALOG,
    "Detector": ("transformMap",),
    "TransformMap": ("transform",),
    "GaussianPsf": (),
    "SingleGaussianPsf": (),
    "DoubleGaussianPsf": (),
    "KernelPsf": ("kernel",),
    "PcaPsf": ("kernel",),
    "PsfexPsf": (),
    "PiffPsf": (),
    "FixedKernel": _KERNEL,
    "LinearCombinationKernel": _KERNEL,
    "DeltaFunctionKernel": _KERNEL,
    "AnalyticKernel": _KERNEL,
    "IdentityTransmissionCurve": (),
    "SpatiallyConstantTransmissionCurve": (),
    "RadialTransmissionCurve": (),
    "ProductTransmissionCurve": ("a", "b"),
    "TransformedTransmissionCurve": ("nested", "transform"),
    "Footprint": ("id",),
    "SpanSet": (),
}
"""Columns of archive ids of the classes of spec 02 §5 and §6."""

_REFERENCES |= {f"HeavyFootprint{letter}": ("id",) for letter in "FDIU"}
_REFERENCES |= {
    f"Transform{a}To{b}": () for a, b in itertools.product(("Generic", "Point2", "SpherePoint"), repeat=2)
}
_REFERENCES |= {
    f"{function}{letter}": ()
    for function, letter in itertools.product(
        ("PolynomialFunction2", "Chebyshev1Function2", "GaussianFunction2", "DoubleGaussianFunction2"), "DF"
    )
}
_MAX_SHARING = 16
"""How often a row may be stored again because objects share it."""


def _references(name: str, archive: ArchiveReader) -> tuple[str, ...]:
    if name not in _REFERENCES:
        raise UnsupportedPersistableError(
            f"{archive.where}: a {name} can't be moved to another file, since what it refers to isn't known"
        )
    return _REFERENCES[name]


class ArchiveCopier:
    """Copies objects, with all that they refer to, into one archive.

    Parameters
    ----------
    builder
        The archive to be written.
    """

    def __init__(self, builder: ArchiveBuilder) -> None:
        self._builder = builder
        self._archives: dict[int, tuple[ArchiveReader, dict[int, int]]] = {}
        self._schemas: dict[int, tuple[FitsTable, Schema, dict[str, npt.NDArray[Any]]]] = {}
        self._n_copied: dict[int, int] = {}

    def copy(self, archive: ArchiveReader, archive_id: int) -> int:
        """Copy an object, once.

        Parameters
        ----------
        archive
            Where it is.
        archive_id
            Its id there.

        Returns
        -------
        archive_id : `int`
            Its id in the archive to be written.

        Raises
        ------
        UnsupportedPersistableError
            If it isn't known what it refers to.
        MalformedArchiveError
            If its tables are damaged.
        """
        _, new_ids = self._archives.setdefault(id(archive), (archive, {}))
        if archive_id not in new_ids:
            archive.name(archive_id)  # raises if there is no such object
            found = self._find_nested(archive, archive_id, new_ids)
            first = self._builder.reserve_ids(len(found))
            new_ids.update(zip(found, range(first, first + len(found)), strict=True))
            self._copy_objects(archive, np.array(found), new_ids)
        return new_ids[archive_id]

    def keep_ids(self, objects: Iterable[tuple[ArchiveReader, int]]) -> None:
        """Take over the archive of objects of classes that aren't known.

        Parameters
        ----------
        objects
            Archives and ids of all objects that will be copied.

        Raises
        ------
        UnsupportedPersistableError
            If they are in several archives.
        """
        kept: ArchiveReader | None = None
        checked: dict[int, set[int]] = {}
        for archive, archive_id in objects:
            if archive is kept:
                continue
            unknown = set(archive.names.tolist()) - _REFERENCES.keys()
            if not unknown:
                continue
            try:
                seen = checked.setdefault(id(archive), set())
                seen.update(self._find_nested(archive, archive_id, seen))
            except UnsupportedPersistableError as error:
                if kept is not None:
                    raise UnsupportedPersistableError(
                        f"{error}; only those of one file can be kept, here of {kept.where}"
                    ) from None
                kept = archive
        if kept is not None:
            self._take_over(kept)

    def _take_over(self, archive: ArchiveReader) -> None:
        ids = np.unique(archive.ids)
        self._builder.reserve_ids(int(ids[-1]))
        new_ids = {i: i for i in ids.tolist()}
        self._archives[id(archive)] = archive, new_ids
        self._copy_objects(archive, ids, new_ids)

    def _find_nested(self, archive: ArchiveReader, archive_id: int, known: Iterable[int]) -> list[int]:
        """List an object and those it refers to that aren't known yet."""
        seen = {*known, 0}
        found: list[int] = []
        level = [archive_id] if archive_id not in seen else []
        while level:
            found += level
            seen.update(level)
            references = [
                np.unique(table.column(column)[rows])
                for table, name, _, rows in self._groups(archive, archive.entries(np.array(level)))
                for column in _references(name, archive)
                if table is not None and column in table
            ]
            nested = np.unique(np.concatenate(references)).tolist() if references else []
            level = [i for i in nested if i not in seen]
        return found

    def _groups(
        self, archive: ArchiveReader, entries: _Ints
    ) -> Iterator[tuple[FitsTable | None, str, _Ints, _Ints]]:
        """Group entries by table and class; return table, class, entries and
        their rows.
        """
        for chosen in _split(archive, entries):
            number, name = int(archive.catalogs[chosen[0]]), str(archive.names[chosen[0]])
            if number < 0:
                yield None, name, chosen, np.zeros(0, dtype=np.int64)
                continue
            table = archive.table(number)
            row0, counts = archive.row0[chosen], archive.n_rows[chosen]
            if (row0 + counts > len(table)).any():
                raise MalformedArchiveError(f"{table.where}: rows of a {name} are outside of the table")
            if int(counts.sum()) > _MAX_SHARING * len(table):
                raise MalformedArchiveError(f"{table.where}: objects share too many rows")
            yield table, name, chosen, run_rows(row0, counts)

    def _copy_objects(self, archive: ArchiveReader, ids: _Ints, new_ids: dict[int, int]) -> None:
        entries = archive.entries(ids)
        numbers, row0 = np.full(len(archive.ids), -1), np.zeros(len(archive.ids), dtype=np.int64)
        for table, name, group, rows in self._groups(archive, entries):
            if table is not None:
                numbers[group], start = self._copy_rows(archive, table, name, rows, new_ids)
                counts = archive.n_rows[group]
                row0[group] = start + np.cumsum(counts) - counts
        entries = entries[np.argsort(archive.positions[entries])]
        self._builder.add_index(
            [new_ids[i] for i in archive.ids[entries].tolist()],
            numbers[entries],
            archive.persistables[entries],
            row0[entries],
            archive.n_rows[entries],
            archive.names[entries],
            archive.modules[entries],
        )

    def _copy_rows(
        self, archive: ArchiveReader, table: FitsTable, name: str, rows: _Ints, new_ids: dict[int, int]
    ) -> tuple[int, int]:
        """Append rows to a table; return its number and the first row."""
        n_copied = self._n_copied[id(table)] = self._n_copied.get(id(table), 0) + len(rows)
        if n_copied > _MAX_SHARING * len(table):
            raise MalformedArchiveError(f"{table.where}: objects share too many rows")
        schema, columns = self._columns(table)
        everything = len(rows) == len(table) and np.array_equal(rows, np.arange(len(rows)))
        taken = {key: column if everything else column[rows] for key, column in columns.items()}
        for column in _REFERENCES.get(name, ()):
            if column in taken:
                old = taken[column]
                ids = [new_ids[i] if i else 0 for i in old.ravel().tolist()]
                taken[column] = np.array(ids, dtype=old.dtype).reshape(old.shape)
        target = self._builder.claim_table(schema, name)
        return target.number, target.append(taken, len(rows))

    def _columns(self, table: FitsTable) -> tuple[Schema, dict[str, npt.NDArray[Any]]]:
        if id(table) not in self._schemas:
            schema, columns = table_schema(table, aliases=False, strict=True, copy=False)
            self._schemas[id(table)] = table, schema, columns
        return self._schemas[id(table)][1:]


def _split(archive: ArchiveReader, entries: _Ints) -> Iterator[_Ints]:
    """Split entries by table and class."""
    if len(entries) == 1:
        yield entries
        return
    numbers, names = archive.catalogs[entries], archive.names[entries]
    order = np.lexsort((names, numbers))
    changes = (np.diff(numbers[order]) != 0) | (names[order][1:] != names[order][:-1])
    for group in np.split(order, np.flatnonzero(changes) + 1):
        # In the order of the file, so that copies look the same.
        chosen = entries[group]
        yield chosen[np.argsort(archive.positions[chosen])]


def load_tables(archive: ArchiveReader, archive_id: int) -> None:
    """Load all that is needed to copy an object, before its file is closed.

    Parameters
    ----------
    archive
        Where it is.
    archive_id
        Its id there.

    Raises
    ------
    UnsupportedPersistableError
        If it isn't known what it refers to.
    MalformedArchiveError
        If its tables are damaged.
    """
    ArchiveCopier(ArchiveBuilder())._find_nested(archive, archive_id, ())
