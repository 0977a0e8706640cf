# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Stands for obs_base's module of this name where the stack isn't.

Datasets written here carry the class's name, so that the stack can read them
without this package.
"""

from __future__ import annotations

__all__ = ("FitsExposureFormatter",)

from lsst.meas.finalize.butler import ExposureFormatter


class FitsExposureFormatter(ExposureFormatter):
    """Formatter of afw exposures, under the stack's name."""
