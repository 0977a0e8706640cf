# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Wide tables to Arrow, with what is text about their columns made once.

What Arrow needs to know of the 774 columns of a star table, and what it is
told about them in YAML, is the same for every detector and takes longer to
make than the rows.
"""

from __future__ import annotations

__all__ = ("ArrowTableFormatter", "table_to_arrow", "write_parquet")

from functools import lru_cache
from typing import Any

import astropy.table
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from astropy.table.meta import get_yaml_from_header, get_yaml_from_table

from lsst.daf.butler.formatters.parquet import (
    ASTROPY_PANDAS_INDEX_KEY,
    ParquetFormatter,
    astropy_to_arrow,
    compute_row_group_size,
)
from lsst.resources import ResourcePath
from lsst.utils.introspection import get_full_type_name

from .._texts import encode_texts
from ._row_groups import group_bounds, write_row_groups

type _ColumnKey = tuple[str, str, str | None, str | None, str | None]

_YAML = b"table_meta_yaml"
_ROW_COUNT = b"lsst::arrow::rowcount"
_TEXT_OR_NONE = (str, type(None))


class ArrowTableFormatter(ParquetFormatter):
    """Write tables as the base class does, in less time.

    Notes
    -----
    Row groups of tables of several detectors end where a detector ends, so
    that the rows of one can be read without the others.

    Reading is the base class's, and datastores record its name: such files
    are read by any client.
    """

    @classmethod
    def name(cls) -> str:
        """Return the name of the formatter that reads the files.

        Returns
        -------
        name : `str`
            Name of the base class.
        """
        return get_full_type_name(ParquetFormatter)

    def write_local_file(self, in_memory_dataset: Any, uri: ResourcePath) -> None:
        """Write a table.

        Parameters
        ----------
        in_memory_dataset : `astropy.table.Table` or another table
            Whatever the base class takes.
        uri : `lsst.resources.ResourcePath`
            Where it goes.
        """
        if not isinstance(in_memory_dataset, astropy.table.Table):
            super().write_local_file(in_memory_dataset, uri)
            return
        write_parquet(in_memory_dataset, uri.ospath)


def write_parquet(table: astropy.table.Table, path: str) -> None:
    """Write a table to a file as `ArrowTableFormatter` does.

    Parameters
    ----------
    table
        The table.
    path
        Where it goes.
    """
    arrow = table_to_arrow(table)
    # Measured numbers hardly repeat: dictionaries take space and time.
    repeating = [field.name for field in arrow.schema if not pa.types.is_floating(field.type)]
    bounds = _detector_bounds(arrow)
    if len(bounds) > 2:
        write_row_groups(arrow, bounds, path, use_dictionary=repeating)
        return
    # Smallest and largest numbers tell which row groups to skip: of one
    # group only those of ids, visits and detectors may be of use.
    searched = [name for name in repeating if not pa.types.is_boolean(arrow.schema.field(name).type)]
    rows = compute_row_group_size(arrow.schema)
    options = {"write_statistics": searched} if len(arrow) <= rows else {}
    pq.write_table(arrow, path, row_group_size=rows, use_dictionary=repeating, **options)


def _detector_bounds(table: pa.Table) -> list[int]:
    """Return where row groups start and end, if detectors are in order."""
    if "detector" not in table.schema.names or not pa.types.is_integer(table.schema.field("detector").type):
        return []
    column = table["detector"]
    if column.null_count:
        return []
    # Arrow's conversion to NumPy would import pandas.
    detector = np.array(column.to_pylist(), dtype=column.type.to_pandas_dtype())
    return [] if (detector[1:] < detector[:-1]).any() else group_bounds(detector)


def table_to_arrow(table: astropy.table.Table) -> pa.Table:
    """Convert a table as the butler does.

    Parameters
    ----------
    table
        The table.

    Returns
    -------
    `pyarrow.Table`
        What `lsst.daf.butler.formatters.parquet.astropy_to_arrow` returns,
        schema and metadata included.
    """
    columns = list(table.columns.values())
    if not all(map(_is_plain, columns)) or ASTROPY_PANDAS_INDEX_KEY in table.meta or not columns:
        return astropy_to_arrow(table)
    schema = _plain_schema(tuple(map(_column_key, columns)))
    metadata = dict(schema.metadata)
    metadata[_ROW_COUNT] = str(len(table)).encode()
    if table.meta:
        metadata[_YAML] += b"\n" + _meta_yaml(dict(table.meta))
    arrays = [_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema.with_metadata(metadata))


def _array(column: astropy.table.Column, type: pa.DataType) -> pa.Array:
    """Return the rows of a column.

    Numbers share the memory, and Arrow's own conversion would import pandas.
    """
    values = np.ascontiguousarray(column)
    if pa.types.is_boolean(type):
        values = np.packbits(values, bitorder="little")
    elif pa.types.is_string(type):
        return _text_array(values)
    elif not pa.types.is_primitive(type):
        return pa.array(values.tolist(), type=type)
    return pa.Array.from_buffers(type, len(column), [None, pa.py_buffer(values)], null_count=0)


def _text_array(values: npt.NDArray[np.str_]) -> pa.StringArray:
    # As Arrow reads texts of numpy: they end at the first zero.
    encoded = encode_texts(values)
    codes = encoded.view(np.uint8).reshape(len(values), encoded.itemsize)
    used = np.logical_and.accumulate(codes != 0, axis=1)
    ends = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    if ends[-1] > np.iinfo(np.int32).max:
        return pa.array([value.partition("\0")[0] for value in values.tolist()], type=pa.string())
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(codes[used])]
    return pa.Array.from_buffers(pa.string(), len(values), buffers, null_count=0)


def _is_plain(column: Any) -> bool:
    """Tell whether a column's key says everything about it."""
    return (
        type(column) is astropy.table.Column
        and column.ndim == 1
        and column.dtype.kind in "biufU"
        and column.dtype.isnative
        and not column.meta
        # YAML knows no other kinds of text.
        and type(column.name) is str
        and type(column.format) in _TEXT_OR_NONE
        and type(column.description) in _TEXT_OR_NONE
    )


def _column_key(column: astropy.table.Column) -> _ColumnKey:
    unit = column.unit
    return (
        column.name,
        column.dtype.str,
        None if unit is None else unit.to_string(),
        column.format,
        column.description,
    )


@lru_cache(maxsize=16)
def _plain_schema(keys: tuple[_ColumnKey, ...]) -> pa.Schema:
    """Return the butler's schema of a table without rows and metadata."""
    fields = []
    metadata: dict[bytes | str, bytes | str] = {_ROW_COUNT: "0"}
    for name, dtype, unit, _, description in keys:
        type = np.dtype(dtype).type
        about = {"description": description} if description else {}
        if unit is not None:
            about["unit"] = unit
        fields.append(pa.field(name, pa.from_numpy_dtype(type), metadata=about))
        if type is np.str_:
            for kind in ("lsst::arrow::len", "table::len"):
                metadata[f"{kind}::{name}"] = str(np.dtype(dtype).itemsize // 4)
    metadata[_YAML] = _columns_yaml(keys)
    return pa.schema(fields, metadata=metadata)


def _columns_yaml(keys: tuple[_ColumnKey, ...]) -> str:
    """Return astropy's YAML text about columns, made by libyaml if that
    makes the same: it breaks lines within escaped texts elsewhere.
    """
    texts = (text for name, _, *others in keys for text in (name, *others) if text is not None)
    if yaml.__with_libyaml__ and all(text.isascii() and text.isprintable() for text in texts):
        return yaml.dump({"datatype": list(map(_Entry, keys))}, Dumper=_Dumper, width=130).rstrip("\n")
    return "\n".join(get_yaml_from_header({"cols": list(map(_empty_column, keys))}))


class _Entry:
    """What YAML tells about a column."""

    def __init__(self, key: _ColumnKey) -> None:
        name, dtype, unit, format, description = key
        kind = np.dtype(dtype)
        values = {
            "name": name,
            "unit": unit,
            "datatype": "string" if kind.kind == "U" else kind.name,
            "format": format,
            "description": description,
        }
        self.items = [(field, value) for field, value in values.items() if value is not None]


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """A dumper that knows entries, whose order is kept."""

    def represent_entry(self, entry: _Entry) -> yaml.MappingNode:
        """Return the node of an entry.

        Parameters
        ----------
        entry
            What to tell.

        Returns
        -------
        node : `yaml.MappingNode`
            All of it on one line, if that is wide enough.
        """
        nodes = [(self.represent_data(field), self.represent_data(value)) for field, value in entry.items]
        return yaml.MappingNode("tag:yaml.org,2002:map", nodes, flow_style=True)


_Dumper.add_representer(_Entry, _Dumper.represent_entry)


def _empty_column(key: _ColumnKey) -> astropy.table.Column:
    name, dtype, unit, format, description = key
    return astropy.table.Column(
        np.zeros(0, dtype=dtype),
        name=name,
        unit=None if unit is None else astropy.units.Unit(unit, parse_strict="silent"),
        format=format,
        description=description,
    )


def _meta_yaml(meta: dict[str, Any]) -> bytes:
    """Return the YAML lines about a table's metadata."""
    column = astropy.table.Column(np.zeros(0), name="x")
    lines = get_yaml_from_table(astropy.table.Table([column], meta=meta, copy=False))
    return "\n".join(lines[lines.index("meta: !!omap") :]).encode()
