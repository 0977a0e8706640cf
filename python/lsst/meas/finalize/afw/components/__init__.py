# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Components of exposures in archives: calibrations, fields, detectors.

Uses `archive`, `fits` and `wcs`.
"""

from ._bounded_fields import *
from ._camera import *
from ._fields import *
from ._simple import *
from ._transmission import *
from ._visit_info import *
