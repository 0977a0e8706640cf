# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Reading of tables by deferred handles."""

from __future__ import annotations

__all__ = ("TableReader",)

import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from astropy.table import Table

_LOG = logging.getLogger(__name__)

type Filters = Sequence[tuple[str, str, Any]]


def _expand(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names matching any pattern; the butler does the same."""
    found = {p: [n for n in names if fnmatchcase(n, p)] for p in patterns}
    missing = [p for p, matching in found.items() if not matching]
    if missing:
        raise KeyError(f"The table has no columns {missing}.")
    return list(dict.fromkeys(n for matching in found.values() for n in matching))


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

    def read(
        self, source: Any, columns: Sequence[str] | None = None, filters: Filters | None = None
    ) -> Table:
        """Read some columns and at least the rows passing some filters.

        Parameters
        ----------
        source : `lsst.daf.butler.DeferredDatasetHandle` or table
            Handle with a ``get`` method; or an `~astropy.table.Table`,
            structured array or mapping of columns.
        columns : `~collections.abc.Sequence` [ `str` ], optional
            Columns, or patterns of their names; all by default.
        filters : `~collections.abc.Sequence`, optional
            Conditions (column, operator, value), all to be met, as in
            `pyarrow.parquet.read_table`.

        Returns
        -------
        table : `~astropy.table.Table`
            A new table (possibly sharing columns with the source).
        """
        if isinstance(source, Table | np.ndarray | Mapping):
            table = Table(source, copy=False)
            return table if columns is None else table[_expand(columns, table.colnames)]
        parameters: dict[str, Any] = {} if columns is None else {"columns": list(columns)}
        if filters and self._knows_filters:
            try:
                return self._as_table(source.get(parameters=parameters | {"filters": list(filters)}))
            except (KeyError, NotImplementedError, TypeError, ValueError) as error:
                # If that wasn't the reason, the second attempt tells.
                _LOG.debug("Reading without row filters: %s", error)
                self._knows_filters = False
        return self._as_table(source.get(parameters=parameters) if parameters else source.get())

    @staticmethod
    def _as_table(dataset: Any) -> Table:
        """Convert what a handle returns."""
        return dataset if isinstance(dataset, Table) else Table(dataset, copy=False)
