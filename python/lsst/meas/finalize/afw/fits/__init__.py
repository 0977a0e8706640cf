# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""FITS as the stack writes it: cards, layouts of binary tables, schemas.

Uses nothing of the other rooms of `afw`.
"""

from ._cards import *
from ._layout import *
from ._open import *
from ._read_cards import *
from ._schema import *
from ._table import *
from ._writer import *
