# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exceptions raised by the afw file codecs."""

from __future__ import annotations

__all__ = (
    "ArchiveError",
    "ComponentError",
    "FitsFormatError",
    "MalformedArchiveError",
    "UnsupportedPersistableError",
)

from lsst.images.serialization import ArchiveReadError


class FitsFormatError(ValueError):
    """A FITS file is truncated, corrupted or not laid out as expected."""


class ArchiveError(ValueError):
    """An object can't be read from, or written to, an archive."""


class MalformedArchiveError(ArchiveError, FitsFormatError):
    """The tables of an archive contradict each other or their own index."""


class UnsupportedPersistableError(ArchiveError):
    """No reader or writer is known for a class of persisted objects."""


class ComponentError(FitsFormatError, ArchiveReadError):
    """A component of an exposure is missing or can't be read.

    It is raised where the component is asked for; the other components and
    the pixels don't depend on it.
    """
