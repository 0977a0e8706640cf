# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Registries whose fields take options of what only the stack has."""

from __future__ import annotations

__all__ = ("OpenRegistry",)

import difflib
from typing import Any, Self

from lsst.pex.config import Config, FieldValidationError, Registry, RegistryField
from lsst.pex.config.registry import RegistryInstanceDict

_TYPING_ERROR = 0.94
"""Similarity of names from which on one is taken for a typing error."""


class _Unused:
    """Options that nobody reads: anything can be set, called or indexed."""

    def __getattr__(self, name: str) -> _Unused:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        pass

    def __getitem__(self, key: Any) -> _Unused:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Unused:
        return self

    def __ior__(self, other: Any) -> Self:
        return self

    def __iadd__(self, other: Any) -> Self:
        return self


class _OpenInstanceDict(RegistryInstanceDict):
    """Options by name, also of names that aren't in the registry."""

    _absent: set[str]

    def __init__(self, config: Config, field: RegistryField) -> None:
        super().__init__(config, field)
        # Its own method allows the attributes it knows only.
        object.__setattr__(self, "_absent", set())

    def __contains__(self, k: object) -> bool:
        return k in self._absent or super().__contains__(k)

    def __getitem__(self, k: str, *args: Any, **kwargs: Any) -> Any:
        if k in self.types:
            return super().__getitem__(k, *args, **kwargs)
        known = {name.casefold(): name for name in self.types}
        similar = difflib.get_close_matches(str(k).casefold(), list(known), n=1, cutoff=_TYPING_ERROR)
        if similar:
            raise FieldValidationError(
                self._field, self._config, f"There is no {k!r}; did you mean {known[similar[0]]!r}?"
            )
        self._absent.add(k)
        return _Unused()

    def _copy(self, config: Config) -> Any:
        result = super()._copy(config)
        object.__setattr__(result, "_absent", set(self._absent))
        return result

    def made(self) -> set[str]:
        """Return the names whose options have been looked at."""
        return set(self._dict)

    def selected(self) -> list[str]:
        """Return the active names."""
        selection: Any = self._selection
        if selection is None:
            return []
        return sorted(selection) if self._field.multi else [selection]


class OpenRegistryField(RegistryField):
    """Field for items of a registry that refuses others when validated.

    Files of options that were written for the stack set options of items
    that aren't here, too.  These are of no effect; an item that isn't here
    must not be active.
    """

    instanceDictClass = _OpenInstanceDict

    def __set__(self, instance: Config, value: Any, at: Any = None, label: str = "assignment") -> None:
        """Set options, or the active items.

        Parameters
        ----------
        instance
            Config with this field.
        value
            Options by name, as another config has them, or what is active.
        at
            Where the value was set.
        label
            How the value was set.
        """
        if not isinstance(value, self.instanceDictClass):
            super().__set__(instance, value, at, label)
            return
        # The base class makes the options of all items there are, which is
        # most of the time it takes to make a config; the others are as new.
        chosen: Any = self.__get__(instance)
        for name in sorted(value.made() | chosen.made()):
            chosen.__setitem__(name, value[name], at=at, label=label)
        chosen._setSelection(value._selection, at=at, label=label)

    def validate(self, instance: Config) -> None:
        """Check the active items.

        Parameters
        ----------
        instance
            Config with this field.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            Raised if one is not in the registry, or has invalid options.
        """
        chosen: Any = self.__get__(instance)
        absent = [name for name in chosen.selected() if name not in chosen.types]
        if absent:
            raise FieldValidationError(
                self,
                instance,
                f"{', '.join(map(repr, absent))} can't run here: only "
                f"{', '.join(map(repr, sorted(chosen.types)))} of lsst.meas.finalize can, and those of other "
                "packages that are written for it. Choose of these, or run the stack's own task.",
            )
        super().validate(instance)


class OpenRegistry(Registry):
    """Registry whose fields take options of what only the stack has.

    Parameters
    ----------
    configBaseType
        Base class of the options of items.
    doc
        What the items are.
    """

    def __init__(self, configBaseType: type[Config], doc: str) -> None:
        super().__init__(configBaseType)
        self.__doc__ = doc

    def makeField(
        self,
        doc: str,
        default: Any = None,
        optional: bool = False,
        multi: bool = False,
        on_none: Any = None,
    ) -> Any:
        """Make a field for items of this registry.

        Parameters
        ----------
        doc
            What is chosen.
        default
            What is active by default.
        optional
            Whether nothing may be active.
        multi
            Whether several may be active.
        on_none
            What to call instead of the active item if nothing is active.

        Returns
        -------
        field : `OpenRegistryField`
            The field.
        """
        return OpenRegistryField(doc, self, default, optional, multi, on_none=on_none)
