# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exposures as `lsst.images.VisitImage`.

Uses all the other rooms of `afw` but `catalogs`.
"""

from ._compile import *
from ._in_memory import *
from ._read import *
from ._reader import *
