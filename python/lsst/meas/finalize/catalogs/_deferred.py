# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Objects of a catalogue's rows that are made when they are asked for."""

from __future__ import annotations

__all__ = ("ComponentList", "Deferred", "resolve")

from abc import ABC, abstractmethod
from collections.abc import Iterable, MutableSequence
from typing import Any


class Deferred(ABC):
    """An object that isn't made yet."""

    @abstractmethod
    def get(self) -> Any:
        """Make the object; the same one each time."""
        raise NotImplementedError()


def resolve(item: Any) -> Any:
    """Return an object, making it if it is deferred.

    Parameters
    ----------
    item
        The object, or a `Deferred`.
    """
    return item.get() if isinstance(item, Deferred) else item


class ComponentList(MutableSequence[Any]):
    """A list of objects, some of which may be made when asked for.

    Parameters
    ----------
    items
        Objects and `Deferred`.
    """

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items = list(items.raw()) if isinstance(items, ComponentList) else list(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [resolve(item) for item in self._items[index]]
        return resolve(self._items[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = value

    def __delitem__(self, index: Any) -> None:
        del self._items[index]

    def insert(self, index: int, value: Any) -> None:
        self._items.insert(index, value)

    def copy(self) -> ComponentList:
        """Return a list of the same objects, as `list.copy` does."""
        return ComponentList(self)

    __copy__ = copy

    def raw(self) -> list[Any]:
        """Return a copy of the list in which `Deferred` aren't resolved."""
        return list(self._items)

    def raw_item(self, index: int) -> Any:
        """Return an object or `Deferred`.

        Parameters
        ----------
        index
            Its place.
        """
        return self._items[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | ComponentList) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"ComponentList({self._items!r})"
