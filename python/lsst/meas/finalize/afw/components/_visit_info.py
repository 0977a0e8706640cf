# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""VisitInfo: in headers of images, and in archives of catalogues (spec 02
§5.6).
"""

from __future__ import annotations

__all__ = ("VISIT_INFO_KEYS", "VisitInfo", "read_visit_info_cards")

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.time import Time

from ...catalogs import Field, Schema
from .._errors import UnsupportedPersistableError
from ..archive import ArchiveReader, ObjectRecord, StoredTables, reads, writes
from ..fits import TableView

_MAX_VERSION = 5
_INVALID_TIME = np.iinfo(np.int64).min
_ROTATION_TYPES = ("UNKNOWN", "SKY", "HORIZON", "MOUNT")

# Header key, table column, kind of value; in the order of the table.
_ITEMS = (
    ("EXPTIME", "exposuretime", "D"),
    ("DARKTIME", "darktime", "D"),
    ("DATE-AVG", "tai", "time"),
    ("MJD-AVG-UT1", "ut1", "D"),
    ("AVG-ERA", "era", "Angle"),
    ("BORE-RA", "boresightradec_ra", "Angle"),
    ("BORE-DEC", "boresightradec_dec", "Angle"),
    ("BORE-AZ", "boresightazalt_az", "Angle"),
    ("BORE-ALT", "boresightazalt_alt", "Angle"),
    ("BORE-AIRMASS", "boresightairmass", "D"),
    ("BORE-ROTANG", "boresightrotangle", "Angle"),
    ("ROTTYPE", "rottype", "rotation"),
    ("OBS-LAT", "latitude", "Angle"),
    ("OBS-LONG", "longitude", "Angle"),
    ("OBS-ELEV", "elevation", "D"),
    ("AIRTEMP", "airtemperature", "D"),
    ("AIRPRESS", "airpressure", "D"),
    ("HUMIDITY", "humidity", "D"),
    ("INSTRUMENT", "instrumentlabel", "String"),
    ("IDNUM", "idnum", "L"),
    ("FOCUSZ", "focusz", "D"),
    ("OBSTYPE", "observationType", "String"),
    ("PROGRAM", "scienceProgram", "String"),
    ("REASON", "observationReason", "String"),
    ("OBJECT", "object", "String"),
    ("HAS-SIMULATED-CONTENT", "hasSimulatedContent", "Flag"),
)

_NUMBERS = frozenset(key for key, _, kind in _ITEMS if kind in ("D", "Angle"))

VISIT_INFO_KEYS = (*(item[0] for item in _ITEMS), "TIMESYS", "TIME-MID", "MJD")
"""Header keys that describe the visit."""


@dataclasses.dataclass(frozen=True)
class VisitInfo:
    """Information about a visit.

    Attributes
    ----------
    cards : `dict`
        Header keys and values as the stack writes them to images: angles in
        degrees, times as ISO strings in TAI; undefined ones are missing.
    stored : `StoredTables` | `None`
        Its tables if it is from a catalogue, with the angles in radians.
    """

    cards: dict[str, bool | int | float | str]
    stored: StoredTables | None = dataclasses.field(default=None, repr=False, compare=False)


def _parse_number(text: str) -> float | None:
    """Interpret a number given as text; None if it isn't a finite one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_visit_info_cards(header: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Pick the cards about the visit from the header of an image.

    Parameters
    ----------
    header
        Primary header, updated with that of the image.

    Returns
    -------
    cards : `dict`
        Values as in the header, except for numbers given as text;
        undefined ones are left out.
    """
    cards: dict[str, bool | int | float | str] = {}
    for key in VISIT_INFO_KEYS:
        value = header.get(key)
        if not isinstance(value, bool | int | float | str):
            continue
        if isinstance(value, str):
            value = value.strip()
            if key in _NUMBERS:
                number = _parse_number(value)
                if number is not None:
                    cards[key] = number
                continue
        cards[key] = value
    return cards


def _from_column(kind: str, value: Any) -> bool | int | float | str | None:
    if kind in ("D", "Angle"):
        number = float(np.degrees(value)) if kind == "Angle" else float(value)
        return number if math.isfinite(number) else None
    if kind == "time":
        if int(value) == _INVALID_TIME:
            return None
        # Whole days and nanoseconds apart, to keep the nanoseconds.
        days, nanoseconds = divmod(int(value), 86_400_000_000_000)
        time = Time(40587.0 + days, nanoseconds / 86_400e9, format="mjd", scale="tai", precision=9)
        return str(time.isot)
    if kind == "rotation":
        return _ROTATION_TYPES[int(value)] if 0 <= int(value) < len(_ROTATION_TYPES) else "UNKNOWN"
    if kind == "L":
        return int(value)
    if kind == "Flag":
        return bool(value)
    return str(value) or None


@reads("VisitInfo")
def _read_visit_info(archive: ArchiveReader, tables: list[TableView], name: str) -> VisitInfo:
    table = archive.one_row(tables, name)
    version = int(table["version"][0]) if "version" in table else 0
    if version > _MAX_VERSION:
        raise UnsupportedPersistableError(
            f"{table.where}: version {version} of {name} is newer than the supported {_MAX_VERSION}"
        )
    cards: dict[str, bool | int | float | str] = {}
    for key, column, kind in _ITEMS:
        if column in table and (value := _from_column(kind, table[column][0])) is not None:
            cards[key] = value
    if "DATE-AVG" in cards:
        cards["TIMESYS"] = "TAI"
    return VisitInfo(cards, StoredTables.keep(archive, tables, name))


def _to_column(kind: str, value: Any) -> Any:
    if kind in ("D", "Angle"):
        number = math.nan if value is None else float(value)
        return math.radians(number) if kind == "Angle" else number
    if kind == "time":
        if value is None:
            return _INVALID_TIME
        time = Time(str(value), format="isot", scale="tai")
        days = round(time.jd1 - 2440587.5)
        rest = (time.jd1 - 2440587.5 - days) + time.jd2
        return days * 86_400_000_000_000 + round(rest * 86_400e9)
    if kind == "rotation":
        return _ROTATION_TYPES.index(value) if value in _ROTATION_TYPES else 0
    if kind == "L":
        return int(value or 0)
    if kind == "Flag":
        return bool(value)
    return str(value or "")


@writes(VisitInfo, name="VisitInfo", module="")
def _write_visit_info(record: ObjectRecord, obj: VisitInfo) -> None:
    if obj.stored is not None:
        obj.stored.write(record)
        return
    types = {"time": "L", "rotation": "I"}
    fields, values = [], {}
    for key, column, kind in _ITEMS:
        fields.append(Field(column, types.get(kind, kind), key, "rad" if kind == "Angle" else ""))
        values[column] = _to_column(kind, obj.cards.get(key))
        if column == "instrumentlabel":
            fields.append(Field("version", "I", "version of this VisitInfo"))
            values["version"] = _MAX_VERSION
    record.table(Schema(tuple(fields))).add_row(**values)
