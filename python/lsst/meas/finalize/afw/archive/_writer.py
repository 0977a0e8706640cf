# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Archives of persisted objects in FITS files: writing."""

from __future__ import annotations

__all__ = ("ArchiveWriter", "ObjectRecord", "RowBuffer")

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from ...catalogs import Field, Schema
from .._errors import ArchiveError, UnsupportedPersistableError
from ..fits import encode_table
from ._registry import WriterEntry, resolve_writer

TABLE_VERSION = ("AFW_TABLE_VERSION", 3, "")

_CATN_COMMENT = "# of this catalog relative to the start of this archive"
_NCAT_COMMENT = "# of catalogs in this archive, including the index"
_ID_DOC = "Archive ID of the persistable object that owns the records pointed at by this entry"
_CATALOG_DOC = "index of the catalog this entry points to, from the perspective of the"
_MODULE_DOC = "Python module that should be imported to register the object's factory"
_INDEX_SCHEMA = Schema(
    (
        Field("id", "I", _ID_DOC),
        Field(
            "cat.archive",
            "I",
            f"{_CATALOG_DOC} archive",
        ),
        Field(
            "cat.persistable",
            "I",
            f"{_CATALOG_DOC} Persistable",
        ),
        Field("row0", "I", "first row used by the persistable object in this catalog"),
        Field("nrows", "I", "number of rows used by the persistable object in this catalog"),
        Field("name", "String", "unique name for the persistable object's class", size=64),
        Field(
            "module",
            "String",
            _MODULE_DOC,
            size=64,
        ),
    )
)


class _DataTable:
    """One data table, collecting rows of all objects with its layout."""

    def __init__(self, number: int, schema: Schema):
        self.number = number
        self.schema = schema
        self.n_rows = 0
        self.classes: dict[str, None] = {}
        self.last_class = ""
        self._chunks: dict[str, list[npt.NDArray[Any]]] = {f.name: [] for f in schema.fields}

    def append(self, columns: dict[str, npt.NDArray[Any]], n_rows: int) -> int:
        row0 = self.n_rows
        if n_rows:
            for name, chunks in self._chunks.items():
                chunks.append(columns[name])
        self.n_rows += n_rows
        return row0

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        return {
            f.name: np.concatenate(self._chunks[f.name]) if self._chunks[f.name] else f.make_column(0)
            for f in self.schema.fields
        }


class RowBuffer:
    """Rows of one of an object's own tables.

    Parameters
    ----------
    table : `_DataTable`
        Data table of the archive the rows will go to.
    """

    def __init__(self, table: _DataTable):
        self._table = table
        self._columns: dict[str, npt.NDArray[Any]] = {f.name: f.make_column(0) for f in table.schema.fields}
        self._n_rows = 0

    def fill(self, n_rows: int, **columns: Any) -> None:
        """Set all rows.

        Parameters
        ----------
        n_rows : `int`
            Number of rows.
        **columns : `numpy.ndarray` or `list`
            One array or list of ``n_rows`` entries per field; for fields of
            variable length a list of 1-d arrays or str.

        Raises
        ------
        ArchiveError
            Raised if the columns don't fit the fields.
        """
        fields = {f.name: f for f in self._table.schema.fields}
        if set(columns) != set(fields):
            raise ArchiveError(f"columns {sorted(columns)} given for fields {sorted(fields)}")
        for name, values in columns.items():
            field = fields[name]
            column = field.make_column(n_rows)
            if len(values) != n_rows:
                raise ArchiveError(f"column {name!r} has {len(values)} rows instead of {n_rows}")
            try:
                if column.dtype.kind in "iu":
                    limits = np.iinfo(column.dtype)
                    given = np.asarray(values)
                    if given.size and not (limits.min <= given.min() and given.max() <= limits.max):
                        raise OverflowError(f"values are outside of {limits.min} to {limits.max}")
                if column.dtype == object:
                    # Arrays of different lengths can't be assigned at once.
                    for row, value in enumerate(values):
                        column[row] = (
                            value if field.type == "String" else np.asarray(value, dtype=field.dtype)
                        )
                elif field.type == "String":
                    if longest := [v for v in values if len(str(v).encode()) > field.size]:
                        raise ValueError(f"{longest[0]!r} is longer than {field.size} bytes")
                    column[:] = values
                else:
                    column[:] = values
            except (ValueError, OverflowError, TypeError) as error:
                raise ArchiveError(f"column {name!r}: {error}") from error
            self._columns[name] = column
        self._n_rows = n_rows

    def add_row(self, **values: Any) -> None:
        """Set the only row.

        Parameters
        ----------
        **values : `object`
            One value per field.

        Raises
        ------
        ArchiveError
            Raised if the values don't fit the fields.
        """
        self.fill(1, **{name: [value] for name, value in values.items()})

    def flush(self) -> tuple[int, int, int]:
        """Append the rows to the data table.

        Returns
        -------
        number, row0, n_rows : `int`
            Data table and rows taken.
        """
        return self._table.number, self._table.append(self._columns, self._n_rows), self._n_rows


class ObjectRecord:
    """What a writer fills for one object.

    Parameters
    ----------
    archive : `ArchiveWriter`
        The archive; nested objects are written with ``archive.put``.
    archive_id : `int`
        Id of the object.
    name, module : `str`
        Persistence name and module; a writer may change them before it makes
        the first table.
    """

    def __init__(self, archive: ArchiveWriter, archive_id: int, name: str, module: str):
        self.archive = archive
        self.id = archive_id
        self.name = name
        self.module = module
        self._buffers: list[RowBuffer] = []

    def table(self, schema: Schema) -> RowBuffer:
        """Claim the next of the object's own tables.

        Parameters
        ----------
        schema : `~lsst.meas.finalize.catalogs.Schema`
            Its fields.

        Returns
        -------
        buffer : `RowBuffer`
            To be filled with the object's rows.
        """
        buffer = RowBuffer(self.archive.claim_table(schema, self.name))
        self._buffers.append(buffer)
        return buffer

    def finish(self) -> list[tuple[int, int, int]]:
        """Move all rows to the archive.

        Returns
        -------
        tables : `list` [`tuple`]
            Data table, first row and number of rows of each own table.
        """
        return [buffer.flush() for buffer in self._buffers]


@dataclasses.dataclass
class _IndexChunk:
    ids: npt.NDArray[np.int64]
    catalogs: npt.NDArray[np.int64]
    persistables: npt.NDArray[np.int64]
    row0: npt.NDArray[np.int64]
    n_rows: npt.NDArray[np.int64]
    names: npt.NDArray[np.str_]
    modules: npt.NDArray[np.str_]


class ArchiveWriter:
    """Collects objects to be persisted in a FITS file.

    Objects put twice are written once, and share their id.
    """

    def __init__(self) -> None:
        self._next_id = 1
        self._ids: dict[int, int] = {}
        self._kept: list[Any] = []
        self._active: set[int] = set()
        self._tables: dict[tuple[tuple[str, str, int], ...], _DataTable] = {}
        self._index: list[_IndexChunk] = []

    def put(self, obj: Any) -> int:
        """Write an object.

        Parameters
        ----------
        obj : `object` | `None`
            The object.

        Returns
        -------
        archive_id : `int`
            Its id; 0 for `None`.

        Raises
        ------
        UnsupportedPersistableError
            Raised if objects of this class can't be written.
        ArchiveError
            Raised if the object contains itself or has values that can't be
            stored.
        """
        if obj is None:
            return 0
        key = id(obj)
        if key in self._active:
            raise ArchiveError(f"a {type(obj).__name__} contains itself")
        if key in self._ids:
            return self._ids[key]
        entry: WriterEntry = resolve_writer(type(obj))
        archive_id = self.reserve_ids(1)
        record = ObjectRecord(self, archive_id, entry.name, entry.module)
        self._active.add(key)
        try:
            entry.function(record, obj)
        except UnsupportedPersistableError:
            raise
        except ArchiveError as error:
            raise ArchiveError(f"{entry.name}: {error}") from error
        finally:
            self._active.discard(key)
        tables = record.finish()
        if not tables:
            self.add_index([archive_id], [-1], [-1], [0], [0], record.name, record.module)
        for persistable, (number, row0, n_rows) in enumerate(tables):
            self.add_index(
                [archive_id], [number], [persistable], [row0], [n_rows], record.name, record.module
            )
        self._ids[key] = archive_id
        # Keep the object alive, so that its id() isn't used again.
        self._kept.append(obj)
        return archive_id

    def reserve_ids(self, n: int) -> int:
        """Take consecutive archive ids.

        Parameters
        ----------
        n : `int`
            Number of ids.

        Returns
        -------
        first : `int`
            The first of them.
        """
        first = self._next_id
        self._next_id += n
        return first

    def claim_table(self, schema: Schema, name: str) -> _DataTable:
        """Find or make the data table for a list of fields.

        Parameters
        ----------
        schema : `~lsst.meas.finalize.catalogs.Schema`
            The fields; tables with equal names, types and sizes are shared.
        name : `str`
            Class whose objects will be stored.

        Returns
        -------
        table : `_DataTable`
            The data table.
        """
        key = tuple((f.name, f.type, f.size) for f in schema.fields)
        if key not in self._tables:
            self._tables[key] = _DataTable(len(self._tables) + 1, schema)
        table = self._tables[key]
        table.classes.setdefault(name)
        table.last_class = name
        return table

    def add_index(
        self, ids: Any, catalogs: Any, persistables: Any, row0: Any, n_rows: Any, names: Any, modules: Any
    ) -> None:
        """Add rows to the index.

        Parameters
        ----------
        ids, catalogs, persistables, row0, n_rows : array-like of int
            Columns of the index (spec 02 §3.1).
        names, modules : `str` or array-like of `str`
            Persistence names and modules.
        """
        n = len(ids)
        numbers = [
            np.asarray(column, dtype=np.int64) for column in (ids, catalogs, persistables, row0, n_rows)
        ]
        texts = [np.broadcast_to(np.asarray(text, dtype=np.str_), (n,)) for text in (names, modules)]
        self._index.append(_IndexChunk(*numbers, *texts))

    def __len__(self) -> int:
        return self._next_id - 1

    def hdus(self) -> list[bytes]:
        """Encode the index and the data tables.

        Returns
        -------
        hdus : `list` [`bytes`]
            HDUs to be written one after another.

        Raises
        ------
        ArchiveError
            Raised if something can't be stored.
        """
        try:
            return [self._encode_index(), *(self._encode_table(t) for t in self._tables.values())]
        except ArchiveError:
            raise
        except (ValueError, OverflowError) as error:
            raise ArchiveError(f"archive can't be written: {error}") from error

    def _encode_index(self) -> bytes:
        columns: dict[str, npt.NDArray[Any]] = {}
        names = [f.name for f in dataclasses.fields(_IndexChunk)]
        for field, name in zip(_INDEX_SCHEMA.fields, names, strict=True):
            chunks = [getattr(chunk, name) for chunk in self._index]
            columns[field.name] = np.concatenate(chunks) if chunks else field.make_column(0)
        cards = [
            ("EXTTYPE", "ARCHIVE_INDEX", ""),
            ("EXTNAME", "ARCHIVE_INDEX", ""),
            ("AR_CATN", 0, _CATN_COMMENT),
            ("AR_NCAT", len(self._tables) + 1, _NCAT_COMMENT),
            TABLE_VERSION,
        ]
        return encode_table(_INDEX_SCHEMA, columns, len(columns["id"]), cards, where="archive index")

    def _encode_table(self, table: _DataTable) -> bytes:
        extver = 1 + sum(
            other.last_class == table.last_class
            for other in self._tables.values()
            if other.number < table.number
        )
        cards: list[tuple[str, Any, str]] = [
            ("EXTTYPE", "ARCHIVE_DATA", ""),
            ("AR_CATN", table.number, _CATN_COMMENT),
        ]
        if extver > 1:
            cards.append(("EXTVER", extver, ""))
        cards += [("AR_NAME", name, "Class name for objects stored here") for name in table.classes]
        cards += [("EXTNAME", table.last_class, ""), TABLE_VERSION]
        where = f"archive table {table.number} ({table.last_class})"
        return encode_table(table.schema, table.columns(), table.n_rows, cards, where=where)
