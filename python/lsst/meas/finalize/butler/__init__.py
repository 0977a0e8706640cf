# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Formatters, the storage-class overlay for a client without the stack, and
the synthetic instrument.
"""

from __future__ import annotations

from ._delegate import ExposureDelegate
from ._formatters import CatalogFormatter, ExposureFormatter
from ._instrument import SynthCam
from ._piff_archive import teach_bandpass

__all__ = ("CatalogFormatter", "ExposureDelegate", "ExposureFormatter", "SynthCam")

teach_bandpass()
