# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""PSFs and kernels in archives.

Uses `archive`, `fits` and `piff`.
"""

from ._kernels import *
from ._persistables import *
from ._psfex import *
from ._psfs import *
from ._resampling import *
