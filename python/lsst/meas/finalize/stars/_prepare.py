# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Isolated sources of a visit in one small table, sorted by detector."""

from __future__ import annotations

__all__ = ("PREPARED_FORMAT", "PreparedStars", "prepare_isolated_stars", "read_prepared_stars")

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from ._columns import OutsideTable
from ._handles import TableReader
from ._isolated import ReserveSelection, isolated_tracts
from ._standard_stars import PreparedStandardStars, match_standard_stars

PREPARED_FORMAT = 1
"""Version of the table that `prepare_isolated_stars` makes."""

_DOCS = {
    "visit": "Visit number.",
    "detector": "Detector number.",
    "reserved": "Whether the star is reserved from PSF determination.",
    "tract": "Tract of the star.",
    "star_index": "Row of the star among the stars of its tract that were seen in the band.",
    "n_stars": "Number of stars of the tract that were seen in the band.",
    "reserve_hash": "Hash of the configuration by which stars were reserved.",
    "format_version": "Version of the format of this table.",
}


def _reserve_hash(reserve: Any) -> int:
    """Return a number that tells whether two tasks reserve alike.

    Notes
    -----
    A function, or a task whose configuration is unknown, is like no other.
    """
    config = getattr(reserve, "config", None)
    if config is None:
        return 0
    text = f"{type(reserve).__module__}.{type(reserve).__qualname__} {sorted(config.toDict().items())}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def prepare_isolated_stars(
    band: str,
    isolated_star_cat_dict: Mapping[int, Any],
    isolated_star_source_dict: Mapping[int, Any],
    *,
    id_column: str,
    reserve: ReserveSelection | Callable[..., npt.NDArray[np.bool_]],
    visit: int,
    fgcm_standard_star_dict: Mapping[int, Any] | None = None,
) -> Table | None:
    """Make the table of a visit's isolated sources.

    Parameters
    ----------
    band : `str`
        Band of the visit.
    isolated_star_cat_dict, isolated_star_source_dict, id_column, reserve
        See `concat_isolated_star_cats`.
    visit : `int`
        Visit number.
    fgcm_standard_star_dict : `~collections.abc.Mapping`, optional
        Handles (or tables) of FGCM standard stars by tract, to be matched
        with the stars.

    Returns
    -------
    table : `~astropy.table.Table` or `None`
        A row per isolated source, sorted by detector and source id, and by
        tract if an id is in several; `None` if there is none.  Columns:
        ``id_column``, ``visit``, ``detector``, ``reserved``, ``tract``,
        ``star_index`` and ``n_stars`` (row of the star among those of the
        tract seen in the band, and their number), ``reserve_hash``,
        ``format_version``; and, with standard stars, those of
        `match_standard_stars`.

    Raises
    ------
    KeyError, ValueError
        Raised as by `concat_isolated_star_cats` and
        `match_standard_stars`.
    """
    match = fgcm_standard_star_dict is not None
    parts: list[dict[str, npt.NDArray[Any]]] = []
    positions: list[npt.NDArray[np.float64]] = []
    for tract in isolated_tracts(
        band,
        isolated_star_cat_dict,
        isolated_star_source_dict,
        id_column=id_column,
        reserve=reserve,
        visit=visit,
        star_columns=("ra", "dec") if match else (),
    ):
        rows = np.asarray(tract.sources["obj_index"])
        values = {name: np.asarray(tract.sources[name]) for name in (id_column, "detector", "reserved")}
        constants = {"visit": visit, "tract": tract.tract, "n_stars": len(tract.stars)}
        values |= {name: np.full(len(rows), value, np.int64) for name, value in constants.items()}
        parts.append(values | {"star_index": rows})
        if match:
            stars = OutsideTable(tract.stars, f"isolated_star_cats of tract {tract.tract}")
            positions.append(np.stack([stars.numbers(n, "deg")[rows] for n in ("ra", "dec")]))
    if not parts:
        return None
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((columns[id_column], columns["detector"]))
    table = Table(meta={"finalize_isolated_stars": {"format_version": PREPARED_FORMAT, "band": band}})
    docs = {id_column: "Source id."} | _DOCS
    constants = {"reserve_hash": _reserve_hash(reserve), "format_version": PREPARED_FORMAT}
    columns |= {name: np.full(len(order), value) for name, value in constants.items()}
    for name, doc in docs.items():
        column = columns[name][order]
        dtype = bool if name == "reserved" else np.int64
        table[name] = Column(column.astype(dtype), description=doc)
    if fgcm_standard_star_dict is not None:
        ra, dec = np.concatenate(positions, axis=1)[:, order]
        match_standard_stars(table, ra, dec, fgcm_standard_star_dict)
    return table


@dataclass
class PreparedStars:
    """A detector's part of a prepared table.

    ``sources`` has the columns ``id_column`` and ``reserved``;
    ``standard_stars`` what they were matched with, if that was asked for.
    """

    sources: Table
    standard_stars: PreparedStandardStars | None


def read_prepared_stars(
    source: Any,
    band: str,
    *,
    id_column: str,
    reserve: ReserveSelection | Callable[..., npt.NDArray[np.bool_]],
    visit: int,
    detector: int,
    standard_stars: bool = False,
) -> PreparedStars | None:
    """Read a detector's isolated sources from a prepared table.

    Parameters
    ----------
    source : `object`
        Handle or table.
    band : `str`
        Band of the visit.
    id_column : `str`
        Column with the source id.
    reserve : callable or task
        Who reserves stars; it is asked if the table was made by another.
    visit, detector : `int`
        Visit and detector.
    standard_stars : `bool`, optional
        Whether to read the matched standard stars, too.

    Returns
    -------
    stars : `PreparedStars` or `None`
        What `concat_isolated_star_cats` would select for the detector;
        `None` if nothing.

    Raises
    ------
    KeyError
        Raised if the table has other columns, such as another
        ``id_column``, or no standard stars.
    ValueError
        Raised if it is of another format or visit.
    """
    what = f"The table of prepared isolated stars of visit {visit}"
    names = [id_column, *_DOCS]
    columns = [*names, *PreparedStandardStars.COLUMNS] if standard_stars else names
    reader = TableReader()
    nearby: list[dict[str, npt.NDArray[Any]]] = []
    parts: list[dict[str, npt.NDArray[Any]]] = []
    for piece in reader.chunks(source, what, columns, [("detector", "=", detector)]):
        _check_origin(piece, visit)
        rows = np.flatnonzero(piece.keys("detector") == detector)
        part = {name: piece.flags(name) if name == "reserved" else piece.keys(name) for name in names}
        parts.append({name: values[rows] for name, values in part.items()})
        if standard_stars:
            nearby.append(PreparedStandardStars.columns(piece, rows))
    keys = {name: np.concatenate([part[name] for part in parts]) for name in names}
    if not len(keys["detector"]):
        # Without own rows nothing has told yet that this is the right table.
        for piece in reader.chunks(source, what, ["visit", "format_version"]):
            _check_origin(piece, visit)
        return None
    reserved = keys["reserved"]
    known = _reserve_hash(reserve)
    if known == 0 or (keys["reserve_hash"] != known).any():
        reserved = _choose_again(keys, band, reserve)
    table = Table({id_column: keys[id_column], "reserved": reserved}, copy=False)
    stars = PreparedStandardStars(keys[id_column], nearby, what) if standard_stars else None
    return PreparedStars(table, stars)


def _check_origin(table: OutsideTable, visit: int) -> None:
    """Refuse tables of other formats and visits."""
    for name, value in {"format_version": PREPARED_FORMAT, "visit": visit}.items():
        others = table.keys(name)
        others = others[others != value]
        if len(others):
            raise ValueError(f"{table.what} is of {name} {others[0]}, not {value}.")


def _choose_again(keys: Mapping[str, npt.NDArray[Any]], band: str, reserve: Any) -> npt.NDArray[np.bool_]:
    """Reserve stars as another task does than the one that made the table."""
    choose = reserve.run if hasattr(reserve, "run") else reserve
    reserved = np.zeros(len(keys["tract"]), dtype=bool)
    for tract in np.unique(keys["tract"]).tolist():  # over tracts, a handful
        rows = np.flatnonzero(keys["tract"] == tract)
        chosen = np.asarray(choose(int(keys["n_stars"][rows[0]]), extra=f"{band}_{tract}"), dtype=bool)
        reserved[rows] = chosen[keys["star_index"][rows]]
    return reserved
