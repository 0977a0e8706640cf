# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The PixelGrid and BasisPolynomial fit of Piff on batched arrays."""

from ._fit import *
from ._interpolant import *
from ._result import *
from ._setup import *
from ._state import *
