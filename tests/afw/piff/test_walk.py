# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of the walk along a pickle, in Python and compiled."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.afw import ArchiveError
from lsst.meas.finalize.afw.piff import _opcodes, _walk
from lsst.meas.finalize.afw.piff._walk import walk
from lsst.meas.finalize.afw.piff._walk_numba import walk_compiled

_Walk = Callable[[bytes], tuple[int, int, int, int]]
_CLASS = b"\x8c\x01a\x8c\x01b\x93"


@pytest.fixture(scope="module")
def real(tiny: Path) -> list[bytes]:
    """Pickles that the stack wrote, in pixel and in field coordinates."""
    name = "finalized_psf_ap_corr_detector_catalog.fits"
    found = []
    for variant in ("default", "field"):
        with fits.open(tiny / "expected" / variant / "detector_0" / name) as hdulist:
            found.append(bytes(hdulist["PIFFPSF"].data["bytes"][0]))
    return found


def _assert_agree(data: bytes) -> None:
    """Compare the two, whose positions behind the end may differ."""
    (reason, position, *numbers), (other, other_position, *other_numbers) = walk(data), walk_compiled(data)
    assert other == reason
    assert other_numbers == numbers
    assert min(other_position, len(data)) == min(position, len(data))


@pytest.mark.parametrize("follow", [walk, walk_compiled])
@pytest.mark.parametrize(
    ("body", "reason", "number"),
    [
        (b"N.", _walk.ACCEPTED, 0),
        (b"\x95" + bytes(8) + b"}\x8c\x01x\x94K\x01s.", _walk.ACCEPTED, 0),
        (b"", _walk.TRUNCATED, 0),
        (b"N", _walk.TRUNCATED, 0),
        (b"\x8c\x05abc.", _walk.TRUNCATED, 0),
        # Counts that are cut off themselves, or larger than any file.
        (b"B\x01\x00", _walk.TRUNCATED, 0),
        (b"\x8e" + b"\xff" * 8, _walk.TRUNCATED, 0),
        (b"\x8e" + b"\xff" * 8 + b"N.", _walk.TRUNCATED, 0),
        (b"N\x94j\x00\x00", _walk.TRUNCATED, 0),
        (b"Nq\x00.", _walk.NOT_ALLOWED, 0x71),
        (b"\x00", _walk.NOT_ALLOWED, 0),
        (b"\xff.", _walk.NOT_ALLOWED, 0xFF),
        (b"N\x94h\x00h\x01.", _walk.NOT_IN_MEMO, 1),
        (b"N\x94j\xff\x01\x00\x00.", _walk.NOT_IN_MEMO, 511),
        (b"Nt.", _walk.NO_MARK, 0),
        (b"]e.", _walk.NO_MARK, 0),
        (b"]((uu.", _walk.ACCEPTED, 0),
        # What is below a mark can't be taken.
        (b"N(\x85.", _walk.STACK_EMPTY, 0),
        (b"N(\x94.", _walk.STACK_EMPTY, 0),
        (b"\x94.", _walk.STACK_EMPTY, 0),
        (b"NN\x87.", _walk.STACK_EMPTY, 0),
        (b"Nb.", _walk.STACK_EMPTY, 0),
        (b"NR.", _walk.STACK_EMPTY, 0),
        (b"N\x93.", _walk.STACK_EMPTY, 0),
        (b"a.", _walk.STACK_EMPTY, 0),
        (b"Ns.", _walk.STACK_EMPTY, 0),
        # As the last byte it may be one that was cut off.
        (b"a", _walk.TRUNCATED, 0),
        (b"N" + b"\x85" * 20 + b".", _walk.ACCEPTED, 0),
        (b"N" + b"\x85" * 21 + b".", _walk.TOO_DEEP, 0),
        (b"(" * 21 + b"t" * 21, _walk.TOO_DEEP, 0),
        (b"NN" + b"\x85" * 10 + b"\x94\x86h\x00NN\x87" + b"\x85" * 9 + b"\x94.", _walk.ACCEPTED, 0),
        (b"NN" + b"\x85" * 10 + b"\x94\x86h\x00NN\x87" + b"\x85" * 9 + b"\x94NN\x87.", _walk.TOO_DEEP, 0),
        # They are as deep with attributes, and in what the memo repeats.
        (b"N" + b"\x85" * 20 + b"}b\x85.", _walk.TOO_DEEP, 0),
        (b"N" + b"\x85" * 20 + b"\x94}bh\x00\x85.", _walk.TOO_DEEP, 0),
        (_CLASS + b"}b.", _walk.CHANGED_GLOBAL, 0),
        (_CLASS + b"\x940h\x00}b.", _walk.NOT_ALLOWED, 0x30),
        (_CLASS + b"\x94Nh\x00}b", _walk.CHANGED_GLOBAL, 0),
        # An instance isn't a class, nor a tuple of one.
        (_CLASS + b")\x81}b.", _walk.ACCEPTED, 0),
        (_CLASS + b")R}b.", _walk.ACCEPTED, 0),
        (_CLASS + b"\x85}b.", _walk.ACCEPTED, 0),
        (b"\x8c\x01>.", _walk.BYTE_ORDER, 0),
        (b"X\x01\x00\x00\x00>", _walk.BYTE_ORDER, 0),
        (b"X\x09\x00\x00\x00>", _walk.BYTE_ORDER, 0),
        (b"\x8d\x01" + bytes(7) + b">.", _walk.BYTE_ORDER, 0),
        (b"C\x01>.", _walk.ACCEPTED, 0),
        (b"\x8c\x02>>.", _walk.ACCEPTED, 0),
        (b"\x8c\x00>", _walk.NOT_ALLOWED, 0x3E),
    ],
)
def test_reasons(body: bytes, reason: int, number: int, follow: _Walk) -> None:
    """Find what is wrong with a pickle, or that nothing is."""
    found = follow(b"\x80\x04" + body)
    assert (found[0], found[2]) == (reason, number)


@pytest.mark.parametrize("follow", [walk, walk_compiled])
def test_real_pickles(real: list[bytes], follow: _Walk) -> None:
    """Accept what the stack wrote, and what Python would today."""
    for data in (*real, *(pickle.dumps((1.0, [{"a": (1, b"x")}] * 300), protocol=p) for p in (4, 5))):
        assert follow(data)[:2] == (_walk.ACCEPTED, len(data))
        assert follow(data[:-1])[0] == _walk.TRUNCATED


_OPCODES = bytes(
    sorted({*_walk.COUNTED, *_walk.ATOMS, *b"\x85\x86\x87taesuR\x81\x93bhj\x94(\x80\x95.>", 0x71, 0, 1, 2})
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_pickles(real: list[bytes], data: st.DataObject) -> None:
    """Agree on pickles of which parts are changed, lost or repeated; nothing
    unpickles these.
    """
    damaged = data.draw(st.sampled_from(real))
    for _ in range(data.draw(st.integers(1, 3))):
        start, end = sorted(data.draw(st.integers(0, len(damaged))) for _ in range(2))
        end = min(end, start + data.draw(st.sampled_from([0, 1, 2, 5, 500])))
        patch = data.draw(st.binary(max_size=3) | st.lists(st.sampled_from(_OPCODES), max_size=6).map(bytes))
        damaged = damaged[:start] + patch + damaged[start if data.draw(st.booleans()) else end :]
    _assert_agree(damaged)


# Opcodes that are likely to succeed, and some that go together.
_PARTS = [b"N", b"\x85" * 9, b"}b", b"\x94", b"h\x00", b"h\x01", b"j\x02\0\0\0", _CLASS, b"(", b"t", b"\x86"]
_PARTS += [b")R", b")\x81", b"(u", b"(e", b"Na", b"NNs", b"\x8c\x01a", b"M>>", b"b"]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(_PARTS), max_size=30).map(b"".join),
    st.lists(st.sampled_from(_OPCODES), max_size=20).map(bytes),
)
def test_made_up_pickles(parts: bytes, body: bytes) -> None:
    """Agree on pickles of allowed opcodes at random, which nothing
    unpickles.
    """
    _assert_agree(b"\x80\x04" + b"N" * 6 + parts + body)


def test_messages_name_what_is_wrong() -> None:
    """Say which opcode and which object of the memo."""
    with pytest.raises(ArchiveError, match="has opcode 0x71 at byte 3; not allowed"):
        _opcodes.check_opcodes(b"\x80\x04Nq\x00.")
    with pytest.raises(ArchiveError, match="refers to object 511 of 1"):
        _opcodes.check_opcodes(b"\x80\x04N\x94j\xff\x01\x00\x00.")
    with pytest.raises(ArchiveError, match="of 6 bytes is truncated"):
        _opcodes.check_opcodes(b"\x80\x04X\xff\xff\x00")


def test_compiled_walk_is_loaded_where_it_pays_off(
    real: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Walk in Python before as much was read as takes that long."""
    monkeypatch.setattr(_opcodes, "_n_walked", 0)
    walks = []
    for follow in (walk, walk_compiled):
        module = sys.modules[follow.__module__]
        monkeypatch.setattr(
            module, follow.__name__, lambda data, follow=follow: walks.append(follow) or follow(data)
        )
    for _ in range(8):
        _opcodes.check_opcodes(real[0])
    # It is 42 kB.
    assert walks == [walk] * 6 + [walk_compiled] * 2
    # Without numba in the process it takes longer.
    monkeypatch.delitem(sys.modules, "numba")
    assert _opcodes._choose_walk(len(real[0])) is _walk.walk
    assert _opcodes._choose_walk(1 << 22) is not _walk.walk
