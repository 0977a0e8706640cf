# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""In-memory types: schemas, source and exposure catalogues, footprints,
stamps.
"""

from typing import TYPE_CHECKING

from .._deferred_names import names_when_used as _names_when_used
from .._lazy import lazy_room as _lazy_room
from ._candidates import *
from ._catalog import *
from ._deferred import *
from ._exposure_catalog import *
from ._footprints import *
from ._neighbours import *
from ._piff_archive import teach_bandpass, teach_colors
from ._schema import *
from ._stamps import *

if TYPE_CHECKING:
    from ._chromatic_psf import *
else:
    __getattr__, __dir__, _ = _lazy_room(
        __name__,
        {
            "_chromatic_psf": (
                "ChromaticPiffWrapper",
                "average_star_color",
                "keep_average_color",
                "restore_average_color",
            )
        },
    )

# Every room that takes or hands out a VisitImage imports this one.
# Only splines need it.
_names_when_used("lsst.images.fields._spline", "scipy.interpolate")
teach_bandpass()
teach_colors()
