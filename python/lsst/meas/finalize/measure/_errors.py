# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exceptions of measurement."""

from __future__ import annotations

__all__ = ("MeasurementFatalError", "UnknownMaskPlaneError")


class MeasurementFatalError(RuntimeError):
    """Measuring cannot go on for any star.

    A slot is not defined, a mask plane doesn't exist, or the exposure lacks a
    PSF that the plugin cannot do without.  Everything that concerns single
    stars is a flag instead.
    """


class UnknownMaskPlaneError(MeasurementFatalError):
    """An option names a mask plane that doesn't exist."""
