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

__all__ = ("check_opcodes", "compile_walk")

import pickle
import sys
from collections.abc import Callable

from .._errors import ArchiveError
from . import _walk

_MESSAGES = {
    _walk.TRUNCATED: "Pickle of {size} bytes is truncated.",
    _walk.NOT_ALLOWED: "Pickle has opcode 0x{number:02x} at byte {last}; not allowed.",
    _walk.NOT_IN_MEMO: "Pickle refers to object {number} of {n_memo}.",
    _walk.NO_MARK: "Pickle refers to a mark that it hasn't set.",
    _walk.STACK_EMPTY: "Pickle takes more from its stack than there is.",
    _walk.TOO_DEEP: f"Pickle nests tuples more than {_walk.MAX_DEPTH} deep.",
    _walk.CHANGED_GLOBAL: "Pickle changes a class or function.",
    _walk.BYTE_ORDER: "Pickle has numbers of big-endian byte order; not supported.",
}

# Python walks along as many bytes, two and thirty PSFs of 250 stars, in the
# time that loading the compiled walk takes, and importing numba for it.
_LOADING = 1 << 18
_IMPORTING = 7 << 19
_n_walked = 0


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
    walk = _choose_walk(len(data))
    reason, position, number, n_memo = walk(data)
    if reason != _walk.ACCEPTED:
        message = _MESSAGES[reason]
        raise ArchiveError(message.format(size=len(data), number=number, last=position - 1, n_memo=n_memo))


def _choose_walk(n_bytes: int) -> Callable[[bytes], tuple[int, int, int, int]]:
    """Return the compiled walk once Python has spent as much time on pickles
    as it takes to load: who reads one PSF need not wait for it.
    """
    global _n_walked
    worth = _LOADING if "numba" in sys.modules else _LOADING + _IMPORTING
    if _n_walked + n_bytes <= worth:
        _n_walked += n_bytes
        return _walk.walk
    from ._walk_numba import walk_compiled

    return walk_compiled


def compile_walk() -> None:
    """Compile the walk, which is kept as kernels of measurement are."""
    from ._walk_numba import walk_compiled

    walk_compiled(pickle.dumps(None, protocol=4))
