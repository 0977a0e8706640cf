# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Reading of tables by deferred handles."""

from __future__ import annotations

__all__ = ("TableReader", "describe")

import logging
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ._columns import OutsideTable
from ._plain import is_table

_LOG = logging.getLogger(__name__)

type Filters = Sequence[tuple[str, str, Any]]


def describe(source: Any, role: str, tract: int) -> str:
    """Return what to call a table in messages.

    Parameters
    ----------
    source : `lsst.daf.butler.DeferredDatasetHandle` or table
        Handle or table.
    role : `str`
        Name of the connection.
    tract : `int`
        Tract of the table.

    Returns
    -------
    what : `str`
        The connection, the dataset type if that is another name, and the
        tract.
    """
    dataset_type = getattr(getattr(source, "ref", None), "datasetType", None)
    name = getattr(dataset_type, "name", role)
    return f"{role} of tract {tract}" if name == role else f"{role} ({name}) of tract {tract}"


def _expand(patterns: Sequence[str], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names matching any pattern, and patterns without a match;
    the butler expands patterns alike.
    """
    found = {p: [n for n in names if fnmatchcase(n, p)] for p in patterns}
    missing = [p for p, matching in found.items() if not matching]
    return list(dict.fromkeys(n for matching in found.values() for n in matching)), missing


def _unreadable(what: str, error: Exception) -> Exception:
    """Return what to raise if reading fails.

    Formatters, Arrow and the clients of object stores raise various things.
    """
    kinds = (kind for kind in (OSError, MemoryError) if isinstance(error, kind))
    return next(kinds, ValueError)(f"{what} can't be read: {error}")


def _named(pieces: Iterator[Any], what: str) -> Iterator[Any]:
    """Name the table in errors of its reader, such as for damaged pages."""
    try:
        yield from pieces
    except Exception as error:
        raise _unreadable(what, error) from error


class TableReader:
    """Read tables from deferred handles, as little of them as possible.

    Notes
    -----
    The storage class ``ArrowAstropy`` declares the read parameters
    ``columns`` and ``filters``, but not every reader behind it knows the
    latter: the Parquet formatter of daf_butler 30.2026.43 raises, in-memory
    handles ignore it.  So it is tried, and not again after a refusal, and
    the result may hold rows that don't pass: callers must filter again.
    """

    def __init__(self) -> None:
        self._knows_filters = True

    def chunks(
        self,
        source: Any,
        what: str,
        columns: Sequence[str] | None = None,
        filters: Filters | None = None,
    ) -> Iterator[OutsideTable]:
        """Read a table piece by piece, if the source knows how.

        Parameters
        ----------
        source, what, columns, filters
            See `read`.  A source with a method ``batches`` may return an
            iterator of pieces, at least one, or `None`.

        Yields
        ------
        table : `OutsideTable`
            Rows in order; those that don't pass the filters may be missing.

        Raises
        ------
        KeyError, ValueError, OSError
            Raised as by `read`.
        """
        batches = getattr(source, "batches", None)
        pieces = None if batches is None or columns is None else batches(columns, filters or ())
        if pieces is None:
            yield self.read(source, what, columns, filters)
            return
        for piece in _named(pieces, what):
            yield self._checked(OutsideTable(piece, what), columns)

    def read(
        self,
        source: Any,
        what: str,
        columns: Sequence[str] | None = None,
        filters: Filters | None = None,
    ) -> OutsideTable:
        """Read some columns and at least the rows passing some filters.

        Parameters
        ----------
        source : `lsst.daf.butler.DeferredDatasetHandle` or table
            Handle with a ``get`` method; or an `~astropy.table.Table`,
            structured array, mapping of columns or other table.
        what : `str`
            What the table is, for messages.
        columns : `~collections.abc.Sequence` [ `str` ], optional
            Columns, or patterns of their names; all by default.
        filters : `~collections.abc.Sequence`, optional
            Conditions (column, operator, integer), all to be met, as in
            `pyarrow.parquet.read_table`.

        Returns
        -------
        table : `OutsideTable`
            The table; it may have more columns, and share memory with the
            source.

        Raises
        ------
        KeyError
            Raised if a column, or any of a pattern, is not there.
        ValueError, OSError
            Raised if what is there can't be read as a table.
        """
        if is_table(source):
            return self._checked(OutsideTable(source, what), columns)
        parameters: dict[str, Any] = {} if columns is None else {"columns": list(columns)}
        if filters and self._knows_filters:
            try:
                table = self._get(source, what, parameters | {"filters": list(filters)})
                # Filters on text or floats compare them with integers.
                if all(table.is_integer(name) for name, _, _ in filters):
                    return self._checked(table, columns)
            except Exception as error:
                # If that wasn't the reason, the second attempt tells.
                _LOG.debug("Reading without row filters: %s", error)
            self._knows_filters = False
        try:
            return self._checked(self._get(source, what, parameters), columns)
        except Exception as error:
            self._name_missing(source, what, columns, error)
            if any("*" in pattern for pattern in columns or ()):
                # In-memory pandas tables whose index matches a pattern.
                return self.read(source, what)
            raise _unreadable(what, error) from error

    @staticmethod
    def _get(source: Any, what: str, parameters: dict[str, Any]) -> OutsideTable:
        """Get a dataset."""
        return OutsideTable(source.get(parameters=parameters) if parameters else source.get(), what)

    @staticmethod
    def _checked(table: OutsideTable, columns: Sequence[str] | None) -> OutsideTable:
        """Return the table if it has all columns."""
        _, missing = _expand(columns or (), table.names)
        table.require(missing)
        return table

    @staticmethod
    def _name_missing(source: Any, what: str, columns: Sequence[str] | None, error: Exception) -> None:
        """Raise `KeyError` if an error was about missing columns; readers
        raise various things then.
        """
        try:
            names = [str(name) for name in source.get(component="columns")]
        except Exception:  # asking is an attempt only; the first error will be raised
            return
        _, missing = _expand(columns or (), names)
        if missing:
            raise KeyError(f"{what} has no columns {missing}.") from error
