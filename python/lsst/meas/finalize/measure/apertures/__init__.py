# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Fluxes in circular, elliptical and compensated apertures.

Uses `pixels` and `geometry`.
"""

from ._circular import *
from ._circular import Circles
from ._compensated import *
from ._naive import *
from ._sinc import *
from ._sinc import Axes, sinc_fluxes
