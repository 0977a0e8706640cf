# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Replacement of other sources by noise, as the stack draws it.

Uses `pixels`; the plugins see it through the batch of stars.
"""

from ._config import *
from ._replacement import *
from ._ziggurat import *
