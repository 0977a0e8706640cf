# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Determiners that fit the PSF of all detectors of a visit at once."""

from __future__ import annotations

__all__ = ("FEW_STARS_FLAG", "add_few_stars_field", "fits_visits")

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..catalogs import Schema

FEW_STARS_FLAG = "calib_psf_fewStars"
"""Flag of the star table, only there with such a determiner."""


def fits_visits(determiner: Any) -> bool:
    """Tell whether a PSF determiner can fit all detectors at once."""
    return hasattr(determiner, "gather") and hasattr(determiner, "fit_visit")


def add_few_stars_field(schema: Schema) -> None:
    """Add the flag of detectors that couldn't have been fitted alone."""
    schema.add_field(
        FEW_STARS_FLAG,
        "Flag",
        doc="set if the detector has too few stars for a PSF of its own, so that its PSF is largely what the "
        "stars of the other detectors predict.",
    )
