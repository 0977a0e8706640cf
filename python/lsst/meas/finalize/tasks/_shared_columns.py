# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What the columns of tables to be put together have in common."""

from __future__ import annotations

__all__ = ("ASTROPY_YAML", "SharedColumns", "check_units", "describe_columns")

from typing import TYPE_CHECKING

import astropy.table

if TYPE_CHECKING:
    import pyarrow as pa

ASTROPY_YAML = b"table_meta_yaml"
"""Key of what astropy tells of the columns and the table."""
_LENGTHS = (b"lsst::arrow::len::", b"table::len::")
"""Keys of the lengths of texts, before the column, of butler and astropy."""
_SHAPE = b"lsst::arrow::shape::"
"""Key of the shape of a column's rows."""


class SharedColumns:
    """Columns of Arrow tables that must be of the same names and types.

    Parameters
    ----------
    schema
        Schema of the first table.

    Attributes
    ----------
    schema : `pyarrow.Schema`
        Schema of the first table.
    described : `astropy.table.Table` or `None`
        A table without rows that has units, descriptions and metadata, if
        they aren't all those of the first table.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.described: astropy.table.Table | None = None
        self._seen = [_told(schema)]

    def add(self, schema: pa.Schema, what: object) -> None:
        """Check another table, and note what it tells of its columns.

        Parameters
        ----------
        schema
            Its schema.
        what
            What it is, for messages.

        Raises
        ------
        TypeError
            Raised if names, types, lengths of text, shapes of rows or units
            differ; a unit may be missing.
        """
        # Mostly they are the same, which is quickly found.
        told = _told(schema)
        if told in self._seen:
            return
        if differing := set(_typed_columns(self.schema)) ^ set(_typed_columns(schema)):
            names = sorted({name for name, *_ in differing})
            raise TypeError(f"Star tables differ in columns {names}: {what} from the first one.")
        if schema.names != self.schema.names:
            raise TypeError(f"Star tables differ in the order of columns: {what} from the first one.")
        new = describe_columns(schema)
        known = describe_columns(self.schema) if self.described is None else self.described
        check_units(known, new, what)
        self.described = _merge(known, new)
        self._seen.append(told)


def check_units(known: astropy.table.Table, new: astropy.table.Table, what: object) -> None:
    """Check that columns have the same units, as far as they have any.

    Parameters
    ----------
    known, new
        Tables with columns of the same names.
    what
        What the new one is, for messages.

    Raises
    ------
    TypeError
        Raised if units differ.
    """
    for name in known.colnames:
        units = known[name].unit, new[name].unit
        if None not in units and units[0] != units[1]:
            raise TypeError(
                f"Star tables differ in the unit of column {name!r}: {what} has {str(units[1])!r} instead of "
                f"{str(units[0])!r}."
            )


def _told(schema: pa.Schema) -> tuple[bytes, dict[bytes, bytes]]:
    """Return columns with what each tells as bytes, which takes less time than
    comparing schemas does, and what else is told of them.
    """
    keys = (ASTROPY_YAML, *_LENGTHS, _SHAPE)
    metadata = (schema.metadata or {}).items()
    others = {key: value for key, value in metadata if key.startswith(keys)}
    return schema.remove_metadata().serialize().to_pybytes(), others


def _typed_columns(schema: pa.Schema) -> list[tuple[str, str, bytes | None, bytes | None]]:
    """Return names, types, lengths of texts and shapes of rows."""
    metadata = schema.metadata or {}
    columns = []
    for field in schema:
        name = field.name.encode()
        lengths = [metadata[key + name] for key in _LENGTHS if key + name in metadata]
        length = lengths[0] if lengths else None
        columns.append((field.name, str(field.type), length, metadata.get(_SHAPE + name)))
    return columns


def describe_columns(schema: pa.Schema) -> astropy.table.Table:
    """Return the butler's table of a schema, without rows.

    Parameters
    ----------
    schema
        The schema.
    """
    from lsst.daf.butler.formatters.parquet import arrow_to_astropy

    return arrow_to_astropy(schema.empty_table())


def _merge(known: astropy.table.Table, new: astropy.table.Table) -> astropy.table.Table:
    """Return a table that tells of columns what either does, and as metadata
    what both do.
    """
    merged = known.copy()
    for name in known.colnames:
        for attribute in ("unit", "description", "format"):
            if getattr(known[name], attribute) is None:
                setattr(merged[name], attribute, getattr(new[name], attribute))
    merged.meta = {key: value for key, value in known.meta.items() if new.meta.get(key) == value}
    return merged
