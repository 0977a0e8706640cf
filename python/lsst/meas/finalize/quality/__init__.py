# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Metrics and plots that judge a finished visit from the tasks' outputs."""

from .._stored_names import publish as _publish
from ._columns import *
from ._correlations import *
from ._groups import *
from ._limits import *
from ._metrics import *
from ._moments import *
from ._pair_sums import *
from ._plots import *
from ._psf_statistics import *
from ._report import *
from ._residual_maps import *
from ._residual_stacks import *
from ._sky_frame import *
from ._star_statistics import *
from ._survey import *
from ._survey_task import *
from ._te import *
from ._trends import *
from ._visit_config import *
from ._visit_metrics import *
from ._visit_rho import *
from ._visit_task import *
from .plots import plot_ap_corr as plot_ap_corr
from .plots import plot_psf as plot_psf

_publish(__name__, globals())
