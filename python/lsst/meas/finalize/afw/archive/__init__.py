# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Archives of persisted objects: reading, writing, the registry of classes.

Uses `fits`; knows none of the classes.
"""

from ._builder import *
from ._copying import *
from ._reader import *
from ._registry import *
from ._stored_object import *
from ._stored_tables import *
from ._writer import *
