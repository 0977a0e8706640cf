# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Schemas of catalogues from FITS tables of all versions (spec 02 §4)."""

from __future__ import annotations

__all__ = (
    "archive_ids",
    "check_minimal",
    "contains_fields",
    "metadata_cards",
    "read_catalog_table",
    "table_metadata",
    "table_schema",
    "table_version",
)

import logging
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...catalogs import Field, Schema
from .._errors import FitsFormatError, MalformedArchiveError
from ._layout import Column, FlagBit
from ._open import NATIVE, FitsFile, is_native
from ._read_cards import UnreadableCard
from ._table import FitsTable, read_table, table_cards

_LOG = logging.getLogger(__name__)

_SCALARS = {"B": "B", "I": "I", "J": "I", "K": "L", "E": "F", "D": "D"}
_STRUCTURAL = re.compile(
    r"(XTENSION|SIMPLE|END|CONTINUE|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|THEAP|EXTEND|INHERIT|CHECKSUM|DATASUM|FLAGCOL|"
    r"EXTNAME|EXTTYPE|EXTVER|ALIAS|AR_HDU|AR_CATN|AR_NCAT|AR_NAME|AFW_TABLE_VERSION|AFW_TYPE|EXPTABLE_VER|"
    r"(TTYPE|TFORM|TDOC|TUNIT|TCCLS|TZERO|TSCAL|TNULL|TDISP|TDIM|TFLAG|TFDOC)\d+|"
    r"(PSF_FLUX|AP_FLUX|INST_FLUX|MODEL_FLUX|CALIB_FLUX|CENTROID|SHAPE)_SLOT|"
    r"SPANCOL|PEAKCOL|HVYPIXCO|HVYMSKCO|HVYVARCO)"
)
_NOT_FINITE = {"NAN": math.nan, "+INFINITY": math.inf, "-INFINITY": -math.inf}
_OLD_SLOTS = {
    "PSF_FLUX_SLOT": "slot_PsfFlux",
    "AP_FLUX_SLOT": "slot_ApFlux",
    "INST_FLUX_SLOT": "slot_GaussianFlux",
    "MODEL_FLUX_SLOT": "slot_ModelFlux",
    "CALIB_FLUX_SLOT": "slot_CalibFlux",
    "CENTROID_SLOT": "slot_Centroid",
    "SHAPE_SLOT": "slot_Shape",
}
_COMPOUNDS: dict[tuple[str, int], tuple[str, ...]] = {
    ("Point", 2): ("_x", "_y"),
    ("Coord", 2): ("_ra", "_dec"),
    ("Moments", 3): ("_xx", "_yy", "_xy"),
}
_COVARIANCE = re.compile(r"(.+)(_(?:xx|yy|xy|x|y|\d+)(?:Err|_(?:xx|yy|xy|x|y|\d+)_Cov))")
_COVARIANCES = {"Covariance(Point)": ("x", "y"), "Covariance(Moments)": ("xx", "yy", "xy")}


def table_version(header: Mapping[str, Any], where: str) -> int:
    """Return the format version of a table.

    Parameters
    ----------
    header : `~collections.abc.Mapping`
        Header cards of the table.
    where : `str`
        File and HDU, for messages.

    Returns
    -------
    version : `int`
        ``AFW_TABLE_VERSION``; if missing 0 with, 3 without ``AFW_TYPE``.

    Raises
    ------
    FitsFormatError
        Raised if it is no number.
    """
    version = header.get("AFW_TABLE_VERSION")
    if isinstance(version, int) and not isinstance(version, bool):
        return version
    if version is not None:
        raise FitsFormatError(f"{where}: AFW_TABLE_VERSION = {version!r} is no number")
    if "AFW_TYPE" in header and ("ALIAS" in header or "EXPTABLE_VER" in header):
        _LOG.warning("%s: no card AFW_TABLE_VERSION, but cards that version 0 doesn't have", where)
    return 0 if "AFW_TYPE" in header else 3


def table_metadata(table: FitsTable) -> dict[str, Any]:
    """Collect the header cards that aren't part of the format.

    Parameters
    ----------
    table : `FitsTable`
        The table.

    Returns
    -------
    metadata : `dict`
        Values by keyword; lists for repeated keywords, COMMENT and HISTORY,
        `None` for undefined values, numbers for the texts that stand for
        those that aren't finite.
    """
    metadata: dict[str, Any] = {}
    for keyword, value, _ in table.cards:
        if not keyword or _STRUCTURAL.fullmatch(keyword):
            continue
        if isinstance(value, str):
            value = _NOT_FINITE.get(value, value)
        elif isinstance(value, UnreadableCard):
            _LOG.warning("%s: ignoring the unreadable header card %r: %r", table.where, keyword, value.image)
            continue
        if keyword in ("COMMENT", "HISTORY"):
            metadata.setdefault(keyword, []).append(str(value))
        elif keyword not in metadata:
            metadata[keyword] = value
        elif isinstance(metadata[keyword], list):
            metadata[keyword].append(value)
        else:
            metadata[keyword] = [metadata[keyword], value]
    return metadata


def metadata_cards(metadata: Mapping[str, Any], where: str) -> list[tuple[str, Any, str]]:
    """Turn metadata to header cards.

    Parameters
    ----------
    metadata : `~collections.abc.Mapping`
        Values by keyword, see `table_metadata`.
    where : `str`
        What is written, for messages.

    Returns
    -------
    cards : `list` of (`str`, value, `str`)
        Cards.  Keywords that belong to the format are left out with a
        warning: they would contradict the table.
    """
    reserved = [key for key in metadata if _STRUCTURAL.fullmatch(key.upper())]
    if reserved:
        _LOG.warning("%s: leaving out the metadata %s, which describe the format", where, reserved)
    return [(key, value, "") for key, value in metadata.items() if key not in reserved]


def _field_type(column: Column, table: FitsTable) -> tuple[str, int] | None:
    """Return afw type and size, or `None` if afw has no such type."""
    if column.code == "A":
        return ("String", 0 if column.variable else column.count) if column.count or column.variable else None
    base = "U" if column.unsigned else _SCALARS.get(column.code)
    if base is None:
        return None
    if column.variable or column.count != 1 or column.kind == "Array":
        size = 0 if column.variable else column.count
        return (f"Array{base}", size) if base != "L" and (size or column.variable) else None
    if column.kind == "Angle":
        if column.unit not in ("", "rad", "radian", "radians") or base != "D":
            raise table.error(
                f"{table.where}: angle {column.name!r} has type {column.code!r} and unit {column.unit!r} "
                "instead of 64-bit floats in radians"
            )
        return "Angle", 0
    return base, 0


def _add_old_compound(
    column: Column, table: FitsTable, add: Callable[[Field, npt.NDArray[Any]], None]
) -> bool:
    """Expand a multi-element column of old table versions."""
    kind, name = column.kind, column.name
    if column.code not in _SCALARS:
        return False
    if suffixes := _COMPOUNDS.get((kind, column.count)):
        values = table.column(name)
        base = "Angle" if kind == "Coord" else _SCALARS[column.code]
        unit = {"Coord": "rad", "Moments": "pixel^2"}.get(kind, column.unit)
        for i, suffix in enumerate(suffixes):
            add(Field(name + suffix, base, column.doc, unit), values[:, i])
        return True
    if not kind.startswith("Covariance") or column.code not in "ED":
        return False
    n = int((np.sqrt(8 * column.count + 1) - 1) / 2)
    names = _COVARIANCES.get(kind, tuple(str(i) for i in range(n)))
    if n * (n + 1) // 2 != column.count or len(names) != n or column.count < 3:
        return False
    prefix = name.removesuffix("_err")
    values, base = table.column(name), _SCALARS[column.code]
    for j in range(n):
        for i in range(j + 1):
            element = values[:, i + j * (j + 1) // 2]
            if i == j:
                add(Field(f"{prefix}_{names[i]}Err", base, column.doc, column.unit), np.sqrt(element))
            else:
                add(Field(f"{prefix}_{names[i]}_{names[j]}_Cov", base, column.doc, column.unit), element)
    return True


def table_schema(
    table: FitsTable,
    skip: Collection[str] = (),
    *,
    aliases: bool = True,
    strict: bool = False,
    copy: bool = True,
) -> tuple[Schema, dict[str, npt.NDArray[Any]]]:
    """Turn a table into the schema and columns of a catalogue.

    Parameters
    ----------
    table : `FitsTable`
        The table.
    skip : `~collections.abc.Collection` [`str`], optional
        Columns to leave out.
    aliases : `bool`, optional
        Whether to read aliases.
    strict : `bool`, optional
        Whether columns that can't be kept are an error.
    copy : `bool`, optional
        Whether columns are copies, which may be modified.

    Returns
    -------
    schema : `~lsst.meas.finalize.catalogs.Schema`
        Fields in header order, with aliases; tables of versions 0 to 2 get
        the aliases that give them current names (spec 02 §4.5).
    columns : `dict` [`str`, `numpy.ndarray`]
        Columns by field name.

    Raises
    ------
    FitsFormatError
        Raised if the table is malformed.  Columns of types that afw doesn't
        have are left out with a warning.
    """
    schema = Schema()
    columns: dict[str, npt.NDArray[Any]] = {}
    version = table_version(table.header, table.where)

    def add(field: Field, values: npt.NDArray[Any]) -> None:
        if field.name in columns:
            raise table.error(f"{table.where}: duplicate column {field.name!r}")
        schema.add_field(field.name, field.type, doc=field.doc, unit=field.unit, size=field.size)
        if values.dtype != object:
            columns[field.name] = np.array(values, dtype=field.dtype, copy=copy or None)
            return
        columns[field.name] = values.copy() if copy else values
        if copy and field.is_array:
            # Each row has an array, which may be a view of the file.
            columns[field.name][:] = [array.copy() for array in values]

    for item in table.layout.items:
        if item.name in skip:
            continue
        if isinstance(item, FlagBit):
            # Version 0 had names with "flags".
            name = item.name.replace("flags", "flag", 1) if version == 0 else item.name
            add(Field(name, "Flag", item.doc), table.column(item.name))
            continue
        if _add_old_compound(item, table, add):
            continue
        found = _field_type(item, table)
        if found is None:
            if strict:
                text = f"{table.where}: column {item.name!r} has the unsupported type {item.code!r}"
                raise table.error(text)
            _LOG.warning("%s: skipping column %r of type %r", table.where, item.name, item.code)
            continue
        add(Field(item.name, found[0], item.doc, item.unit, found[1]), table.column(item.name))
    if aliases:
        _add_aliases(schema, table)
    return schema, columns


def _add_aliases(schema: Schema, table: FitsTable) -> None:
    version = table_version(table.header, table.where)
    if version == 0:
        for keyword, value, _ in table.cards:
            if keyword in _OLD_SLOTS and isinstance(value, str) and value.strip():
                schema.set_alias(_OLD_SLOTS[keyword], value.strip().replace(".", "_"))
    for keyword, value, _ in table.cards:
        if keyword != "ALIAS":
            continue
        alias, colon, target = ("" if value is None else str(value)).partition(":")
        if isinstance(value, UnreadableCard):
            colon = ""
        if not alias or not colon or not target:
            raise table.error(f"{table.where}: ALIAS card {value!r} is not 'alias:target'")
        schema.set_alias(alias, target.rstrip())
    for item in table.layout.flags if version == 0 else ():
        if "flags" in item.name:
            prefix = item.name[: item.name.index("flags")]
            schema.set_alias(prefix + "flags", prefix + "flag")
    for field in schema.fields:
        for alias, target in _upgrade_aliases(field, version):
            if alias not in schema.names and alias not in schema.aliases:
                schema.set_alias(alias, target)


def _upgrade_aliases(field: Field, version: int) -> list[tuple[str, str]]:
    name = field.name
    found: list[tuple[str, str]] = []
    unit = field.unit.lower()
    flux_like = "flux" in name and (
        any(part in unit for part in ("count", "dn", "adu")) or ("modelfit_CModel" in name and not unit)
    )
    if version == 0:
        if flux_like:
            found.append((f"{name.removesuffix('_err')}_instFlux" + "Err" * name.endswith("_err"), name))
        if match := _COVARIANCE.fullmatch(name):
            # With the whole name of the old column, which ended in _err.
            found.append((f"{match[1]}_err{match[2]}", name))
    elif version in (1, 2):
        new = name
        if version == 1 and name.endswith("Sigma"):
            new = name.replace("Sigma", "Err", 1)
        if flux_like:
            new = new.replace("flux", "instFlux", 1)
        if new != name:
            found.append((new, name))
    return found


def archive_ids(table: FitsTable, name: str) -> npt.NDArray[np.int32]:
    """Return a column of archive ids.

    Parameters
    ----------
    table : `FitsTable`
        The table.
    name : `str`
        Name of the column.

    Returns
    -------
    ids : `numpy.ndarray` of int32
        Archive ids; 0 for no object.

    Raises
    ------
    FitsFormatError
        Raised if there is no such column, or it is of another type.
    MalformedArchiveError
        Raised if an id is negative.
    """
    ids = table.column(name)
    if ids.dtype != np.int32 or ids.ndim != 1:
        raise FitsFormatError(f"{table.where}: column {name!r} is no column of archive ids")
    if (ids < 0).any():
        row = int(np.flatnonzero(ids < 0)[0])
        raise MalformedArchiveError(
            f"{table.where}: row {row} of column {name!r} has the archive id {ids[row]}"
        )
    return ids


_KINDS = {
    "SOURCE": "a source catalog, use read_source_catalog",
    "EXPOSURE": "an exposure catalog, use read_exposure_catalog",
}


def read_catalog_table(file: FitsFile, expected: str) -> FitsTable:
    """Read the table of a catalogue, telling what else the file is.

    Parameters
    ----------
    file : `FitsFile`
        Open file.
    expected : `str`
        ``"SOURCE"`` or ``"EXPOSURE"``.

    Returns
    -------
    table : `FitsTable`
        The table in its first extension.

    Raises
    ------
    FitsFormatError
        Raised if there is no table, or one of another kind of records.
    """
    if is_native({keyword for keyword, _, _ in table_cards(file.read_header(0))}):
        raise FitsFormatError(f"{file.filename()}: not a catalog; {NATIVE}")
    if len(file) > 1:
        header = {keyword: value for keyword, value, _ in table_cards(file.read_header(1))}
        exttype = header.get("EXTTYPE")
        if (
            exttype in ("IMAGE", "MASK", "VARIANCE")
            or header.get("XTENSION") == "IMAGE"
            or "ZIMAGE" in header
        ):
            raise FitsFormatError(f"{file.filename()}: not a catalog; this is an image, use read_exposure")
        if exttype == "ARCHIVE_INDEX":
            raise FitsFormatError(f"{file.filename()}: not a catalog; this is a single persisted object")
    table = read_table(file, 1)
    found = table.header.get("AFW_TYPE", "BASE")
    if not isinstance(found, str) or (found := found.strip().upper()) != expected:
        hint = f"; this is {_KINDS[found]}" if found in _KINDS else ""
        raise FitsFormatError(f"{table.where}: AFW_TYPE is {found!r} instead of {expected!r}{hint}")
    return table


def contains_fields(schema: Schema, minimal: Schema, table: FitsTable) -> None:
    """Check that a table read has the fields it needs.

    Parameters
    ----------
    schema : `~lsst.meas.finalize.catalogs.Schema`
        Schema of the table.
    minimal : `~lsst.meas.finalize.catalogs.Schema`
        Fields it must have.
    table : `FitsTable`
        The table, for messages.

    Raises
    ------
    FitsFormatError
        Raised if a field is missing or has another type.
    """
    # Aliases of the file must not stand in for columns.
    types = {field.name: field.type for field in schema}
    for field in minimal:
        found = types.get(field.name)
        if found is None:
            raise FitsFormatError(f"{table.where}: no column {field.name!r}")
        if found != field.type:
            raise FitsFormatError(
                f"{table.where}: column {field.name!r} has type {found!r} instead of {field.type!r}"
            )


def check_minimal(schema: Schema, minimal: Schema, where: str) -> None:
    """Check that a schema to be written begins with the fields afw wants.

    Parameters
    ----------
    schema : `~lsst.meas.finalize.catalogs.Schema`
        The schema.
    minimal : `~lsst.meas.finalize.catalogs.Schema`
        The first fields it must have.
    where : `str`
        File to be written, for messages.

    Raises
    ------
    ValueError
        Raised if they differ in name or type.
    """
    found = [(f.name, f.type) for f in schema.fields[: len(minimal)]]
    expected = [(f.name, f.type) for f in minimal]
    if found != expected:
        raise ValueError(f"{where}: the first fields must be {expected}, not {found}")
