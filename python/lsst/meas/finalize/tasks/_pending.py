# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Aperture corrections that wait for the other detectors of a visit."""

from __future__ import annotations

__all__ = (
    "PENDING_FIELD",
    "Place",
    "apply_together",
    "carried_over",
    "correct_table",
    "defers_ap_corr",
    "place_of",
    "take_pending",
)

import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import astropy.table
import numpy as np

from .. import afw
from ..apcorr import DetectorFluxes
from ..catalogs import Schema, SourceCatalog
from ..focal_plane import DetectorFrame, frame_of, nearest_orientation
from ._output import alias_names

if TYPE_CHECKING:
    from lsst.images import Box, VisitImage
    from lsst.utils.logging import LsstLogAdapter

    from ..catalogs import ExposureCatalog

PENDING_FIELD = "pending_ap_corr"
"""Field of a detector's catalogue, and key of its stars' metadata, that
tells where a detector is whose fluxes are yet to be corrected.
"""

_VERSION = 1

_TYPES = {"float64": "D", "float32": "F", "int64": "L", "int32": "I", "bool": "Flag"}
"""Field types by the types of columns."""


@dataclass(frozen=True)
class Place:
    """What the fit of a visit needs to know of a detector besides its stars.

    Parameters
    ----------
    aliases
        Aliases of the star table's columns.
    bbox, frame
        Pixels and place of the detector; `None` if its stars couldn't be
        measured, so that it has no corrections.
    """

    aliases: dict[str, str]
    bbox: Box | None = None
    frame: DetectorFrame | None = None

    def to_text(self) -> str:
        """Return this as text to be stored."""
        content: dict[str, Any] = {"version": _VERSION, "aliases": self.aliases}
        if self.bbox is not None and self.frame is not None:
            box, frame = self.bbox, self.frame
            content["bbox"] = [box.y.min, box.y.max, box.x.min, box.x.max]
            content |= {"bounds": frame.bounds, "offset": frame.offset, "jacobian": frame.jacobian}
        return json.dumps(content)

    @classmethod
    def from_text(cls, text: str, where: str) -> Place:
        """Read what `to_text` wrote.

        Raises
        ------
        ValueError
            Raised if it is of another version, or isn't such text.
        """
        try:
            content = json.loads(text)
            version = content["version"]
            if version == _VERSION:
                return cls._from_content(content)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{PENDING_FIELD} of {where} isn't understood: {error!r}") from error
        raise ValueError(f"{PENDING_FIELD} of {where} is of version {version}, not {_VERSION}.")

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Place:
        # Not imported with the tasks, most of which don't come here.
        from lsst.images import Box

        if "bbox" not in content:
            return cls(content["aliases"])
        y_min, y_max, x_min, x_max = content["bbox"]
        (a, b), (c, d) = content["jacobian"]
        (e, f), (g, h) = nearest_orientation([[a, b], [c, d]]).tolist()
        x, y = content["offset"]
        frame = DetectorFrame(tuple(content["bounds"]), (x, y), ((a, b), (c, d)), ((e, f), (g, h)))
        return cls(content["aliases"], Box.factory[y_min : y_max + 1, x_min : x_max + 1], frame)


def take_pending(catalog: ExposureCatalog, measured: SourceCatalog) -> dict[str, str]:
    """Return a detector's place as a field of its catalogue.

    Parameters
    ----------
    catalog
        Catalogue to come; gets the field.
    measured
        The detector's stars; lose the entry of their metadata.
    """
    text = measured.metadata.pop(PENDING_FIELD, None) or Place(measured.schema.aliases).to_text()
    catalog.schema.add_field(
        PENDING_FIELD,
        "String",
        size=len(text),
        doc="what the fit of the visit's aperture corrections has to know of the detector; the fluxes of "
        "its stars are uncorrected",
    )
    return {PENDING_FIELD: text}


def defers_ap_corr(config: Any) -> bool:
    """Tell whether aperture corrections are fitted to the whole visit."""
    return bool(getattr(config.measure_ap_corr, "fitVisit", False))


def place_of(exposure: VisitImage, schema: Schema) -> Place:
    """Return a detector's place.

    Raises
    ------
    ValueError
        Raised if the exposure has no detector whose place is known.
    """
    return Place(schema.aliases, exposure.bbox, frame_of(exposure))


def carried_over(exposure: VisitImage) -> dict[str, Any]:
    """Return the aperture corrections that an image has already.

    They carry over the normalisation of the calibration flux.
    """
    return {
        name: correction
        for name, correction in exposure.aperture_corrections.items()
        if not isinstance(cast(Any, correction), afw.UnreadableField)
    }


def apply_together(
    measure: Any,
    apply: Any,
    stars: Mapping[int, tuple[Place, Any]],
    maps: MutableMapping[int, Any],
    log: LsstLogAdapter,
) -> None:
    """Fit the aperture corrections of a visit, and apply them in place.

    Parameters
    ----------
    measure, apply
        Subtasks.
    stars
        Places and uncorrected stars by detector.
    maps
        Corrections that are carried over, by detector; replaced by all,
        or by `None` where there are none.
    log
        Where failures are logged.
    """
    fluxes = {
        d: DetectorFluxes(place.bbox, place.frame, catalog)
        for d, (place, catalog) in stars.items()
        if place.bbox is not None and place.frame is not None
    }
    try:
        fitted = measure.run_visit(fluxes) if fluxes else {}
    except Exception:
        log.warning("Aperture corrections could not be measured for this visit.", exc_info=True)
        fitted = {}
    for detector, (_, catalog) in stars.items():
        ap_corr_map = fitted.get(detector)
        if ap_corr_map is None:
            maps[detector] = None
            apply.fail(catalog)
            continue
        for name, correction in (maps[detector] or {}).items():
            ap_corr_map.setdefault(name, correction)
        apply.run(catalog=catalog, apCorrMap=ap_corr_map)
        maps[detector] = ap_corr_map


def correct_table(
    table: astropy.table.Table,
    places: Mapping[int, Place],
    maps: MutableMapping[int, Any],
    make_subtasks: Callable[[Schema, list[str], list[str]], tuple[Any, Any]],
    log: LsstLogAdapter,
) -> None:
    """Correct the fluxes in the star table of a visit.

    Parameters
    ----------
    table
        Star table, rows by ascending detector; columns are replaced.
    places
        What the detectors' catalogues tell.
    maps
        Corrections that are carried over, by detector; see
        `apply_together`.
    make_subtasks
        Makes what measures and what applies for a schema, names of fluxes
        to measure, and names of fluxes to apply to.
    log
        Where failures are logged.

    Raises
    ------
    ValueError
        Raised if the columns of detectors have different aliases.
    """
    aliases = next(iter(places.values())).aliases
    if any(place.aliases != aliases for place in places.values()):
        raise ValueError("The aliases of columns differ between the detectors of the visit.")
    whole = _as_catalog(table, aliases)
    ends = ("apcorr_", "_used"), ("", "_flag_apCorr")
    measured, applied = (_between(whole.schema.names, *pair) for pair in ends)
    measure, apply = make_subtasks(whole.schema, measured, applied)
    numbers = np.asarray(table["detector"])
    stars = {d: (place, _rows(whole, *np.searchsorted(numbers, [d, d + 1]))) for d, place in places.items()}
    apply_together(measure, apply, stars, maps, log)
    _put_back(whole, table)


def _between(names: tuple[str, ...], start: str, end: str) -> list[str]:
    """Return what is between a prefix and a suffix of names."""
    return [n[len(start) : -len(end)] for n in names if n.startswith(start) and n.endswith(end)]


def _as_catalog(table: astropy.table.Table, aliases: Mapping[str, str]) -> SourceCatalog:
    """Return the columns of a star table without those of aliases, copied."""
    duplicates = {alias for name in table.colnames for alias in alias_names(name, aliases)}
    schema, columns = Schema(aliases=dict(aliases)), {}
    for name in table.colnames:
        kind = _TYPES.get(table[name].dtype.name)
        if name not in duplicates and kind is not None:
            schema.add_field(name, kind)
            columns[name] = np.array(table[name])
    return SourceCatalog(schema, columns)


def _rows(catalog: SourceCatalog, start: int, stop: int) -> SourceCatalog:
    """Return a view of some rows."""
    return SourceCatalog(catalog.schema, {name: c[start:stop] for name, c in catalog.columns.items()})


def _put_back(catalog: SourceCatalog, table: astropy.table.Table) -> None:
    """Replace the columns that have changed, and those of their aliases."""
    for name in catalog.schema.names:
        values = catalog.columns[name]
        if np.array_equal(values, table[name], equal_nan=values.dtype.kind == "f"):
            continue
        for column in (name, *alias_names(name, catalog.schema.aliases)):
            old = table[column]
            new = astropy.table.Column(values, name=column, unit=old.unit, description=old.description)
            table.replace_column(column, new)
