# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Pixels of many stars: boxes, sub-pixel shifts, clipped statistics.

Shared by all families; uses the types of `catalogs` only.
"""

from ._boxes import *
from ._boxes import BoxBatch
from ._cutting import *
from ._lanczos import *
from ._stats import *
