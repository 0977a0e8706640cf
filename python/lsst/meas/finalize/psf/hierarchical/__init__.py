# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The PSF of a whole visit: one model of all detectors, exported to Piff."""

from ._determiner import *
from ._export import *
from ._fit import *
from ._frames import *
from ._model import *
from ._stars import *
from ._tables import *
