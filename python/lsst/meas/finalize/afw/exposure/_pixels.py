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

__all__ = ("PLANE_NAMES", "make_mask", "plane_box", "read_clean_header", "read_mask_planes", "read_plane")

import contextlib
import logging
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from lsst.images import Box, Mask, MaskPlane, MaskSchema, get_legacy_visit_image_mask_planes

from .._errors import FitsFormatError
from ..fits import hdu_label, header_cards, parse_layout, raw_file, read_header

_LOG = logging.getLogger(__name__)

PLANE_NAMES = {1: "IMAGE", 2: "MASK", 3: "VARIANCE"}
"""HDU number to EXTTYPE of the planes of an exposure."""

_MAX_SIDE = 200_000
_MAX_COMPRESSION = 2000
"""A row of equal pixels shrinks by a factor of about 1000 with GZIP."""


def read_clean_header(hdulist: fits.HDUList, number: int) -> fits.Header:
    """Read a header without cards that can't be parsed.

    Parameters
    ----------
    hdulist
        Open file.
    number
        HDU to read.

    Returns
    -------
    header : `astropy.io.fits.Header`
        Header as in the file, except for unparsable cards, which are warned
        about: they may be left-overs that nobody needs.
    """
    header = read_header(hdulist, number)
    bad = []
    for index, card in enumerate(header.cards):
        try:
            _ = card.value
        except (fits.VerifyError, ValueError):
            bad.append(index)
    if bad:
        _LOG.warning("%s: ignoring %d unparsable cards.", hdu_label(hdulist, number), len(bad))
        good = set(range(len(header.cards))) - set(bad)
        header = fits.Header([card for index, card in enumerate(header.cards) if index in good])
    return header


def _integer(header: fits.Header, key: str, where: str, low: int = 0, high: int = _MAX_SIDE) -> int:
    value = header.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise FitsFormatError(f"{where}: {key} = {value!r} isn't an integer from {low} to {high}")
    return value


def _check_tiles(hdulist: fits.HDUList, number: int, header: fits.Header, tile_bytes: int) -> None:
    """Check that no compressed tile is much longer than its pixels: GZIP
    could expand it without end.
    """
    file, info, where = raw_file(hdulist, number)
    layout = parse_layout(header_cards(header, where), where)
    file.seek(info["datLoc"])
    rows = np.frombuffer(file.read(layout.n_rows * layout.row_bytes), dtype=np.uint8)
    rows = rows.reshape(-1, layout.row_bytes)[: layout.n_rows]
    for column in layout.columns:
        if column.variable:
            dtype = ">i8" if column.variable == "Q" else ">i4"
            pairs = rows[:, column.offset : column.offset + column.width].copy().view(dtype)
            longest = int(pairs[:, 0].max()) * column.item_size
            if longest > 2 * tile_bytes + 1024:
                raise FitsFormatError(
                    f"{where}: a tile of {tile_bytes} bytes of pixels is compressed to {longest} bytes"
                )


def _check_size(hdulist: fits.HDUList, number: int) -> tuple[fits.Header, tuple[int, int]]:
    """Check that the file has the data its header announces, before anything
    is allocated; return header and shape.
    """
    header = read_clean_header(hdulist, number)
    file, info, where = raw_file(hdulist, number)
    file.seek(0, 2)
    available = max(file.tell() - info["datLoc"], 0)
    compressed = header.get("ZIMAGE") is True
    prefix = "Z" if compressed else ""
    n_axes = _integer(header, f"{prefix}NAXIS", where, 2, 3)
    shape = [_integer(header, f"{prefix}NAXIS{n}", where, 1) for n in range(n_axes, 0, -1)]
    if n_axes == 3 and shape[0] != 1:
        raise FitsFormatError(f"{where}: the image has {shape[0]} planes instead of 1")
    bitpix = header.get(f"{prefix}BITPIX")
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise FitsFormatError(f"{where}: {prefix}BITPIX is {bitpix!r}")
    n_bytes = math.prod(shape) * abs(bitpix) // 8
    if compressed:
        stored = _integer(header, "NAXIS1", where, 0) * _integer(header, "NAXIS2", where, 0, 2**31)
        stored += _integer(header, "PCOUNT", where, 0, 2**40)
        n_tiles, tile_bytes = 1, max(abs(bitpix) // 8, 4)
        for axis, length in enumerate(reversed(shape), start=1):
            key = f"ZTILE{axis}"
            default = length if axis == 1 else 1
            tile = _integer(header, key, where, 1) if key in header else default
            n_tiles *= -(-length // tile)
            tile_bytes *= min(length, tile)
        if n_bytes > _MAX_COMPRESSION * stored or n_tiles != header["NAXIS2"]:
            raise FitsFormatError(
                f"{where}: {stored} bytes in {header['NAXIS2']} rows can't hold {n_bytes} bytes of pixels "
                f"in {n_tiles} tiles"
            )
        _check_tiles(hdulist, number, header, tile_bytes)
    else:
        stored = n_bytes
    if stored > available:
        raise FitsFormatError(
            f"{where}: the header announces {stored} bytes of data, but the file has only {available} more"
        )
    return header, (shape[-2], shape[-1])


def _check_type(hdulist: fits.HDUList, number: int, header: fits.Header) -> None:
    found = header.get("EXTTYPE")
    where = hdu_label(hdulist, number)
    if not isinstance(found, str) or not found.strip():
        _LOG.warning("%s: no EXTTYPE; assuming %s.", where, PLANE_NAMES[number])
    elif found.strip().upper() != PLANE_NAMES[number]:
        raise FitsFormatError(f"{where}: EXTTYPE is {found!r} instead of {PLANE_NAMES[number]!r}")


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
    header, (height, width) = _check_size(hdulist, number)
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
    header, (height, width) = _check_size(hdulist, number)
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


def read_mask_planes(header: fits.Header, where: str) -> dict[str, int]:
    """Read the names of the mask planes (spec 02 §2.5).

    Parameters
    ----------
    header
        Header of the mask.
    where
        Origin, for messages.

    Returns
    -------
    planes : `dict` [`str`, `int`]
        Bit number by name, in the order of the bits.

    Raises
    ------
    FitsFormatError
        If a bit is out of range, or belongs to two names.
    """
    planes: dict[str, int] = {}
    for card in header.cards:
        if not card.keyword.startswith("MP_"):
            continue
        name, bit = card.keyword[3:], card.value
        if isinstance(bit, bool) or not isinstance(bit, int) or not 0 <= bit <= 31 or not name:
            raise FitsFormatError(f"{where}: {card.keyword} = {bit!r} isn't a bit number")
        if bit in planes.values() or planes.get(name, bit) != bit:
            raise FitsFormatError(f"{where}: mask plane {name!r} or bit {bit} is defined twice")
        planes[name] = bit
    return dict(sorted(planes.items(), key=lambda item: item[1]))


def make_mask(array: npt.NDArray[np.int32], planes: dict[str, int], box: Box) -> Mask:
    """Convert the mask of a file, by names.

    Parameters
    ----------
    array
        (height, width) bit mask of the file.
    planes
        Bit number by name in the file.
    box
        Where it is.

    Returns
    -------
    mask : `lsst.images.Mask`
        Mask with the planes that lsst.images has for visit images, followed
        by the other planes of the file under their own names.
    """
    known = get_legacy_visit_image_mask_planes()
    targets = {name: known.get(name) or MaskPlane(name, f"Mask plane {name} of the file.") for name in planes}
    ordered = dict.fromkeys([*known.values(), *targets.values()])
    schema = MaskSchema(ordered, dtype=np.uint8)
    result = np.zeros((*array.shape, schema.mask_size), dtype=np.uint8)
    # Byte by byte through tables of 256 entries, not plane by plane.
    parts = np.ascontiguousarray(array, dtype="<i4").view(np.uint8).reshape(*array.shape, 4)
    values = np.arange(256, dtype=np.uint8)
    for part in range(4):
        tables = np.zeros((schema.mask_size, 256), dtype=np.uint8)
        for name, bit in planes.items():
            if bit // 8 == part:
                target = schema.bit(targets[name].name)
                tables[target.index][(values >> np.uint8(bit % 8) & 1).astype(bool)] |= np.uint8(target.mask)
        for index in np.flatnonzero(tables.any(axis=1)):
            result[..., index] |= tables[index][parts[..., part]]
    return Mask(result, schema=schema, bbox=box)
