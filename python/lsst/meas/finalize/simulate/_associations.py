# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tables of isolated stars of simulated visits."""

from __future__ import annotations

__all__ = ("TruthsOfVisit", "associate_stars", "associate_visits")

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import astropy.table
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ._config import SimulatedVisit
from ._objects import BAND_SLOPES

_MATCH_RADIUS = 0.3  # arcsec between what two visits saw of a star
_STAR_IDS = 10**9  # per tract
# The first of these in which a star was seen is its primary band, as upstream.
_BAND_ORDER = "izrgyu"


@dataclass(frozen=True)
class TruthsOfVisit:
    """The true objects of a visit.

    Parameters
    ----------
    visit
        Visit number.
    band
        Band.
    truths
        True objects by detector.
    """

    visit: int
    band: str
    truths: Mapping[int, astropy.table.Table]


def associate_stars(
    simulation: SimulatedVisit, truths: Mapping[int, astropy.table.Table]
) -> dict[int, tuple[astropy.table.Table, astropy.table.Table]]:
    """Make the tables of isolated stars and their sources for one visit.

    Parameters
    ----------
    simulation
        The visit.
    truths
        True objects by detector.

    Returns
    -------
    `dict` [`int`, `tuple`]
        The first two tables of `associate_visits`.
    """
    visit = TruthsOfVisit(simulation.visit, simulation.band, truths)
    return {tract: tables[:2] for tract, tables in associate_visits(simulation, [visit]).items()}


def associate_visits(
    simulation: SimulatedVisit, visits: Sequence[TruthsOfVisit]
) -> dict[int, tuple[astropy.table.Table, astropy.table.Table, astropy.table.Table]]:
    """Make the tables of the stars of all visits for each tract.

    Parameters
    ----------
    simulation
        Any visit of the field; it has the boundary between tracts.
    visits
        True objects of all visits.

    Returns
    -------
    `dict` [`int`, `tuple`]
        Isolated stars, their sources, and FGCM standard stars by tract, with
        upstream's columns. Sources of a star are adjacent, those of its
        primary band first.
    """
    sources = _matched_sources(visits)
    bands = [band for band in _BAND_ORDER if any(visit.band == band for visit in visits)]
    west, east = simulation.tracts
    # A star is where the first visit saw it, so that its tract is one.
    first = np.unique(sources["star"], return_index=True)[1]
    in_east = (sources["ra"][first] >= simulation.tract_boundary)[sources["star"]]
    return {
        tract: _make_tract(tract, bands, {name: column[rows] for name, column in sources.items()})
        for tract, rows in ((west, ~in_east), (east, in_east))
    }


def _matched_sources(visits: Sequence[TruthsOfVisit]) -> dict[str, np.ndarray]:
    """Collect isolated stars that were found, and number the stars."""
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("ra", "dec", "source_id", "visit", "detector", "band", "flux", "color")
    }
    for visit in sorted(visits, key=lambda visit: visit.visit):
        for detector, truth in sorted(visit.truths.items()):
            good = np.asarray(truth["is_isolated"]) & (np.asarray(truth["source_id"]) > 0)
            same = {"visit": visit.visit, "detector": detector, "band": visit.band}
            for name, parts in columns.items():
                parts.append(
                    np.full(good.sum(), same[name]) if name in same else np.asarray(truth[name])[good]
                )
    sources = {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in columns.items()}
    sources["star"] = _friends(sources["ra"], sources["dec"])
    return sources


def _friends(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Give positions that are as close as those of one star one number."""
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    vectors = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)
    if not len(vectors):
        return np.empty(0, dtype=int)
    pairs = cKDTree(vectors).query_pairs(np.deg2rad(_MATCH_RADIUS / 3600), output_type="ndarray")
    shape = (len(vectors), len(vectors))
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape)
    return connected_components(graph, directed=False)[1]


def _make_tract(
    tract: int, bands: Sequence[str], sources: Mapping[str, np.ndarray]
) -> tuple[astropy.table.Table, astropy.table.Table, astropy.table.Table]:
    """Make the three tables of one tract."""
    rank = np.array([bands.index(band) for band in sources["band"]], dtype=int)
    star = np.unique(sources["star"], return_inverse=True)[1].reshape(-1)
    order = np.lexsort([sources["visit"], rank, star])
    star, rank = star[order], rank[order]
    n = int(star.max(initial=-1)) + 1
    # Rows by star and band: how many, and where they begin.
    counts = np.zeros((n, len(bands)), dtype=np.int32)
    np.add.at(counts, (star, rank), 1)
    ends = np.cumsum(counts).reshape(counts.shape)
    first = (ends - counts).astype(np.int32)
    table = astropy.table.Table(
        {
            "sourceId": sources["source_id"][order].astype(np.int64),
            "obj_index": star.astype(np.int32),
            "visit": sources["visit"][order].astype(np.int64),
            "detector": sources["detector"][order].astype(np.int32),
        }
    )
    starts = first.min(axis=1, initial=len(star))
    isolated = astropy.table.Table(
        {
            "isolated_star_id": tract * _STAR_IDS + np.arange(n, dtype=np.int64),
            "ra": sources["ra"][order][starts].astype(float),
            "dec": sources["dec"][order][starts].astype(float),
            "primary_band": np.array(list(bands), dtype="U1")[rank[starts]],
            "source_cat_index": starts.astype(np.int32),
            "nsource": counts.sum(axis=1).astype(np.int32),
        }
    )
    for column, band in enumerate(bands):
        isolated[f"source_cat_index_{band}"] = first[:, column]
        isolated[f"nsource_{band}"] = counts[:, column]
    chosen = order[starts]
    standard = _standard_stars(
        isolated,
        sources["band"][chosen],
        sources["flux"][chosen].astype(float),
        sources["color"][chosen].astype(float),
    )
    return isolated, table, standard


def _standard_stars(
    isolated: astropy.table.Table, bands: np.ndarray, fluxes: np.ndarray, colors: np.ndarray
) -> astropy.table.Table:
    """Make the FGCM standard stars: positions and magnitudes."""
    slopes = np.array([BAND_SLOPES[band] for band in bands])
    magnitude = 31.4 - 2.5 * np.log10(fluxes) - slopes * colors
    table = isolated["isolated_star_id", "ra", "dec"]
    for band in "grizy":
        table[f"mag_{band}"] = magnitude + BAND_SLOPES[band] * colors
    return table
