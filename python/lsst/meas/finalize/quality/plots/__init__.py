# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Figures of a visit's PSF: readable in black and white, made without
pyplot.
"""

from ._correlation_plots import *
from ._images import *
from ._maps import *
from ._objects import *
from ._residual_plots import *
from ._style import new_figure as new_figure
from ._style import panels as panels
