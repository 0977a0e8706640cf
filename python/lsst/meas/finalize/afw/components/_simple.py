# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Persistence of PhotoCalib, FilterLabel, Polygon and ExposureSummaryStats
(spec 02 §5.4, §5.5, §5.8).
"""

from __future__ import annotations

__all__ = ("FilterLabel", "PhotoCalib")

import dataclasses
import logging
import math
from typing import Any

import astropy.units as u
import numpy as np
import yaml

from lsst.images import Box, ObservationSummaryStats, Polygon
from lsst.images.fields import BaseField, ChebyshevField

from ...catalogs import Field, Schema
from .._errors import ArchiveError, MalformedArchiveError, UnsupportedPersistableError
from ..archive import ArchiveReader, ObjectRecord, reads, writes
from ..fits import TableView
from ._bounded_fields import chebyshev_schema

_LOG = logging.getLogger(__name__)

_AB_FLUX = 10 ** (23 + 9 - 48.6 / 2.5)
"""Flux of a source of AB magnitude 0 in nJy."""

_MAX_YAML = 100_000
_MAX_YAML_NESTED = 500
_MAX_VERTICES = 1_000_000

_PHOTO_CALIB_SCHEMA = Schema(
    (
        Field("calibrationMean", "D", "mean calibration on this PhotoCalib's domain", "count"),
        Field("calibrationErr", "D", "1-sigma error on calibrationMean", "count"),
        Field("isConstant", "Flag", "Is this spatially-constant?"),
        Field("field", "I", "archive ID of the BoundedField object"),
        Field("version", "I", "version of this PhotoCalib"),
    )
)
_POLYGON_SCHEMA = Schema(
    (
        Field("vertices_x", "D", "list of vertex points"),
        Field("vertices_y", "D", "list of vertex points"),
    )
)
_FILTER_SCHEMA = Schema(
    (
        Field("band_exists", "Flag", "Existence flag for band"),
        Field("band", "String", "Name of the band.", size=32),
        Field("physical_exists", "Flag", "Existence flag for physical"),
        Field("physical", "String", "Name of the physical filter.", size=32),
    )
)
_STATS_SCHEMA = Schema((Field("bytes", "ArrayB", "an opaque bytestring representation of a Storable"),))


@dataclasses.dataclass(frozen=True)
class PhotoCalib:
    """Photometric calibration: multiplies fluxes to give nJy.

    Attributes
    ----------
    mean, error : `float`
        Mean calibration and its uncertainty, nJy per unit of the image.
    field : `lsst.images.fields.BaseField` | `None`
        The full, varying calibration; None if it is constant.
    """

    mean: float
    error: float = 0.0
    field: BaseField | None = None

    @classmethod
    def from_zero_flux(cls, flux: float, error: float = 0.0) -> PhotoCalib:
        """Make a constant calibration from the counts of magnitude 0.

        Parameters
        ----------
        flux, error
            Counts of a source of magnitude 0, and their uncertainty.

        Returns
        -------
        calib : `PhotoCalib`
            The calibration.

        Raises
        ------
        ArchiveError
            If the flux isn't positive.
        """
        if not (math.isfinite(flux) and flux > 0):
            raise ArchiveError(f"the flux of magnitude 0 is {flux}")
        return cls(_AB_FLUX / flux, _AB_FLUX * error / flux**2)

    def to_field(self, box: Box, instrumental_unit: u.UnitBase) -> BaseField | None:
        """Convert to the photometric scaling of lsst.images.

        Parameters
        ----------
        box
            Where a constant calibration is valid.
        instrumental_unit
            Unit of the pixels before calibration.

        Returns
        -------
        field : `lsst.images.fields.BaseField` | `None`
            Field in nJy per instrumental unit; None for pixels in nJy.
        """
        unit = u.nJy / instrumental_unit
        if self.field is not None:
            return self.field * unit
        if self.mean == 1.0:
            return None
        return ChebyshevField(box, np.array([[self.mean]]), unit=unit)


@reads("PhotoCalib")
def _read_photo_calib(archive: ArchiveReader, tables: list[TableView], name: str) -> PhotoCalib:
    table = archive.one_row(tables, name)
    version = int(table["version"][0]) if "version" in table else 0
    if version != 1:
        raise UnsupportedPersistableError(
            f"{table.where}: version {version} of {name} isn't supported (0: fluxes in maggies)"
        )
    mean, error = float(table["calibrationMean"][0]), float(table["calibrationErr"][0])
    # The field of a constant calibration has an empty box: not evaluable.
    field = None if bool(table["isConstant"][0]) else archive.get(int(table["field"][0]))
    if not bool(table["isConstant"][0]) and not isinstance(field, BaseField):
        raise MalformedArchiveError(f"{table.where}: varying {name} without a field")
    return PhotoCalib(mean, error, field)


@dataclasses.dataclass(frozen=True)
class _ConstantField:
    """The field of a constant calibration, valid nowhere."""

    value: float


@writes(_ConstantField, name="ChebyshevBoundedField", module="lsst.afw.math")
def _write_constant_field(record: ObjectRecord, obj: _ConstantField) -> None:
    record.table(chebyshev_schema(1)).add_row(
        order_x=0, bbox_min_x=0, bbox_min_y=0, bbox_max_x=-1, bbox_max_y=-1, coefficients=[obj.value]
    )


@writes(PhotoCalib, name="PhotoCalib", module="")
def _write_photo_calib(record: ObjectRecord, obj: PhotoCalib) -> None:
    field = _ConstantField(obj.mean) if obj.field is None else obj.field
    record.table(_PHOTO_CALIB_SCHEMA).add_row(
        calibrationMean=obj.mean,
        calibrationErr=obj.error,
        isConstant=obj.field is None,
        field=record.archive.put(field),
        version=1,
    )


@reads("Calib")
def _read_calib(archive: ArchiveReader, tables: list[TableView], name: str) -> PhotoCalib:
    """Read the predecessor of PhotoCalib."""
    table = archive.one_row(tables, name)
    error_name = "fluxmag0.err" if "fluxmag0.err" in table else "fluxmag0_err"
    return PhotoCalib.from_zero_flux(float(table["fluxmag0"][0]), float(table.get(error_name, [0.0])[0]))


@dataclasses.dataclass(frozen=True)
class FilterLabel:
    """Names of the filter an image was taken with.

    Attributes
    ----------
    band, physical : `str` | `None`
        Passband (short) and physical filter (full name).
    """

    band: str | None = None
    physical: str | None = None


@reads("FilterLabel")
def _read_filter_label(archive: ArchiveReader, tables: list[TableView], name: str) -> FilterLabel:
    table = archive.one_row(tables, name)
    band, physical = (
        str(table[key][0]) if bool(table[f"{key}_exists"][0]) else None for key in ("band", "physical")
    )
    if band is None and physical is None:
        raise MalformedArchiveError(f"{table.where}: {name} has neither band nor physical filter")
    return FilterLabel(band, physical)


@writes(FilterLabel, name="FilterLabel", module="lsst.afw.image")
def _write_filter_label(record: ObjectRecord, obj: FilterLabel) -> None:
    record.table(_FILTER_SCHEMA).add_row(
        band_exists=obj.band is not None,
        band=obj.band or "",
        physical_exists=obj.physical is not None,
        physical=obj.physical or "",
    )


@reads("Polygon")
def _read_polygon(archive: ArchiveReader, tables: list[TableView], name: str) -> Polygon:
    if len(tables) != 1 or not 3 <= len(tables[0]) <= _MAX_VERTICES:
        raise MalformedArchiveError(f"{archive.where}: {name} must have one table with 3 or more vertices")
    table = tables[0]
    x, y = (np.array(table[f"vertices_{axis}"], dtype=np.float64) for axis in "xy")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise MalformedArchiveError(f"{table.where}: {name} has vertices that aren't finite")
    if x[0] == x[-1] and y[0] == y[-1]:
        x, y = x[:-1], y[:-1]
    if len(x) < 3:
        raise MalformedArchiveError(f"{table.where}: {name} has fewer than 3 different vertices")
    return Polygon(x_vertices=x, y_vertices=y)


@writes(Polygon, name="Polygon", module="")
def _write_polygon(record: ObjectRecord, obj: Polygon) -> None:
    x, y = np.asarray(obj.x_vertices), np.asarray(obj.y_vertices)
    # The stack wants them closed and clockwise.
    area = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    if area > 0:
        x, y = x[::-1], y[::-1]
    x, y = np.append(x, x[0]), np.append(y, y[0])
    record.table(_POLYGON_SCHEMA).fill(len(x), vertices_x=x, vertices_y=y)


@reads("ExposureSummaryStats")
def _read_summary_stats(
    archive: ArchiveReader, tables: list[TableView], name: str
) -> ObservationSummaryStats:
    table = archive.one_row(tables, name)
    data = np.asarray(table["bytes"][0], dtype=np.uint8).tobytes()
    # References could blow up a small text to any size and nesting makes
    # the parser slow; the dictionary of numbers and short lists needs
    # neither.
    n_nested = sum(data.count(text) for text in (b"[", b"{", b"- ", b"? "))
    if len(data) > _MAX_YAML or n_nested > _MAX_YAML_NESTED or b"&" in data or b"*" in data:
        raise MalformedArchiveError(f"{table.where}: {name} is no plain YAML of reasonable size")
    try:
        values = yaml.safe_load(data.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise MalformedArchiveError(f"{table.where}: {name} can't be parsed: {str(error)[:200]}") from None
    if not isinstance(values, dict):
        raise MalformedArchiveError(f"{table.where}: {name} is no mapping")
    return _to_summary_stats(values, table.where)


def _to_summary_stats(values: dict[str, Any], where: str) -> ObservationSummaryStats:
    if "decl" in values:
        values.setdefault("dec", values["decl"])
    known = set(ObservationSummaryStats.model_fields)
    unknown = sorted(str(key) for key in values if key not in known and key not in ("version", "decl"))
    if unknown:
        _LOG.debug("%s: ignoring unknown summary statistics %s", where, unknown)
    kept = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key in known
    }
    try:
        return ObservationSummaryStats.model_validate(kept)
    except ValueError as error:
        raise MalformedArchiveError(f"{where}: bad summary statistics: {str(error)[:300]}") from None


@writes(ObservationSummaryStats, name="ExposureSummaryStats", module="lsst.afw.image._exposureSummaryStats")
def _write_summary_stats(record: ObjectRecord, obj: ObservationSummaryStats) -> None:
    names = sorted(
        type(obj).model_fields.keys() - {"schema_version", "min_read_version", "metadata", "indirect"}
    )
    values: dict[str, Any] = {"version": 0}
    for name in names:
        value = getattr(obj, name)
        if isinstance(value, tuple):
            values[name] = [float(v) for v in value]
        elif isinstance(value, int | float):
            values[name] = value
    data = yaml.safe_dump(values, encoding="utf-8")
    record.table(_STATS_SCHEMA).add_row(bytes=np.frombuffer(data, dtype=np.uint8))
