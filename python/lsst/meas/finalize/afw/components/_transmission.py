# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Transmission curves (spec 02 §5.9)."""

from __future__ import annotations

__all__ = (
    "IdentityTransmissionCurve",
    "ProductTransmissionCurve",
    "RadialTransmissionCurve",
    "SpatiallyConstantTransmissionCurve",
    "TransformedTransmissionCurve",
    "TransmissionCurve",
)

import dataclasses
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from ...catalogs import Field, Schema
from .._errors import MalformedArchiveError
from ..archive import ArchiveReader, ObjectRecord, reads, writes
from ..fits import TableView
from ..wcs import AfwTransform, transform_points

_MAX_CURVES = 1000
_FloatArray = npt.NDArray[np.float64]


class TransmissionCurve(ABC):
    """Throughput as a function of wavelength and position."""

    @abstractmethod
    def evaluate(self, wavelengths: npt.ArrayLike, x: float = 0.0, y: float = 0.0) -> _FloatArray:
        """Evaluate at a position.

        Parameters
        ----------
        wavelengths
            (N,) wavelengths in Ångström.
        x, y
            Position.

        Returns
        -------
        throughput : `numpy.ndarray`
            (N,) float64 values.
        """
        raise NotImplementedError()


class IdentityTransmissionCurve(TransmissionCurve):
    """Throughput 1 everywhere."""

    def evaluate(self, wavelengths: npt.ArrayLike, x: float = 0.0, y: float = 0.0) -> _FloatArray:
        return np.ones(np.shape(wavelengths))


@dataclasses.dataclass(frozen=True, eq=False)
class SpatiallyConstantTransmissionCurve(TransmissionCurve):
    """Throughput that doesn't depend on position.

    Attributes
    ----------
    wavelengths, throughput : `numpy.ndarray`
        Points between which it is interpolated linearly.
    at_min, at_max : `float`
        Values below and above their range.
    """

    wavelengths: _FloatArray
    throughput: _FloatArray
    at_min: float
    at_max: float

    def evaluate(self, wavelengths: npt.ArrayLike, x: float = 0.0, y: float = 0.0) -> _FloatArray:
        return np.interp(
            np.asarray(wavelengths, dtype=np.float64),
            self.wavelengths,
            self.throughput,
            left=self.at_min,
            right=self.at_max,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class RadialTransmissionCurve(TransmissionCurve):
    """Throughput that depends on the distance from the origin.

    Attributes
    ----------
    wavelengths, radii : `numpy.ndarray`
        Axes of the grid it is interpolated in.
    throughput : `numpy.ndarray`
        (radii, wavelengths) values.
    at_min, at_max : `float`
        Values below and above the range of wavelengths.
    """

    wavelengths: _FloatArray
    radii: _FloatArray
    throughput: _FloatArray
    at_min: float
    at_max: float

    def evaluate(self, wavelengths: npt.ArrayLike, x: float = 0.0, y: float = 0.0) -> _FloatArray:
        at = np.interp(np.hypot(x, y), self.radii, np.arange(len(self.radii), dtype=np.float64))
        row = min(int(at), len(self.radii) - 1)
        following = min(row + 1, len(self.radii) - 1)
        curve = (1 - (at - row)) * self.throughput[row] + (at - row) * self.throughput[following]
        return np.interp(
            np.asarray(wavelengths, dtype=np.float64),
            self.wavelengths,
            curve,
            left=self.at_min,
            right=self.at_max,
        )


@dataclasses.dataclass(frozen=True)
class ProductTransmissionCurve(TransmissionCurve):
    """Product of two curves.

    Attributes
    ----------
    a, b : `TransmissionCurve`
        The curves.
    """

    a: TransmissionCurve
    b: TransmissionCurve

    def evaluate(self, wavelengths: npt.ArrayLike, x: float = 0.0, y: float = 0.0) -> _FloatArray:
        return self.a.evaluate(wavelengths, x, y) * self.b.evaluate(wavelengths, x, y)


@dataclasses.dataclass(frozen=True)
class TransformedTransmissionCurve(TransmissionCurve):
    """Curve in other coordinates.

    Attributes
    ----------
    nested : `TransmissionCurve`
        The curve.
    transform : `AfwTransform`
        From its coordinates to those of the positions given.
    """

    nested: TransmissionCurve
    transform: AfwTransform

    def evaluate(self, wavelengths: npt.ArrayLike, x: float = 0.0, y: float = 0.0) -> _FloatArray:
        xs, ys = transform_points(self.transform.mapping, x, y, forward=False)
        return self.nested.evaluate(wavelengths, float(xs), float(ys))


@writes(IdentityTransmissionCurve, name="IdentityTransmissionCurve", module="lsst.afw.image")
def _write_identity(record: ObjectRecord, obj: IdentityTransmissionCurve) -> None:
    # Has no tables.
    pass


@writes(
    SpatiallyConstantTransmissionCurve, name="SpatiallyConstantTransmissionCurve", module="lsst.afw.image"
)
@writes(RadialTransmissionCurve, name="RadialTransmissionCurve", module="lsst.afw.image")
def _write_sampled(
    record: ObjectRecord, obj: SpatiallyConstantTransmissionCurve | RadialTransmissionCurve
) -> None:
    arrays = {"throughput": obj.throughput.ravel(), "wavelengths": obj.wavelengths}
    if isinstance(obj, RadialTransmissionCurve):
        arrays["radii"] = obj.radii
    limits = [Field(name, "D") for name in ("throughputAtMin", "throughputAtMax")]
    schema = Schema((*limits, *(Field(name, "ArrayD") for name in arrays)))
    record.table(schema).add_row(throughputAtMin=obj.at_min, throughputAtMax=obj.at_max, **arrays)


@writes(ProductTransmissionCurve, name="ProductTransmissionCurve", module="lsst.afw.image")
def _write_product(record: ObjectRecord, obj: ProductTransmissionCurve) -> None:
    table = record.table(Schema((Field("a", "I"), Field("b", "I"))))
    table.add_row(a=record.archive.put(obj.a), b=record.archive.put(obj.b))


@writes(TransformedTransmissionCurve, name="TransformedTransmissionCurve", module="lsst.afw.image")
def _write_transformed(record: ObjectRecord, obj: TransformedTransmissionCurve) -> None:
    table = record.table(Schema((Field("nested", "I"), Field("transform", "I"))))
    table.add_row(nested=record.archive.put(obj.nested), transform=record.archive.put(obj.transform))


@reads("IdentityTransmissionCurve")
def _read_identity(archive: ArchiveReader, tables: list[TableView], name: str) -> IdentityTransmissionCurve:
    return IdentityTransmissionCurve()


def _read_axis(table: TableView, name: str) -> _FloatArray:
    values = np.array(table[name][0], dtype=np.float64)
    if not len(values) or not (np.diff(values) > 0).all():
        raise MalformedArchiveError(f"{table.where}: {name!r} isn't ascending")
    return values


@reads("SpatiallyConstantTransmissionCurve", "RadialTransmissionCurve")
def _read_sampled(archive: ArchiveReader, tables: list[TableView], name: str) -> TransmissionCurve:
    table = archive.one_row(tables, name)
    wavelengths = _read_axis(table, "wavelengths")
    throughput = np.array(table["throughput"][0], dtype=np.float64)
    limits = float(table["throughputAtMin"][0]), float(table["throughputAtMax"][0])
    radii = _read_axis(table, "radii") if name == "RadialTransmissionCurve" else None
    n_expected = len(wavelengths) * (1 if radii is None else len(radii))
    if len(throughput) != n_expected:
        raise MalformedArchiveError(
            f"{table.where}: {name} has {len(throughput)} values instead of {n_expected}"
        )
    if radii is None:
        return SpatiallyConstantTransmissionCurve(wavelengths, throughput, *limits)
    # Wavelength runs fastest, whatever the column's documentation says.
    grid = throughput.reshape(len(radii), len(wavelengths))
    return RadialTransmissionCurve(wavelengths, radii, grid, *limits)


def _get_curve(archive: ArchiveReader, table: TableView, column: str) -> TransmissionCurve:
    curve = archive.get(int(table[column][0]))
    if not isinstance(curve, TransmissionCurve):
        raise MalformedArchiveError(f"{table.where}: {column!r} isn't a transmission curve")
    return curve


@reads("ProductTransmissionCurve")
def _read_product(archive: ArchiveReader, tables: list[TableView], name: str) -> ProductTransmissionCurve:
    table = archive.one_row(tables, name)
    result = ProductTransmissionCurve(_get_curve(archive, table, "a"), _get_curve(archive, table, "b"))
    if (n := _count_curves(result)) > _MAX_CURVES:
        raise MalformedArchiveError(f"{table.where}: a {name} of {n} curves")
    return result


def _count_curves(curve: TransmissionCurve) -> int:
    """Count the curves that are evaluated: nested products that share their
    factors grow exponentially.
    """
    if isinstance(curve, ProductTransmissionCurve):
        return _count_curves(curve.a) + _count_curves(curve.b)
    return _count_curves(curve.nested) if isinstance(curve, TransformedTransmissionCurve) else 1


@reads("TransformedTransmissionCurve")
def _read_transformed(
    archive: ArchiveReader, tables: list[TableView], name: str
) -> TransformedTransmissionCurve:
    table = archive.one_row(tables, name)
    transform = archive.get(int(table["transform"][0]))
    if not isinstance(transform, AfwTransform):
        raise MalformedArchiveError(f"{table.where}: {name} without a transform")
    return TransformedTransmissionCurve(_get_curve(archive, table, "nested"), transform)
