# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The gate through which columns leave tables that others made."""

from __future__ import annotations

__all__ = ("OutsideTable",)

from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from numbers import Integral
from typing import Any

import astropy.units as u
import numpy as np
import numpy.typing as npt
from astropy.table import Table

from ._plain import PlainColumn, arrow_unit, as_table, is_arrow_table, plain_column


class OutsideTable:
    """A table made by others, which gives out exact numbers or errors.

    Parameters
    ----------
    table : `object`
        What `as_table` takes.
    what : `str`
        What the table is, for error messages: dataset and tract.

    Notes
    -----
    All columns that this package takes from tables of others pass here.
    """

    def __init__(self, table: Any, what: str) -> None:
        self.what = what
        self._source = table
        if is_arrow_table(table):
            # Making an astropy table takes longer than reading a small one.
            self.names: list[str] = list(table.column_names)
        else:
            self.names = self.table.colnames

    @cached_property
    def table(self) -> Table:
        """All columns as they are (`~astropy.table.Table`)."""
        try:
            return as_table(self._source)
        except Exception as error:
            # Whatever the libraries raise for odd contents.
            raise ValueError(f"{self.what} can't be read as a table: {error}") from error

    def __len__(self) -> int:
        return self._source.num_rows if is_arrow_table(self._source) else len(self.table)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def is_integer(self, name: str) -> bool:
        """Return whether a column is of an integer type."""
        return self.plain(name).values.dtype.kind in "iu"

    def require(self, names: Sequence[str]) -> None:
        """Raise `KeyError` unless the table has all these columns."""
        missing = [name for name in names if name not in self]
        if missing:
            raise KeyError(f"{self.what} has no columns {missing}.")

    def _plain(self, name: str) -> PlainColumn:
        """Return a column of one value per row."""
        plain = self.plain(name)
        if plain.values.ndim != 1:
            raise self._refusal(name, "must have one value per row")
        return plain

    def plain(self, name: str) -> PlainColumn:
        """Return a column of any type and shape.

        Parameters
        ----------
        name : `str`
            Column.

        Returns
        -------
        plain : `PlainColumn`
            Its values, mask and unit.

        Raises
        ------
        KeyError
            Raised if there is no such column.
        ValueError
            Raised if it can't be converted.
        """
        self.require([name])
        try:
            if is_arrow_table(self._source):
                return plain_column(self._source.column(name), arrow_unit(self._source, name))
            return plain_column(self.table[name])
        except Exception as error:
            raise self._refusal(name, f"can't be read: {error}") from error

    def _refusal(self, name: str, reason: str) -> ValueError:
        return ValueError(f"Column {name!r} of {self.what} {reason}.")

    def keys(self, name: str) -> npt.NDArray[np.signedinteger | np.unsignedinteger]:
        """Return a column of numbers that must be exact.

        Parameters
        ----------
        name : `str`
            Column of integers, or of floats, decimals or text that stand
            for integers without doubt.

        Returns
        -------
        values : `numpy.ndarray`
            (N,) integers of the column's type; int64 if that is no integer
            type, or uint64.

        Raises
        ------
        KeyError
            Raised if there is no such column.
        ValueError
            Raised if values are missing, or aren't exact integers.
        """
        values, mask, _ = self._plain(name)
        if mask is not None:
            raise self._refusal(name, f"must have a value in every row; {np.sum(mask)} are missing")
        kind = values.dtype.kind
        if kind == "i" or (kind == "u" and values.dtype.itemsize < 8):
            return values
        if kind == "u":
            if (values > np.iinfo(np.int64).max).any():
                raise self._refusal(name, "has integers above 2^63 - 1")
            return values.astype(np.int64)
        if kind == "f":
            return self._from_floats(name, values)
        if kind in "US":
            return self._from_text(name, values)
        if kind == "O":
            return self._from_objects(name, values)
        raise self._refusal(name, f"must be of integers, not {values.dtype}")

    def _from_floats(self, name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Convert floats that can't be rounded neighbours."""
        # From here on not every integer has a float of its own.
        limit = min(2.0 ** (np.finfo(values.dtype).nmant + 1), 2.0**62)
        exact = np.isfinite(values) & (np.abs(values) < limit)
        exact[exact] = np.trunc(values[exact]) == values[exact]
        if not exact.all():
            first = values[~exact][0]
            raise self._refusal(
                name,
                f"must be of integers; it is {values.dtype}, whose value {first!s} in row "
                f"{int(np.argmin(exact))} isn't an exact one",
            )
        return values.astype(np.int64)

    def _from_text(self, name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Convert text of plain decimal digits."""
        try:
            numbers = values.astype(np.int64)
            good = numbers.astype(values.dtype.kind) == values
        except (ValueError, OverflowError):
            good = np.zeros(len(values), dtype=bool)
        if not good.all():
            raise self._refusal(name, "must be of integers, not text")
        return numbers

    def _from_objects(self, name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Convert Python's integers and integral decimals."""
        for value in values:  # objects can't be looked at otherwise
            integral = isinstance(value, Integral) and not isinstance(value, bool)
            if isinstance(value, Decimal):
                integral = value.is_finite() and value == value.to_integral_value()
            if not integral or not -(2**63) <= value < 2**63:
                raise self._refusal(name, f"must be of integers, not {type(value).__name__} {value!r:.40}")
        return np.array([int(value) for value in values], dtype=np.int64)

    def numbers(self, name: str, unit: str | None = None) -> npt.NDArray[np.float64]:
        """Return a column of measured numbers.

        Parameters
        ----------
        name : `str`
            Column of floats or integers.
        unit : `str`, optional
            Unit to convert to, if the column has one.

        Returns
        -------
        values : `numpy.ndarray`
            (N,) float64, NaN where values are missing.

        Raises
        ------
        KeyError
            Raised if there is no such column.
        ValueError
            Raised if the column isn't of numbers, or of another unit.
        """
        values, mask, own_unit = self._plain(name)
        if values.dtype.kind == "O":
            numeric = (float, np.floating, Integral, Decimal)
            present = values if mask is None else values[~mask]
            if not all(isinstance(v, numeric) and not isinstance(v, bool) for v in present):
                raise self._refusal(name, "must be of numbers")
            values = np.where(False if mask is None else mask, np.nan, values).astype(np.float64)
        if values.dtype.kind not in "fiu":
            raise self._refusal(name, f"must be of numbers, not {values.dtype}")
        numbers = values.astype(np.float64, copy=mask is not None)
        if mask is not None:
            numbers[mask] = np.nan
        return numbers if unit is None else self._converted(name, numbers, own_unit, unit)

    def _converted(
        self, name: str, numbers: npt.NDArray[np.float64], own_unit: Any, unit: str
    ) -> npt.NDArray[np.float64]:
        """Convert to a unit; what has none is taken to be in it."""
        known = None if own_unit is None else u.Unit(own_unit, parse_strict="silent")
        if known is None or isinstance(known, u.UnrecognizedUnit) or known in (u.Unit(unit), u.one):
            return numbers
        # Magnitudes have a zero point as well, such as mag(AB).
        if getattr(known, "function_unit", known) == u.Unit(unit):
            return numbers
        try:
            return numbers * known.to(u.Unit(unit))
        except (u.UnitConversionError, TypeError, AttributeError) as error:
            raise self._refusal(name, f"must be in {unit}, not {known}") from error

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """Return a column of booleans, or of 0 and 1, without gaps."""
        values, mask, _ = self._plain(name)
        if values.dtype.kind == "b" and mask is None:
            return values
        numbers = self.keys(name)
        if not np.isin(numbers, (0, 1)).all():
            raise self._refusal(name, "must be of booleans")
        return numbers.astype(bool)
