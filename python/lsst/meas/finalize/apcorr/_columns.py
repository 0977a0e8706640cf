# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Columns of table-like objects as plain arrays."""

from __future__ import annotations

__all__ = ("get_column", "get_optional_column", "n_rows")

from typing import Any

import numpy as np


def get_column(catalog: Any, name: str, option: str) -> np.ndarray:
    """Return a column of any table-like object as a plain array.

    Parameters
    ----------
    catalog : any
        A `~lsst.meas.finalize.catalogs.SourceCatalog`, astropy table, data
        frame, structured array or mapping.
    name : `str`
        Column.
    option : `str`
        Configuration option that asks for it, for the error message.

    Returns
    -------
    column : `numpy.ndarray`
        Values; masked floats become NaN, other masked values 0 or `False`.

    Raises
    ------
    KeyError
        Raised if there is no such column.
    """
    try:
        column = catalog[name]
    except (KeyError, ValueError):
        raise KeyError(f"The catalog has no column {name!r}, needed for the option {option}.") from None
    if np.ma.isMaskedArray(column):
        return np.asarray(column.filled(np.nan if column.dtype.kind == "f" else column.dtype.type(0)))
    return np.asarray(column)


def get_optional_column(catalog: Any, name: str, option: str) -> np.ndarray | None:
    """Return a column, `None` if the catalogue doesn't have it.

    Parameters
    ----------
    catalog : any
        See `get_column`.
    name : `str`
        Column.
    option : `str`
        Configuration option that asks for it.

    Returns
    -------
    column : `numpy.ndarray` or `None`
        Values.
    """
    try:
        return get_column(catalog, name, option)
    except KeyError:
        return None


def n_rows(catalog: Any) -> int:
    """Count the rows of any table-like object.

    Parameters
    ----------
    catalog : any
        See `get_column`.

    Returns
    -------
    n : `int`
        Number of rows.
    """
    if isinstance(catalog, dict):
        return len(next(iter(catalog.values()))) if catalog else 0
    return len(catalog)
