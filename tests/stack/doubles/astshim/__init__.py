# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""A stand-in for ``astshim`` in tests: its names around starlink-pyast.

Those that lsst.images has for starlink-pyast are taken from there, without
the attribute that holds the wrapped object; the others are added.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

_HIDDEN = "_wrapped_by_the_stand_in"

_bridge = Path(importlib.util.find_spec("lsst.images").submodule_search_locations[0], "_transforms/_ast.py")
# The names lsst.images imports from here aren't there yet, so that it makes
# them itself.
exec(compile(_bridge.read_text().replace("_impl", _HIDDEN), str(_bridge), "exec"))


def _wrapped(mapping: Any) -> Any:
    return getattr(mapping, _HIDDEN)


def _rate(self: Any, x: list[float], ax1: int, ax2: int) -> float:
    return _wrapped(self).rate(x, ax1, ax2)


def _get_sky_ref(self: Any) -> list[float]:
    return [_wrapped(self).SkyRef_1, _wrapped(self).SkyRef_2]


Mapping.nIn = property(lambda self: _wrapped(self).Nin)  # noqa: F821
Mapping.nOut = property(lambda self: _wrapped(self).Nout)  # noqa: F821
Mapping.rate = _rate  # noqa: F821
SkyFrame.getSkyRef = _get_sky_ref  # noqa: F821
del USING_STARLINK_PYAST  # noqa: F821
