# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Mask planes of exposure files by their names (spec 02 §2.5)."""

from __future__ import annotations

__all__ = ("make_mask", "read_mask_planes")

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from lsst.images import Box, Mask, MaskPlane, MaskSchema, get_legacy_visit_image_mask_planes

from .._errors import FitsFormatError


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


def make_mask(blocks: Iterable[tuple[slice, npt.NDArray[Any]]], planes: dict[str, int], box: Box) -> Mask:
    """Convert the mask of a file, by names.

    Parameters
    ----------
    blocks
        Rows of the box, and bits of the file in them.
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
    from . import _mask_numba

    known = get_legacy_visit_image_mask_planes()
    # A file may have a plane by the name of the stack, of lsst.images or both.
    named = {plane.name: plane for plane in known.values()} | known
    targets = {name: named.get(name) or MaskPlane(name, f"Mask plane {name} of the file.") for name in planes}
    ordered = dict.fromkeys([*known.values(), *targets.values()])
    schema = MaskSchema(ordered, dtype=np.uint8)
    # All planes at once; there are at most 32 besides the known ones.
    words = np.zeros(32, dtype=np.uint64)
    for name, bit in planes.items():
        target = schema.bit(targets[name].name)
        words[bit] |= np.uint64(int(target.mask) << 8 * target.index)
    result = np.zeros((*box.shape, schema.mask_size), dtype=np.uint8)
    for rows, pixels in blocks:
        bits = np.require(pixels, np.int32, ["C", "W"]).ravel()
        _mask_numba.convert_bits(bits, words, result[rows].reshape(-1, schema.mask_size))
    return Mask(result, schema=schema, bbox=box)
