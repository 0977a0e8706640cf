# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Registry of PSF determiners."""

from __future__ import annotations

__all__ = ("psfDeterminerRegistry",)

from .._open_registry import OpenRegistry
from ._config import BasePsfDeterminerConfig

psfDeterminerRegistry = OpenRegistry(BasePsfDeterminerConfig, "A registry of PSF determiner classes")
"""PSF determiners by name; upstream's ``pca`` and ``psfex`` don't exist
here.
"""
