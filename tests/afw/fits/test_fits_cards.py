# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from astropy.io import fits
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.afw.fits import header_cards
from lsst.meas.finalize.afw.fits._cards import format_block, format_cards

_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)
_VALUES = st.one_of(
    _TEXT.map(lambda text: text.rstrip(" ")),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)


def _parse(key: str, value: Any) -> Any:
    header = fits.Header.fromstring(format_block([(key, value, "comment")]))
    return header[key]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["SHORT", "LONGER_THAN_8", "LSST BUTLER ID"]), _VALUES)
def test_values_survive_astropy(key: str, value: Any) -> None:
    """Parse every kind of value back with astropy."""
    # Astropy ends a text where a quote is followed by a slash.
    assume(not (isinstance(value, str) and re.search("' */", value)))
    found = _parse(key, value)
    assert type(found) is type(value)
    assert found == value


@settings(max_examples=100, deadline=None)
@given(st.text("'/& a", max_size=80))
@example("it's / was")
def test_quotes_survive(text: str) -> None:
    """Parse texts with quotes and slashes, and commentary that looks so."""
    block = format_block([("KEY", text, "comment"), ("COMMENT", "= 'a' / b", "")])
    cards = header_cards(fits.Header.fromstring(block))
    assert cards[1] == ("COMMENT", "= 'a' / b", "")
    if len(text) < 30:
        assert cards[0] == ("KEY", text.rstrip(" "), "comment")


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "NAN"), (math.inf, "+INFINITY"), (-math.inf, "-INFINITY")]
)
def test_non_finite_numbers_are_strings(value: float, text: str) -> None:
    """Write numbers FITS has no notation for as the stack does."""
    assert _parse("KEY", value) == text


def test_undefined_lists_and_comments() -> None:
    """Write undefined values, repeated keys and commentary."""
    block = format_block(
        [("EMPTY", None, ""), ("ALIAS", ["a:b", "c:d"], ""), ("COMMENT", ["one", "x" * 100], "")]
    )
    header = fits.Header.fromstring(block)
    assert header["EMPTY"] is None
    assert [card.value for card in header.cards if card.keyword == "ALIAS"] == ["a:b", "c:d"]
    assert list(header["COMMENT"]) == ["one", "x" * 72, "x" * 28]


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("KEY", "caf\u00e9", "printable ASCII"),
        ("KEY", "two\nlines", "printable ASCII"),
        ("A=B", 1, "valid FITS keyword"),
        ("", 1, "valid FITS keyword"),
        ("KEY", {"a": 1}, "'KEY': can't store a dict"),
        ("K" * 80, 1, "too long"),
        ("K" * 80, "text", "too long"),
    ],
)
def test_what_fits_can_not_hold_is_refused(key: str, value: Any, match: str) -> None:
    """Refuse values and keys with an error that names them."""
    with pytest.raises(ValueError, match=match):
        format_cards(key, value)
