# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Pixels of exposure files: image, mask and variance planes (spec 02 §2)."""

from __future__ import annotations

__all__ = ("plane_box", "read_plane")

import contextlib
import logging
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from lsst.images import Box

from .._errors import FitsFormatError
from ..fits import hdu_label
from ._size_checks import check_size

_LOG = logging.getLogger(__name__)

_PLANE_NAMES = {1: "IMAGE", 2: "MASK", 3: "VARIANCE"}
"""HDU number to EXTTYPE of the planes of an exposure."""


def _check_type(hdulist: fits.HDUList, number: int, header: fits.Header) -> None:
    found = header.get("EXTTYPE")
    where = hdu_label(hdulist, number)
    if not isinstance(found, str) or not found.strip():
        _LOG.warning("%s: no EXTTYPE; assuming %s.", where, _PLANE_NAMES[number])
    elif found.strip().upper() != _PLANE_NAMES[number]:
        raise FitsFormatError(f"{where}: EXTTYPE is {found!r} instead of {_PLANE_NAMES[number]!r}")


def _read_origin(header: fits.Header) -> tuple[int, int]:
    """Return x and y of the first pixel (spec 02 §2.3)."""
    values = [header.get(f"{key}{axis}A") for key in ("CRPIX", "CRVAL") for axis in (1, 2)]
    if not all(isinstance(value, int | float) for value in values) or values[:2] != [1, 1]:
        return 0, 0
    if not all(abs(value) < 2**30 for value in values[2:]):
        raise FitsFormatError(f"the origin of the image is {values[2:]}")
    return math.floor(values[2] + 0.5), math.floor(values[3] + 0.5)


def plane_box(hdulist: fits.HDUList, number: int = 1) -> Box:
    """Return the box of a plane without reading its pixels.

    Parameters
    ----------
    hdulist
        Open file.
    number
        HDU of the plane.

    Returns
    -------
    box : `lsst.images.Box`
        Parent coordinates.

    Raises
    ------
    FitsFormatError
        If the HDU isn't an image, or larger than the file.
    """
    header, (height, width) = check_size(hdulist, number)
    x0, y0 = _read_origin(header)
    return Box.factory[y0 : y0 + height, x0 : x0 + width]


def read_plane(
    hdulist: fits.HDUList, number: int, dtype: npt.DTypeLike, bbox: Box | None = None
) -> tuple[npt.NDArray[Any], Box, fits.Header]:
    """Read the pixels of a plane.

    Parameters
    ----------
    hdulist
        Open file.
    number
        HDU of the plane: 1 image, 2 mask, 3 variance.
    dtype
        Type to convert to.
    bbox
        Part to read; all by default.

    Returns
    -------
    array : `numpy.ndarray`
        (height, width) array in native byte order.
    box : `lsst.images.Box`
        Where it is, parent coordinates.
    header : `astropy.io.fits.Header`
        Header of the HDU as in the file.

    Raises
    ------
    FitsFormatError
        If the HDU is missing, corrupted, of wrong kind, or larger than the
        file.
    ValueError
        If ``bbox`` isn't inside the image.
    """
    header, (height, width) = check_size(hdulist, number)
    _check_type(hdulist, number, header)
    x0, y0 = _read_origin(header)
    full = Box.factory[y0 : y0 + height, x0 : x0 + width]
    where = hdu_label(hdulist, number)
    if bbox is not None and not full.contains(bbox):
        raise ValueError(f"{where}: the box {bbox} isn't inside the image box {full}")
    try:
        if bbox is None or bbox == full:
            data = hdulist[number].data
        else:
            rows, columns = (slice(i.start, i.stop) for i in (bbox.y - y0, bbox.x - x0))
            section = hdulist[number].section
            data = section[0, rows, columns] if len(hdulist[number].shape) == 3 else section[rows, columns]
    except Exception as error:
        # Astropy and its decompressors raise all sorts of exceptions.
        raise FitsFormatError(f"{where}: unreadable pixels: {str(error)[:200]}") from error
    box = full if bbox is None else bbox
    if data is None or data.size != box.area:
        raise FitsFormatError(f"{where}: the pixels don't fill {box}")
    array = np.asarray(data).reshape(box.shape).astype(dtype, copy=False)
    if not array.flags.writeable or not array.dtype.isnative:
        array = array.astype(np.dtype(dtype).newbyteorder("="))
    # The open file would keep the pixels until it is closed.
    del data
    with contextlib.suppress(AttributeError, KeyError):
        del hdulist[number].data
    return array, box, header
