# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Where detectors are in the focal plane, and fields over all of them that
are fitted to the stars of a visit.
"""

from ._fields import *
from ._frames import *
