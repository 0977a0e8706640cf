# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exposure catalogues in FITS files (spec 02 §9)."""

from __future__ import annotations

__all__ = ("read_exposure_catalog", "write_exposure_catalog")

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lsst.images import Polygon
from lsst.images.psfs import PointSpreadFunction

from ...catalogs import ExposureCatalog, Field, Schema
from .._errors import MalformedArchiveError, UnsupportedPersistableError
from ..archive import TABLE_VERSION, ArchiveReader, ArchiveWriter
from ..components import DetectorRecord, PhotoCalib, TransmissionCurve, VisitInfo
from ..fits import (
    PRIMARY_HDU,
    FitsSource,
    FitsTable,
    FitsTarget,
    archive_ids,
    check_minimal,
    check_record_type,
    contains_fields,
    encode_table,
    metadata_cards,
    open_fits_in_memory,
    read_table,
    table_metadata,
    table_schema,
    target_name,
    write_file,
)
from ..wcs import SkyWcs

if TYPE_CHECKING:
    from astropy.io import fits

_LOG = logging.getLogger(__name__)


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


class _ComponentReader:
    """Reads components, warning once per class that can't be read.

    Parameters
    ----------
    archive : `ArchiveReader`
        The archive.
    """

    def __init__(self, archive: ArchiveReader):
        self._archive = archive
        self._warned: set[str] = set()

    def get(self, archive_id: int, component: str) -> Any:
        """Read an object; `None` if its class is unknown."""
        try:
            found = self._archive.get(archive_id)
        except UnsupportedPersistableError as error:
            name = self._archive.name(archive_id)
            if name not in self._warned:
                self._warned.add(name)
                _LOG.warning("Ignoring component %r of class %r: %s", component, name, error)
            return None
        expected = _COMPONENTS[component].cls
        if found is not None and not isinstance(found, expected):
            raise MalformedArchiveError(
                f"{self._archive.where}: component {component!r} with archive id {archive_id} is a "
                f"{self._archive.name(archive_id)}"
            )
        return found


class _LazyObjects(list[Any]):
    """A list of components that are read when asked for.

    Parameters
    ----------
    reader : `_ComponentReader`
        Where to read from.
    ids : `numpy.ndarray`
        Archive ids.
    component : `str`
        Name for messages.
    """

    def __init__(self, reader: _ComponentReader, ids: npt.NDArray[np.int32], component: str):
        super().__init__([None] * len(ids))
        self._reader = reader
        self._component = component
        self._pending = {i: int(archive_id) for i, archive_id in enumerate(ids) if archive_id}

    def _resolve(self, index: int) -> None:
        if index in self._pending:
            super().__setitem__(index, self._reader.get(self._pending[index], self._component))
            del self._pending[index]

    def __getitem__(self, index: Any) -> Any:
        for i in (
            range(*index.indices(len(self))) if isinstance(index, slice) else (index % max(len(self), 1),)
        ):
            self._resolve(i)
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return list(self) == other

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are ordinary lists.
        return list, (list(self),)


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
    catalog: ExposureCatalog, hdulist: fits.HDUList, table: FitsTable, columns: dict[str, str]
) -> None:
    ids = {component: archive_ids(table, name) for component, name in columns.items()}
    if not any(column.any() for column in ids.values()):
        return
    # The archive of an exposure catalogue always follows its table.
    reader = _ComponentReader(ArchiveReader(hdulist, 2))
    for component, column in ids.items():
        if component == "psf":
            catalog.psfs = [reader.get(int(i), component) for i in column]
        elif component == "apCorrMap":
            catalog.ap_corr_maps = [reader.get(int(i), component) for i in column]
        else:
            catalog.components[component] = _LazyObjects(reader, column, component)


def read_exposure_catalog(path: FitsSource) -> ExposureCatalog:
    """Read an exposure catalogue.

    Parameters
    ----------
    path : `str`, `os.PathLike`, bytes-like or `typing.BinaryIO`
        FITS file written by the stack or by `write_exposure_catalog`.

    Returns
    -------
    catalog : `~lsst.meas.finalize.catalogs.ExposureCatalog`
        All fields and metadata, with PSFs and aperture corrections.  The
        other components are read when asked for; those of unknown classes are
        `None`, with one warning per class.

    Raises
    ------
    FitsFormatError
        Raised if the file is truncated, corrupted or no exposure catalogue.
    """
    hdulist = open_fits_in_memory(path)
    table = read_table(hdulist, 1)
    check_record_type(table, "EXPOSURE")
    components = _component_ids(table)
    schema, columns = table_schema(table, skip=components.values())
    contains_fields(schema, Schema.exposure_minimal(), table)
    catalog = ExposureCatalog(schema, columns, metadata=table_metadata(table))
    _attach_components(catalog, hdulist, table, components)
    return catalog


def _row_order(catalog: ExposureCatalog, where: str) -> npt.NDArray[np.int64]:
    ids = catalog.field_column("id")
    order = np.argsort(ids, kind="stable")
    same = np.flatnonzero(np.diff(ids[order]) == 0)
    if len(same):
        raise ValueError(f"{where}: several rows have the id {ids[order[same[0]]]}")
    return order


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
        Raised if two rows have the same id, if the schema doesn't begin with
        the minimal exposure fields, or if something can't be stored in a FITS
        file.
    ArchiveError
        Raised if a component can't be stored.
    OSError
        Raised if the file can't be written.
    """
    where = target_name(path)
    check_minimal(catalog.schema, Schema.exposure_minimal(), where)
    order = _row_order(catalog, where)
    archive = ArchiveWriter()
    objects = {
        name: catalog.psfs
        if name == "psf"
        else catalog.ap_corr_maps
        if name == "apCorrMap"
        else catalog.components.get(name, [None] * len(catalog))
        for name in _COMPONENTS
    }
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
    hdus = [PRIMARY_HDU, encode_table(schema, columns, len(catalog), cards, where=where)]
    write_file(path, hdus + archive.hdus())
