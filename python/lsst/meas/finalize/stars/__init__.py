# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Which stars: isolated-star tables, reserve selection, source selection,
colours, PSF candidates, and moments on the sky.
"""

from .._stored_names import publish as _publish
from ..apcorr import sourceSelectorRegistry
from ._candidates import *
from ._colors import *
from ._columns import *
from ._isolated import *
from ._moments import *
from ._parallactic import *
from ._prepare import *
from ._prepared_origin import *
from ._reserve import *
from ._standard_stars import *

_publish(
    __name__,
    globals(),
    upstream={
        "lsst.pipe.tasks.reserveIsolatedStars": ("ReserveIsolatedStarsConfig", "ReserveIsolatedStarsTask")
    },
)
