# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The PSF of a whole visit: one model of all detectors, exported to Piff."""

from typing import TYPE_CHECKING

from ..._lazy import lazy_room as _lazy_room
from ._determiner import *

if TYPE_CHECKING:
    from ._export import *
    from ._fit import *
    from ._frames import *
    from ._model import *
    from ._stars import *
    from ._tables import *
else:
    __getattr__, __dir__, _ = _lazy_room(
        __name__,
        {
            "_export": ("export_order", "export_piff"),
            "_fit": ("HierarchicalOptions", "TooFewStarsError", "fit_visit"),
            "_frames": ("from_focal", "to_focal"),
            "_model": ("VisitPsfModel",),
            "_stars": ("VisitStars",),
            "_tables": ("stars_from_table", "stars_to_table"),
        },
    )
