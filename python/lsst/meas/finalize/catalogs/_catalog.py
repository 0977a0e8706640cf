# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Source catalogues in memory, a column per field."""

from __future__ import annotations

__all__ = ("SourceCatalog",)

from collections.abc import Mapping
from typing import Any, Self

import astropy.table
import numpy as np

from ._display import counted, html_table
from ._footprints import Footprints
from ._schema import Schema

type Rows = np.ndarray | slice | list[int]


class ColumnStore:
    """Columns laid out by a `Schema`; base of the catalogue classes.

    Parameters
    ----------
    schema
        Fields and aliases; kept by reference.
    data
        Number of rows, or mapping of true field names to columns.  Fields
        without a column get their "never written" value.
    metadata
        Free key-value pairs; a list value stands for repeated keys.

    Raises
    ------
    ValueError
        Raised if columns differ in length, or have the wrong shape.
    KeyError
        Raised if a column has no field in the schema.
    """

    def __init__(
        self,
        schema: Schema,
        data: int | Mapping[str, np.ndarray] = 0,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.schema = schema
        self.metadata: dict[str, Any] = dict(metadata or {})
        given: Mapping[str, np.ndarray] = {} if isinstance(data, int) else data
        lengths = {len(c) for c in given.values()} or {data if isinstance(data, int) else 0}
        if len(lengths) != 1:
            raise ValueError(f"Columns differ in length: {sorted(lengths)}.")
        if unknown := set(given) - set(schema.names):
            raise KeyError(f"Columns {sorted(unknown)} are not in the schema.")
        self._n = lengths.pop()
        self.columns: dict[str, np.ndarray] = {}
        for field in schema:
            if field.name in given:
                self.columns[field.name] = field.check_column(given[field.name], self._n)
            else:
                self.columns[field.name] = field.make_column(self._n)

    def __len__(self) -> int:
        return self._n

    def __repr__(self) -> str:
        return f"<{self._describe()}>"

    def _repr_html_(self) -> str:
        return html_table(self._describe(), self._shown_columns(), len(self))

    def _describe(self) -> str:
        """Return in a few words what this is."""
        return f"{type(self).__name__} of {counted(len(self), 'row')}, {counted(len(self.schema), 'field')}"

    def _shown_columns(self) -> dict[str, Any]:
        """Return what is shown in a notebook: all, but of hundreds a few."""
        names = self.schema.names
        return {name: self.field_column(name) for name in (names if len(names) <= 12 else names[:4])}

    @property
    def is_contiguous(self) -> bool:
        """Whether columns can be viewed as arrays; always true here."""
        return True

    def column(self, name: str) -> np.ndarray:
        """Return a view of one column.

        Parameters
        ----------
        name
            Field name or alias.

        Returns
        -------
        `numpy.ndarray`
            The column; writing to it changes the catalogue.

        Raises
        ------
        KeyError
            Raised if there is no such field.
        """
        return self.field_column(self.schema.resolve(name))

    def field_column(self, name: str) -> np.ndarray:
        """Return a view of the column of a field, whatever the aliases are.

        Parameters
        ----------
        name
            True name of a field, which an alias may hide from `column`.

        Returns
        -------
        `numpy.ndarray`
            The column; writing to it changes the catalogue.

        Raises
        ------
        KeyError
            Raised if there is no such field.
        """
        if name not in self.columns:
            # The field was added to the schema after the catalogue was made.
            self.columns[name] = self.schema.field(name).make_column(self._n)
        return self.columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self.schema

    def __setitem__(self, name: str, value: Any) -> None:
        self.column(name)[...] = value

    def get_slot(self, slot: str) -> str | None:
        """Return the field prefix behind a slot.

        Parameters
        ----------
        slot
            Name without ``slot_``, for example ``Centroid``.

        Returns
        -------
        `str` or `None`
            True prefix; `None` if the slot is not defined.
        """
        alias = f"slot_{slot}"
        return self.schema.apply_aliases(alias) if alias in self.schema.aliases else None

    def to_astropy(self) -> astropy.table.Table:
        """Return the true columns as a table, with units and descriptions."""
        table = astropy.table.Table()
        for field in self.schema:
            table[field.name] = astropy.table.Column(
                self.field_column(field.name).copy(), unit=field.parsed_unit, description=field.doc
            )
        return table

    def _taken_columns(self, index: Rows) -> dict[str, np.ndarray]:
        return {f.name: np.array(self.field_column(f.name)[index]) for f in self.schema}


class SourceCatalog(ColumnStore):
    """Sources with their columns and footprints.

    Parameters
    ----------
    schema, data, metadata
        See `ColumnStore`.
    footprints
        Footprints, one per row.

    Raises
    ------
    ValueError
        Raised if the number of footprints is not that of the rows.
    """

    def __init__(
        self,
        schema: Schema,
        data: int | Mapping[str, np.ndarray] = 0,
        *,
        footprints: Footprints | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(schema, data, metadata=metadata)
        if footprints is not None and len(footprints) != len(self):
            raise ValueError(f"{len(footprints)} footprints do not fit {len(self)} rows.")
        self.footprints = footprints

    def __getitem__(self, key: str | Rows) -> Any:
        if isinstance(key, str):
            return self.column(key)
        return self.take(key)

    def _describe(self) -> str:
        footprints = "no footprints" if self.footprints is None else "footprints"
        return f"{super()._describe()}, {footprints}"

    def _shown_columns(self) -> dict[str, Any]:
        """Return the first columns, position and flux with their slots."""
        shown = super()._shown_columns()
        slots = ("Centroid_x", "Centroid_y", "PsfFlux_instFlux", "PsfFlux_instFluxErr", "PsfFlux_flag")
        for name in (f"slot_{slot}" for slot in slots):
            if name in self:
                shown[name] = self.column(name)
        return shown

    def take(self, index: Rows) -> Self:
        """Return a copy of some rows with their footprints.

        Parameters
        ----------
        index
            Boolean mask, indices or slice.

        Returns
        -------
        `SourceCatalog`
            New catalogue; schema and metadata are copied.

        Raises
        ------
        TypeError
            Raised for a single row.
        """
        if not isinstance(index, slice) and np.ndim(index) == 0:
            raise TypeError(
                f"A row of a SourceCatalog is no object: take a value, as catalog['id'][{index}], or a "
                f"catalog of one row, catalog[{index}:{index} + 1]; to_astropy() gives a table with rows."
            )
        footprints = None if self.footprints is None else self.footprints.take(index)
        return type(self)(
            self.schema.copy(), self._taken_columns(index), footprints=footprints, metadata=self.metadata
        )

    def copy(self) -> Self:
        """Return an independent copy."""
        return self.take(slice(None))
