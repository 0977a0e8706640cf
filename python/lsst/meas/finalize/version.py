# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The package's version, read by ``pyproject.toml`` as well."""

from __future__ import annotations

__all__ = ("__version__",)

__version__ = "0.1.0"
