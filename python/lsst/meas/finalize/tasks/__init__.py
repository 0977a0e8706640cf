# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The pipeline tasks: connections, configs, butler in and out, failure
policy.
"""

# Importing it teaches lsst.images to read what Piff 1.7 writes, which images
# given to the tasks may hold.
from .. import butler as _butler
from .._stored_names import publish as _publish
from ._characterize import *
from ._config import *
from ._connections import *
from ._consolidate import *
from ._detector import *
from ._fit_visit import *
from ._gather import *
from ._output import *
from ._prepare import *
from ._visit import *

_publish(
    __name__,
    globals(),
    upstream={
        "lsst.pipe.tasks.finalizeCharacterization": [n for n in globals() if "FinalizeCharacterization" in n]
    },
)
