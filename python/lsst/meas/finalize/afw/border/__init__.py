# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Conversion between objects of ``lsst.afw`` in memory and ours.

Uses all the other rooms of `afw`.  Nothing of the stack is imported before
one of its objects arrives.
"""

from typing import TYPE_CHECKING

from ..._lazy import lazy_room as _lazy_room

if TYPE_CHECKING:
    from ._convert import *
    from ._kinds import *
else:
    __getattr__, __dir__, __all__ = _lazy_room(
        __name__,
        {
            "_convert": (
                "as_ours",
                "from_afw",
                "psf_from_afw",
                "psf_to_afw",
                "to_afw",
            ),
            "_kinds": (
                "is_afw",
                "is_afw_type",
            ),
        },
    )
