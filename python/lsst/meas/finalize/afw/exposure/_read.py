# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The function that reads an exposure from a path, stream or open file."""

from __future__ import annotations

__all__ = ("read_exposure",)

import contextlib
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from astropy.io import fits

from lsst.images import Box

from .._errors import FitsFormatError
from ..fits import check_structure
from ._reader import ExposureReader


@contextlib.contextmanager
def _open(source: str | os.PathLike[str] | BinaryIO | fits.HDUList) -> Iterator[fits.HDUList]:
    if isinstance(source, fits.HDUList):
        yield source
        return
    try:
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as stream:
                cleaned = check_structure(stream, os.fspath(source))
            if cleaned is not stream:
                source = cleaned
        else:
            source = check_structure(source, "<memory>")
        hdulist = fits.open(source, lazy_load_hdus=True)
    except (FileNotFoundError, FitsFormatError):
        raise
    except Exception as error:
        # Astropy raises OSError, ValueError, VerifyError... for bad files.
        raise FitsFormatError(f"{source}: not a readable FITS file: {str(error)[:200]}") from error
    with hdulist:
        yield hdulist


def read_exposure(
    path_or_hdulist: str | os.PathLike[str] | BinaryIO | fits.HDUList,
    *,
    data_id: Any = None,
    bbox: Box | None = None,
    component: str | None = None,
) -> Any:
    """Read an exposure the stack wrote, without the stack.

    Parameters
    ----------
    path_or_hdulist
        Path, binary file, or open `astropy.io.fits.HDUList`.
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
        The image. Its ``detector`` is None if the file has none; access to
        its ``psf`` raises `lsst.images.serialization.ArchiveReadError` if
        the file has none or it can't be read.

    Raises
    ------
    FitsFormatError
        If the file is damaged, not an exposure, of an unsupported version,
        or has no WCS.
    ValueError
        If there is no such component, or ``bbox`` is outside of the image.
    """
    with _open(path_or_hdulist) as hdulist:
        reader = ExposureReader(hdulist, data_id)
        return reader.read(bbox) if component is None else reader.read_component(component, bbox)
