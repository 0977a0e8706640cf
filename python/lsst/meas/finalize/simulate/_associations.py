# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tables of isolated stars of simulated visits."""

from __future__ import annotations

__all__ = ("associate_stars", "make_standard_stars")

from collections.abc import Mapping

import astropy.table
import numpy as np

from ._config import VisitSimulation

_N_OTHER_VISITS = 3


def associate_stars(
    simulation: VisitSimulation, truths: Mapping[int, astropy.table.Table]
) -> dict[int, tuple[astropy.table.Table, astropy.table.Table]]:
    """Make the tables of isolated stars and their sources for each tract.

    Besides this visit's, stars have sources of a few other visits, one of
    them in another band, as after association of a survey.

    Parameters
    ----------
    simulation
        The visit.
    truths
        True objects by detector.

    Returns
    -------
    `dict` [`int`, `tuple`]
        Tables of stars and of sources by tract, with upstream's columns.
    """
    rng = np.random.default_rng([simulation.seed, simulation.visit, 2])
    found = []
    for detector, truth in truths.items():
        stars = truth[np.asarray(truth["is_isolated"]) & (np.asarray(truth["source_id"]) > 0)]
        stars["detector"] = np.int32(detector)
        found.append(stars)
    stars = astropy.table.vstack(found, metadata_conflicts="silent")
    west, east = simulation.tracts
    tract_of = np.where(stars["ra"] < simulation.tract_boundary, west, east)
    return {tract: _make_tract(simulation, rng, tract, stars[tract_of == tract]) for tract in (west, east)}


def _make_tract(
    simulation: VisitSimulation, rng: np.random.Generator, tract: int, stars: astropy.table.Table
) -> tuple[astropy.table.Table, astropy.table.Table]:
    n = len(stars)
    band, other_band = simulation.band, "g" if simulation.band != "g" else "i"
    seen = rng.random((n, _N_OTHER_VISITS)) < 0.6
    # This visit first, then the others in its band, then the other band.
    visits = simulation.visit + np.arange(_N_OTHER_VISITS + 1) * 10
    present = np.concatenate([np.ones((n, 1), dtype=bool), seen], axis=1)
    star, slot = np.nonzero(present)
    source_id = np.where(
        slot == 0,
        np.asarray(stars["source_id"])[star],
        (visits[slot] << 24) + rng.integers(1 << 22, size=len(slot)),
    )
    sources = astropy.table.Table(
        {
            "sourceId": source_id.astype(np.int64),
            "obj_index": star.astype(np.int32),
            "visit": visits[slot].astype(np.int64),
            "detector": np.asarray(stars["detector"])[star].astype(np.int32),
        }
    )
    n_all = present.sum(axis=1)
    n_other = present[:, -1].astype(np.int64)
    first = np.cumsum(n_all) - n_all
    isolated = astropy.table.Table(
        {
            "isolated_star_id": tract * 100_000 + np.arange(n, dtype=np.int64),
            "ra": np.asarray(stars["ra"]),
            "dec": np.asarray(stars["dec"]),
            "primary_band": np.full(n, band),
            "source_cat_index": first.astype(np.int32),
            "nsource": n_all.astype(np.int32),
            f"source_cat_index_{band}": first.astype(np.int32),
            f"nsource_{band}": (n_all - n_other).astype(np.int32),
            f"source_cat_index_{other_band}": (first + n_all - n_other).astype(np.int32),
            f"nsource_{other_band}": n_other.astype(np.int32),
        }
    )
    return isolated, sources


def make_standard_stars(
    isolated: astropy.table.Table, truths: Mapping[int, astropy.table.Table]
) -> astropy.table.Table:
    """Make the FGCM standard stars of one tract.

    Parameters
    ----------
    isolated
        Isolated stars of the tract.
    truths
        True objects by detector.

    Returns
    -------
    `astropy.table.Table`
        Position in degrees and magnitudes ``mag_<band>``.
    """
    objects = astropy.table.vstack(list(truths.values()), metadata_conflicts="silent")
    # Positions were copied from the truth, so they identify the object.
    order = np.argsort(np.asarray(objects["ra"]))
    row = order[np.searchsorted(np.asarray(objects["ra"])[order], np.asarray(isolated["ra"]))]
    magnitude = 31.4 - 2.5 * np.log10(np.asarray(objects["flux"])[row])
    color = np.asarray(objects["color"])[row]
    table = isolated["isolated_star_id", "ra", "dec"]
    # Magnitudes along the stellar locus, roughly.
    for band, slope in {"g": 0.7, "r": 0.1, "i": -0.3, "z": -0.45, "y": -0.5}.items():
        table[f"mag_{band}"] = magnitude + slope * color
    return table
