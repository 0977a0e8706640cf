# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tables and index of an archive that is being written (spec 02 §3, §9)."""

from __future__ import annotations

__all__ = ("TABLE_VERSION", "ArchiveBuilder", "DataTable")

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from ...catalogs import Field, Schema
from .._errors import ArchiveError
from ..fits import encode_table

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


class DataTable:
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


@dataclasses.dataclass
class _IndexChunk:
    ids: npt.NDArray[np.int64]
    catalogs: npt.NDArray[np.int64]
    persistables: npt.NDArray[np.int64]
    row0: npt.NDArray[np.int64]
    n_rows: npt.NDArray[np.int64]
    names: npt.NDArray[np.str_]
    modules: npt.NDArray[np.str_]


class ArchiveBuilder:
    """Collects rows of data tables and entries of the index."""

    def __init__(self) -> None:
        self._next_id = 1
        self._tables: dict[tuple[tuple[str, str, int], ...], DataTable] = {}
        self._index: list[_IndexChunk] = []

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

    def claim_table(self, schema: Schema, name: str) -> DataTable:
        """Find or make the data table for a list of fields.

        Parameters
        ----------
        schema : `~lsst.meas.finalize.catalogs.Schema`
            The fields; tables with equal names, types and sizes are shared.
        name : `str`
            Class whose objects will be stored.

        Returns
        -------
        table : `DataTable`
            The data table.
        """
        key = tuple((f.name, f.type, f.size) for f in schema.fields)
        if key not in self._tables:
            self._tables[key] = DataTable(len(self._tables) + 1, schema)
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

    def hdus(self) -> list[bytearray]:
        """Encode the index and the data tables.

        Returns
        -------
        hdus : `list` [`bytearray`]
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

    def _encode_index(self) -> bytearray:
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

    def _encode_table(self, table: DataTable) -> bytearray:
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
