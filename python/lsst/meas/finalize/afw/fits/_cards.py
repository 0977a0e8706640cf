# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Header cards formatted as the stack's FITS library does."""

from __future__ import annotations

__all__ = ("format_block", "format_cards")

import math
import re
from collections.abc import Iterable
from typing import Any

_BLOCK = 2880
_CARD = 80
_COMMENTARY = ("COMMENT", "HISTORY")
_STANDARD_KEY = re.compile(r"[A-Z0-9_-]{1,8}")


def _prefix(key: str) -> str:
    if _STANDARD_KEY.fullmatch(key):
        return f"{key:<8}= "
    return f"HIERARCH {key} = "


def _check_text(key: str, text: str) -> str:
    if not all(" " <= c <= "~" for c in text):
        raise ValueError(f"FITS header card {key!r}: {text!r} has characters other than printable ASCII")
    return text


def _split_string(text: str, first: int, rest: int) -> list[str]:
    # Quotes count twice and a pair must not be torn apart.
    pieces: list[str] = []
    current, room = "", first
    for character in text:
        escaped = "''" if character == "'" else character
        if len(current) + len(escaped) > room:
            pieces.append(current)
            current, room = "", rest
        current += escaped
    pieces.append(current)
    return pieces


def _format_string(key: str, value: str, comment: str) -> list[str]:
    prefix = _prefix(key)
    escaped = _check_text(key, value).replace("'", "''")
    if len(prefix) + len(escaped) + 2 <= _CARD:
        card = f"{prefix}'{escaped:<8}'"
        if len(card) > _CARD:
            card = f"{prefix}'{escaped}'"
        if comment:
            card = f"{card:<30} / {comment}"
        return [card[:_CARD]]
    first = _CARD - len(prefix) - 3
    if first < 1:
        raise ValueError(f"FITS header card {key!r}: the name is too long")
    pieces = _split_string(value, first, _CARD - 13)
    cards = [f"{prefix}'{pieces[0]}&'"]
    cards += [f"CONTINUE  '{piece}&'" for piece in pieces[1:-1]]
    return [*cards, f"CONTINUE  '{pieces[-1]}'"]


def _format_number(value: Any) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, int):
        return str(value)
    text = repr(float(value)).upper()
    if "." not in text:
        text = text.replace("E", ".E") if "E" in text else text + "."
    return text[:-1] if text.endswith(".0") else text


def format_cards(key: str, value: Any, comment: str = "") -> list[str]:
    """Format a header entry.

    Parameters
    ----------
    key : `str`
        Keyword; longer than 8 characters, or with other characters than
        letters, digits, hyphens and underscores gives a HIERARCH card.
    value : `str`, `int`, `float`, `bool`, `None` or `list` of these
        Value; `None` is an undefined value, a list gives repeated cards, and
        strings too long for a card are continued.
    comment : `str`, optional
        Comment, truncated to fit.

    Returns
    -------
    cards : `list` [`str`]
        Cards of at most 80 characters.

    Raises
    ------
    ValueError
        Raised if the key or the value can't be stored in a FITS header.
    """
    key = key.upper()
    if not key or "=" in key or key != key.strip():
        raise ValueError(f"{key!r} is no valid FITS keyword")
    _check_text(key, key)
    if isinstance(value, list | tuple):
        return [card for item in value for card in format_cards(key, item, comment)]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if key in _COMMENTARY:
        text = _check_text(key, str(value))
        width = _CARD - 8
        return [f"{key:<8}{text[i : i + width]}" for i in range(0, max(len(text), 1), width)]
    if isinstance(value, float) and not math.isfinite(value):
        value = "NAN" if math.isnan(value) else ("+INFINITY" if value > 0 else "-INFINITY")
    if isinstance(value, str):
        return _format_string(key, value.rstrip(" "), comment)
    if value is None:
        return [f"{_prefix(key).rstrip():<30}"[:_CARD]]
    if not isinstance(value, bool | int | float):
        raise ValueError(f"FITS header card {key!r}: can't store a {type(value).__name__}")
    prefix, text = _prefix(key), _format_number(value)
    card = prefix + text.rjust(30 - len(prefix))
    if len(card) > _CARD:
        raise ValueError(f"FITS header card {key!r}: the name is too long for its value {text}")
    return [f"{card} / {comment}"[:_CARD] if comment else card]


def format_block(cards: Iterable[tuple[str, Any, str]]) -> bytes:
    """Format a whole header.

    Parameters
    ----------
    cards : `~collections.abc.Iterable` of (`str`, value, `str`)
        Keywords, values and comments.

    Returns
    -------
    header : `bytes`
        Cards with END card, padded to a multiple of 2880 bytes.

    Raises
    ------
    ValueError
        Raised if a card can't be stored in a FITS header.
    """
    lines = [line for card in cards for line in format_cards(*card)]
    lines.append("END")
    text = "".join(f"{line:<{_CARD}}" for line in lines)
    return text.ljust(-(-len(text) // _BLOCK) * _BLOCK).encode("ascii")
