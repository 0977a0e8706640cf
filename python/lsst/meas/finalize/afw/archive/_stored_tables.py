# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tables of objects that are written as they were read.

What is read into memory doesn't have all that the tables of some classes have
(crosstalk of detectors, left-overs of PSFEx), so they are kept.
"""

from __future__ import annotations

__all__ = ("StoredTables", "write_stored")

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from .._errors import UnsupportedPersistableError
from ..fits import TableView, table_schema
from ._reader import ArchiveReader
from ._registry import writes
from ._writer import ObjectRecord

_NESTED_REFERENCES = ("components", "kernelfunction", "spatialfunctions")
"""Columns of archive ids of kernels."""


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTables:
    """Tables of one object, in the memory of the archive they are from.

    Attributes
    ----------
    name, module : `str`
        Persistence name of the class and its module.
    views : `~collections.abc.Sequence` [`TableView`]
        Rows of the object's own tables.
    references : `~collections.abc.Mapping` [`str`, sequence]
        By columns of archive ids, the objects that are meant.
    """

    name: str
    module: str
    views: Sequence[TableView]
    references: Mapping[str, Sequence[Any]]

    @classmethod
    def keep(
        cls, archive: ArchiveReader, tables: Sequence[TableView], name: str, **references: Sequence[Any]
    ) -> StoredTables:
        """Keep what the reader of an object gets.

        Parameters
        ----------
        archive, tables, name
            As given to the reader.
        **references
            By columns of archive ids, the objects that were found.

        Returns
        -------
        stored : `StoredTables`
            To be set as the attribute ``stored`` of the object.
        """
        return cls(name, archive.module(name), tuple(tables), references)

    @classmethod
    def keep_nested(cls, archive: ArchiveReader, archive_id: int) -> StoredTables:
        """Keep the tables of a kernel or function.

        Parameters
        ----------
        archive
            The archive.
        archive_id
            Id of an object that has been read already, so that it is known
            not to contain itself.

        Returns
        -------
        stored : `StoredTables`
            To be given as a reference to `keep`; the same one each time.
        """
        if archive_id in archive.kept:
            return cast(StoredTables, archive.kept[archive_id])
        name, tables = archive.name(archive_id), archive.tables(archive_id)
        references = {
            column: [cls.keep_nested(archive, int(i)) for i in np.ravel(tables[0][column])]
            for column in _NESTED_REFERENCES
            if tables and column in tables[0]
        }
        stored = archive.kept[archive_id] = cls.keep(archive, tables, name, **references)
        return stored

    def write(self, record: ObjectRecord) -> None:
        """Write the tables, with the ids that the references get.

        Parameters
        ----------
        record
            The object to write.
        """
        record.name, record.module = self.name, self.module
        for view in self.views:
            schema, columns = table_schema(view.table, aliases=False)
            buffer = record.table(schema)
            values = {name: column[view.start : view.stop] for name, column in columns.items()}
            for name, objects in self.references.items():
                if name in values:
                    ids = [record.archive.put(obj) for obj in objects]
                    values[name] = np.array(ids, dtype=np.int32).reshape(values[name].shape)
            buffer.fill(len(view), **values)


@writes(StoredTables, name="", module="")
def _write_nested(record: ObjectRecord, obj: StoredTables) -> None:
    obj.write(record)


def write_stored(record: ObjectRecord, obj: Any) -> None:
    """Write an object as it was read; to be registered with `writes`.

    Parameters
    ----------
    record
        The object to write.
    obj
        Object with an attribute ``stored``.

    Raises
    ------
    UnsupportedPersistableError
        If it is not from a file.
    """
    if obj.stored is None:
        raise UnsupportedPersistableError(
            f"a {type(obj).__name__} that wasn't read from a file of the stack can't be written"
        )
    obj.stored.write(record)
