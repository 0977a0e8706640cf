# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Plugins of one module each that upstream has in ``meas_base``.

They use `pixels`, `geometry` and `moments`.
"""

from ._blendedness import *
from ._classification import *
from ._gaussian_flux import *
from ._input_count import *
from ._local_background import *
from ._local_calib import *
from ._pixel_flags import *
from ._position import *
from ._psf_flux import *
from ._variance import *
