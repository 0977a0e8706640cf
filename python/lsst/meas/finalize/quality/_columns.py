# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The columns of a star table that judging a PSF needs, as plain arrays."""

from __future__ import annotations

__all__ = ("HIGHER_MOMENTS", "MissingColumnsError", "StarColumns", "star_table_columns")

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import astropy.table
import astropy.units as u
import numpy as np
import numpy.typing as npt

type Floats = npt.NDArray[np.float64]
type Booleans = npt.NDArray[np.bool_]

HIGHER_MOMENTS = ("03", "12", "21", "30", "04", "13", "22", "31", "40")
"""Orders p, q of third and fourth moments, in the order of their columns."""

_SECOND_MOMENTS = ("xx", "yy", "xy")
_SOURCE_MOMENTS = "ext_shapeHSM_HigherOrderMomentsSource"
_PSF_MOMENTS = "ext_shapeHSM_HigherOrderMomentsPSF"
_REQUIRED = ("detector", "calib_psf_used", "calib_psf_reserved")
_SAMPLES = ("used", "reserved", "candidate")
_BANDS = "ugrizy"

_SINGLE = {
    "x": "slot_Centroid_x",
    "y": "slot_Centroid_y",
    "ra": "coord_ra",
    "dec": "coord_dec",
    "flux": "slot_PsfFlux_instFlux",
    "flux_err": "slot_PsfFlux_instFluxErr",
    "calib_flux": "slot_CalibFlux_instFlux",
    "focal_x": "base_FPPosition_x",
    "focal_y": "base_FPPosition_y",
    "color": "psf_color_value",
}
_FLAGS = {"shape_flag": "slot_Shape_flag", "flux_flag": "slot_PsfFlux_flag"}
_GROUPED = {
    "star": tuple(f"slot_Shape_{m}" for m in _SECOND_MOMENTS),
    "psf": tuple(f"slot_PsfShape_{m}" for m in _SECOND_MOMENTS),
    "star_higher": tuple(f"{_SOURCE_MOMENTS}_{m}" for m in HIGHER_MOMENTS),
    "psf_higher": tuple(f"{_PSF_MOMENTS}_{m}" for m in HIGHER_MOMENTS),
}


class MissingColumnsError(ValueError):
    """A table lacks columns without which nothing can be judged."""


def star_table_columns(available: Iterable[str]) -> list[str]:
    """Return those columns of a star table that are of use here.

    Parameters
    ----------
    available
        Names of the columns that the table has.

    Returns
    -------
    `list` [`str`]
        Names to read, in the order of the table.
    """
    wanted = {*_REQUIRED, "calib_psf_candidate", *_SINGLE.values(), *_FLAGS.values()}
    wanted.update(name for names in _GROUPED.values() for name in names)
    return [name for name in available if name in wanted or name.startswith("fgcm_mag_")]


@dataclass(frozen=True)
class StarColumns:
    """Stars of a visit.

    Parameters
    ----------
    detector
        Detector numbers, shape (N,).
    x, y
        Centroids in pixels, shape (N,), as all that follow if not said.
    ra, dec
        Position in radians.
    star, psf
        Second moments xx, yy, xy of star and model in pixel², (N, 3).
    star_higher, psf_higher
        Standardized moments in the order of ``HIGHER_MOMENTS``, (N, 9).
    flux, flux_err, calib_flux
        PSF flux, its error and the calibration flux.
    focal_x, focal_y
        Position on the focal plane in mm.
    color
        Color of the star in magnitudes, as the PSF fit took it or from FGCM
        magnitudes.
    magnitude
        FGCM magnitude in the visit's band, else an instrumental one.
    shape_flag, flux_flag
        Flags of star's moments and PSF flux.
    samples
        Which stars belong to ``used``, ``reserved`` and ``candidate``.
    missing
        Columns that the table doesn't have, by attribute.  Values are NaN
        then, flags are false.
    magnitude_name, color_name
        What magnitude and color are.
    """

    detector: npt.NDArray[np.int64]
    x: Floats
    y: Floats
    ra: Floats
    dec: Floats
    star: Floats
    psf: Floats
    star_higher: Floats
    psf_higher: Floats
    flux: Floats
    flux_err: Floats
    calib_flux: Floats
    focal_x: Floats
    focal_y: Floats
    color: Floats
    magnitude: Floats
    shape_flag: Booleans
    flux_flag: Booleans
    samples: Mapping[str, Booleans]
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    magnitude_name: str = ""
    color_name: str = ""

    def __len__(self) -> int:
        return len(self.detector)

    @property
    def signal_to_noise(self) -> Floats:
        """Signal-to-noise ratio of the PSF flux; NaN if not measured."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.flux / self.flux_err

    @classmethod
    def from_table(cls, table: astropy.table.Table, band: str | None = None) -> StarColumns:
        """Take the columns out of a star table.

        Parameters
        ----------
        table
            Star table of a visit or of some of its detectors.
        band
            Band, to choose the FGCM magnitude; without it magnitudes are
            instrumental.

        Raises
        ------
        MissingColumnsError
            Raised if the table lacks the detector or the flags of the
            samples.
        TypeError
            Raised if a column has the wrong type or shape.
        """
        absent = [name for name in _REQUIRED if name not in table.colnames]
        if absent:
            raise MissingColumnsError(f"The star table lacks the columns {', '.join(absent)}.")
        missing: dict[str, tuple[str, ...]] = {}
        values: dict[str, Any] = {"detector": _integers(table, "detector")}
        for name, column in _SINGLE.items():
            values[name] = _floats(table, column)
            if column not in table.colnames:
                missing[name] = (column,)
        for name, columns in _GROUPED.items():
            values[name] = np.stack([_floats(table, column) for column in columns], axis=1)
            if gone := tuple(column for column in columns if column not in table.colnames):
                missing[name] = gone
        for name, column in _FLAGS.items():
            values[name] = _booleans(table, column)
            if column not in table.colnames:
                missing[name] = (column,)
        samples = {name: _booleans(table, f"calib_psf_{name}") for name in _SAMPLES}
        if "calib_psf_candidate" not in table.colnames:
            samples["candidate"] = samples["used"] | samples["reserved"]
        values["magnitude"], values["magnitude_name"] = _magnitudes(table, band, values)
        values["color"], values["color_name"] = _colors(table, values["color"])
        return cls(samples=samples, missing=missing, **values)


def _check(table: astropy.table.Table, name: str, kinds: str) -> Any:
    column = table[name]
    if getattr(column, "ndim", 1) != 1 or getattr(column, "dtype", np.dtype(object)).kind not in kinds:
        raise TypeError(f"Column {name} of the star table is not a column of numbers or flags.")
    return column


def _floats(table: astropy.table.Table, name: str) -> Floats:
    """Return a column as float64, NaN where masked or not there."""
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    column = _check(table, name, "fiu")
    values = np.array(np.ma.getdata(column), dtype=np.float64)
    values[np.ma.getmaskarray(column)] = np.nan
    unit = getattr(column, "unit", None)
    if name.startswith("coord_") and unit is not None and unit.is_equivalent(u.rad):
        values *= unit.to(u.rad)
    return values


def _booleans(table: astropy.table.Table, name: str) -> Booleans:
    """Return flags, false where masked or not there."""
    if name not in table.colnames:
        return np.zeros(len(table), dtype=bool)
    column = _check(table, name, "biu")
    return np.asarray(np.ma.getdata(column)).astype(bool) & ~np.ma.getmaskarray(column)


def _integers(table: astropy.table.Table, name: str) -> npt.NDArray[np.int64]:
    column = _check(table, name, "iu")
    if np.ma.getmaskarray(column).any():
        raise TypeError(f"Column {name} of the star table has masked values.")
    return np.asarray(np.ma.getdata(column)).astype(np.int64)


def _magnitudes(
    table: astropy.table.Table, band: str | None, values: Mapping[str, Floats]
) -> tuple[Floats, str]:
    name = f"fgcm_mag_{band}"
    if name in table.colnames:
        magnitudes = _floats(table, name)
        if np.isfinite(magnitudes).any():
            return magnitudes, name
    flux, label = "calib_flux", "slot_CalibFlux"
    if not np.isfinite(values[flux]).any():
        flux, label = "flux", "slot_PsfFlux"
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitudes = -2.5 * np.log10(np.where(values[flux] > 0, values[flux], np.nan))
    return magnitudes, f"instrumental magnitude of {label}"


def _colors(table: astropy.table.Table, given: Floats) -> tuple[Floats, str]:
    """Return colors: those of the fit, else g - i or what bands there are."""
    if np.isfinite(given).any():
        return given, "psf_color_value"
    bands = [band for band in _BANDS if f"fgcm_mag_{band}" in table.colnames]
    for first, second in (("g", "i"), ("g", "r"), ("r", "i"), ("i", "z")):
        if first in bands and second in bands:
            colors = _floats(table, f"fgcm_mag_{first}") - _floats(table, f"fgcm_mag_{second}")
            if np.isfinite(colors).any():
                return colors, f"{first} - {second}"
    return given, ""
