# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exposure catalogues in FITS files (spec 02 §9)."""

from __future__ import annotations

__all__ = ("read_exposure_catalog", "write_exposure_catalog")

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lsst.images import Polygon
from lsst.images.psfs import PointSpreadFunction

from ...catalogs import ComponentList, ExposureCatalog, Field, Schema
from .._errors import FitsFormatError
from ..archive import TABLE_VERSION, ArchiveSource, ArchiveWriter, StoredObject
from ..components import DetectorRecord, PhotoCalib, TransmissionCurve, VisitInfo
from ..fits import (
    PRIMARY_HDU,
    FitsFile,
    FitsSource,
    FitsTable,
    FitsTarget,
    check_minimal,
    contains_fields,
    encode_table,
    metadata_cards,
    open_fits_in_memory,
    read_catalog_table,
    table_metadata,
    table_schema,
    target_name,
    write_file,
)
from ..wcs import SkyWcs


class _Component(NamedTuple):
    """Class of a component, and its name in the doc of the column."""

    cls: type
    name: str


# Columns of archive ids in file order.
_COMPONENTS = {
    "wcs": _Component(SkyWcs, "Wcs"),
    "psf": _Component(PointSpreadFunction, "Psf"),
    "photoCalib": _Component(PhotoCalib, "PhotoCalib"),
    "apCorrMap": _Component(dict, "ApCorrMap"),
    "validPolygon": _Component(Polygon, "Polygon"),
    "visitInfo": _Component(VisitInfo, "VisitInfo"),
    "transmissionCurve": _Component(TransmissionCurve, "TransmissionCurve"),
    "detector": _Component(DetectorRecord, "Detector"),
}
_OLD_NAMES = {"photoCalib": "calib"}
_TABLE_VERSION = 5


def _component_ids(table: FitsTable) -> dict[str, str]:
    """Return the columns of archive ids there are, by component."""
    found = {}
    for component in _COMPONENTS:
        for name in (component, _OLD_NAMES.get(component)):
            if name is None or name not in table:
                continue
            found[component] = name
            break
    return found


def _attach_components(
    catalog: ExposureCatalog, file: FitsFile, table: FitsTable, columns: dict[str, str]
) -> None:
    # The archive of an exposure catalogue always follows its table.
    source = ArchiveSource(file, 2)
    for component, name in columns.items():
        objects = _stored_objects(source, table, name, component, catalog.field_column("id"))
        if component == "psf":
            catalog.psfs = objects
        elif component == "apCorrMap":
            catalog.ap_corr_maps = objects
        else:
            catalog.components[component] = objects


def _stored_objects(
    source: ArchiveSource, table: FitsTable, name: str, component: str, row_ids: npt.NDArray[np.int64]
) -> ComponentList:
    ids = table.column(name)
    if ids.dtype != np.int32 or ids.ndim != 1:
        raise FitsFormatError(f"{table.where}: column {name!r} is no column of archive ids")
    if not ids.any():
        return ComponentList([None] * len(ids))
    expected = _COMPONENTS[component].cls
    shared: dict[int, StoredObject | None] = {0: None}
    for archive_id, row_id in zip(ids.tolist(), row_ids.tolist(), strict=True):
        if archive_id not in shared:
            what = f"component {component!r} of the row with id (detector) {row_id}"
            shared[archive_id] = StoredObject(source, archive_id, expected, what)
    return ComponentList(shared[i] for i in ids.tolist())


def read_exposure_catalog(path: FitsSource) -> ExposureCatalog:
    """Read an exposure catalogue.

    Parameters
    ----------
    path : `str`, `os.PathLike`, bytes-like or `typing.BinaryIO`
        FITS file written by the stack or by `write_exposure_catalog`.

    Returns
    -------
    catalog : `~lsst.meas.finalize.catalogs.ExposureCatalog`
        All fields and metadata.  PSFs, aperture corrections and other
        components are made when asked for, from the contents that the file
        has now; then `UnsupportedPersistableError` is raised for those of
        unknown classes, `ArchiveError` or `FitsFormatError` for damaged ones.

    Raises
    ------
    FitsFormatError
        Raised if the file is truncated, corrupted or no exposure catalogue.
    """
    file = open_fits_in_memory(path)
    table = read_catalog_table(file, "EXPOSURE")
    components = _component_ids(table)
    schema, columns = table_schema(table, skip=components.values())
    contains_fields(schema, Schema.exposure_minimal(), table)
    catalog = ExposureCatalog(schema, columns, metadata=table_metadata(table))
    _attach_components(catalog, file, table, components)
    return catalog


def write_exposure_catalog(catalog: ExposureCatalog, path: FitsTarget) -> None:
    """Write an exposure catalogue so that the stack can read it.

    Parameters
    ----------
    catalog : `~lsst.meas.finalize.catalogs.ExposureCatalog`
        The catalogue; its schema must begin with the minimal exposure fields.
        Rows are written in ascending order of id, as look-ups need it.
    path : `str`, `os.PathLike` or `typing.BinaryIO`
        File to write or replace, completely or not at all, or a stream.

    Raises
    ------
    ValueError
        Raised if the schema doesn't begin with the minimal exposure fields or
        something can't be stored in a FITS file.
    ArchiveError
        Raised if a component can't be stored.
    OSError
        Raised if the file can't be written.
    """
    where = target_name(path)
    check_minimal(catalog.schema, Schema.exposure_minimal(), where)
    order = np.argsort(catalog.field_column("id"), kind="stable")
    archive = ArchiveWriter()
    stored = catalog.raw_objects()
    objects = {name: stored.get(name, [None] * len(catalog)) for name in _COMPONENTS}
    archive.keep_ids(item for items in objects.values() for item in items if isinstance(item, StoredObject))
    ids = {name: np.zeros(len(catalog), dtype=np.int32) for name in _COMPONENTS}
    # One object after another, since each is a structure of its own.
    for new_row, row in enumerate(order):
        for name, column in ids.items():
            column[new_row] = archive.put(objects[name][row])

    schema = Schema(
        (
            *(
                Field(name, "I", f"archive ID for {component.name} object")
                for name, component in _COMPONENTS.items()
            ),
            *catalog.schema.fields,
        ),
        catalog.schema.aliases,
    )
    columns = {name: catalog.field_column(name)[order] for name in catalog.schema.names} | ids
    cards: list[tuple[str, Any, str]] = [
        ("ALIAS", f"{alias}:{target}", "") for alias, target in sorted(schema.aliases.items())
    ]
    cards += metadata_cards(catalog.metadata, where)
    cards += [
        TABLE_VERSION,
        ("AFW_TYPE", "EXPOSURE", "Tells lsst::afw to load this as an Exposure table."),
        ("EXPTABLE_VER", _TABLE_VERSION, "Exposure table version"),
    ]
    table = encode_table(schema, columns, len(catalog), cards, where=where)
    write_file(path, [PRIMARY_HDU, table, *archive.hdus()])
