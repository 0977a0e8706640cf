# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiled walk along a pickle's opcodes: import where it is called."""

from __future__ import annotations

__all__ = ("walk_compiled",)

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._jit_numba import njit
from ._walk import (
    ACCEPTED,
    ATOMS,
    BYTE_ORDER,
    CHANGED_GLOBAL,
    COUNTED,
    GLOBAL,
    MAX_DEPTH,
    NO_MARK,
    NOT_ALLOWED,
    NOT_IN_MEMO,
    STACK_EMPTY,
    STRINGS,
    TOO_DEEP,
    TRUNCATED,
)

# What opcodes do with the objects that they take; the latter ones put one.
_REFUSE, _END, _DROP, _MARK, _PUT, _PUT_STRING, _PUT_TUPLE, _PUT_GLOBAL, _SET_STATE, _MEMOIZE, _GET = range(
    11
)
# They take all objects up to the mark.
_TO_MARK = -1
# No pickle is as long.
_HUGE = 1 << 40


def walk_compiled(data: bytes) -> tuple[int, int, int, int]:
    """Do the same as `walk`.

    Parameters
    ----------
    data
        The pickle.

    Returns
    -------
    reason, position, number, n_memo : `int`
        As of `walk`; a position behind the end may be another.
    """
    n = len(data)
    # Every opcode takes a byte and puts one object at most.
    stack, memo, marks = np.empty(n, np.int8), np.empty(n, np.int8), np.empty(n, np.int64)
    reason, position, number, n_memo = _follow(np.frombuffer(data, np.uint8), _effects(), stack, memo, marks)
    if position >= len(data) and reason in (NOT_IN_MEMO, NO_MARK, STACK_EMPTY):
        return TRUNCATED, position, 0, n_memo
    return reason, position, number, n_memo


@functools.cache
def _effects() -> npt.NDArray[np.int64]:
    """Return what each opcode does: the effect, the length of its argument,
    the length of a count before it, how many objects it takes; (256, 4).
    """
    rows: dict[int, tuple[int, int, int, int]] = {
        # tuples
        0x85: (_PUT_TUPLE, 0, 0, 1), 0x86: (_PUT_TUPLE, 0, 0, 2), 0x87: (_PUT_TUPLE, 0, 0, 3),
        0x74: (_PUT_TUPLE, 0, 0, _TO_MARK),
        # items of lists and dictionaries: one, or up to the mark
        0x61: (_DROP, 0, 0, 1), 0x65: (_DROP, 0, 0, _TO_MARK),
        0x73: (_DROP, 0, 0, 2), 0x75: (_DROP, 0, 0, _TO_MARK),
        # call; instance; class or function; attributes
        0x52: (_PUT, 0, 0, 2), 0x81: (_PUT, 0, 0, 2), 0x93: (_PUT_GLOBAL, 0, 0, 2),
        0x62: (_SET_STATE, 0, 0, 2),
        # memo; mark
        0x68: (_GET, 1, 0, 0), 0x6A: (_GET, 4, 0, 0), 0x94: (_MEMOIZE, 0, 0, 1), 0x28: (_MARK, 0, 0, 0),
        # protocol; frame; end
        0x80: (_DROP, 1, 0, 0), 0x95: (_DROP, 8, 0, 0), 0x2E: (_END, 0, 0, 0),
    }  # fmt: skip
    rows |= {opcode: (_PUT, length, 0, 0) for opcode, length in ATOMS.items()}
    for opcode, length in COUNTED.items():
        rows[opcode] = (_PUT_STRING if opcode in STRINGS else _PUT, 0, length, 0)
    effects = np.full((256, 4), (_REFUSE, 0, 0, 0), np.int64)
    effects[list(rows)] = list(rows.values())
    return effects


@njit(error_model="numpy", inline="always")
def _number(data: npt.NDArray[np.uint8], start: int, n_bytes: int) -> Any:
    """Return a little-endian number, of those of its bytes that there are."""
    found: Any = 0
    for i in range(min(start + n_bytes, len(data)) - 1, start - 1, -1):
        found = min(256 * found + np.int64(data[i]), _HUGE)
    return found


@njit(error_model="numpy", inline="always")
def _deepest(stack: npt.NDArray[np.int8], start: Any, top: Any) -> Any:
    """Return how deep the tuples are nested that a new one will hold."""
    depth: Any = 0
    for i in range(start, top):
        depth = max(depth, np.int64(stack[i]))
    return depth


@njit(error_model="numpy", inline="always")
def _is_big_endian(data: npt.NDArray[np.uint8], start: int, end: int) -> Any:
    """Tell whether a string is how NumPy names that byte order."""
    return start < len(data) and min(end, len(data)) == start + 1 and data[start] == 0x3E


@njit(error_model="numpy")
def _follow(
    data: npt.NDArray[np.uint8],
    effects: npt.NDArray[np.int64],
    stack: npt.NDArray[np.int8],
    memo: npt.NDArray[np.int8],
    marks: npt.NDArray[np.int64],
) -> tuple[int, int, int, int]:
    """Follow the opcodes, with stack, memo and marks in arrays."""
    n = len(data)
    # Objects above the last mark are those from base up to top.
    position, base, top, n_marks, n_memo = 2, 0, 0, 0, 0
    while position < n:
        opcode: Any = np.int64(data[position])
        position += 1
        effect, length = effects[opcode, 0], effects[opcode, 1]
        count, taken = effects[opcode, 2], effects[opcode, 3]
        start = top - taken
        if taken == _TO_MARK:
            if n_marks == 0:
                return NO_MARK, position, 0, n_memo
            n_marks -= 1
            start, base = base, marks[n_marks]
        elif start < base:
            return STACK_EMPTY, position, 0, n_memo
        text = position + count
        position = text + length + _number(data, position, count)
        made: Any = 0
        if effect == _GET:
            number = _number(data, text, length)
            if number >= n_memo:
                return NOT_IN_MEMO, text, number, n_memo
            made = np.int64(memo[number])
        elif effect == _MEMOIZE:
            memo[n_memo] = made = np.int64(stack[start])
            n_memo += 1
        elif effect == _SET_STATE:
            made = np.int64(stack[start])
            if made == GLOBAL:
                return CHANGED_GLOBAL, position, 0, n_memo
        elif effect == _PUT_TUPLE:
            made = 1 + _deepest(stack, start, top)
            if made > MAX_DEPTH:
                return TOO_DEEP, position, 0, n_memo
        elif effect == _PUT_GLOBAL:
            made = GLOBAL
        elif effect == _PUT_STRING and _is_big_endian(data, text, position):
            return BYTE_ORDER, position, 0, n_memo
        elif effect == _END:
            return ACCEPTED, position, 0, n_memo
        elif effect == _REFUSE:
            return NOT_ALLOWED, position, opcode, n_memo
        top = start
        if effect == _MARK:
            marks[n_marks] = base
            n_marks += 1
            base = top
        elif effect >= _PUT:
            stack[top] = made
            top += 1
    return TRUNCATED, position, 0, n_memo
