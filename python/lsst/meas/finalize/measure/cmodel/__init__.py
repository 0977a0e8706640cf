# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""CModel photometry: galaxy models, priors, optimiser, shapelets of the PSF.

Uses `base`, `geometry` and `pixels`.
"""

from ._config import *
from ._optimizer_config import *
from ._plugin import *
from ._shapelet_psf import *
from ._shapelets import *
