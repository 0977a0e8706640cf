# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Isolated stars of all tracts, and which are reserved."""

from __future__ import annotations

__all__ = ("concat_isolated_star_cats", "isolated_tracts", "match_ids")

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table, vstack

from ._handles import TableReader, describe

_LOG = logging.getLogger(__name__)


class ReserveSelection(Protocol):
    """Task that chooses reserved stars."""

    def run(self, nstar: int, extra: str = "") -> npt.NDArray[np.bool_]:
        """Return a (nstar,) bool array."""


def match_ids(
    unique: npt.NDArray[np.integer], values: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Match numbers to an array without repetitions.

    Parameters
    ----------
    unique : `numpy.ndarray`
        Integers, each at most once, in any order; may be empty.
    values : `numpy.ndarray`
        Integers to look up, possibly repeated; may be empty.

    Returns
    -------
    index_unique, index_values : `numpy.ndarray`
        Positions with ``unique[index_unique] == values[index_values]``;
        ``index_values`` ascends.

    Raises
    ------
    ValueError
        Raised if a number occurs twice in ``unique``.
    """
    order = np.argsort(unique, kind="stable")
    ordered = unique[order]
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise ValueError(
            f"{len(repeated)} of {len(unique)} ids aren't unique; the first repeated one is {repeated[0]}."
        )
    if not len(unique):
        nothing = np.zeros(0, dtype=np.intp)
        return nothing, nothing
    position = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    index_values = np.flatnonzero(ordered[position] == values)
    return order[position[index_values]], index_values


def concat_isolated_star_cats(
    band: str,
    isolated_star_cat_dict: Mapping[int, Any],
    isolated_star_source_dict: Mapping[int, Any],
    *,
    id_column: str,
    reserve: ReserveSelection | Callable[..., npt.NDArray[np.bool_]],
    visit: int | None = None,
    detector: int | None = None,
    star_columns: Sequence[str] | None = None,
) -> tuple[Table | None, Table | None]:
    """Concatenate the isolated stars of all tracts and reserve some.

    Parameters
    ----------
    band : `str`
        Band; stars not seen in it are left out.
    isolated_star_cat_dict, isolated_star_source_dict : \
            `~collections.abc.Mapping`
        Handles (or tables) of stars and of their sources, by tract.
    id_column : `str`
        Column of the source tables with the source id.
    reserve : callable or task
        Called, or its ``run``, with the number of stars of a tract and
        ``extra="<band>_<tract>"``; returns a bool array.
    visit : `int`, optional
        Visit to keep sources of; by default all sources are kept.
    detector : `int`, optional
        Detector to keep sources of; ignored without ``visit``.
    star_columns : `~collections.abc.Sequence` [ `str` ], optional
        Star columns wanted besides ``nsource_<band>`` and
        ``source_cat_index_<band>``; all by default.

    Returns
    -------
    isolated_table : `~astropy.table.Table` or `None`
        Stars seen in the band, whatever the visit, with ``reserved``.
        ``source_cat_index_<band>`` points to the first source of the star
        in the other table, or is -1 if none is kept.
    isolated_source_table : `~astropy.table.Table` or `None`
        Kept sources with ``obj_index`` pointing into the other table, and
        ``reserved``.

    Raises
    ------
    KeyError
        Raised if a tract lacks its source table, or a table a column.
    ValueError
        Raised if, without ``visit``, a star seen in the band has no source;
        or if a column that is needed isn't of exact integers without gaps.

    Notes
    -----
    See spec 01 §1.4.  Upstream leaves ``source_cat_index_<band>``
    meaningless when a visit is selected, and returns empty tables rather
    than `None` if a tract has sources of the visit but none of a star seen
    in the band.
    """
    stars: list[Table] = []
    sources: list[Table] = []
    n_stars = n_sources = 0
    for tract in isolated_tracts(
        band,
        isolated_star_cat_dict,
        isolated_star_source_dict,
        id_column=id_column,
        reserve=reserve,
        visit=visit,
        detector=detector,
        star_columns=star_columns,
    ):
        cat, src = tract.stars, tract.sources
        star = np.asarray(src["obj_index"])
        first = _first_sources(star, len(cat))
        if visit is None and (first < 0).any():
            raise ValueError(
                f"{np.sum(first < 0)} isolated stars of tract {tract.tract} with nsource_{band} > 0 "
                "have no source."
            )
        src["obj_index"] = _fitting(star + n_stars, tract.obj_index_type)
        index_name = f"source_cat_index_{band}"
        cat[index_name] = _fitting(np.where(first < 0, -1, first + n_sources), cat[index_name].dtype)
        n_stars += len(cat)
        n_sources += len(src)
        stars.append(cat)
        sources.append(src)
    if not sources:
        return None, None
    return vstack(stars, metadata_conflicts="silent"), vstack(sources, metadata_conflicts="silent")


class TractStars(NamedTuple):
    """Isolated stars of a tract that were seen in a band.

    Notes
    -----
    ``stars`` has all of them, whatever the visit, with ``reserved``;
    ``sources`` the kept sources, whose ``obj_index`` are int64 rows of
    ``stars``, and ``reserved``.  ``obj_index_type`` is the type that
    ``obj_index`` had.
    """

    tract: int
    stars: Table
    sources: Table
    obj_index_type: np.dtype


def isolated_tracts(
    band: str,
    isolated_star_cat_dict: Mapping[int, Any],
    isolated_star_source_dict: Mapping[int, Any],
    *,
    id_column: str,
    reserve: ReserveSelection | Callable[..., npt.NDArray[np.bool_]],
    visit: int | None = None,
    detector: int | None = None,
    star_columns: Sequence[str] | None = None,
) -> Iterator[TractStars]:
    """Read the isolated stars of one tract after the other.

    Parameters
    ----------
    band, isolated_star_cat_dict, isolated_star_source_dict, id_column, \
            reserve, visit, detector, star_columns
        See `concat_isolated_star_cats`.

    Yields
    ------
    tract : `TractStars`
        Stars and sources of a tract that has any.

    Raises
    ------
    KeyError
        Raised if a tract lacks its source table, or a table a column.
    ValueError
        Raised if a column that is needed isn't of exact integers.
    """
    reader = TableReader()
    choose: Any = reserve.run if hasattr(reserve, "run") else reserve
    for tract, star_handle in isolated_star_cat_dict.items():  # over tracts, a handful
        if tract not in isolated_star_source_dict:
            raise KeyError(f"Tract {tract} has isolated stars, but no table of their sources.")
        src = _read_sources(reader, isolated_star_source_dict[tract], tract, id_column, visit, detector)
        if visit is not None and not len(src):
            where = f"visit {visit}" if detector is None else f"visit {visit}, detector {detector}"
            _LOG.info("No isolated sources in tract %d for %s", tract, where)
            continue
        cat = _read_stars(reader, star_handle, band, tract, star_columns)
        use = np.flatnonzero(cat[f"nsource_{band}"] > 0)
        a, b = match_ids(use, np.asarray(src["obj_index"]))
        if not len(b):
            _LOG.info("No isolated stars in tract %d with sources in band %s", tract, band)
            continue
        obj_index_type = src["obj_index"].dtype
        src, cat = src[b], cat[use]
        src["obj_index"] = a.astype(np.int64)
        cat["reserved"] = np.asarray(choose(len(cat), extra=f"{band}_{tract}"), dtype=bool)
        src["reserved"] = np.asarray(cat["reserved"])[a]
        yield TractStars(tract, cat, src, obj_index_type)


def _fitting(values: npt.NDArray[np.integer], dtype: np.dtype) -> npt.NDArray[np.integer]:
    """Return integers in a type, or in int64 if it is too small."""
    info = np.iinfo(dtype)
    fits = not len(values) or (info.min <= values.min() and values.max() <= info.max)
    return values.astype(dtype if fits else np.int64)


def _read_sources(
    reader: TableReader, handle: Any, tract: int, id_column: str, visit: int | None, detector: int | None
) -> Table:
    """Read the needed columns and rows of a table of isolated sources."""
    columns = [id_column, "obj_index"]
    conditions: dict[str, int] = {}
    if visit is not None:
        columns += ["visit", "detector"]
        conditions["visit"] = visit
        if detector is not None:
            conditions["detector"] = detector
    what = describe(handle, "isolated_star_sources", tract)
    filters = [(name, "=", value) for name, value in conditions.items()]
    parts = []
    for table in reader.chunks(handle, what, columns, filters):
        keys = {name: table.keys(name) for name in columns}
        keep = np.ones(len(table), dtype=bool)
        for name, value in conditions.items():
            keep &= keys[name] == value
        parts.append({name: values[keep] for name, values in keys.items()})
    return Table({name: np.concatenate([part[name] for part in parts]) for name in columns}, copy=False)


def _read_stars(
    reader: TableReader, handle: Any, band: str, tract: int, star_columns: Sequence[str] | None
) -> Table:
    """Read a table of isolated stars."""
    needed = [f"nsource_{band}", f"source_cat_index_{band}"]
    columns = None if star_columns is None else list(dict.fromkeys([*star_columns, *needed]))
    parts = []
    for outside in reader.chunks(handle, describe(handle, "isolated_star_cats", tract), columns):
        keys = {name: outside.keys(name) for name in needed}
        if columns == needed:
            parts.append(Table(keys, copy=False))
            continue
        table = Table(outside.table if columns is None else outside.table[columns], copy=False)
        for name, values in keys.items():
            column = Column(values, name=name, description=table[name].info.description)
            table.replace_column(name, column)
        parts.append(table)
    return parts[0] if len(parts) == 1 else vstack(parts, metadata_conflicts="silent")


def _first_sources(star: npt.NDArray[np.intp], n_stars: int) -> npt.NDArray[np.int64]:
    """Return where each star first occurs, -1 if it doesn't."""
    first = np.full(n_stars, -1, dtype=np.int64)
    # The last assignment wins, hence the reversal.
    first[star[::-1]] = np.arange(len(star))[::-1]
    return first
