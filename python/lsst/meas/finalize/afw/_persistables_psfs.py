# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Persistence of PSFs (spec 02 §6, §7)."""

from __future__ import annotations

__all__ = ("EVERYWHERE", "set_psf_bounds")

from typing import TYPE_CHECKING

import numpy as np

from lsst.images import Bounds, Box
from lsst.images.psfs import PiffWrapper, PointSpreadFunction

from ..catalogs import Field, Schema
from ._piff_pickle import dumps_piff, loads_piff
from ._registry import reads, writes

if TYPE_CHECKING:
    from ._archive import ArchiveReader
    from ._archive_writer import ObjectRecord
    from ._fits_table import TableView

EVERYWHERE = Box.factory[-(2**24) : 2**24, -(2**24) : 2**24]
"""Bounds of a PSF that comes without any."""

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


@reads("PiffPsf")
def _read_piff(archive: ArchiveReader, tables: list[TableView], name: str) -> PiffWrapper:
    table = archive.one_row(tables, name)
    width, _, psf = loads_piff(np.asarray(table["bytes"][0], dtype=np.uint8).tobytes())
    return PiffWrapper(psf, bounds=EVERYWHERE, stamp_size=width)


@writes(PiffWrapper, name="PiffPsf", module="lsst.meas.extensions.piff.piffPsf")
def _write_piff(record: ObjectRecord, obj: PiffWrapper) -> None:
    size = obj.kernel_bbox.x.size
    data = dumps_piff(size, size, obj.piff_psf)
    record.table(_PIFF_SCHEMA).add_row(bytes=np.frombuffer(data, dtype=np.uint8))
