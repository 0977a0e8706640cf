# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Codecs of the FITS files of ``lsst.afw``, exposures and catalogues, and the
conversion of such objects in memory.
"""

from typing import TYPE_CHECKING

from .. import catalogs as _catalogs  # teaches lsst.images what exposures need
from .._lazy import lazy_room as _lazy_room

if TYPE_CHECKING:
    from ._errors import *
    from .border import as_ours, from_afw, is_afw, is_afw_type, psf_from_afw, psf_to_afw, to_afw
    from .catalogs import (
        read_exposure_catalog,
        read_source_catalog,
        write_exposure_catalog,
        write_source_catalog,
    )
    from .components import UnreadableField
    from .exposure import ExposureReader, compile_reading, read_exposure
else:
    __getattr__, __dir__, __all__ = _lazy_room(
        __name__,
        {
            "_errors": (
                "ArchiveError",
                "ComponentError",
                "FitsFormatError",
                "MalformedArchiveError",
                "UnsupportedPersistableError",
            ),
            "border": (
                "as_ours",
                "from_afw",
                "is_afw",
                "is_afw_type",
                "psf_from_afw",
                "psf_to_afw",
                "to_afw",
            ),
            "catalogs": (
                "read_exposure_catalog",
                "read_source_catalog",
                "write_exposure_catalog",
                "write_source_catalog",
            ),
            "components": ("UnreadableField",),
            "exposure": (
                "ExposureReader",
                "compile_reading",
                "read_exposure",
            ),
        },
    )
