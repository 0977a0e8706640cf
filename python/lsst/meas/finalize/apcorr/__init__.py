# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Measuring and applying aperture corrections, and the source selectors
that choose the stars for it.
"""

from .._stored_names import publish as _publish
from ._apply import *
from ._chebyshev import *
from ._limits import *
from ._measure import *
from ._object_size import *
from ._registry import *
from ._selectors import *
from ._tables import *
from ._visit import *

_publish(__name__, globals())
