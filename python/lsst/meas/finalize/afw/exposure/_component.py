# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Components that are read once and fail by name."""

from __future__ import annotations

__all__ = ("attempt", "component", "unsupported")

from collections.abc import Callable
from typing import Any, Self, overload

from .._errors import ComponentError, UnsupportedPersistableError


def attempt(instance: object, name: str) -> Any:
    """Return a component, or what is raised if it can't be read.

    Parameters
    ----------
    instance
        Object that has the component.
    name
        Its name.

    Returns
    -------
    value : `object` or `ComponentError`
        The component, or the exception.
    """
    try:
        return getattr(instance, name)
    except ComponentError as error:
        return error


def unsupported(kind: str, error: UnsupportedPersistableError) -> UnsupportedPersistableError:
    """Return what tells of which class a component is that isn't supported.

    Parameters
    ----------
    kind
        Its name in the archive.
    error
        What its reader raised.

    Returns
    -------
    error : `UnsupportedPersistableError`
        To be raised from that one.
    """
    return UnsupportedPersistableError(f"it is an unsupported {kind}: {error}")


class component[T]:  # noqa: N801 (used like property)
    """A property that is evaluated once.

    What goes wrong is a `ComponentError` that names it, each time it is asked
    for.  The instance has an attribute ``where``, for messages.

    Parameters
    ----------
    function
        Reads the component.
    name
        Name for messages, if not that of the property.
    """

    def __init__(self, function: Callable[[Any], T], name: str = "") -> None:
        self._function = function
        self._shown = name
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._shown = self._shown or name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        found: dict[str, Any] = instance.__dict__.setdefault("_found", {})
        if self._name not in found:
            # Of threads that ask at once all get what is there first.
            found.setdefault(self._name, self._read(instance))
        value = found[self._name]
        if isinstance(value, ComponentError):
            raise value.with_traceback(None)
        return value

    def _read(self, instance: Any) -> T | ComponentError:
        try:
            return self._function(instance)
        except ComponentError as error:
            return error
        except Exception as error:
            # Damage makes the libraries that interpret components raise
            # exceptions of many classes.
            text = str(error).removeprefix(f"{instance.where}: ")[:500]
            result = ComponentError(f"{instance.where}: component {self._shown!r} can't be read: {text}")
            result.__cause__ = error
            return result
