# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Switch the butler overlay on at interpreter start.

``lsst_meas_finalize.pth`` in site-packages imports this module in every
interpreter of the environment: it is all that ``butler``, ``pipetask``,
``bps``, their worker processes, batch jobs and notebooks have in common.
It does two things, both only where ``lsst.afw`` isn't on ``sys.path``:

- it appends the overlay folder to ``DAF_BUTLER_CONFIG_PATH``, so that the
  storage classes ``ExposureF``, ``SourceCatalog`` and ``ExposureCatalog``
  have Python types that exist here;
- it appends a finder to ``sys.meta_path`` that finds the formatters named in
  the records of stack-written repositories (``lsst.obs.base.formatters``).
  Being the last, it is asked only when no installed package has them.

Setting ``MEAS_FINALIZE_NO_OVERLAY`` to anything but ``0`` or nothing switches
both off. Only ``os`` and ``sys``, which are loaded already, are imported:
every Python process of the environment pays for what is done here.
"""

from __future__ import annotations

__all__ = ("activate", "deactivate")

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

OFF_SWITCH = "MEAS_FINALIZE_NO_OVERLAY"
CONFIG_PATH = "DAF_BUTLER_CONFIG_PATH"
_BUTLER_ROOM = os.path.join("lsst", "meas", "finalize", "butler")
_OVERLAY = os.path.join(_BUTLER_ROOM, "overlay")
_HERE = os.path.dirname(os.path.abspath(__file__))


class StackNameFinder:
    """Find our ``lsst.obs.base`` where no installed package provides one."""

    served = ("lsst.obs", "lsst.obs.base")
    """Packages served; the modules in them are found by normal import."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a served package, and `None` for all others.

        Parameters
        ----------
        fullname
            Name of the module to find.
        path
            Search path of the parent package; unused.
        target
            Module to be reloaded; unused.

        Returns
        -------
        spec
            Spec of the package, or `None`.
        """
        if fullname not in cls.served:
            return None
        from importlib.util import spec_from_file_location

        folder = os.path.join(_HERE, _BUTLER_ROOM, "_stack_names", *fullname.split(".")[1:])
        init = os.path.join(folder, "__init__.py")
        return spec_from_file_location(fullname, init, submodule_search_locations=[folder])


def _other_config_paths() -> list[str]:
    """Return the entries of ``DAF_BUTLER_CONFIG_PATH`` that aren't ours."""
    value = os.environ.get(CONFIG_PATH, "")
    # Ours in whichever environment: a child may run another Python.
    return [entry for entry in value.split(os.pathsep) if entry and not entry.endswith(_OVERLAY)]


def _has_afw() -> bool:
    """Tell whether ``lsst.afw`` is on the path, without importing ``lsst``."""
    return any(os.path.isdir(os.path.join(entry, "lsst", "afw")) for entry in sys.path)


def activate() -> None:
    """Switch the overlay on for this process and its children.

    Notes
    -----
    Repeated calls change nothing. A user's own entries on
    ``DAF_BUTLER_CONFIG_PATH`` keep their places and take precedence.
    """
    os.environ[CONFIG_PATH] = os.pathsep.join([*_other_config_paths(), os.path.join(_HERE, _OVERLAY)])
    if StackNameFinder not in sys.meta_path:
        sys.meta_path.append(StackNameFinder)


def deactivate() -> None:
    """Switch the overlay off for this process and its children.

    Notes
    -----
    What `lsst.daf.butler` has read or imported already stays as it is.
    """
    if CONFIG_PATH in os.environ:
        others = _other_config_paths()
        if others:
            os.environ[CONFIG_PATH] = os.pathsep.join(others)
        else:
            del os.environ[CONFIG_PATH]
    if StackNameFinder in sys.meta_path:
        sys.meta_path.remove(StackNameFinder)


if os.environ.get(OFF_SWITCH, "0") not in ("", "0") or _has_afw():
    deactivate()
else:
    activate()
