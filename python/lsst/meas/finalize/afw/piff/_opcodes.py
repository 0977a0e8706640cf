# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Scan of a pickle's opcodes before it is loaded."""

from __future__ import annotations

__all__ = ("check_opcodes",)

from .._errors import ArchiveError

_COUNTED = {
    # long integer; strings; bytes; bytearray
    0x8A: 1, 0x8C: 1, 0x58: 4, 0x8D: 8, 0x43: 1, 0x42: 4, 0x8E: 8, 0x96: 8,
}  # fmt: skip
"""Length of the count before the argument of allowed opcodes."""

_ATOMS = {
    # None, booleans, numbers
    0x4E: 0, 0x88: 0, 0x89: 0, 0x4A: 4, 0x4B: 1, 0x4D: 2, 0x47: 8,
    # empty list, tuple, dict
    0x5D: 0, 0x29: 0, 0x7D: 0,
}  # fmt: skip
"""Length of the argument of allowed opcodes that put a new object on the
stack, besides the counted.
"""

_STRINGS = frozenset((0x8C, 0x58, 0x8D))
_MAX_DEPTH = 20
"""Python hashes nested tuples recursively in C and crashes at great depth;
those of a PSF are nested 4 deep.
"""

_GLOBAL = -1
"""Marks a class or function on the stack."""


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
    _walk(data)


def _walk(data: bytes) -> None:
    """Follow a pickle to its end, keeping what the unpickler's stack and memo
    will hold: how deep tuples are nested, and what is a class or function.

    One long function without calls, frequent opcodes first, since a PSF has
    100,000 of them: it takes as long as loading.
    """
    stack: list[int] = []
    marked: list[list[int]] = []
    memo: list[int] = []
    push, memoize, counted, atoms = stack.append, memo.append, _COUNTED, _ATOMS
    position, opcode = 2, 0x80
    try:
        while True:
            opcode = data[position]
            position += 1
            if opcode == 0x68:  # get from memo
                push(memo[data[position]])
                position += 1
            elif opcode == 0x94:  # put into memo
                memoize(stack[-1])
            elif opcode == 0x6A:  # get from memo
                push(memo[int.from_bytes(data[position : position + 4], "little")])
                position += 4
            elif opcode in counted:
                text = position + counted[opcode]
                position = text + int.from_bytes(data[position:text], "little")
                if data[text:position] == b">" and opcode in _STRINGS:
                    raise ArchiveError("Pickle has numbers of big-endian byte order; not supported.")
                push(0)
            elif 0x85 <= opcode <= 0x87:  # tuple of 1 to 3
                depth = stack.pop()
                for _ in range(opcode - 0x85):
                    depth = max(depth, stack.pop())
                push(_deeper(depth))
            elif opcode in atoms:
                position += atoms[opcode]
                push(0)
            elif opcode in (0x52, 0x81):  # call; make an instance
                stack.pop()
                stack[-1] = 0
            elif opcode == 0x62:  # set attributes
                stack.pop()
                if stack[-1] == _GLOBAL:
                    raise ArchiveError("Pickle changes a class or function.")
            elif opcode == 0x28:  # mark
                marked.append(stack)
                stack = []
                push = stack.append
            elif opcode in (0x65, 0x75, 0x74):  # append or set items, tuple up to the mark
                taken, stack = stack, marked.pop()
                push = stack.append
                if opcode == 0x74:
                    push(_deeper(max(taken, default=0)))
            elif opcode == 0x61:  # append an item
                stack.pop()
            elif opcode == 0x73:  # set an item
                stack.pop()
                stack.pop()
            elif opcode == 0x93:  # class or function
                stack.pop()
                stack[-1] = _GLOBAL
            elif opcode == 0x95:  # frame
                position += 8
            elif opcode == 0x2E:  # end
                return
            elif opcode != 0x80:
                raise ArchiveError(f"Pickle has opcode 0x{opcode:02x} at byte {position - 1}; not allowed.")
            else:  # protocol
                position += 1
    except IndexError:
        if position >= len(data):
            raise ArchiveError(f"Pickle of {len(data)} bytes is truncated.") from None
        if opcode in (0x68, 0x6A):
            raise ArchiveError(f"Pickle refers to object {data[position]} of {len(memo)}.") from None
        if opcode in (0x65, 0x75, 0x74) and not marked:
            raise ArchiveError("Pickle refers to a mark that it hasn't set.") from None
        raise ArchiveError("Pickle takes more from its stack than there is.") from None


def _deeper(depth: int) -> int:
    if depth >= _MAX_DEPTH:
        raise ArchiveError(f"Pickle nests tuples more than {_MAX_DEPTH} deep.")
    return 1 + max(depth, 0)
