# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Layout of the star table."""

from __future__ import annotations

__all__ = ("OutputSchema", "alias_names", "to_output_table")

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import astropy.table
import numpy as np
from astropy.table import Column
from astropy.utils.metadata import merge

from ..catalogs import Schema, SourceCatalog

_CARRIED = ("id", "coord_ra", "coord_dec", "parent")
_CARRIED_SLOTS = ("slot_Centroid", "slot_ApFlux", "slot_CalibFlux")
_CARRIED_PATTERNS = ("base_CircularApertureFlux_*", "slot_ApFlux_*", "slot_CalibFlux_*")
_SHAPES = {"shape": "source shape", "psfShape": "PSF shape"}
_MOMENTS = (
    {
        "Iuu": "Second moment of {} along RA axis in sky coordinates (arcsec^2).",
        "Ivv": "Second moment of {} along Dec axis in sky coordinates (arcsec^2).",
        "Iuv": "Cross-term of {} second moments in sky coordinates (arcsec^2).",
    },
    {
        "Ialtalt": "Second moment of {} along altitude axis (arcsec^2).",
        "Iazaz": "Second moment of {} along azimuth axis (arcsec^2).",
        "Ialtaz": "Cross-term of {} second moments in alt/az coordinates (arcsec^2).",
    },
)
_SKY_MOMENTS = {
    f"{shape}_{name}": doc.format(what)
    for moments in _MOMENTS
    for shape, what in _SHAPES.items()
    for name, doc in moments.items()
}
_TASK = "FinalizeCharacterizationTask"


def alias_names(name: str, aliases: Mapping[str, str]) -> list[str]:
    """Names a field has through aliases whose target is a prefix of its own
    (spec 01 §1.8), in order of the aliases.
    """
    found = [(alias, target) for alias, target in aliases.items() if name.startswith(target)]
    return [alias + name[len(target) :] for alias, target in sorted(found)]


class OutputSchema:
    """Schema of the star table and where its first fields come from.

    Follows spec 01 §1.7 (a) to (c); measurement and aperture-correction
    tasks append their fields to ``schema``.

    Parameters
    ----------
    input_schema
        Schema of the source catalogue.
    selection_fields
        Flux and error field of the source selector, or `None` if it uses
        none.
    sky_moments
        Whether to add moments in sky coordinates.
    fgcm_bands
        Bands to add FGCM magnitudes for.

    Raises
    ------
    KeyError
        Raised if the input lacks a slot or a field that is carried over.

    Attributes
    ----------
    schema : `Schema`
        The output schema.
    source_of : `dict` [`str`, `str`]
        Input field by output field.
    """

    def __init__(
        self,
        input_schema: Schema,
        *,
        selection_fields: tuple[str, str] | None,
        sky_moments: bool = False,
        fgcm_bands: Iterable[str] = (),
    ) -> None:
        self.schema = Schema()
        self.source_of: dict[str, str] = {}
        self._input = input_schema
        missing = [slot for slot in _CARRIED_SLOTS if slot not in input_schema.aliases]
        if missing:
            raise KeyError(f"The source catalog does not define {', '.join(missing)}.")
        self._carry_fields(selection_fields)
        for output, name in self.source_of.items():
            field = input_schema[name]
            self.schema.add_field(output, field.type, doc=field.doc, unit=field.unit, size=field.size)
        self._add_fields(sky_moments, fgcm_bands)
        for slot in _CARRIED_SLOTS:
            self.schema.set_alias(slot, input_schema.aliases[slot])

    def _carry(self, name: str) -> None:
        true = self._input.resolve(name)
        self.source_of.setdefault(true, true)

    def _carry_renamed(self, name: str, output: str) -> None:
        true = self._input.resolve(name)
        if true in self.source_of:
            # Upstream renames a field that is carried already.
            self.source_of = {output if k == true else k: v for k, v in self.source_of.items()}
        else:
            self.source_of[output] = true

    def _carry_fields(self, selection_fields: tuple[str, str] | None) -> None:
        for name in (*_CARRIED, "slot_Centroid_x", "slot_Centroid_y"):
            self._carry(name)
        aliases = self._input.aliases
        for pattern in _CARRIED_PATTERNS:
            for field in self._input:
                if any(fnmatchcase(n, pattern) for n in (field.name, *alias_names(field.name, aliases))):
                    self._carry(field.name)
        if selection_fields is not None:
            outputs = ("calib_psf_selection_flux", "calib_psf_selection_flux_err")
            options = ("fluxField", "errField")
            for name, output, option in zip(selection_fields, outputs, options, strict=True):
                try:
                    self._carry_renamed(name, output)
                except KeyError:
                    raise KeyError(
                        f"The source catalog has no field {name!r}, which signalToNoise.{option} of the "
                        "source selector names."
                    ) from None

    def _add_fields(self, sky_moments: bool, fgcm_bands: Iterable[str]) -> None:
        add = self.schema.add_field
        add(
            "calib_psf_candidate",
            "Flag",
            doc=f"set if the source was a candidate for PSF determination, as determined from {_TASK}.",
        )
        add(
            "calib_psf_reserved",
            "Flag",
            doc=f"set if source was reserved from PSF determination by {_TASK}.",
        )
        add("calib_psf_used", "Flag", doc=f"set if source was used in the PSF determination by {_TASK}.")
        add("visit", "L", doc="Visit number for the sources.")
        add("detector", "I", doc="Detector number for the sources.")
        add("psf_color_value", "F", doc="Color used in PSF fit.")
        add("psf_color_type", "String", doc="Color used in PSF fit.", size=10)
        add("psf_max_value", "F", doc="Maximum value in the star image used to train PSF.")
        if sky_moments:
            for name, doc in _SKY_MOMENTS.items():
                add(name, "F", doc=doc)
        for band in fgcm_bands:
            add(f"fgcm_mag_{band}", "F", doc=f"FGCM standard star magnitude in {band} band (mag).")

    def make_catalog(self, rows: SourceCatalog) -> SourceCatalog:
        """Return a catalogue with this schema holding some input rows.

        Parameters
        ----------
        rows
            Rows of the source catalogue.

        Returns
        -------
        `SourceCatalog`
            Carried fields are copied, footprints are shared, the other
            fields are unset.
        """
        columns = {output: rows[name].copy() for output, name in self.source_of.items()}
        return SourceCatalog(self.schema, columns, footprints=rows.footprints)


class WideTable(astropy.table.Table):
    """A table that remembers its dtype while its columns stay the same.

    Astropy makes it anew whenever it is asked for, and the butler's Arrow
    formatter asks for it twice per column: seconds for 774 columns.
    """

    @classmethod
    def of_columns(cls, columns: Sequence[Column], metadata: Mapping[str, Any]) -> WideTable:
        """Return a table of columns that are no other's.

        Making it of them as usual would make each column, and a name for it,
        anew, in the same time again.

        Parameters
        ----------
        columns
            Its columns, of equal length and with names of their own.
        metadata
            Its metadata.
        """
        table = cls(meta=metadata)
        table.columns = table.TableColumns({column.name: column for column in columns})
        for column in columns:
            column.parent_table = table
        return table

    @property
    def dtype(self) -> np.dtype:
        columns = list(self.columns.values())
        state = tuple(self.columns), tuple(map(id, columns))
        known = self.__dict__.get("_known_dtype")
        if known is None or known[0] != state:
            # The columns are kept, so that nothing else gets their ids.
            known = self.__dict__["_known_dtype"] = (state, columns, super().dtype)
        return known[2]


def to_output_table(*catalogs: SourceCatalog) -> astropy.table.Table:
    """Convert the measured stars to the output table (spec 01 §1.8).

    Aliases become columns of their own behind the column they stand for.

    Parameters
    ----------
    *catalogs
        Measured stars of each detector, one or more.

    Returns
    -------
    `astropy.table.Table`
        One column per field and alias, with units and descriptions; angles
        are in radians.  Of metadata that differ the last are kept.

    Raises
    ------
    astropy.table.TableMergeError
        Raised if the columns of detectors differ.
    """
    first, *others = catalogs
    if any(other.schema != first.schema for other in others):
        tables = [to_output_table(catalog) for catalog in catalogs]
        return astropy.table.vstack(tables, join_type="exact", metadata_conflicts="silent")
    metadata = dict(first.metadata)
    for other in others:
        metadata = merge(metadata, other.metadata, metadata_conflicts="silent")
    columns = []
    aliases = first.schema.aliases
    for field in first.schema:
        for name in (field.name, *alias_names(field.name, aliases)):
            values = np.concatenate([catalog[field.name] for catalog in catalogs])
            columns.append(Column(values, name, unit=field.parsed_unit, description=field.doc, copy=False))
    return WideTable.of_columns(columns, metadata)
