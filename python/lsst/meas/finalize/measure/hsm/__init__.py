# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Adaptive moments and shear estimates as GalSim's HSM module has them.

Uses `noise` and `pixels`.
"""

from ._adaptive import *
from ._higher_moments import *
from ._moments import *
from ._shape import *
