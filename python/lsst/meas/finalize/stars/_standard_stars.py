# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""FGCM standard stars near the isolated stars of a visit."""

from __future__ import annotations

__all__ = ("PreparedStandardStars", "match_standard_stars")

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from ._colors import match_radius, vectors_of_degrees
from ._columns import OutsideTable
from ._handles import TableReader, describe
from ._isolated import match_ids

if TYPE_CHECKING:
    from ..catalogs import SourceCatalog

# Sources are matched within 1 arcsec; they may be that much off their stars.
_ALLOWANCE = 2.0
_RADIUS = 1.0 + _ALLOWANCE + 0.01
_MAX_PER_STAR = 64
_POSITION = {"ra": "right ascension", "dec": "declination"}


def _chord(arcsec: float) -> float:
    """Return the distance of unit vectors that are an angle apart."""
    return float(2.0 * np.sin(0.5 * np.deg2rad(arcsec / 3600.0)))


def _near_standard_stars(
    ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64], handles: Mapping[int, Any]
) -> Table:
    """Read the standard stars near any of some positions, in order, with
    their row among those of all tracts.
    """
    # Slow to import, and needed for colours only.
    from scipy.spatial import cKDTree

    good = np.isfinite(ra) & np.isfinite(dec)
    tree = cKDTree(vectors_of_degrees(ra[good], dec[good]).reshape(-1, 3))
    reader = TableReader()
    parts: list[dict[str, npt.NDArray[Any]]] = []
    every: dict[str, None] = {}
    n_rows = 0
    for tract, handle in handles.items():  # over tracts, a handful
        what = describe(handle, "fgcm_standard_star", tract)
        for piece in reader.chunks(handle, what, ("ra", "dec", "mag_*")):
            position = {name: piece.numbers(name, "deg") for name in _POSITION}
            names = [name for name in piece.names if name.startswith("mag_")]
            every |= dict.fromkeys(names)
            finite = np.flatnonzero(np.isfinite(position["ra"]) & np.isfinite(position["dec"]))
            vectors = vectors_of_degrees(position["ra"][finite], position["dec"][finite])
            distance = tree.query(vectors, distance_upper_bound=_chord(_RADIUS))[0] if tree.n else np.inf
            rows = finite[np.isfinite(np.broadcast_to(distance, len(finite)))]
            columns = position | {name: piece.numbers(name, "mag") for name in names}
            part: dict[str, npt.NDArray[Any]] = {name: values[rows] for name, values in columns.items()}
            parts.append(part | {"row": n_rows + rows})
            n_rows += len(piece)
    absent = {name: [np.full(len(part["row"]), np.nan) for part in parts] for name in every}
    table = Table({name: np.concatenate([part[name] for part in parts]) for name in ("row", *_POSITION)})
    for name in every:
        table[name] = np.concatenate([p.get(name, gap) for p, gap in zip(parts, absent[name], strict=True)])
    return table


def match_standard_stars(
    table: Table, ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64], handles: Mapping[int, Any]
) -> None:
    """Add the standard stars near each star to a table.

    A source is matched at its own position (spec 01 §1.6), which only the
    detector's catalogue has.  So all standard stars within 1 arcsec and an
    allowance are kept: which of them count isn't decided here.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table with a row per source, changed in place.  New columns are
        ``ra`` and ``dec`` of the star, (N,) float64 in degrees, and, (N, K)
        each for the K standard stars nearby at most, ``fgcm_row`` (int64,
        -1 for none), ``fgcm_ra``, ``fgcm_dec`` (degrees) and
        ``fgcm_mag_<band>`` (float64; NaN for none).
    ra, dec : `numpy.ndarray`
        Mean positions of the stars in degrees.
    handles : `~collections.abc.Mapping`
        Handles (or tables) of FGCM standard stars by tract.

    Raises
    ------
    KeyError, ValueError
        Raised if the tables of standard stars are unfit, or if there are
        more than 64 near a star.
    """
    near = _near_standard_stars(ra, dec, handles)
    star, standard = match_radius(ra, dec, np.asarray(near["ra"]), np.asarray(near["dec"]), _RADIUS)
    slot = np.arange(len(star)) - np.searchsorted(star, star)
    width = int(slot.max(initial=0)) + 1
    if width > _MAX_PER_STAR:
        raise ValueError(
            f"fgcm_standard_star has {width} stars within {_RADIUS} arcsec of an isolated star: "
            "unset match_fgcm_standard_stars, and use_prepared_photometry of the detector task."
        )

    def spread(values: npt.NDArray[Any], empty: Any) -> npt.NDArray[Any]:
        result = np.full((len(table), width), empty, dtype=values.dtype)
        result[star, slot] = values[standard]
        return result

    for name, values in (("ra", ra), ("dec", dec)):
        table[name] = Column(values, unit="deg", description=f"Mean {_POSITION[name]} of the star.")
    table["fgcm_row"] = Column(
        spread(np.asarray(near["row"], np.int64), -1),
        description="Row of an FGCM standard star nearby among those of all tracts, or -1.",
    )
    for name, doc in _POSITION.items():
        table[f"fgcm_{name}"] = Column(
            spread(np.asarray(near[name]), np.nan), unit="deg", description=f"Its {doc}."
        )
    for name in near.colnames[3:]:
        table[f"fgcm_{name}"] = Column(
            spread(np.asarray(near[name]), np.nan), unit="mag", description="Its magnitude."
        )


class PreparedStandardStars:
    """Standard stars from the prepared table for a detector's sources.

    Parameters
    ----------
    ids : `numpy.ndarray`
        Source ids, (N,), possibly repeated.
    pieces : `~collections.abc.Sequence` [ `dict` ]
        What `columns` has returned, N rows in all.
    what : `str`
        What the table is, for messages.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("ra", "dec", "fgcm_row", "fgcm_ra", "fgcm_dec", "fgcm_mag_*")
    """Columns of the prepared table, or patterns of their names."""

    def __init__(
        self, ids: npt.NDArray[np.integer], pieces: Sequence[Mapping[str, npt.NDArray[Any]]], what: str
    ) -> None:
        self._ids = ids
        self._what = what
        columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        self._ra, self._dec = (columns.pop(name) for name in _POSITION)
        row, first = np.unique(columns["fgcm_row"], return_index=True)
        first = first[row >= 0]
        # In the order of the original rows, of which the last counts.
        self._standard = Table(
            {name.removeprefix("fgcm_"): np.ravel(values)[first] for name, values in columns.items()},
            copy=False,
        )

    @staticmethod
    def columns(piece: OutsideTable, rows: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """Return what is needed of a piece of the prepared table.

        Parameters
        ----------
        piece : `OutsideTable`
            Piece of the table.
        rows : `numpy.ndarray`
            Rows to take.

        Returns
        -------
        columns : `dict` [ `str`, `numpy.ndarray` ]
            Arrays by name, as `match_standard_stars` made them.
        """
        columns = {name: piece.numbers(name, "deg")[rows] for name in _POSITION}
        for name in piece.names:
            if name.startswith("fgcm_"):
                dtype = np.int64 if name == "fgcm_row" else np.float64
                columns[name] = piece.plain(name).values[rows].astype(dtype, copy=False)
        return columns

    def near(self, catalog: SourceCatalog) -> Table:
        """Return the standard stars that sources can be matched with.

        Parameters
        ----------
        catalog : `~lsst.meas.finalize.catalogs.SourceCatalog`
            Sources, all of them in the prepared table.

        Returns
        -------
        table : `~astropy.table.Table`
            As `read_fgcm_standard_stars` returns it, with at least those
            near the sources.

        Raises
        ------
        ValueError
            Raised if a source is so far off its star that it could have a
            standard star that isn't in the table.
        """
        source, row = match_ids(catalog["id"], self._ids)
        there = vectors_of_degrees(self._ra[row], self._dec[row])
        here = vectors_of_degrees(*(np.rad2deg(catalog[f"coord_{name}"][source]) for name in _POSITION))
        distance = np.linalg.norm(here - there, axis=-1)
        off = np.full(len(catalog), np.inf)
        np.fmin.at(off, source, distance)
        # Sources without position have no standard star.
        known = np.isfinite(catalog["coord_ra"]) & np.isfinite(catalog["coord_dec"])
        bad = np.flatnonzero(known & (off > _chord(_ALLOWANCE)))
        if len(bad):
            raise ValueError(
                f"{self._what} has no magnitudes for {len(bad)} sources, as source {catalog['id'][bad[0]]}, "
                f"which are more than {_ALLOWANCE} arcsec off their stars: "
                "unset use_prepared_photometry."
            )
        return self._standard
