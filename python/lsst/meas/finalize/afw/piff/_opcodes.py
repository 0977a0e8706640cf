# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Scan of a pickle's opcodes before it is loaded."""

from __future__ import annotations

__all__ = ("check_opcodes",)

from .._errors import ArchiveError

_FIXED = {
    # protocol, end, mark
    0x80: 1, 0x2E: 0, 0x28: 0,
    # None, booleans, numbers
    0x4E: 0, 0x88: 0, 0x89: 0, 0x4A: 4, 0x4B: 1, 0x4D: 2, 0x47: 8,
    # lists, tuples, dicts
    0x5D: 0, 0x61: 0, 0x65: 0, 0x29: 0, 0x74: 0, 0x85: 0, 0x86: 0, 0x87: 0, 0x7D: 0, 0x73: 0, 0x75: 0,
    # globals and objects
    0x93: 0, 0x52: 0, 0x81: 0, 0x62: 0,
    # memo (reading, implicit writing), frames
    0x68: 1, 0x6A: 4, 0x94: 0, 0x95: 8,
}  # fmt: skip
"""Length of the argument of allowed opcodes."""

_COUNTED = {
    # long integer; strings; bytes; bytearray
    0x8A: 1, 0x8C: 1, 0x58: 4, 0x8D: 8, 0x43: 1, 0x42: 4, 0x8E: 8, 0x96: 8,
}  # fmt: skip
"""Length of the count before the argument of allowed opcodes."""

_ATOMS = frozenset((0x4E, 0x88, 0x89, 0x4A, 0x4B, 0x4D, 0x47, 0x5D, 0x29, 0x7D))
"""Allowed opcodes that put a new object on the stack, besides the counted."""

_STRINGS = frozenset((0x8C, 0x58, 0x8D))
_MAX_DEPTH = 20
"""Python hashes nested tuples recursively in C and crashes at great depth;
those of a PSF are nested 4 deep.
"""

_GLOBAL = -1
"""Marks a class or function on the stack."""


class _Stack:
    """What the unpickler's stack will hold: how deep tuples are nested, and
    which entries are classes or functions.
    """

    def __init__(self) -> None:
        self._items: list[int] = []
        self.push = self._items.append
        self._marks: list[int] = []
        self._memo: list[int] = []

    def _pop(self, n: int) -> list[int]:
        if len(self._items) - n < (self._marks[-1] if self._marks else 0):
            raise ArchiveError("Pickle takes more from its stack than there is.")
        taken = self._items[len(self._items) - n :]
        del self._items[len(self._items) - n :]
        return taken

    def _pop_mark(self) -> list[int]:
        if not self._marks:
            raise ArchiveError("Pickle refers to a mark that it hasn't set.")
        taken = self._items[self._marks[-1] :]
        del self._items[self._marks.pop() :]
        return taken

    def recall(self, index: int) -> None:
        """Put an object of the memo on the stack.

        Parameters
        ----------
        index
            Number of the object.
        """
        if index >= len(self._memo):
            raise ArchiveError(f"Pickle refers to object {index} of {len(self._memo)}.")
        self.push(self._memo[index])

    def memoize(self) -> None:
        """Add the last object to the memo."""
        self.push(self._pop(1)[0])
        self._memo.append(self._items[-1])

    def apply(self, opcode: int) -> None:
        """Do what one of the other allowed opcodes does.

        Parameters
        ----------
        opcode
            The opcode.
        """
        match opcode:
            case 0x28:
                self._marks.append(len(self._items))
            case 0x61:
                self._pop(1)
            case 0x73:
                self._pop(2)
            case 0x65 | 0x75:
                self._pop_mark()
            case 0x74:
                self._push_tuple(self._pop_mark())
            case 0x85 | 0x86 | 0x87:
                self._push_tuple(self._pop(opcode - 0x84))
            case 0x93:
                self._pop(2)
                self.push(_GLOBAL)
            case 0x52 | 0x81:
                self._pop(2)
                self.push(0)
            case 0x62:
                self._pop(1)
                if self._items[-1:] == [_GLOBAL]:
                    raise ArchiveError("Pickle changes a class or function.")
            case 0x80 | 0x95:
                pass

    def _push_tuple(self, elements: list[int]) -> None:
        depth = 1 + max(elements, default=0)
        if depth > _MAX_DEPTH:
            raise ArchiveError(f"Pickle nests tuples more than {_MAX_DEPTH} deep.")
        self.push(depth)


def check_opcodes(data: bytes) -> None:
    """Refuse pickles that could harm before or while being loaded.

    Parameters
    ----------
    data
        The pickle.

    Raises
    ------
    ArchiveError
        If the pickle is truncated, not of protocol 4 or 5, uses opcodes that
        no persisted Piff PSF has (explicit memo indices, which make the
        unpickler allocate at will; sets; extension codes; persistent ids;
        old-style globals and instances), sets attributes of classes or
        functions, nests tuples too deeply, or contains arrays of other byte
        order, which would be misread.
    """
    if len(data) < 2 or data[0] != 0x80 or data[1] not in (4, 5):
        raise ArchiveError(f"Not a pickle of protocol 4 or 5; it starts with {bytes(data[:2])!r}.")
    position, end, stack = 0, len(data), _Stack()
    while position < end:
        opcode = data[position]
        start = position + 1
        if opcode == 0x2E:
            return
        if (length := _FIXED.get(opcode, -1)) >= 0:
            position = start + length
            if opcode in _ATOMS:
                stack.push(0)
            elif opcode == 0x94:
                stack.memoize()
            elif opcode in (0x68, 0x6A):
                stack.recall(int.from_bytes(data[start:position], "little"))
            else:
                stack.apply(opcode)
        elif (width := _COUNTED.get(opcode)) is not None:
            text = start + width
            position = text + int.from_bytes(data[start:text], "little")
            if opcode in _STRINGS and data[text:position] == b">":
                raise ArchiveError("Pickle has numbers of big-endian byte order; not supported.")
            stack.push(0)
        else:
            raise ArchiveError(f"Pickle has opcode 0x{opcode:02x} at byte {start - 1}; not allowed.")
    raise ArchiveError(f"Pickle of {end} bytes is truncated.")
