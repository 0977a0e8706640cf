# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
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

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lsst.images import Box, Interval
from lsst.images.fields import BaseField, ChebyshevField, ProductField

from ...catalogs import Field, Schema
from .._errors import ArchiveError, MalformedArchiveError
from ..archive import reads, writes

if TYPE_CHECKING:
    from ..archive import ArchiveReader, ObjectRecord
    from ..fits import TableView

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


@reads("ChebyshevBoundedField")
def _read_chebyshev(archive: ArchiveReader, tables: list[TableView], name: str) -> ChebyshevField:
    table = archive.one_row(tables, name)
    coefficients = np.array(table["coefficients"][0], dtype=np.float64)
    n_x = int(table["order_x"][0]) + 1
    if n_x < 1 or coefficients.size == 0 or coefficients.size % n_x:
        raise MalformedArchiveError(
            f"{table.where}: {name} of order {n_x - 1} in x can't have {coefficients.size} coefficients"
        )
    x0, y0, x1, y1 = (int(table[f.name][0]) for f in _BOX_FIELDS)
    if x1 < x0 or y1 < y0:
        raise MalformedArchiveError(f"{table.where}: {name} with the empty box ({x0}, {y0}) to ({x1}, {y1})")
    box = Box(Interval(y0, y1 + 1), Interval(x0, x1 + 1))
    return ChebyshevField(box, coefficients.reshape(-1, n_x))


@writes(ChebyshevField, name="ChebyshevBoundedField", module="lsst.afw.math")
def _write_chebyshev(record: ObjectRecord, obj: ChebyshevField) -> None:
    coefficients = np.asarray(obj.coefficients, dtype=np.float64)
    box = obj.bounds.bbox
    record.table(chebyshev_schema(coefficients.size)).add_row(
        order_x=coefficients.shape[1] - 1,
        bbox_min_x=box.x.min,
        bbox_min_y=box.y.min,
        bbox_max_x=box.x.max,
        bbox_max_y=box.y.max,
        coefficients=coefficients.ravel(),
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
    return {n: _get_field(archive, table, row, "field") for row, n in enumerate(names)}


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
