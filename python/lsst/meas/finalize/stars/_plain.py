# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Columns of any library as NumPy arrays with masks."""

from __future__ import annotations

__all__ = ("PlainColumn", "arrow_unit", "as_table", "is_arrow_table", "is_table", "plain_column")

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from astropy.table import MaskedColumn, Table


class PlainColumn(NamedTuple):
    """Values of a column, which of them are missing, and their unit."""

    values: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_] | None
    unit: Any


def _library(value: Any) -> str:
    """Return the top-level package that defines the type of an object."""
    return type(value).__module__.partition(".")[0]


def _is_frame(dataset: Any) -> bool:
    return _library(dataset) == "pandas" and hasattr(dataset, "reset_index") and hasattr(dataset, "columns")


def is_arrow_table(dataset: Any) -> bool:
    """Return whether an object is a `pyarrow.Table`."""
    return _library(dataset) == "pyarrow" and hasattr(dataset, "column_names")


def is_table(dataset: Any) -> bool:
    """Return whether `as_table` takes an object."""
    return isinstance(dataset, Table | np.ndarray | Mapping) or _is_frame(dataset) or is_arrow_table(dataset)


def as_table(dataset: Any) -> Table:
    """Convert what a handle returns to a table, exactly.

    Parameters
    ----------
    dataset : `object`
        An `~astropy.table.Table`, a structured array, a mapping of columns,
        a `pandas.DataFrame` (its named indices become columns) or a
        `pyarrow.Table`.

    Returns
    -------
    table : `~astropy.table.Table`
        Columns in the same order; they share memory where possible.

    Raises
    ------
    TypeError
        Raised if the dataset is of another type.
    """
    if isinstance(dataset, Table):
        return dataset
    if isinstance(dataset, np.ndarray) and dataset.dtype.names is not None:
        return Table(dataset, copy=False)
    if isinstance(dataset, Mapping):
        columns = dict(dataset)
    elif _is_frame(dataset):
        # An index without a name numbers the rows.
        unnamed = [name is None for name in dataset.index.names]
        frame = dataset.reset_index(drop=all(unnamed))
        columns = {str(name): frame[name] for name in frame.columns}
    elif is_arrow_table(dataset):
        columns = {name: dataset.column(name) for name in dataset.column_names}
        table = Table({name: _for_table(column) for name, column in columns.items()}, copy=False)
        for name in columns:
            table[name].unit = arrow_unit(dataset, name)
        return table
    else:
        raise TypeError(f"A {type(dataset).__module__}.{type(dataset).__qualname__} is not a table.")
    return Table({name: _for_table(column) for name, column in columns.items()}, copy=False)


def arrow_unit(table: Any, name: str) -> str | None:
    """Return the unit of a column where the butler stores it."""
    unit: bytes = (table.schema.field(name).metadata or {}).get(b"unit", b"")
    return unit.decode() or None


def _for_table(column: Any) -> Any:
    """Return a column as a table can hold it without loss."""
    if _library(column) not in ("pandas", "pyarrow"):
        return column
    values, mask, _ = plain_column(column)
    return values if mask is None else MaskedColumn(values, mask=mask)


def plain_column(column: Any, arrow_unit: str | None = None) -> PlainColumn:
    """Take a column of any library apart.

    Parameters
    ----------
    column : `object`
        Column of an `~astropy.table.Table` (masked ones and quantities
        included), `numpy.ndarray`, `pandas.Series` or extension array,
        `pyarrow.Array` or `pyarrow.ChunkedArray`.
    arrow_unit : `str`, optional
        Unit of an Arrow column, which doesn't know it.

    Returns
    -------
    plain : `PlainColumn`
        Values of any dtype in native byte order, meaningless where the mask
        is set; mask or `None` if nothing is missing; unit or `None`.

    Notes
    -----
    Integers stay integers: NumPy has no missing ones, hence conversions by
    pandas and Arrow make floats of them, which are the same for ids that
    are not.
    """
    if _library(column) == "pandas":
        column = _without_pandas(column)
    if _library(column) == "pyarrow":
        return _from_arrow(column)._replace(unit=arrow_unit)
    unit = getattr(column, "unit", None)
    mask = getattr(column, "mask", None)
    if mask is not None:
        mask = np.broadcast_to(np.asarray(mask, dtype=bool), np.shape(column))
        mask = mask if mask.any() else None
        # astropy's Masked has ``unmasked``, numpy's ``data``.
        column = column.unmasked if hasattr(column, "unmasked") else column.data
    values = np.asarray(getattr(column, "value", column))
    if values.dtype.kind == "O":
        return _from_objects(values, mask, unit)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return PlainColumn(values, mask, unit)


def _without_pandas(column: Any) -> Any:
    """Return NumPy's or Arrow's array of a pandas column."""
    array = column if not hasattr(column, "array") else column.array
    if isinstance(array.dtype, np.dtype):
        return array.to_numpy()
    # Slow to import, and seldom needed.
    import pyarrow as pa

    return pa.array(array, from_pandas=True)


def _from_arrow(column: Any) -> PlainColumn:
    """Take an Arrow column apart."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        # Older versions return chunks.
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_fixed_size_list(column.type) and not column.null_count:
        flat = _from_arrow(column.flatten())
        shape = (-1, column.type.list_size)
        mask = None if flat.mask is None else flat.mask.reshape(shape)
        return PlainColumn(flat.values.reshape(shape), mask, None)
    mask = np.asarray(column.is_null()) if column.null_count else None
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if mask is not None and numeric:
        column = column.fill_null(0)
    values = _arrow_values(column)
    if values.dtype.kind == "O":
        return _from_objects(values, mask, None)
    return PlainColumn(values, mask, None)


def _arrow_values(array: Any) -> npt.NDArray[Any]:
    """Convert an Arrow array; what is missing is filled anyhow."""
    import pyarrow as pa

    # Arrow's own conversion imports pandas: 30 MB, 0.3 s.
    if len(array) and not array.null_count:
        if pa.types.is_boolean(array.type):
            return _arrow_values(array.cast(pa.uint8())).astype(bool)
        kinds = {
            "i": pa.types.is_signed_integer,
            "u": pa.types.is_unsigned_integer,
            "f": pa.types.is_floating,
        }
        for kind, is_kind in kinds.items():
            if is_kind(array.type):
                dtype = np.dtype(f"{kind}{array.type.bit_width // 8}")
                offset = array.offset * dtype.itemsize
                return np.frombuffer(array.buffers()[1], dtype, count=len(array), offset=offset)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _is_missing(value: Any) -> bool:
    """Return whether an object stands for a missing value."""
    return value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType")


def _from_objects(values: npt.NDArray[Any], mask: Any, unit: Any) -> PlainColumn:
    """Give an array of Python objects a dtype if they are all alike."""
    # One by one, as there is no other way to look at objects.
    missing = np.array([_is_missing(v) for v in values.flat], dtype=bool).reshape(values.shape)
    if mask is not None:
        missing |= mask
    present = values[~missing]
    kinds = {type(v) for v in present}
    if kinds <= {str, np.str_}:
        filled = np.where(missing, "", values).astype(str)
    elif kinds <= {bytes, np.bytes_}:
        filled = np.where(missing, b"", values).astype(bytes)
    else:
        filled = values
    return PlainColumn(filled, missing if missing.any() else None, unit)
