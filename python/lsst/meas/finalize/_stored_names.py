# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Names of classes in what gets stored: dumps of configurations, pickles."""

from __future__ import annotations

__all__ = ("OLD_MODULES", "OldModuleFinder", "publish")

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

_PACKAGE = __name__.rpartition(".")[0]

_OLD_MODULES = {
    "apcorr": ("_apply", "_chebyshev", "_limits", "_measure", "_object_size", "_selectors"),
    "measure": (
        "_aperture",
        "_blendedness",
        "_classification",
        "_cmodel_config",
        "_compensated",
        "_config",
        "_convolved",
        "_gaap_config",
        "_gaap_matching",
        "_gaap_matching_config",
        "_gaussian_flux",
        "_hsm_higher_moments",
        "_hsm_moments",
        "_hsm_shape",
        "_kron",
        "_local_background",
        "_optimizer_config",
        "_pixel_flags",
        "_plugin",
        "_position",
        "_psf_flux",
        "_sdss_centroid",
        "_sdss_shape",
        "_shapelet_psf",
        "_task",
        "_variance",
    ),
    "psf": ("_config", "_determiner"),
    "stars": ("_candidates", "_reserve"),
    "tasks": ("_characterize", "_config", "_consolidate", "_detector", "_visit"),
}
"""Private modules in dumps of the first versions, by room."""

OLD_MODULES = {
    f"{_PACKAGE}.{room}.{name}": f"{_PACKAGE}.{room}"
    for room, names in _OLD_MODULES.items()
    for name in names
}
"""Modules that stored names may refer to, and the room they moved into."""


class _OldModuleLoader(importlib.abc.Loader):
    """Make a module whose attributes are those of a room."""

    def exec_module(self, module: ModuleType) -> None:
        home = importlib.import_module(OLD_MODULES[module.__name__])
        module.__dict__["__getattr__"] = lambda name: getattr(home, name)


class OldModuleFinder(importlib.abc.MetaPathFinder):
    """Find modules that exist no more, but are named in stored files.

    Being the last finder it is asked only for what isn't there.
    """

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of an old module, and `None` for all others.

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
            Spec of a module with the names of its room, or `None`.
        """
        if fullname not in OLD_MODULES:
            return None
        return importlib.machinery.ModuleSpec(fullname, _OldModuleLoader())

    @classmethod
    def invalidate_caches(cls) -> None:
        """Do nothing: the class is the finder, and remembers nothing."""


def _is_ours(module: str) -> bool:
    """Tell whether a module outside the package would be loaded from here."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return False
    root = os.path.dirname(os.path.abspath(__file__))
    for _ in _PACKAGE.split("."):
        root = os.path.dirname(root)
    expected = os.path.join(root, *module.split(".")) + ".py"
    return (
        spec is not None
        and spec.origin is not None
        and os.path.realpath(spec.origin) == os.path.realpath(expected)
    )


def publish(
    room: str,
    namespace: Mapping[str, Any],
    bases: Iterable[type] = (),
    upstream: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Make a room the home of its classes that get stored.

    Dumps of configurations and pickles import ``__module__``, which has to
    be there whatever becomes of the private module a class is written in.

    Parameters
    ----------
    room
        Name of the room.
    namespace
        What it exports.
    bases
        Classes whose subclasses get stored, in addition to configurations
        and tasks.
    upstream
        Names of classes that upstream has, by its module, which gets to be
        their home if it is this package that provides it.
    """
    from lsst.pex.config import Config
    from lsst.pipe.base import Task

    kinds = (Config, Task, *bases)
    homes = {name: module for module, names in (upstream or {}).items() if _is_ours(module) for name in names}
    for name, value in namespace.items():
        if not (isinstance(value, type) and issubclass(value, kinds) and name == value.__qualname__):
            continue
        if value.__module__ != room and value.__module__.startswith(f"{room}."):
            value.__module__ = homes.get(name, room)
            # It counts lines of the module the class is written in.
            if "__firstlineno__" in vars(value):
                del value.__firstlineno__  # type: ignore[attr-defined]
    # Dumps import only modules that were imported.
    for module in set(homes.values()):
        importlib.import_module(module)


if OldModuleFinder not in sys.meta_path:
    sys.meta_path.append(OldModuleFinder)
