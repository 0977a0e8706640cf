# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Reading of Piff PSFs in native lsst.images datasets with Piff >= 1.7."""

from __future__ import annotations

__all__ = ("teach_bandpass", "teach_colors")

import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from .._lazy import when_imported

if TYPE_CHECKING:
    from lsst.images.psfs import PiffSerializationModel, PiffWrapper

_READERS = "lsst.images.psfs._piff"


def _read_bandpass(reader: Any, name: str) -> None:
    """Return no bandpass: the archive's writer never stores one.

    Parameters
    ----------
    reader
        Reader of the archive.
    name
        Name of the bandpass in Piff's serialization.
    """


def teach_bandpass() -> None:
    """Give lsst.images' reader the method that Piff 1.7 asks of readers, as
    soon as that is imported.

    Notes
    -----
    Without it no file that ``VisitImage.write`` makes of an image with a Piff
    PSF can be read. A reader that has the method is left alone.
    """
    when_imported(_READERS, _teach)


def _teach() -> None:
    reader = sys.modules[_READERS]._ArchivePiffReader
    if not hasattr(reader, "read_bandpass"):
        setattr(reader, "read_bandpass", _read_bandpass)  # noqa: B010 (mypy knows no such method)


def teach_colors() -> None:
    """Make lsst.images' reader return PSFs that depend on colour as ones that
    can be drawn, at the average colour if it was stored.

    Notes
    -----
    What it returns of a class of its own for them is left alone.
    """
    when_imported(_READERS, _teach_colors)


def _teach_colors() -> None:
    cls = sys.modules[_READERS].PiffSerializationModel
    original = cls.deserialize
    if hasattr(original, "knows_colors"):
        return

    @wraps(original)
    def deserialize(model: PiffSerializationModel, archive: Any, **kwargs: Any) -> PiffWrapper:
        from ._chromatic_psf import restore_average_color

        return restore_average_color(model, original(model, archive, **kwargs))

    deserialize.knows_colors = True  # type: ignore[attr-defined]
    cls.deserialize = deserialize
