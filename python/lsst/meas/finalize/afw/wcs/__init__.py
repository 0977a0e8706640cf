# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Coordinate mappings: hostile AST text, SkyWcs, Transforms and their maps.

Uses `archive` and `fits`.
"""

from ._ast_check import *
from ._ast_library import *
from ._ast_text import *
from ._persistables import *
