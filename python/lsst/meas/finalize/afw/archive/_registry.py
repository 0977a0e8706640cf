# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Registry of readers and writers of persisted classes."""

from __future__ import annotations

__all__ = (
    "PERSISTABLE_ROOMS",
    "reads",
    "resolve_reader",
    "resolve_writer",
    "writes",
)

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from .._errors import UnsupportedPersistableError

type Reader = Callable[..., Any]
type Writer = Callable[..., None]

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])

PERSISTABLE_ROOMS: tuple[str, ...] = ("components", "psfs", "wcs")
"""Rooms of `afw` that register readers and writers; imported on the first
look-up of a class that isn't known yet.
"""


@dataclasses.dataclass(frozen=True)
class WriterEntry:
    """A registered writer.

    Attributes
    ----------
    function : `~collections.abc.Callable`
        Called as ``function(record, obj)``.
    name, module : `str`
        Persistence name and the Python module the stack imports for it.
    """

    function: Writer
    name: str
    module: str


_readers: dict[str, Reader] = {}
_writers: dict[type, WriterEntry] = {}
_imported: set[str] = set()


def reads(*names: str) -> Callable[[_FunctionT], _FunctionT]:
    """Register a function as reader of one or more persisted classes.

    Parameters
    ----------
    *names : `str`
        Persistence names, e.g. ``"ChebyshevBoundedField"``.

    Returns
    -------
    decorator : `~collections.abc.Callable`
        Registers and returns its argument, which is called as
        ``reader(archive, tables, name)`` with the object's own tables as list
        of `TableView` and returns the object.

    Raises
    ------
    ValueError
        Raised if a name is registered twice.
    """

    def decorate(function: _FunctionT) -> _FunctionT:
        for name in names:
            if name in _readers:
                raise ValueError(f"a reader of {name!r} is registered already")
            _readers[name] = function
        return function

    return decorate


def writes(cls: type, *, name: str, module: str) -> Callable[[_FunctionT], _FunctionT]:
    """Register a function as writer of a class and its subclasses.

    Parameters
    ----------
    cls : `type`
        Class of the objects.
    name : `str`
        Persistence name.
    module : `str`
        Python module that registers the class in the stack; may be empty.

    Returns
    -------
    decorator : `~collections.abc.Callable`
        Registers and returns its argument, which is called as
        ``writer(record, obj)`` and fills tables made by ``record.table``.

    Raises
    ------
    ValueError
        Raised if a class is registered twice.
    """

    def decorate(function: _FunctionT) -> _FunctionT:
        if cls in _writers:
            raise ValueError(f"a writer of {cls.__name__} is registered already")
        _writers[cls] = WriterEntry(function, name, module)
        return function

    return decorate


def _import_persistables() -> None:
    base = __package__.rpartition(".")[0]
    for room in PERSISTABLE_ROOMS:
        if room not in _imported:
            importlib.import_module(f"{base}.{room}")
            _imported.add(room)


def resolve_reader(name: str) -> Reader:
    """Find the reader of a persisted class.

    Parameters
    ----------
    name : `str`
        Persistence name.

    Returns
    -------
    reader : `~collections.abc.Callable`
        The registered function.

    Raises
    ------
    UnsupportedPersistableError
        Raised if there is none.
    """
    if name not in _readers:
        _import_persistables()
    try:
        return _readers[name]
    except KeyError:
        raise UnsupportedPersistableError(f"objects of class {name!r} can't be read") from None


def resolve_writer(cls: type) -> WriterEntry:
    """Find the writer of a class or of its nearest base class.

    Parameters
    ----------
    cls : `type`
        Class of the object.

    Returns
    -------
    entry : `WriterEntry`
        The registered writer.

    Raises
    ------
    UnsupportedPersistableError
        Raised if there is none.
    """
    _import_persistables()
    for base in cls.__mro__:
        if base in _writers:
            return _writers[base]
    for base, entry in _writers.items():
        # Abstract base classes aren't in the MRO of what they match.
        if issubclass(cls, base):
            return entry
    raise UnsupportedPersistableError(
        f"objects of class {cls.__module__}.{cls.__qualname__} can't be written"
    )
