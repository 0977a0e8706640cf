# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Visits of a whole focal plane: stars with noise and the PSF without."""

from ._cells import make_focal_plane_cell as make_focal_plane_cell
from ._config import *
from ._psf import FocalPlanePsf as FocalPlanePsf
from ._stars import *
from ._visit import *
from ._visit_psf import *
