# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The PixelGrid and BasisPolynomial fit of Piff on batched arrays."""

from typing import TYPE_CHECKING

from ..._lazy import lazy_room as _lazy_room

if TYPE_CHECKING:
    from ._fit import *
    from ._interpolant import *
    from ._result import *
    from ._setup import *
    from ._state import *
else:
    __getattr__, __dir__, __all__ = _lazy_room(
        __name__,
        {
            "_fit": ("fit_structured",),
            "_interpolant": (
                "GridWeights",
                "grid_weights",
            ),
            "_result": ("fill_psf",),
            "_setup": (
                "basis_terms",
                "check_covered",
                "count_unknowns",
                "initial_profile",
                "make_psf",
            ),
            "_state": ("FitState",),
        },
    )
