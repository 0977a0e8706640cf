# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The function that reads an exposure from a path, stream or open file."""

from __future__ import annotations

__all__ = ("read_exposure",)

import contextlib
from collections.abc import Iterator
from typing import Any

from astropy.io import fits

from lsst.images import Box

from ..fits import FitsFile, FitsSource, open_fits
from ._reader import ExposureReader


@contextlib.contextmanager
def _open(source: FitsSource | fits.HDUList) -> Iterator[FitsFile | fits.HDUList]:
    if isinstance(source, fits.HDUList):
        yield source
        return
    # A file that ends early may have its pixels all the same.
    with open_fits(source, complete=False) as file:
        yield file


def read_exposure(
    path_or_hdulist: FitsSource | fits.HDUList,
    *,
    data_id: Any = None,
    bbox: Box | None = None,
    component: str | None = None,
) -> Any:
    """Read an exposure the stack wrote, without the stack.

    Parameters
    ----------
    path_or_hdulist
        Path, bytes, binary file, or open `astropy.io.fits.HDUList`.  The
        file may be compressed by gzip.
    data_id
        Mapping that may have ``instrument``, ``visit``, ``detector``,
        ``band`` and ``physical_filter``, used for what the file doesn't tell.
    bbox
        Part of the pixels to read, parent coordinates; all by default.
    component
        Name of a component to read instead of all; see
        `ExposureReader.COMPONENTS`.

    Returns
    -------
    exposure : `lsst.images.VisitImage` or component
        The image. Its ``detector`` is None if the file has none.  A missing
        PSF or WCS, and any component that is damaged or of an unknown kind,
        raises a `ComponentError` when it is asked for.

    Raises
    ------
    FitsFormatError
        If the file isn't an exposure, or of an unsupported version, or if
        its pixels (or the component that is asked for) are damaged.
    ValueError
        If there is no such component, or ``bbox`` is outside of the image.
    """
    with _open(path_or_hdulist) as file:
        reader = ExposureReader(file, data_id)
        return reader.read(bbox) if component is None else reader.read_component(component, bbox)
