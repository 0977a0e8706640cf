# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Objects of ``lsst.afw`` as FITS files in memory, and back."""

from __future__ import annotations

__all__ = ("object_from_fits", "object_to_fits")

import io
from typing import Any


class NamedBytes(io.BytesIO):
    """Contents of a file that doesn't exist, with a name for messages.

    Parameters
    ----------
    data
        The contents.
    name
        What they are.
    """

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def object_to_fits(obj: Any) -> NamedBytes:
    """Let an object of ``lsst.afw`` write itself.

    Parameters
    ----------
    obj
        Object with the method ``writeFits``.

    Returns
    -------
    stream : `NamedBytes`
        FITS file, at its start.
    """
    from lsst.afw.fits import MemFileManager

    manager = MemFileManager()
    obj.writeFits(manager)
    return NamedBytes(manager.getData(), f"<{type(obj).__name__} in memory>")


def object_from_fits(cls: Any, data: bytes) -> Any:
    """Let a class of ``lsst.afw`` read an object.

    Parameters
    ----------
    cls
        Class with the method ``readFits``.
    data
        FITS file.

    Returns
    -------
    obj : `object`
        Instance of the class.
    """
    from lsst.afw.fits import MemFileManager

    manager = MemFileManager(len(data))
    manager.setData(data, len(data))
    return cls.readFits(manager)
