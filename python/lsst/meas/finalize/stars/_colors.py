# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Colours and magnitudes of FGCM standard stars."""

from __future__ import annotations

__all__ = (
    "add_colors",
    "add_fgcm_photometry",
    "fgcm_magnitudes",
    "match_radius",
    "psf_colors",
    "read_fgcm_standard_stars",
)

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table, vstack

from .._sphere import unit_vectors
from ._columns import OutsideTable
from ._handles import TableReader, describe

if TYPE_CHECKING:
    from ..catalogs import SourceCatalog

_RADIUS = 1.0  # arcsec


def read_fgcm_standard_stars(handles: Mapping[int, Any], bands: Iterable[str] | None = None) -> Table | None:
    """Read positions and magnitudes of the FGCM standard stars of all tracts.

    Parameters
    ----------
    handles : `~collections.abc.Mapping`
        Handles (or tables) by tract, in the order to concatenate them.
    bands : iterable of `str`, optional
        Bands to read; by default all that there are.

    Returns
    -------
    table : `~astropy.table.Table` or `None`
        Columns ``ra``, ``dec`` (degrees) and ``mag_<band>``, all float64
        and NaN where they are missing, as for tracts without a band; `None`
        without handles.

    Raises
    ------
    KeyError
        Raised if a tract has no positions, or no magnitudes at all.
    ValueError
        Raised if a column isn't of numbers, or in an unsuitable unit.
    """
    reader = TableReader()
    wanted = None if bands is None else {f"mag_{band}" for band in bands}
    tables = []
    for tract, handle in handles.items():  # over tracts, a handful
        outside = reader.read(handle, describe(handle, "fgcm_standard_star", tract), ("ra", "dec", "mag_*"))
        names = [name for name in outside.names if name.startswith("mag_")]
        columns = {name: outside.numbers(name, "deg") for name in ("ra", "dec")}
        columns |= {n: outside.numbers(n, "mag") for n in names if wanted is None or n in wanted}
        tables.append(Table(columns, copy=False))
    if not tables:
        return None
    every = dict.fromkeys(name for table in tables for name in table.colnames)
    for table in tables:
        for name in every.keys() - set(table.colnames):
            table[name] = np.full(len(table), np.nan)
    return vstack([table[list(every)] for table in tables])


def vectors_of_degrees(ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Convert degrees to (N, 3) unit vectors."""
    return unit_vectors(np.deg2rad(ra), np.deg2rad(dec))


def match_radius(
    ra1: npt.NDArray[np.float64],
    dec1: npt.NDArray[np.float64],
    ra2: npt.NDArray[np.float64],
    dec2: npt.NDArray[np.float64],
    radius: float,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Find all pairs of positions within a radius of each other.

    Parameters
    ----------
    ra1, dec1, ra2, dec2 : `numpy.ndarray`
        Positions in degrees, float64; rows that aren't finite match nothing.
    radius : `float`
        Radius in arcseconds; the boundary is included.

    Returns
    -------
    index1, index2 : `numpy.ndarray`
        Pairs, ordered by ``index1``, then ``index2``.
    """
    rows1 = np.flatnonzero(np.isfinite(ra1) & np.isfinite(dec1))
    rows2 = np.flatnonzero(np.isfinite(ra2) & np.isfinite(dec2))
    if not len(rows1) or not len(rows2):
        nothing = np.zeros(0, dtype=np.intp)
        return nothing, nothing
    # Slow to import, and needed for colours only.
    from scipy.spatial import cKDTree

    tree = cKDTree(vectors_of_degrees(ra2[rows2], dec2[rows2]))
    chord = 2.0 * np.sin(0.5 * np.deg2rad(radius / 3600.0))
    found = tree.query_ball_point(vectors_of_degrees(ra1[rows1], dec1[rows1]), chord, return_sorted=True)
    counts = np.array([len(f) for f in found])
    index2 = np.array([i for f in found for i in f], dtype=np.intp)
    return np.repeat(rows1, counts), rows2[index2]


def _match_fgcm(
    coord_ra: npt.NDArray[np.float64], coord_dec: npt.NDArray[np.float64], fgcm: Any
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Match sources (radians) to at most one standard star each.

    Among several standard stars within 1″, the one with the largest row
    index is taken, not the nearest (spec 01 §1.6).
    """
    outside = _outside(fgcm)
    ra, dec = (outside.numbers(name, "deg") for name in ("ra", "dec"))
    i, j = match_radius(np.rad2deg(coord_ra), np.rad2deg(coord_dec), ra, dec, _RADIUS)
    last = np.append(i[1:] != i[:-1], True)[: len(i)]
    return i[last], j[last]


def _outside(fgcm: Any) -> OutsideTable:
    """Return the gate to an FGCM catalogue of whatever kind."""
    return OutsideTable(fgcm, "fgcm_standard_star")


def psf_colors(
    coord_ra: npt.NDArray[np.float64], coord_dec: npt.NDArray[np.float64], fgcm: Any, color: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.str_]]:
    """Look up a colour of stars in the FGCM catalogue.

    Parameters
    ----------
    coord_ra, coord_dec : `numpy.ndarray`
        Positions, (N,) float64, radians.
    fgcm : `~astropy.table.Table` or `numpy.ndarray`
        FGCM standard stars with ``ra``, ``dec`` in degrees and
        ``mag_<band>``.
    color : `str`
        Such as ``'g-i'``: the bands are its characters 0 and 2.

    Returns
    -------
    value : `numpy.ndarray`
        Colours, (N,) float32, magnitudes; NaN without match.
    type : `numpy.ndarray`
        ``'<band>-<band>'``, (N,) U10; '' without match.

    Raises
    ------
    KeyError
        Raised if the catalogue lacks a magnitude.
    ValueError
        Raised if ``color`` has less than three characters.
    """
    if len(color) < 3:
        raise ValueError(f"A color must look like 'g-i', not {color!r}.")
    blue, red = color[0], color[2]
    outside = _outside(fgcm)
    missing = [f"mag_{b}" for b in (blue, red) if f"mag_{b}" not in outside]
    if missing:
        raise KeyError(f"fgcm_standard_star has no columns {missing}, needed for the color {color!r}.")
    value = np.full(len(coord_ra), np.nan, dtype=np.float32)
    kind = np.full(len(coord_ra), "", dtype="U10")
    i, j = _match_fgcm(coord_ra, coord_dec, fgcm)
    difference = outside.numbers(f"mag_{blue}", "mag") - outside.numbers(f"mag_{red}", "mag")
    value[i] = difference[j]
    kind[i] = f"{blue}-{red}"
    return value, kind


def fgcm_magnitudes(
    coord_ra: npt.NDArray[np.float64],
    coord_dec: npt.NDArray[np.float64],
    fgcm: Any | None,
    bands: Iterable[str],
) -> dict[str, npt.NDArray[np.float32]]:
    """Look up magnitudes of stars in the FGCM catalogue.

    Parameters
    ----------
    coord_ra, coord_dec : `numpy.ndarray`
        Positions, (N,) float64, radians.
    fgcm : `~astropy.table.Table` or `numpy.ndarray` or `None`
        See `psf_colors`.
    bands : iterable of `str`
        Bands.

    Returns
    -------
    magnitudes : `dict` [ `str`, `numpy.ndarray` ]
        By band, (N,) float32; NaN without match, without catalogue, or if
        the catalogue doesn't have the band.
    """
    result = {band: np.full(len(coord_ra), np.nan, dtype=np.float32) for band in bands}
    if fgcm is None:
        return result
    outside = _outside(fgcm)
    i, j = _match_fgcm(coord_ra, coord_dec, fgcm)
    for band, magnitude in result.items():
        if f"mag_{band}" in outside:
            magnitude[i] = outside.numbers(f"mag_{band}", "mag")[j]
    return result


def add_colors(catalog: SourceCatalog, fgcm: Any, *, band: str | None, color: Mapping[str, str]) -> None:
    """Fill ``psf_color_value`` and ``psf_color_type`` of a catalogue.

    Parameters
    ----------
    catalog : `~lsst.meas.finalize.catalogs.SourceCatalog`
        Stars, changed in place.
    fgcm : `~astropy.table.Table` or `numpy.ndarray`
        See `psf_colors`.
    band : `str` or `None`
        Band of the exposure.
    color : `~collections.abc.Mapping` [ `str`, `str` ]
        Colour to use by band, the determiner's option ``color``.

    Raises
    ------
    KeyError
        Raised if there is no colour for the band.
    """
    if band is None or band not in color:
        raise KeyError(
            f"useColor is set, but the option color of the PSF determiner has no entry for band {band!r} "
            f"of the exposure; it has {sorted(color)}."
        )
    value, kind = psf_colors(catalog["coord_ra"], catalog["coord_dec"], fgcm, color[band])
    catalog["psf_color_value"] = value
    catalog["psf_color_type"] = kind


def add_fgcm_photometry(catalog: SourceCatalog, fgcm: Any | None, *, bands: Iterable[str]) -> None:
    """Fill ``fgcm_mag_<band>`` of a catalogue.

    Parameters
    ----------
    catalog : `~lsst.meas.finalize.catalogs.SourceCatalog`
        Stars, changed in place.
    fgcm, bands
        See `fgcm_magnitudes`.
    """
    magnitudes = fgcm_magnitudes(catalog["coord_ra"], catalog["coord_dec"], fgcm, bands)
    for band, magnitude in magnitudes.items():
        catalog[f"fgcm_mag_{band}"] = magnitude
