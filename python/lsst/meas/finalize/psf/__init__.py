# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""PSF models: determining them from stars and drawing them in batches."""

from typing import TYPE_CHECKING

from .._lazy import lazy_room as _lazy_room
from .._stored_names import publish as _publish
from ._config import *
from ._determiner import *
from ._errors import *
from ._registry import *
from ._shapes import *
from .hierarchical import DetectorStars as DetectorStars
from .hierarchical import HierarchicalPsfDeterminerConfig as HierarchicalPsfDeterminerConfig
from .hierarchical import HierarchicalPsfDeterminerTask as HierarchicalPsfDeterminerTask
from .hierarchical import VisitPsfFit as VisitPsfFit

if TYPE_CHECKING:
    from ._batch import *
    from ._piff_psf import *
    from .hierarchical import stars_from_table as stars_from_table
    from .hierarchical import stars_to_table as stars_to_table
else:
    __getattr__, __dir__, _ = _lazy_room(
        __name__,
        {
            "_batch": ("BatchPsf", "as_batch_psf", "draw_and_measure"),
            "_piff_psf": ("PiffPsf",),
            "hierarchical": ("stars_from_table", "stars_to_table"),
        },
    )

_publish(__name__, globals())
