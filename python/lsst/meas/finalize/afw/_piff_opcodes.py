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

from ._errors import ArchiveError

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

_TUPLES = frozenset((0x74, 0x85, 0x86, 0x87))
_MAX_TUPLES = 20_000
"""Python hashes nested tuples recursively in C and crashes at great depth;
a PSF with 300 stars has about 2000 tuples.
"""


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
        old-style globals and instances), or builds tuples without end.
    """
    if len(data) < 2 or data[0] != 0x80 or data[1] not in (4, 5):
        raise ArchiveError(f"Not a pickle of protocol 4 or 5; it starts with {bytes(data[:2])!r}.")
    position, end, n_tuples = 0, len(data), 0
    fixed, counted = _FIXED, _COUNTED
    while position < end:
        opcode = data[position]
        length = fixed.get(opcode, -1)
        position += 1
        if length >= 0:
            position += length
            if opcode == 0x2E:
                return
            if opcode in _TUPLES:
                n_tuples += 1
                if n_tuples > _MAX_TUPLES:
                    raise ArchiveError(f"Pickle builds more than {_MAX_TUPLES} tuples.")
        else:
            width = counted.get(opcode)
            if width is None:
                raise ArchiveError(f"Pickle has opcode 0x{opcode:02x} at byte {position - 1}; not allowed.")
            position += width + int.from_bytes(data[position : position + width], "little")
    raise ArchiveError(f"Pickle of {end} bytes is truncated.")
