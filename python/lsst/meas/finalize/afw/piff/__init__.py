# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Pickles that hold Piff PSFs, read without trusting them.

Uses `wcs`.
"""

from typing import Any

from ._opcodes import compile_walk as compile_walk
from ._pickle import *

_WCS_NAMES = ("celestial_wrapper", "sky_origin", "uv_wrapper")


def __getattr__(name: str) -> Any:
    """Import what needs GalSim when it is asked for."""
    if name not in _WCS_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _wcs

    return getattr(_wcs, name)
