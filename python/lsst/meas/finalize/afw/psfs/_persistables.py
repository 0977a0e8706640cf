# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Persistence of PSFs (spec 02 §6, §7)."""

from __future__ import annotations

__all__ = ("EVERYWHERE", "PIFF_NAME", "make_piff", "piff_bytes", "set_psf_bounds")

import math

import numpy as np

from lsst.images import Bounds, Box
from lsst.images.psfs import GaussianPointSpreadFunction, PiffWrapper, PointSpreadFunction

from ...catalogs import ChromaticPiffWrapper, Field, Schema
from .._errors import MalformedArchiveError
from ..archive import ArchiveReader, ObjectRecord, StoredTables, reads, write_stored, writes
from ..fits import TableView
from ..piff import dumps_piff, loads_piff
from ._kernels import Kernel, read_point
from ._psfex import PsfexPsf
from ._psfs import DoubleGaussianPsf, GaussianPsf, KernelPsf, RectangularGaussianPsf, SingleGaussianPsf

EVERYWHERE = Box.factory[-(2**24) : 2**24, -(2**24) : 2**24]
"""Bounds of a PSF that comes without any."""

PIFF_NAME = "PiffPsf"
"""Persistence name of Piff's PSFs."""

_DIMENSIONS = (
    Field("dimensions_x", "I", "width/height of kernel", "pixel"),
    Field("dimensions_y", "I", "width/height of kernel", "pixel"),
)
_PIFF_SCHEMA = Schema((Field("bytes", "ArrayB", "an opaque bytestring representation of a Storable"),))


def set_psf_bounds(psf: PointSpreadFunction, bounds: Bounds) -> None:
    """Set where a PSF just read is valid, which archives don't tell.

    Parameters
    ----------
    psf
        PSF; modified in place.
    bounds
        Region in pixels.
    """
    if hasattr(psf, "_bounds"):
        psf._bounds = bounds


def _dimensions(table: TableView) -> tuple[int, int]:
    width, height = read_point(table, "dimensions")
    return int(width), int(height)


@reads("GaussianPsf")
def _read_gaussian(
    archive: ArchiveReader, tables: list[TableView], name: str
) -> GaussianPsf | RectangularGaussianPsf:
    table = archive.one_row(tables, name)
    width, height = _dimensions(table)
    sigma = float(table["sigma"][0])
    if width == height and width % 2:
        return GaussianPsf(sigma, EVERYWHERE, width)
    return RectangularGaussianPsf(EVERYWHERE, width, height, sigma)


@reads("SingleGaussianPsf")
def _read_single_gaussian(archive: ArchiveReader, tables: list[TableView], name: str) -> SingleGaussianPsf:
    table = archive.one_row(tables, name)
    return SingleGaussianPsf(EVERYWHERE, *_dimensions(table), float(table["sigma"][0]))


@reads("DoubleGaussianPsf")
def _read_double_gaussian(archive: ArchiveReader, tables: list[TableView], name: str) -> DoubleGaussianPsf:
    table = archive.one_row(tables, name)
    sigma1, sigma2, b = (float(table[key][0]) for key in ("sigma1", "sigma2", "b"))
    return DoubleGaussianPsf(EVERYWHERE, *_dimensions(table), sigma1, sigma2, b)


@writes(GaussianPointSpreadFunction, name="GaussianPsf", module="lsst.afw.detection")
@writes(RectangularGaussianPsf, name="GaussianPsf", module="lsst.afw.detection")
@writes(SingleGaussianPsf, name="SingleGaussianPsf", module="lsst.meas.algorithms")
def _write_gaussian(record: ObjectRecord, obj: GaussianPointSpreadFunction | SingleGaussianPsf) -> None:
    box = obj.kernel_bbox
    record.table(Schema((*_DIMENSIONS, Field("sigma", "D", "radius of Gaussian", "pixel")))).add_row(
        dimensions_x=box.x.size, dimensions_y=box.y.size, sigma=obj.sigma
    )


@writes(DoubleGaussianPsf, name="DoubleGaussianPsf", module="lsst.meas.algorithms")
def _write_double_gaussian(record: ObjectRecord, obj: DoubleGaussianPsf) -> None:
    fields = [Field(name, "D") for name in ("sigma1", "sigma2", "b")]
    box = obj.kernel_bbox
    record.table(Schema((*_DIMENSIONS, *fields))).add_row(
        dimensions_x=box.x.size, dimensions_y=box.y.size, sigma1=obj.sigma1, sigma2=obj.sigma2, b=obj.b
    )


@reads("KernelPsf", "PcaPsf")
def _read_kernel(archive: ArchiveReader, tables: list[TableView], name: str) -> KernelPsf:
    table = archive.one_row(tables, name)
    kernel = archive.get(int(table["kernel"][0]))
    if not isinstance(kernel, Kernel):
        raise MalformedArchiveError(f"{table.where}: {name} without a kernel")
    psf = KernelPsf(EVERYWHERE, kernel, read_point(table, "averagePosition"))
    nested = StoredTables.keep_nested(archive, int(table["kernel"][0]))
    psf.stored = StoredTables.keep(archive, tables, name, kernel=[nested])
    return psf


writes(KernelPsf, name="KernelPsf", module="lsst.meas.algorithms")(write_stored)


@reads("PsfexPsf")
def _read_psfex(archive: ArchiveReader, tables: list[TableView], name: str) -> PsfexPsf:
    table = archive.one_row(tables, name, n_tables=2)
    if len(tables[1]) != 1:
        raise MalformedArchiveError(f"{tables[1].where}: {name} has {len(tables[1])} rows instead of 1")
    arrays = {
        key: np.atleast_1d(tables[1][key][0])
        for key in ("group", "degree", "_size", "_comp", "_context_first", "_context_second")
    }
    n_dim, n_terms = int(table["ndim"][0]), int(table["ncoeff"][0])
    size = [int(n) for n in arrays["_size"]]
    shape = (size[2] if len(size) > 2 else 1, size[1], size[0]) if len(size) in (2, 3) else (0, 0, 0)
    pairs = [arrays[key] for key in ("group", "_context_first", "_context_second")]
    if n_dim != 2 or any(len(pair) != 2 for pair in pairs):
        raise MalformedArchiveError(f"{table.where}: {name} doesn't vary with two coordinates")
    if min(shape) < 1 or shape[0] != n_terms or math.prod(shape) != len(arrays["_comp"]):
        raise MalformedArchiveError(
            f"{table.where}: {name} of {n_terms} terms has {len(arrays['_comp'])} values of size {size}"
        )
    group, first, second = ((pair[0].item(), pair[1].item()) for pair in pairs)
    psf = PsfexPsf(
        EVERYWHERE,
        arrays["_comp"].astype(np.float32).reshape(shape),
        group,
        tuple(int(d) for d in arrays["degree"]),
        first,
        second,
        float(table["_pixstep"][0]),
        read_point(table, "averagePosition"),
    )
    psf.stored = StoredTables.keep(archive, tables, name)
    return psf


writes(PsfexPsf, name="PsfexPsf", module="lsst.meas.extensions.psfex")(write_stored)


def make_piff(data: bytes, accepted: set[bytes] | None = None) -> PiffWrapper:
    """Make a PSF of its pickle.

    Parameters
    ----------
    data
        The pickle.
    accepted
        Digests of pickles that need no further check (see `loads_piff`).

    Returns
    -------
    psf : `lsst.images.psfs.PiffWrapper`
        The PSF, valid everywhere.

    Raises
    ------
    UnsupportedPersistableError
        Raised if the PSF needs unknown classes.
    PiffPickleError
        Raised if the pickle is malformed.
    """
    width, _, psf = loads_piff(data, accepted)
    chromatic = "colorValue" in psf.interp_property_names
    return (ChromaticPiffWrapper if chromatic else PiffWrapper)(psf, bounds=EVERYWHERE, stamp_size=width)


def piff_bytes(archive: ArchiveReader, tables: list[TableView], name: str) -> bytes:
    """Return the pickle of a stored PSF.

    Parameters
    ----------
    archive
        The archive.
    tables
        Tables of the PSF.
    name
        Its class, for messages.

    Raises
    ------
    MalformedArchiveError
        Raised if there is no such pickle.
    """
    return np.asarray(archive.one_row(tables, name)["bytes"][0], dtype=np.uint8).tobytes()


@reads(PIFF_NAME)
def _read_piff(archive: ArchiveReader, tables: list[TableView], name: str) -> PiffWrapper:
    return make_piff(piff_bytes(archive, tables, name), archive.accepted_pickles)


@writes(PiffWrapper, name=PIFF_NAME, module="lsst.meas.extensions.piff.piffPsf")
def _write_piff(record: ObjectRecord, obj: PiffWrapper) -> None:
    size = obj.kernel_bbox.x.size
    data = dumps_piff(size, size, obj.piff_psf, getattr(obj, "average_color", math.nan))
    record.table(_PIFF_SCHEMA).add_row(bytes=np.frombuffer(data, dtype=np.uint8))
