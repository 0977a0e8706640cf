# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Walk along a pickle's opcodes, and why one is refused."""

from __future__ import annotations

__all__ = (
    "ACCEPTED",
    "ATOMS",
    "BYTE_ORDER",
    "CHANGED_GLOBAL",
    "COUNTED",
    "GLOBAL",
    "MAX_DEPTH",
    "NOT_ALLOWED",
    "NOT_IN_MEMO",
    "NO_MARK",
    "STACK_EMPTY",
    "STRINGS",
    "TOO_DEEP",
    "TRUNCATED",
    "walk",
)

COUNTED = {
    # long integer; strings; bytes; bytearray
    0x8A: 1, 0x8C: 1, 0x58: 4, 0x8D: 8, 0x43: 1, 0x42: 4, 0x8E: 8, 0x96: 8,
}  # fmt: skip
"""Length of the count before the argument of allowed opcodes."""

ATOMS = {
    # None, booleans, numbers
    0x4E: 0, 0x88: 0, 0x89: 0, 0x4A: 4, 0x4B: 1, 0x4D: 2, 0x47: 8,
    # empty list, tuple, dict
    0x5D: 0, 0x29: 0, 0x7D: 0,
}  # fmt: skip
"""Length of the argument of allowed opcodes that put a new object on the
stack, besides the counted.
"""

STRINGS = frozenset((0x8C, 0x58, 0x8D))
MAX_DEPTH = 20
"""Python hashes nested tuples recursively in C and crashes at great depth;
those of a PSF are nested 4 deep.
"""

GLOBAL = -1
"""Marks a class or function on the stack."""

ACCEPTED = 0
TRUNCATED = 1
NOT_ALLOWED = 2
NOT_IN_MEMO = 3
NO_MARK = 4
STACK_EMPTY = 5
TOO_DEEP = 6
CHANGED_GLOBAL = 7
BYTE_ORDER = 8


def walk(data: bytes) -> tuple[int, int, int, int]:
    """Follow a pickle to its end, keeping what the unpickler's stack and memo
    will hold: how deep tuples are nested, and what is a class or function.

    One long function without calls, frequent opcodes first, since a PSF has
    35,000 of them: it takes twice as long as loading.

    Parameters
    ----------
    data
        The pickle.

    Returns
    -------
    reason, position, number, n_memo : `int`
        Why the pickle is refused, if not `ACCEPTED`; how many bytes were
        looked at; the opcode that isn't allowed, or the object that isn't in
        the memo; how many are.
    """
    stack: list[int] = []
    marked: list[list[int]] = []
    memo: list[int] = []
    push, memoize, counted, atoms = stack.append, memo.append, COUNTED, ATOMS
    position, opcode, number = 2, 0x80, 0
    try:
        while True:
            opcode = data[position]
            position += 1
            if opcode == 0x68:  # get from memo
                number = data[position]
                push(memo[number])
                position += 1
            elif opcode == 0x94:  # put into memo
                memoize(stack[-1])
            elif opcode == 0x6A:  # get from memo
                number = int.from_bytes(data[position : position + 4], "little")
                push(memo[number])
                position += 4
            elif opcode in counted:
                text = position + counted[opcode]
                position = text + int.from_bytes(data[position:text], "little")
                if data[text:position] == b">" and opcode in STRINGS:
                    return BYTE_ORDER, position, 0, len(memo)
                push(0)
            elif 0x85 <= opcode <= 0x87:  # tuple of 1 to 3
                depth = stack.pop()
                for _ in range(opcode - 0x85):
                    depth = max(depth, stack.pop())
                if depth >= MAX_DEPTH:
                    return TOO_DEEP, position, 0, len(memo)
                push(1 + max(depth, 0))
            elif opcode in atoms:
                position += atoms[opcode]
                push(0)
            elif opcode in (0x52, 0x81):  # call; make an instance
                stack.pop()
                stack[-1] = 0
            elif opcode == 0x62:  # set attributes
                stack.pop()
                if stack[-1] == GLOBAL:
                    return CHANGED_GLOBAL, position, 0, len(memo)
            elif opcode == 0x28:  # mark
                marked.append(stack)
                stack = []
                push = stack.append
            elif opcode in (0x65, 0x75, 0x74):  # append or set items, tuple up to the mark
                taken, stack = stack, marked.pop()
                push = stack.append
                if opcode == 0x74:
                    if (depth := max(taken, default=0)) >= MAX_DEPTH:
                        return TOO_DEEP, position, 0, len(memo)
                    push(1 + max(depth, 0))
            elif opcode == 0x61:  # append an item
                stack.pop()
            elif opcode == 0x73:  # set an item
                stack.pop()
                stack.pop()
            elif opcode == 0x93:  # class or function
                stack.pop()
                stack[-1] = GLOBAL
            elif opcode == 0x95:  # frame
                position += 8
            elif opcode == 0x2E:  # end
                return ACCEPTED, position, 0, len(memo)
            elif opcode != 0x80:
                return NOT_ALLOWED, position, opcode, len(memo)
            else:  # protocol
                position += 1
    except IndexError:
        if position >= len(data):
            return TRUNCATED, position, 0, len(memo)
        if opcode in (0x68, 0x6A):
            return NOT_IN_MEMO, position, number, len(memo)
        if opcode in (0x65, 0x75, 0x74) and not marked:
            return NO_MARK, position, 0, len(memo)
        return STACK_EMPTY, position, 0, len(memo)
