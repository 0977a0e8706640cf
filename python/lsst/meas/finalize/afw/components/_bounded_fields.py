# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Persistence of bounded fields and aperture-correction maps (spec 02 §5.3,
§5.5).
"""

from __future__ import annotations

__all__ = ("chebyshev_schema",)

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from lsst.images import Box, Interval
from lsst.images.fields import BaseField, ChebyshevField, ProductField

from ...catalogs import Field, Schema
from .._errors import ArchiveError, FitsFormatError, MalformedArchiveError, UnsupportedPersistableError
from ..archive import ArchiveReader, ObjectRecord, StoredObject, load_tables, reads, writes
from ..fits import TableView
from ..wcs import AfwTransform, SkyWcs
from ._fields import PixelAreaField, TransformField, UnreadableField

_LOG = logging.getLogger(__name__)

_BOX_FIELDS = (
    Field("bbox_min_x", "I", "bounding box (minimum)", "pixel"),
    Field("bbox_min_y", "I", "bounding box (minimum)", "pixel"),
    Field("bbox_max_x", "I", "bounding box (maximum)", "pixel"),
    Field("bbox_max_y", "I", "bounding box (maximum)", "pixel"),
)
_AP_CORR_SCHEMA = Schema(
    (
        Field("name", "String", "name of the aperture correction", size=64),
        Field("field", "I", "archive ID of the BoundedField object"),
    )
)
_MAX_FACTORS = 1000
_PRODUCT_SCHEMA = Schema((Field("id", "I", "archive ID of the BoundedField factor"),))

_TRANSFORM_SCHEMA = Schema((*_BOX_FIELDS, Field("frameSet", "ArrayB", "FrameSet contained in the Transform")))
_PIXEL_AREA_SCHEMA = Schema(
    (
        *_BOX_FIELDS,
        Field("wcs", "I", "archive ID of the WCS used to compute pixel areas"),
        Field("scaling", "D", "factor that multiplies the areas in square radians"),
    )
)


def chebyshev_schema(n: int) -> Schema:
    """Return the fields of a ``ChebyshevBoundedField``.

    Parameters
    ----------
    n
        Number of coefficients.
    """
    doc = "Chebyshev function coefficients, ordered by y then x"
    return Schema(
        (
            Field("order_x", "I", "maximum Chebyshev function order in x"),
            *_BOX_FIELDS,
            Field("coefficients", "ArrayD", doc, size=n),
        )
    )


def _read_box(table: TableView, name: str) -> Box:
    if "bbox_min" in table:
        # Points of table version 0 (spec 02 §4.5).
        x0, y0, x1, y1 = (int(v) for key in ("bbox_min", "bbox_max") for v in table[key][0])
    else:
        x0, y0, x1, y1 = (int(table[f.name][0]) for f in _BOX_FIELDS)
    if x1 < x0 or y1 < y0:
        raise MalformedArchiveError(f"{table.where}: {name} with the empty box ({x0}, {y0}) to ({x1}, {y1})")
    return Box(Interval(y0, y1 + 1), Interval(x0, x1 + 1))


def _box_values(box: Box) -> dict[str, int]:
    corners = (box.x.min, box.y.min, box.x.max, box.y.max)
    return {field.name: value for field, value in zip(_BOX_FIELDS, corners, strict=True)}


@reads("ChebyshevBoundedField")
def _read_chebyshev(archive: ArchiveReader, tables: list[TableView], name: str) -> ChebyshevField:
    table = archive.one_row(tables, name)
    coefficients = np.array(table["coefficients"][0], dtype=np.float64)
    n_x = int(table["order_x"][0]) + 1
    if n_x < 1 or coefficients.size == 0 or coefficients.size % n_x:
        raise MalformedArchiveError(
            f"{table.where}: {name} of order {n_x - 1} in x can't have {coefficients.size} coefficients"
        )
    return ChebyshevField(_read_box(table, name), coefficients.reshape(-1, n_x))


@writes(ChebyshevField, name="ChebyshevBoundedField", module="lsst.afw.math")
def _write_chebyshev(record: ObjectRecord, obj: ChebyshevField) -> None:
    coefficients = np.asarray(obj.coefficients, dtype=np.float64)
    record.table(chebyshev_schema(coefficients.size)).add_row(
        order_x=coefficients.shape[1] - 1, **_box_values(obj.bounds.bbox), coefficients=coefficients.ravel()
    )


@reads("TransformBoundedField")
def _read_transform_field(archive: ArchiveReader, tables: list[TableView], name: str) -> TransformField:
    table = archive.one_row(tables, name)
    transform = AfwTransform.from_bytes(table["frameSet"][0], "TransformPoint2ToGeneric", table.where)
    return TransformField(_read_box(table, name), transform)


@writes(TransformField, name="TransformBoundedField", module="lsst.afw.math")
def _write_transform_field(record: ObjectRecord, obj: TransformField) -> None:
    if obj.factor == 1.0:
        record.table(_TRANSFORM_SCHEMA).add_row(**_box_values(obj.bounds), frameSet=obj.transform.to_bytes())
        return
    # The stack's class has no factor.
    record.name = "ProductBoundedField"
    factors = [
        ChebyshevField(obj.bounds, np.array([[obj.factor]])),
        TransformField(obj.bounds, obj.transform),
    ]
    record.table(_PRODUCT_SCHEMA).fill(2, id=[record.archive.put(factor) for factor in factors])


@reads("PixelAreaBoundedField")
def _read_pixel_area(archive: ArchiveReader, tables: list[TableView], name: str) -> PixelAreaField:
    table = archive.one_row(tables, name)
    wcs = archive.get(int(table["wcs"][0]))
    if not isinstance(wcs, SkyWcs):
        raise MalformedArchiveError(f"{table.where}: {name} without a SkyWcs")
    return PixelAreaField(_read_box(table, name), wcs, float(table["scaling"][0]))


@writes(PixelAreaField, name="PixelAreaBoundedField", module="lsst.afw.math")
def _write_pixel_area(record: ObjectRecord, obj: PixelAreaField) -> None:
    record.table(_PIXEL_AREA_SCHEMA).add_row(
        **_box_values(obj.bounds), wcs=record.archive.put(obj.wcs), scaling=obj.factor
    )


@reads("ProductBoundedField")
def _read_product(archive: ArchiveReader, tables: list[TableView], name: str) -> ProductField:
    if len(tables) != 1 or not len(tables[0]):
        raise MalformedArchiveError(f"{archive.where}: {name} must have one table with one row or more")
    factors = [_get_field(archive, tables[0], row, "id") for row in range(len(tables[0]))]
    boxes = [factor.bounds.bbox for factor in factors]
    if any(box != boxes[0] for box in boxes):
        raise MalformedArchiveError(f"{tables[0].where}: the factors of a {name} have different boxes")
    result = ProductField(factors)
    if (n := _count_factors(result)) > _MAX_FACTORS:
        raise MalformedArchiveError(f"{tables[0].where}: a {name} of {n} fields")
    return result


def _count_factors(field: BaseField) -> int:
    """Count the fields that are evaluated: nested products that share their
    factors grow exponentially.
    """
    return sum(map(_count_factors, field.operands)) if isinstance(field, ProductField) else 1


@writes(ProductField, name="ProductBoundedField", module="lsst.afw.math")
def _write_product(record: ObjectRecord, obj: ProductField) -> None:
    table = record.table(_PRODUCT_SCHEMA)
    factors = list(obj.operands)
    table.fill(len(factors), id=[record.archive.put(factor) for factor in factors])


def _get_field(archive: ArchiveReader, table: TableView, row: int, column: str) -> Any:
    field = archive.get(int(table[column][row]))
    if not isinstance(field, BaseField):
        raise MalformedArchiveError(
            f"{table.where}: archive id {table[column][row]} in column {column!r} is a "
            f"{type(field).__name__} instead of a bounded field"
        )
    return field


@reads("ApCorrMap")
def _read_ap_corr_map(archive: ArchiveReader, tables: list[TableView], name: str) -> dict[str, BaseField]:
    if len(tables) != 1:
        raise MalformedArchiveError(f"{archive.where}: {name} has {len(tables)} tables instead of 1")
    table = tables[0]
    names = [str(n) for n in table["name"]]
    if len(set(names)) != len(names):
        raise MalformedArchiveError(f"{table.where}: duplicate names in an {name}")
    return {n: _get_entry(archive, table, row, n) for row, n in enumerate(names)}


def _get_entry(archive: ArchiveReader, table: TableView, row: int, name: str) -> BaseField:
    """Read one entry of a map; a bad one leaves the others alone."""
    try:
        return cast(BaseField, _get_field(archive, table, row, "field"))
    except (ArchiveError, FitsFormatError) as error:
        text = f"{table.where}: aperture correction {name!r} can't be read: {error}"
        unsupported = isinstance(error, UnsupportedPersistableError)
        kind = UnsupportedPersistableError if unsupported else MalformedArchiveError
        result = UnreadableField(kind(text), _stored_entry(archive, table, row))
        result.error.__cause__ = error
        _LOG.warning("%s", text)
        return result


def _stored_entry(archive: ArchiveReader, table: TableView, row: int) -> StoredObject | None:
    """Return what the archive has for an entry, to be written again."""
    try:
        stored = StoredObject(archive, int(table["field"][row]))
    except (FitsFormatError, TypeError, ValueError):
        return None
    # What can't be loaded now can't be written, and fails then.
    with contextlib.suppress(ArchiveError, FitsFormatError):
        load_tables(archive, stored.archive_id)
    return stored


@writes(UnreadableField, name="", module="")
def _refuse_unreadable(record: ObjectRecord, obj: UnreadableField) -> None:
    obj.fail()


@writes(Mapping, name="ApCorrMap", module="lsst.afw.image")
def _write_ap_corr_map(record: ObjectRecord, obj: Mapping[str, BaseField]) -> None:
    if "" in obj:
        raise ArchiveError("an aperture correction has no name")
    for key, field in obj.items():
        if not isinstance(field, BaseField):
            raise ArchiveError(f"aperture correction {key!r} is a {type(field).__name__}, no field")
    table = record.table(_AP_CORR_SCHEMA)
    names = sorted(obj)
    table.fill(len(names), name=names, field=[record.archive.put(obj[n]) for n in names])
