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

__all__ = ("PreparedStars", "prepare_isolated_stars", "read_prepared_stars")

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from ._columns import OutsideTable
from ._handles import TableReader
from ._isolated import ReserveSelection, isolated_tracts
from ._prepared_origin import (
    INPUTS_HASH,
    PREPARED_FORMAT,
    STANDARD_STARS_HASH,
    InputNames,
    check_names,
    check_origin,
    reserve_hash,
)
from ._standard_stars import PreparedStandardStars, match_standard_stars

_DOCS = {
    "visit": "Visit number.",
    "detector": "Detector number.",
    "reserved": "Whether the star is reserved from PSF determination.",
    "tract": "Tract of the star.",
    "star_index": "Row of the star among the stars of its tract that were seen in the band.",
    "n_stars": "Number of stars of the tract that were seen in the band.",
    "reserve_hash": "Hash of the configuration by which stars were reserved.",
    INPUTS_HASH: "Hash of the names of the datasets of stars and sources, or 0.",
    "format_version": "Version of the format of this table.",
}
_STANDARD_DOCS = {STANDARD_STARS_HASH: "Hash of the name of the datasets of standard stars, or 0."}


def prepare_isolated_stars(
    band: str,
    isolated_star_cat_dict: Mapping[int, Any],
    isolated_star_source_dict: Mapping[int, Any],
    *,
    id_column: str,
    reserve: ReserveSelection | Callable[..., npt.NDArray[np.bool_]],
    visit: int,
    fgcm_standard_star_dict: Mapping[int, Any] | None = None,
    names: InputNames | None = None,
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
    names : `InputNames`, optional
        What the datasets are called, to be checked by those who read the
        table.

    Returns
    -------
    table : `~astropy.table.Table` or `None`
        A row per isolated source, sorted by detector and source id, and by
        tract if an id is in several; `None` if there is none.  Columns:
        ``id_column``, ``visit``, ``detector``, ``reserved``, ``tract``,
        ``star_index`` and ``n_stars`` (row of the star among those of the
        tract seen in the band, and their number), ``reserve_hash``,
        ``inputs_hash``, ``format_version``; and, with standard stars,
        ``standard_stars_hash`` and those of `match_standard_stars`.

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
    docs = {id_column: "Source id."} | _DOCS | (_STANDARD_DOCS if match else {})
    constants = {"reserve_hash": reserve_hash(reserve), "format_version": PREPARED_FORMAT}
    constants |= {INPUTS_HASH: 0, STANDARD_STARS_HASH: 0} if names is None else names.hashes()
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
    names: InputNames | None = None,
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
    names : `InputNames`, optional
        What the datasets must have been called of which the table was made,
        if it tells.

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
        Raised if it is of another format or visit, or made of datasets of
        other names.
    """
    what = f"The table of prepared isolated stars of visit {visit}"
    keys, nearby = _read_detector(source, what, id_column, visit, detector, standard_stars)
    if not len(keys["detector"]):
        return None
    if names is not None:
        check_names(keys, names, what)
    reserved = keys["reserved"]
    known = reserve_hash(reserve)
    if known == 0 or (keys["reserve_hash"] != known).any():
        reserved = _choose_again(keys, band, reserve)
    table = Table({id_column: keys[id_column], "reserved": reserved}, copy=False)
    stars = PreparedStandardStars(keys[id_column], nearby, what) if standard_stars else None
    return PreparedStars(table, stars)


def _read_detector(
    source: Any, what: str, id_column: str, visit: int, detector: int, standard_stars: bool
) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, npt.NDArray[Any]]]]:
    """Read a detector's rows: their keys, and pieces of standard stars."""
    keys = [id_column, *_DOCS, *(_STANDARD_DOCS if standard_stars else ())]
    columns = [*keys, *PreparedStandardStars.COLUMNS] if standard_stars else keys
    reader = TableReader()
    nearby: list[dict[str, npt.NDArray[Any]]] = []
    parts: list[dict[str, npt.NDArray[Any]]] = []
    try:
        for piece in reader.chunks(source, what, columns, [("detector", "=", detector)]):
            check_origin(piece, visit)
            rows = np.flatnonzero(piece.keys("detector") == detector)
            part = {name: piece.flags(name) if name == "reserved" else piece.keys(name) for name in keys}
            parts.append({name: values[rows] for name, values in part.items()})
            if standard_stars:
                nearby.append(PreparedStandardStars.columns(piece, rows))
    except KeyError:
        # Other versions have other columns.
        _check_all_origins(reader, source, what, visit)
        raise
    if not any(len(part["detector"]) for part in parts):
        # Without own rows nothing has told yet that this is the right table.
        _check_all_origins(reader, source, what, visit)
    return {name: np.concatenate([part[name] for part in parts]) for name in keys}, nearby


def _check_all_origins(reader: TableReader, source: Any, what: str, visit: int) -> None:
    """Refuse tables of other formats and visits."""
    for piece in reader.chunks(source, what, ["visit", "format_version"]):
        check_origin(piece, visit)


def _choose_again(keys: Mapping[str, npt.NDArray[Any]], band: str, reserve: Any) -> npt.NDArray[np.bool_]:
    """Reserve stars as another task does than the one that made the table."""
    choose = reserve.run if hasattr(reserve, "run") else reserve
    reserved = np.zeros(len(keys["tract"]), dtype=bool)
    for tract in np.unique(keys["tract"]).tolist():  # over tracts, a handful
        rows = np.flatnonzero(keys["tract"] == tract)
        chosen = np.asarray(choose(int(keys["n_stars"][rows[0]]), extra=f"{band}_{tract}"), dtype=bool)
        reserved[rows] = chosen[keys["star_index"][rows]]
    return reserved
