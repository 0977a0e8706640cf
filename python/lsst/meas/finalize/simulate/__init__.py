# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Synthetic visits and a butler repository to put them in; knows the truth."""

from ._cameras import *
from ._config import *
from ._objects import Scene as Scene
from ._psf import *
from ._psf_truth import *
from ._repo import *
from ._scene import *
from ._true_psf import *
from ._visit import *
