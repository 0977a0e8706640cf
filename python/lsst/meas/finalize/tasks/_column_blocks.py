# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Columns of many Arrow tables, put together as the tables come."""

from __future__ import annotations

__all__ = ("ColumnBlocks",)

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

_ROOM = 1.0625
"""Part of rows by which tables to come may have more than those so far."""
_MAX_GUESS = 2**30
"""Bytes of rows that are expected but may never come."""
_AT_ONCE = 2**14
"""Rows that are there twice."""
_TEXT_LENGTH = b"lsst::arrow::len::"
"""Key of the length of a column of text, in characters."""
_MAX_TEXT = 1000
"""Characters; of longer ones each row mustn't get so many."""


class ColumnBlocks:
    """Columns of tables of the same schema, one behind the other.

    Parameters
    ----------
    schema
        Schema of the tables.
    n_tables
        How many there will be.

    Notes
    -----
    Numbers, flags and texts of known length are copied to arrays as each
    table comes, so that its memory is used again for the next one: to keep
    all of them and put them together in the end takes several times the
    memory and the time.  Columns with gaps, and those of other types, remain
    as they are until the end.

    There is an array per column rather than per type: large pages of memory
    would make several columns' rows to come occupy memory at once.
    """

    def __init__(self, schema: pa.Schema, n_tables: int) -> None:
        self._schema = schema
        self._arrays: dict[int, npt.NDArray[Any]] = {}
        self._by_type: dict[pa.DataType, list[int]] = {}
        self._others: dict[int, list[pa.Array]] = {}
        for i, field in enumerate(schema):
            dtype = _find_dtype(field, schema.metadata or {})
            if dtype is None:
                self._others[i] = []
            else:
                self._arrays[i] = np.empty(0, dtype=dtype)
                self._by_type.setdefault(field.type, []).append(i)
        self._n_tables = n_tables
        self._n_done = self._n_rows = self._capacity = 0

    def append(self, table: pa.Table) -> None:
        """Append the rows of a table, of which nothing has to be kept.

        Parameters
        ----------
        table
            Table with columns of the names and types of the schema.
        """
        for batch in table.to_batches(_AT_ONCE):
            stop = self._n_rows + len(batch)
            if stop > self._capacity:
                self._grow(stop)
            for type in self._by_type:
                self._copy(batch, type, stop)
            for i, arrays in self._others.items():
                arrays.append(batch.column(i))
            self._n_rows = stop
        self._n_done += 1

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return the columns.

        Returns
        -------
        columns : `dict` [`str`, `numpy.ndarray`]
            Writable arrays by name, in the order of the schema: what
            `lsst.daf.butler.formatters.parquet.arrow_to_numpy_dict` returns
            for the tables put together.
        """
        import pyarrow as pa

        from lsst.daf.butler.formatters.parquet import arrow_to_numpy_dict

        found = {}
        if self._others:
            fields = [self._schema.field(i) for i in self._others]
            chunks = [pa.chunked_array(arrays) for arrays in self._others.values()]
            schema = pa.schema(fields, metadata=self._schema.metadata)
            found = arrow_to_numpy_dict(pa.table(chunks, schema=schema))
            # Some may share what Arrow has, which can't be changed.
            found = {name: a if a.flags.writeable else a.copy() for name, a in found.items()}
        names = self._schema.names
        found |= {names[i]: array[: self._n_rows] for i, array in self._arrays.items()}
        return {name: found[name] for name in names}

    def _copy(self, batch: pa.RecordBatch, type: pa.DataType, stop: int) -> None:
        """Set rows up to one of the columns of a type."""
        columns = self._by_type[type]
        found = _to_numpy(batch, type, columns)
        if found is None:
            self._give_up(type, _gaps(batch, columns))
            self._copy(batch, type, stop)
            return
        for i, values in zip(columns, found, strict=True):
            self._arrays[i][self._n_rows : stop] = values

    def _grow(self, n_rows: int) -> None:
        """Make room for some rows, and for those to be expected."""
        row_bytes = sum(array.itemsize for array in self._arrays.values())
        expected = int(_ROOM * n_rows * self._n_tables / (self._n_done + 1))
        # A file that is unlike the others mustn't fill the memory.
        self._capacity = max(n_rows, min(expected, max(2 * n_rows, _MAX_GUESS // max(row_bytes, 1))))
        for i, old in self._arrays.items():
            # One after the other, so that little is there twice.
            self._arrays[i] = np.empty(self._capacity, dtype=old.dtype)
            self._arrays[i][: self._n_rows] = old[: self._n_rows]

    def _give_up(self, type: pa.DataType, columns: list[int]) -> None:
        """Keep columns as they come instead of copying them."""
        import pyarrow as pa

        self._by_type[type] = [i for i in self._by_type[type] if i not in columns]
        for i in columns:
            values = self._arrays.pop(i)[: self._n_rows]
            self._others[i] = [pa.array(values.tolist() if values.dtype.kind == "U" else values, type=type)]


def _find_dtype(field: pa.Field, metadata: Mapping[bytes, bytes]) -> Any:
    """Return the type of a column's array, `None` if it isn't known."""
    import pyarrow as pa

    type = field.type
    if pa.types.is_boolean(type) or pa.types.is_integer(type) or type in (pa.float32(), pa.float64()):
        return type.to_pandas_dtype()
    length = metadata.get(_TEXT_LENGTH + field.name.encode(), b"")
    if pa.types.is_string(type) and length.isdigit() and 0 < int(length) <= _MAX_TEXT:
        return f"U{int(length)}"
    return None


def _gaps(batch: pa.RecordBatch, columns: list[int]) -> list[int]:
    """Return which columns have gaps."""
    return [i for i in columns if batch.column(i).null_count]


def _to_numpy(
    batch: pa.RecordBatch, type: pa.DataType, columns: list[int]
) -> npt.NDArray[Any] | list[Any] | None:
    """Return the rows of each column of a type; `None` if there are gaps."""
    import pyarrow as pa

    if not columns:
        return []
    if pa.types.is_string(type):
        # Arrow's own conversion would import pandas.
        return None if _gaps(batch, columns) else [batch.column(i).to_pylist() for i in columns]
    if not pa.types.is_boolean(type):
        try:
            return batch.select(columns).to_tensor(row_major=False).to_numpy().T
        except pa.ArrowTypeError:
            # Arrow looks for gaps in less time.
            if _gaps(batch, columns):
                return None
            raise
    # Bits of one array behind the other can be unpacked at once.
    flags = pa.concat_arrays([batch.column(i) for i in columns])
    if flags.null_count:
        return None
    n_bits = flags.offset + len(flags)
    packed = np.frombuffer(flags.buffers()[1], dtype=np.uint8)
    bits = np.unpackbits(packed, count=n_bits, bitorder="little")[flags.offset :]
    return bits.view(np.bool_).reshape(len(columns), len(batch))
