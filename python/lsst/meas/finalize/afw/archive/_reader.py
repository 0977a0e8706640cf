# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Archives of persisted objects in FITS files: reading (spec 02 §3)."""

from __future__ import annotations

__all__ = ("ArchiveReader",)

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from ..._runs import run_rows
from .._errors import ArchiveError, FitsFormatError, MalformedArchiveError, UnsupportedPersistableError
from ..fits import FitsFile, FitsTable, TableView, hdu_label, read_table
from ._registry import resolve_reader

_MAX_DEPTH = 100
_MAX_ID = 2**31 - 1
_INDEX_TYPES = ("J", "J", "J", "J", "J", "A", "A")


class ArchiveReader:
    """Objects persisted in a FITS file, read when asked for.

    Parameters
    ----------
    file : `astropy.io.fits.HDUList` or `FitsFile`
        Open file; must stay open as long as objects are read.
    index_hdu_number : `int`
        0-based number of the HDU with the index.

    Raises
    ------
    MalformedArchiveError
        Raised if the index is missing or invalid.
    """

    def __init__(self, file: fits.HDUList | FitsFile, index_hdu_number: int):
        self._file = file
        self._first = index_hdu_number
        self.where = hdu_label(file, index_hdu_number)
        self._tables: dict[int, FitsTable] = {}
        self._objects: dict[int, Any] = {}
        # What is kept of objects to write them again, shared as they are.
        self.kept: dict[int, Any] = {}
        # Digests of pickles in the file that need no further check.
        self.accepted_pickles: set[bytes] = set()
        self._active: list[int] = []
        self._lock = threading.RLock()
        try:
            index = read_table(file, index_hdu_number, MalformedArchiveError)
        except MalformedArchiveError:
            raise
        except FitsFormatError as error:
            raise MalformedArchiveError(f"unreadable archive index: {error}") from error
        self._read_index(index)

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            # Objects may have been changed since they were made.
            objects, kept = dict(self._objects), dict(self.kept)
        return {**self.__dict__, "_objects": objects, "kept": kept, "_active": [], "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def __deepcopy__(self, memo: dict[int, Any]) -> ArchiveReader:
        result: ArchiveReader = copy.copy(self)
        memo[id(self)] = result
        # What is in the file never changes.
        memo |= {id(table): table for table in self._tables.values()}
        result._objects = copy.deepcopy(result._objects, memo)
        result.kept = copy.deepcopy(result.kept, memo)
        return result

    def _read_index(self, index: FitsTable) -> None:
        exttype = index.header.get("EXTTYPE")
        if exttype is not None and str(exttype).strip() != "ARCHIVE_INDEX":
            raise MalformedArchiveError(f"{self.where}: EXTTYPE is {exttype!r} instead of 'ARCHIVE_INDEX'")
        columns = index.layout.columns
        if len(columns) < 7 or any(
            column.code != code or column.variable or (code == "J" and column.count != 1)
            for column, code in zip(columns, _INDEX_TYPES, strict=False)
        ):
            raise MalformedArchiveError(
                f"{self.where}: the columns of an archive index must be five 32-bit integers and two strings"
            )
        self.n_tables = index.header.get("AR_NCAT", 0)
        if not isinstance(self.n_tables, int) or self.n_tables < 1:
            raise MalformedArchiveError(f"{self.where}: AR_NCAT = {self.n_tables!r} isn't a positive number")
        # By position: the names changed between table versions.
        values = [index.column(column.name) for column in columns[:7]]
        order = np.lexsort((values[2], values[0]))
        self.ids, self.catalogs, self.persistables, self.row0, self.n_rows = (
            value[order].astype(np.int64) for value in values[:5]
        )
        self.positions = order
        self.names: npt.NDArray[np.str_] = values[5][order]
        self.modules: npt.NDArray[np.str_] = values[6][order]
        self._check_index()

    def _check_index(self) -> None:
        bad = (self.ids < 1) | (self.catalogs == 0) | (self.catalogs < -1) | (self.catalogs >= self.n_tables)
        stored = self.catalogs > 0
        bad |= stored & ((self.persistables < 0) | (self.row0 < 0) | (self.n_rows < 0))
        same = (self.ids[1:] == self.ids[:-1]) & (self.persistables[1:] == self.persistables[:-1])
        bad[1:] |= same
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            problem = "duplicate" if row and same[row - 1] else "invalid"
            raise MalformedArchiveError(
                f"{self.where}: {problem} entry of archive id {self.ids[row]} ({self.names[row]}): "
                f"cat.archive={self.catalogs[row]}, cat.persistable={self.persistables[row]}, "
                f"row0={self.row0[row]}, nrows={self.n_rows[row]}, with {self.n_tables - 1} data tables"
            )

    def __contains__(self, archive_id: object) -> bool:
        if not isinstance(archive_id, int | np.integer):
            return False
        at = int(np.searchsorted(self.ids, archive_id))
        return at < len(self.ids) and bool(self.ids[at] == archive_id)

    def _entries(self, archive_id: int) -> slice:
        if not 0 < archive_id <= _MAX_ID:
            raise MalformedArchiveError(f"{self.where}: there is no archive id {archive_id}")
        start = int(np.searchsorted(self.ids, archive_id, side="left"))
        stop = int(np.searchsorted(self.ids, archive_id, side="right"))
        if start == stop:
            raise MalformedArchiveError(f"{self.where}: there is no archive id {archive_id}")
        return slice(start, stop)

    def entries(self, archive_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Find the entries of several objects.

        Parameters
        ----------
        archive_ids : `numpy.ndarray` of int64
            Positive archive ids.

        Returns
        -------
        entries : `numpy.ndarray` of int64
            Positions in the index, object after object.

        Raises
        ------
        MalformedArchiveError
            Raised if an id isn't in the index.
        """
        starts = np.searchsorted(self.ids, archive_ids, side="left")
        counts = np.searchsorted(self.ids, archive_ids, side="right") - starts
        if not counts.all():
            missing = archive_ids[int(np.flatnonzero(counts == 0)[0])]
            raise MalformedArchiveError(f"{self.where}: there is no archive id {missing}")
        return run_rows(starts, counts)

    def name(self, archive_id: int) -> str:
        """Return the persistence name of an object without reading it.

        Parameters
        ----------
        archive_id : `int`
            Positive archive id.

        Returns
        -------
        name : `str`
            Persistence name.

        Raises
        ------
        MalformedArchiveError
            Raised if the id isn't in the index.
        """
        return str(self.names[self._entries(int(archive_id)).start])

    def module(self, name: str) -> str:
        """Return the module of a class of which there are objects.

        Parameters
        ----------
        name : `str`
            Persistence name.

        Returns
        -------
        module : `str`
            Python module the stack imports for it; may be empty.
        """
        return str(self.modules[self.names == name][0])

    def table(self, number: int) -> FitsTable:
        """Return one whole data table.

        Parameters
        ----------
        number : `int`
            1-based number of the data table (``cat.archive``).

        Returns
        -------
        table : `FitsTable`
            The table.

        Raises
        ------
        MalformedArchiveError
            Raised if it is missing or invalid.
        """
        if number not in self._tables:
            if not 1 <= number < self.n_tables:
                raise MalformedArchiveError(
                    f"{self.where}: there is no data table {number} of {self.n_tables - 1}"
                )
            try:
                table = read_table(self._file, self._first + number, MalformedArchiveError)
            except FitsFormatError as error:
                raise MalformedArchiveError(f"unreadable archive table: {error}") from error
            found = table.header.get("EXTTYPE", "ARCHIVE_DATA"), table.header.get("AR_CATN", number)
            if found != ("ARCHIVE_DATA", number):
                raise MalformedArchiveError(
                    f"{table.where}: expected archive table {number}, "
                    f"found EXTTYPE={found[0]!r}, AR_CATN={found[1]!r}"
                )
            self._tables[number] = table
        return self._tables[number]

    def tables(self, archive_id: int) -> list[TableView]:
        """Return the tables of one object.

        Parameters
        ----------
        archive_id : `int`
            Positive archive id.

        Returns
        -------
        tables : `list` [`TableView`]
            The object's rows, in the order of its own tables.

        Raises
        ------
        MalformedArchiveError
            Raised if the id is unknown or its index entries are inconsistent.
        """
        entries = self._entries(int(archive_id))
        names, modules = self.names[entries], self.modules[entries]
        if (names != names[0]).any() or (modules != modules[0]).any():
            raise MalformedArchiveError(
                f"{self.where}: archive id {archive_id} belongs to several classes: "
                f"{sorted(set(names.tolist()))}"
            )
        if (self.catalogs[entries] == -1).any():
            return []
        views = []
        for at in range(entries.start, entries.stop):
            table = self.table(int(self.catalogs[at]))
            start, count = int(self.row0[at]), int(self.n_rows[at])
            if start + count > len(table):
                raise MalformedArchiveError(
                    f"{table.where}: rows {start} to {start + count - 1} of archive id {archive_id} "
                    f"({names[0]}) are outside of the {len(table)} rows there are"
                )
            views.append(TableView(table, start, count))
        return views

    def get(self, archive_id: int) -> Any:
        """Read an object.

        Parameters
        ----------
        archive_id : `int`
            Archive id; 0 means no object.

        Returns
        -------
        obj : `object` | `None`
            The object; the same one each time.

        Raises
        ------
        MalformedArchiveError
            Raised if the id is unknown or the object can't be made from its
            rows, or refers to itself.
        UnsupportedPersistableError
            Raised if objects of this class can't be read.
        """
        archive_id = int(archive_id)
        if archive_id == 0:
            return None
        with self._lock:
            if archive_id not in self._objects:
                self._objects[archive_id] = self._make(archive_id)
            return self._objects[archive_id]

    def _make(self, archive_id: int) -> Any:
        if archive_id in self._active:
            chain = " -> ".join(str(i) for i in [*self._active, archive_id])
            raise MalformedArchiveError(f"{self.where}: an object contains itself (archive ids {chain})")
        if len(self._active) >= _MAX_DEPTH:
            raise MalformedArchiveError(f"{self.where}: objects are nested more than {_MAX_DEPTH} deep")
        name = self.name(archive_id)
        self._active.append(archive_id)
        try:
            try:
                reader = resolve_reader(name)
            except UnsupportedPersistableError as error:
                raise UnsupportedPersistableError(f"{self.where}: archive id {archive_id}: {error}") from None
            return self._read(reader, archive_id, name)
        finally:
            self._active.pop()

    def _read(self, reader: Callable[..., Any], archive_id: int, name: str) -> Any:
        try:
            return reader(self, self.tables(archive_id), name)
        except (ArchiveError, FitsFormatError, MemoryError):
            raise
        except Exception as error:
            # Columns of unexpected types and values make conversions fail.
            raise MalformedArchiveError(
                f"{self.where}: archive id {archive_id} is a malformed {name}: {str(error)[:200]}"
            ) from error

    def one_row(self, tables: list[TableView], name: str, n_tables: int = 1) -> TableView:
        """Check the number of tables and that the first has one row.

        Parameters
        ----------
        tables : `list` [`TableView`]
            The tables of an object.
        name : `str`
            Its class, for messages.
        n_tables : `int`, optional
            Number of tables it must have.

        Returns
        -------
        table : `TableView`
            The first table.

        Raises
        ------
        MalformedArchiveError
            Raised if the numbers of tables or rows are wrong.
        """
        if len(tables) != n_tables:
            raise MalformedArchiveError(f"{self.where}: {name} has {len(tables)} tables, not {n_tables}")
        if len(tables[0]) != 1:
            raise MalformedArchiveError(f"{tables[0].where}: {name} has {len(tables[0])} rows instead of 1")
        return tables[0]
