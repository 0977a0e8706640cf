# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Archives of persisted objects in FITS files: writing."""

from __future__ import annotations

__all__ = ("ArchiveWriter", "ObjectRecord", "RowBuffer")

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ...catalogs import Schema
from .._errors import ArchiveError, UnsupportedPersistableError
from ._builder import ArchiveBuilder, DataTable
from ._copying import ArchiveCopier
from ._registry import WriterEntry, resolve_writer
from ._stored_object import StoredObject


class RowBuffer:
    """Rows of one of an object's own tables.

    Parameters
    ----------
    table : `DataTable`
        Data table of the archive the rows will go to.
    """

    def __init__(self, table: DataTable):
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


class ArchiveWriter(ArchiveBuilder):
    """Collects objects to be persisted in a FITS file.

    Objects put twice are written once, and share their id.
    """

    def __init__(self) -> None:
        super().__init__()
        self._copier = ArchiveCopier(self)
        self._ids: dict[int, int] = {}
        self._kept: list[Any] = []
        self._active: set[int] = set()

    def put(self, obj: Any) -> int:
        """Write an object.

        Parameters
        ----------
        obj : `object` | `None`
            The object.  A `StoredObject` is copied as it is stored, unless
            it was made, so that it may have been changed.

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
        if isinstance(obj, StoredObject):
            return self._put_stored(obj)
        if isinstance(stored := getattr(obj, "stored", None), StoredObject):
            # It stands for what can't be made.
            return self._copier.copy(stored.archive, stored.archive_id)
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

    def keep_ids(self, stored: Iterable[StoredObject]) -> None:
        """Prepare for objects of classes that nothing is known about.

        What they refer to can't be told from their tables, so their archive
        is taken over with its ids.  To be called before anything is put.

        Parameters
        ----------
        stored : `~collections.abc.Iterable` [`StoredObject`]
            All that will be put.

        Raises
        ------
        UnsupportedPersistableError
            Raised if such objects come from several archives.
        """
        self._copier.keep_ids((item.archive, item.archive_id) for item in stored)

    def _put_stored(self, stored: StoredObject) -> int:
        if stored.is_made:
            obj = stored.get()
            try:
                resolve_writer(type(obj))
            except UnsupportedPersistableError:
                # It can be read but not written; as it was it can.
                pass
            else:
                return self.put(obj)
        return self._copier.copy(stored.archive, stored.archive_id)
