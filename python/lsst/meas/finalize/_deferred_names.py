# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Functions and classes that a module imports by name and rarely uses.

``from scipy.stats import chi2`` runs all of ``scipy.stats``, which takes
longer than fitting a PSF does.  `names_when_used` puts a stand-in in the place
of each such name of one module, which gives way to the real thing when it is
first used.
"""

from __future__ import annotations

__all__ = ("names_when_used",)

import sys
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from ._lazy import around_import


class _Name:
    """Stands for a name of a module until it is called or looked into.

    Parameters
    ----------
    user
        Module that has imported the name.
    module
        Module that has it.
    name
        The name.
    """

    def __init__(self, user: str, module: str, name: str) -> None:
        self._origin = user, module, name

    def _get(self) -> Any:
        """Return what the name means, and leave the place to it."""
        user, module, name = self._origin
        value = getattr(import_module(module), name)
        names = vars(sys.modules[user]) if user in sys.modules else {}
        if names.get(name) is self:
            names[name] = value
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get()(*args, **kwargs)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._get())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._get(),)


class _Names(ModuleType):
    """Has a stand-in for every public name of a module.

    Another thread may import the module meanwhile, and would keep this: it can
    import what is within the module, and gets the real names afterwards.
    """

    def __init__(self, user: str, module: str) -> None:
        super().__init__(module)
        self._user = user

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is not self:
            return getattr(import_module(self.__name__), name)
        if name == "__path__" and (path := _find_path(self.__name__)) is not None:
            return path
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return _Name(self._user, self.__name__, name)


def _find_path(module: str) -> list[str] | None:
    """Return where the modules in a package are; `None` if it is none."""
    package, _, _ = module.rpartition(".")
    spec = PathFinder.find_spec(module, import_module(package).__path__ if package else None)
    places = None if spec is None else spec.submodule_search_locations
    return None if places is None else list(places)


class _StandIn(AbstractContextManager[None]):
    """Context in which a module isn't run by those that import it."""

    def __init__(self, user: str, module: str) -> None:
        self._names = _Names(user, module)

    def __enter__(self) -> None:
        sys.modules.setdefault(self._names.__name__, self._names)

    def __exit__(self, *exception: object) -> None:
        name = self._names.__name__
        if sys.modules.get(name) is self._names:
            del sys.modules[name]


def names_when_used(user: str, module: str) -> None:
    """Let the names that one module imports from another be imported when they
    are used.

    Parameters
    ----------
    user
        Full name of the module that has ``from module import ...``; nothing
        happens if it has been imported already.
    module
        Full name of the module that is imported from; nothing happens if it
        has been imported by the time at which ``user`` is.
    """
    if user not in sys.modules:
        around_import(user, _StandIn(user, module))
