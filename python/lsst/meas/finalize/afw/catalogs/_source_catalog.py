# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Source catalogues in FITS files (spec 02 §4, §8)."""

from __future__ import annotations

__all__ = ("read_source_catalog", "write_source_catalog")

import logging
from typing import Any

from ...catalogs import Field, Schema, SourceCatalog
from .._errors import FitsFormatError
from ..archive import TABLE_VERSION, ArchiveReader, ArchiveWriter
from ..fits import (
    PRIMARY_HDU,
    FitsSource,
    FitsTable,
    FitsTarget,
    archive_ids,
    check_minimal,
    contains_fields,
    encode_table,
    metadata_cards,
    open_fits,
    read_catalog_table,
    table_metadata,
    table_schema,
    target_name,
    write_file,
)
from ._footprints import read_footprints, write_footprints

_LOG = logging.getLogger(__name__)

_FOOTPRINT = Field("footprint", "I", "archive ID for Footprint")
_OLD_FOOTPRINTS = ("SPANCOL", "PEAKCOL", "HVYPIXCO", "HVYMSKCO", "HVYVARCO")


def _old_footprints(table: FitsTable) -> list[str]:
    """Return the columns that hold footprints of table version 0."""
    numbers = [table.header[key] for key in _OLD_FOOTPRINTS if key in table.header]
    return [str(table.header.get(f"TTYPE{number}")) for number in numbers]


def read_source_catalog(path: FitsSource, *, footprints: bool = True) -> SourceCatalog:
    """Read a source catalogue.

    Parameters
    ----------
    path : `str`, `os.PathLike`, bytes-like or `typing.BinaryIO`
        FITS file written by the stack or by `write_source_catalog`.
    footprints : `bool`, optional
        Whether to read footprints.

    Returns
    -------
    catalog : `~lsst.meas.finalize.catalogs.SourceCatalog`
        All fields, aliases, metadata and footprints (`None` if the file has
        none).

    Raises
    ------
    FitsFormatError
        Raised if the file is truncated, corrupted or no source catalogue.
    """
    with open_fits(path) as hdulist:
        table = read_catalog_table(hdulist, "SOURCE")
        header = table.header
        old = () if "AR_HDU" in header else _old_footprints(table)
        if old and footprints:
            raise FitsFormatError(
                f"{table.where}: footprints in columns of variable length aren't supported; "
                "the catalog can be read with footprints=False"
            )
        has_archive = "AR_HDU" in header and _FOOTPRINT.name in table
        if _FOOTPRINT.name in table and "AR_HDU" not in header and len(hdulist) > 2:
            _LOG.warning("%s: no card AR_HDU, so that footprints can't be read", table.where)
        ids = archive_ids(table, _FOOTPRINT.name) if has_archive else None
        schema, columns = table_schema(table, skip=(_FOOTPRINT.name,) if has_archive else old)
        contains_fields(schema, Schema.source_minimal(), table)
        found = None
        if ids is not None and footprints:
            number = header["AR_HDU"]
            if isinstance(number, bool) or not isinstance(number, int) or number < 2:
                raise FitsFormatError(f"{table.where}: AR_HDU = {number!r} is no number of an extension")
            found = read_footprints(ArchiveReader(hdulist, number - 1), ids)
        return SourceCatalog(schema, columns, footprints=found, metadata=table_metadata(table))


def write_source_catalog(catalog: SourceCatalog, path: FitsTarget, *, footprints: bool = True) -> None:
    """Write a source catalogue so that the stack can read it.

    Parameters
    ----------
    catalog : `~lsst.meas.finalize.catalogs.SourceCatalog`
        The catalogue; its schema must begin with the minimal source fields.
    path : `str`, `os.PathLike` or `typing.BinaryIO`
        File to write or replace, completely or not at all, or a stream.
    footprints : `bool`, optional
        Whether to write footprints, if there are any.

    Raises
    ------
    ValueError
        Raised if the schema doesn't begin with the minimal source fields or
        something can't be stored in a FITS file.
    ArchiveError
        Raised if the footprints can't be stored.
    OSError
        Raised if the file can't be written.
    """
    where = target_name(path)
    check_minimal(catalog.schema, Schema.source_minimal(), where)
    schema = catalog.schema.copy()
    columns = {name: catalog.field_column(name) for name in schema.names}
    cards: list[tuple[str, Any, str]] = [
        ("ALIAS", f"{alias}:{target}", "") for alias, target in sorted(schema.aliases.items())
    ]
    cards += metadata_cards(catalog.metadata, where)
    archive = None
    if footprints and catalog.footprints is not None:
        archive = ArchiveWriter()
        schema.add_field(_FOOTPRINT.name, _FOOTPRINT.type, doc=_FOOTPRINT.doc)
        columns[_FOOTPRINT.name] = write_footprints(archive, catalog.footprints)
        cards.append(("AR_HDU", 3, "HDU (1-indexed) containing the archive index for non-table data"))
    cards += [TABLE_VERSION, ("AFW_TYPE", "SOURCE", "Tells lsst::afw to load this as a Source table.")]
    table = encode_table(schema, columns, len(catalog), cards, where=where)
    write_file(path, [PRIMARY_HDU, table, *(archive.hdus() if archive is not None else [])])
