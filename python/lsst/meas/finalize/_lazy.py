# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Rooms whose modules run when something of them is first asked for."""

from __future__ import annotations

__all__ = ("around_import", "lazy_room", "when_imported")

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ._collection import collection_paused


def lazy_room(
    room: str, exports: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a room.

    Parameters
    ----------
    room
        Name of the package.
    exports
        Names it exports, by module in it that has them.

    Returns
    -------
    get : `~collections.abc.Callable`
        Imports the module that has a name, and puts the name into the room.
    list_names : `~collections.abc.Callable`
        Returns all names in the room.
    names : `list` [ `str` ]
        The exported names.
    """
    module_of = {name: module for module, names in exports.items() for name in names}

    def get(name: str) -> Any:
        if name in exports:
            return _import(f"{room}.{name}")
        if name not in module_of:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        value = getattr(_import(f"{room}.{module_of[name]}"), name)
        setattr(sys.modules[room], name, value)
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[room]), *module_of})

    return get, list_names, sorted(module_of)


def _import(module: str) -> ModuleType:
    with collection_paused():
        return importlib.import_module(module)


def when_imported(module: str, action: Callable[[], None]) -> None:
    """Do something at once if a module is imported, else when it is.

    Parameters
    ----------
    module
        Full name of the module.
    action
        Called after it ran.
    """
    if module in sys.modules:
        action()
        return
    around_import(module, _Then(action))


class _Then(AbstractContextManager[None]):
    """Context after which something is done, if there was no exception."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def __exit__(self, kind: object, *exception: object) -> None:
        if kind is None:
            self._action()


def around_import(module: str, context: AbstractContextManager[Any]) -> None:
    """Let a module run in a context when it is imported.

    Parameters
    ----------
    module
        Full name of a module that hasn't been imported.
    context
        Entered before the module runs, and left afterwards; again if it is
        imported again because it has raised an exception.
    """
    sys.meta_path.insert(0, _Watch(module, context))


class _Watch(MetaPathFinder):
    """Finder that acts when one module runs, and is gone then."""

    def __init__(self, module: str, context: AbstractContextManager[Any]) -> None:
        self._module = module
        self._context = context

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Acting(spec.loader, self._context)
        return spec


class _Acting(Loader):
    """Loader of a module that runs it in a context."""

    def __init__(self, loader: Loader, context: AbstractContextManager[Any]) -> None:
        self._loader = loader
        self._context = context

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # What asks the module for its loader gets the real one.
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        try:
            with self._context:
                self._loader.exec_module(module)
        except BaseException:
            # The next attempt may be successful.
            around_import(module.__name__, self._context)
            raise
