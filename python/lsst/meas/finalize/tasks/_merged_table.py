# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The star tables of detectors put together."""

from __future__ import annotations

__all__ = ("merge_tables",)

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import astropy.table
import numpy.typing as npt

from lsst.daf.butler import DeferredDatasetHandle

from ..butler import StreamedTable, stream_all
from ._column_blocks import ColumnBlocks
from ._output import WideTable
from ._shared_columns import ASTROPY_YAML, SharedColumns, check_units, describe_columns
from ._stack_types import fetch

if TYPE_CHECKING:
    import pyarrow as pa


def merge_tables(sources: Sequence[Any], done: Callable[[], object]) -> astropy.table.Table:
    """Concatenate tables, or what handles are of.

    What a butler stores is concatenated as it is read: making columns of
    each detector's table would take longer than all the rest.

    Parameters
    ----------
    sources
        Tables or handles of them.
    done
        Called when a table has been read.

    Returns
    -------
    table : `astropy.table.Table`
        Their rows.

    Raises
    ------
    TypeError
        Raised if the tables differ in columns, their types or units.
    """
    if all(isinstance(source, DeferredDatasetHandle) for source in sources):
        return _concatenate(_read_each(sources, done), len(sources))
    tables = []
    for source in sources:
        tables.append(fetch(source))
        done()
    return _stack_tables(tables)


def _read_each(
    handles: Sequence[DeferredDatasetHandle], done: Callable[[], object]
) -> Iterator[tuple[object, pa.Table]]:
    for handle in stream_all(handles):
        if isinstance(handle, StreamedTable):
            yield handle.ref, handle.read()
        else:
            yield handle.ref, handle.get(storageClass="ArrowTable")
        done()


def _concatenate(tables: Iterable[tuple[object, pa.Table]], n_tables: int) -> astropy.table.Table:
    """Concatenate Arrow tables of identical columns, without empty ones, each
    with what it is for messages.
    """
    blocks: ColumnBlocks | None = None
    shared: SharedColumns | None = None
    for what, table in tables:
        if shared is None or (blocks is None and len(table)):
            shared = SharedColumns(table.schema)
        if len(table):
            blocks = ColumnBlocks(table.schema, n_tables) if blocks is None else blocks
            shared.add(table.schema, what)
            blocks.append(table)
        del table  # so that the next one is read to the same memory, which takes less time
    assert shared is not None
    return _make_table(shared, {} if blocks is None else blocks.columns())


def _make_table(shared: SharedColumns, columns: dict[str, npt.NDArray[Any]]) -> WideTable:
    """Return a table described as the butler describes one."""
    from lsst.daf.butler.formatters.parquet import ASTROPY_PANDAS_INDEX_KEY

    schema, described = shared.schema, shared.described
    special = {ASTROPY_YAML, ASTROPY_PANDAS_INDEX_KEY.encode()} & (schema.metadata or {}).keys()
    if columns and described is None and not special and len(columns) == len(schema):
        table = WideTable(list(columns.values()), names=list(columns), copy=False)
        for column, field in zip(table.columns.values(), schema, strict=True):
            _describe(column, field.metadata or {})
        return table
    if described is None:
        # This would import pandas.
        described = describe_columns(schema)
    if not columns:
        return WideTable(described, copy=False)
    table = WideTable(list(columns.values()), names=list(columns), copy=False, meta=described.meta)
    for column, description in zip(table.columns.values(), described.columns.values(), strict=True):
        for attribute in ("description", "format", "unit"):
            if (value := getattr(description, attribute)) is not None:
                setattr(column, attribute, value)
        if description.meta:
            column.meta = description.meta
    return table


def _describe(column: astropy.table.Column, metadata: Mapping[bytes, bytes]) -> None:
    """Give a column the description and unit that its field has."""
    for attribute in ("description", "unit"):
        if value := metadata.get(attribute.encode(), b"").decode():
            setattr(column, attribute, value)


def _stack_tables(tables: Sequence[astropy.table.Table]) -> astropy.table.Table:
    """Concatenate tables of identical columns, leaving out empty ones."""
    filled = {i: table for i, table in enumerate(tables) if len(table)} or dict(enumerate(tables[:1]))
    first = next(iter(filled.values()))
    for i, table in filled.items():
        what = f"table {i}"
        if table.dtype != first.dtype:
            differing = sorted({name for name, *_ in set(first.dtype.descr) ^ set(table.dtype.descr)})
            where = f"columns {differing}" if differing else "the order of columns"
            raise TypeError(f"Star tables differ in {where}: {what} from the first one.")
        check_units(first, table, what)
    stacked = astropy.table.vstack(list(filled.values()), join_type="exact", metadata_conflicts="silent")
    stacked.meta = {
        key: value
        for key, value in first.meta.items()
        if not key.startswith("LSST.BUTLER")
        and all(key in t.meta and t.meta[key] == value for t in filled.values())
    }
    return stacked
