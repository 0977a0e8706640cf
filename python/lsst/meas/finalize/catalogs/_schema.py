# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Schemas: fields, units, aliases."""

from __future__ import annotations

__all__ = ("Field", "Schema")

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import astropy.units
import numpy as np

_SCALARS: dict[str, np.dtype] = {
    "B": np.dtype(np.uint8),
    "U": np.dtype(np.uint16),
    "I": np.dtype(np.int32),
    "L": np.dtype(np.int64),
    "F": np.dtype(np.float32),
    "D": np.dtype(np.float64),
    "Angle": np.dtype(np.float64),
    "Flag": np.dtype(np.bool_),
}
_ARRAYS: dict[str, np.dtype] = {f"Array{code}": _SCALARS[code] for code in "BUIFD"}


@lru_cache(maxsize=256)
def _parse_unit(text: str) -> astropy.units.UnitBase:
    # Those that astropy doesn't know are what takes time.
    return astropy.units.Unit(text, parse_strict="silent")


@dataclass(frozen=True)
class Field:
    """Description of one catalogue field.

    Parameters
    ----------
    name
        Name of the field.
    type
        Type code of `lsst.afw.table`: ``B U I L F D Angle Flag String``
        or ``ArrayB … ArrayD``.
    doc
        What the field holds.
    unit
        Unit string; empty if there is none.
    size
        Length of a string or array field; 0 means variable.

    Raises
    ------
    ValueError
        Raised for an unknown type code.
    """

    name: str
    type: str
    doc: str = ""
    unit: str = ""
    size: int = 0

    def __post_init__(self) -> None:
        if self.type not in _SCALARS and self.type not in _ARRAYS and self.type != "String":
            raise ValueError(f"Field {self.name!r} has unknown type code {self.type!r}.")

    @property
    def dtype(self) -> np.dtype:
        """The `numpy.dtype` of one element of the column."""
        if self.type == "String":
            return np.dtype(f"U{self.size}") if self.size else np.dtype(object)
        return _SCALARS[self.type] if self.type in _SCALARS else _ARRAYS[self.type]

    @property
    def parsed_unit(self) -> astropy.units.UnitBase | None:
        """Unit as astropy has it, known or not; `None` if there is none."""
        return _parse_unit(self.unit) if self.unit else None

    @property
    def is_array(self) -> bool:
        """Whether each row holds an array."""
        return self.type in _ARRAYS

    def check_column(self, values: Any, n: int) -> np.ndarray:
        """Return values as a column.

        Parameters
        ----------
        values
            One entry per row.
        n
            Number of rows.

        Returns
        -------
        `numpy.ndarray`
            Column as `make_column` makes them; without a copy if possible.

        Raises
        ------
        ValueError
            Raised if the values have another shape.
        """
        if self.is_array and not self.size:
            if isinstance(values, np.ndarray) and values.dtype == object and values.shape == (n,):
                return values
            column = np.empty(n, dtype=object)
            for i, value in enumerate(values):  # rows differ in length
                column[i] = np.asarray(value, dtype=self.dtype)
            return column
        column = np.asarray(values, dtype=self.dtype)
        shape = (n, self.size) if self.is_array else (n,)
        if column.shape != shape:
            raise ValueError(f"Values of field {self.name!r} have shape {column.shape} instead of {shape}.")
        return column

    def make_column(self, n: int) -> np.ndarray:
        """Return a column of ``n`` rows in the state "never written".

        Floats and angles are NaN, integers 0, flags False, strings empty
        (spec 02 §4.2).

        Parameters
        ----------
        n
            Number of rows.

        Returns
        -------
        `numpy.ndarray`
            Shape ``(n,)``, or ``(n, size)`` for arrays of fixed length, or
            an object array of arrays for those of variable length.
        """
        if self.is_array and not self.size:
            column = np.empty(n, dtype=object)
            for i in range(n):  # an object array cannot be filled with arrays at once
                column[i] = np.zeros(0, dtype=self.dtype)
            return column
        if self.type == "String" and not self.size:
            return np.full(n, "", dtype=object)
        shape = (n, self.size) if self.is_array else (n,)
        if self.dtype.kind == "f":
            return np.full(shape, np.nan, dtype=self.dtype)
        return np.zeros(shape, dtype=self.dtype)


class Schema:
    """Ordered fields of a catalogue, with aliases.

    Parameters
    ----------
    fields
        Fields to begin with.
    aliases
        Mapping of alias to target; slots are aliases ``slot_<Name>``.
    """

    def __init__(self, fields: tuple[Field, ...] = (), aliases: dict[str, str] | None = None) -> None:
        self._fields: dict[str, Field] = {}
        self._sorted_aliases: list[str] | None = None
        self._aliases: dict[str, str] = {}
        # What aliases make of names that were asked for.
        self._applied: dict[str, str] = {}
        for field in fields:
            self._insert(field)
        for alias, target in (aliases or {}).items():
            self.set_alias(alias, target)

    def _insert(self, field: Field) -> Field:
        if field.name in self._fields:
            raise ValueError(f"Field {field.name!r} is in the schema already.")
        self._fields[field.name] = field
        return field

    @classmethod
    def source_minimal(cls) -> Schema:
        """Return the schema every source catalogue starts with."""
        return cls(
            (
                Field("id", "L", "unique ID"),
                Field("coord_ra", "Angle", "position in ra/dec", "rad"),
                Field("coord_dec", "Angle", "position in ra/dec", "rad"),
                Field("parent", "L", "unique ID of parent source"),
            )
        )

    @classmethod
    def exposure_minimal(cls) -> Schema:
        """Return the schema every exposure catalogue starts with."""
        return cls(
            (
                Field("id", "L", "unique ID"),
                Field("bbox_min_x", "I", "bounding box (minimum)", "pixel"),
                Field("bbox_min_y", "I", "bounding box (minimum)", "pixel"),
                Field("bbox_max_x", "I", "bounding box (maximum)", "pixel"),
                Field("bbox_max_y", "I", "bounding box (maximum)", "pixel"),
            )
        )

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields in order."""
        return tuple(self._fields.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all fields in order."""
        return tuple(self._fields)

    @property
    def aliases(self) -> dict[str, str]:
        """A copy of the alias map."""
        return dict(self._aliases)

    def add_field(self, name: str, type: str, *, doc: str = "", unit: str = "", size: int = 0) -> Field:
        """Append a field.

        Parameters
        ----------
        name, type, doc, unit, size
            See `Field`.

        Returns
        -------
        `Field`
            The new field.

        Raises
        ------
        ValueError
            Raised if there is a field of that name.
        """
        return self._insert(Field(name, type, doc, unit, size))

    def field(self, name: str) -> Field:
        """Return a field by its true name, whatever the aliases are.

        Parameters
        ----------
        name
            True name.

        Raises
        ------
        KeyError
            Raised if there is no such field.
        """
        try:
            return self._fields[name]
        except KeyError:
            raise KeyError(f"The catalog has no field {name!r}.") from None

    def add_flag(self, name: str, doc: str = "") -> Field:
        """Append a flag field; see `add_field`."""
        return self.add_field(name, "Flag", doc=doc)

    def set_alias(self, alias: str, target: str) -> None:
        """Define or redefine an alias.

        Parameters
        ----------
        alias
            New name, or prefix of new names.
        target
            Existing name, or prefix of existing names.
        """
        self._aliases[alias] = target
        self._sorted_aliases, self._applied = None, {}

    def drop_alias(self, alias: str) -> None:
        """Remove an alias; nothing happens if it is not defined."""
        self._aliases.pop(alias, None)
        self._sorted_aliases, self._applied = None, {}

    def apply_aliases(self, name: str) -> str:
        """Return ``name`` with all aliases replaced (spec 02 §4.4).

        Parameters
        ----------
        name
            Name of a field or prefix of names.

        Returns
        -------
        `str`
            Name without aliases; whether a field has it is not checked.

        Raises
        ------
        ValueError
            Raised if aliases form a cycle.
        """
        applied = self._applied
        if name not in applied:
            applied[name] = self._follow_aliases(name)
        return applied[name]

    def _follow_aliases(self, name: str) -> str:
        if self._sorted_aliases is None:
            self._sorted_aliases = sorted(self._aliases, key=str.encode)
        original = name
        for _ in range(len(self._aliases) + 2):
            i = bisect.bisect_right(self._sorted_aliases, name.encode(), key=str.encode)
            if i == 0 or not name.startswith(alias := self._sorted_aliases[i - 1]):
                return name
            name = self._aliases[alias] + name[len(alias) :]
        raise ValueError(f"The aliases of {original!r} form a cycle.")

    def resolve(self, name: str) -> str:
        """Return the true name of a field.

        Parameters
        ----------
        name
            True name or alias.

        Returns
        -------
        `str`
            True name.

        Raises
        ------
        KeyError
            Raised if there is no such field.
        """
        true = self.apply_aliases(name)
        if true not in self._fields:
            via = f" (alias of {true!r})" if true != name else ""
            raise KeyError(f"The catalog has no field {name!r}{via}.")
        return true

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.apply_aliases(name) in self._fields

    def __getitem__(self, name: str) -> Field:
        return self._fields[self.resolve(name)]

    def __iter__(self) -> Iterator[Field]:
        return iter(self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schema):
            return NotImplemented
        return self.fields == other.fields and self._aliases == other._aliases

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> Schema:
        """Return an independent copy."""
        return Schema(self.fields, self._aliases)

    def contains_schema(self, other: Schema) -> bool:
        """Whether all fields of ``other`` are here with the same type."""
        return all(
            f.name in self._fields
            and self._fields[f.name].type == f.type
            and self._fields[f.name].size == f.size
            for f in other
        )
