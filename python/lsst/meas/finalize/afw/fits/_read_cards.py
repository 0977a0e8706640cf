# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Header cards as the stack's FITS library reads them, damaged ones too."""

from __future__ import annotations

__all__ = ("BareText", "UnreadableCard", "blank_stray_continues", "header_cards", "read_cards")

import re
import warnings
from typing import Any

from astropy.io import fits

_CARD = 80
_COMMENTARY = ("COMMENT", "HISTORY", "")
_CONTINUE = b"CONTINUE  "
"""What continues a text: the keyword without value indicator."""

_TEXT = re.compile(r" *'((?:[^']|'')*)' *(?:/(.*))?")
_CONTINUED = re.compile(r" *'((?:[^']|'')*)' *(?:/.*)?")
_NUMBER = re.compile(
    r" *(?:([+-]?\d+)|([+-]?(?:\d+\.?\d*|\.\d+)(?:[DE][+-]?\d{1,5})?)|([TF])|) *(?:/(.*))?", re.IGNORECASE
)
_OPEN_TEXT = re.compile(rb"(?:CONTINUE  |[A-Z0-9_-]{1,8} *(?<=^.{8})= |HIERARCH [^=]*=) *'((?:[^']|'')*)'.*")
_HIERARCH = re.compile(r"HIERARCH +([^=]*[^= ]) *=(.*)")
_STANDARD = re.compile(r"[A-Z0-9_-]{1,8} *", re.IGNORECASE)
_PRINTABLE = bytes(c if 32 <= c < 127 else ord("?") for c in range(256))


class UnreadableCard:
    """Stands for the value of a card that can't be parsed.

    Nobody may need the card, so it is an error only where its value is used.

    Parameters
    ----------
    image : `str`
        The card.
    """

    def __init__(self, image: str) -> None:
        self.image = image.rstrip()

    def __repr__(self) -> str:
        return f"unreadable card {self.image!r}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnreadableCard) and other.image == self.image

    def __hash__(self) -> int:
        return hash(self.image)


class BareText(str):
    """What stands behind a keyword without value indicator."""


def _is_open(card: bytes) -> bool:
    """Tell whether a card has a text that the next one may continue."""
    match = _OPEN_TEXT.fullmatch(card)
    return match is not None and match[1].rstrip(b" ").endswith(b"&")


def blank_stray_continues(raw: bytes) -> bytes:
    """Blank CONTINUE cards that continue nothing.

    The stack leaves cards ``CONTINUE=`` in catalogues that it rewrites.  By
    the FITS standard only a CONTINUE without value indicator, behind a text
    that ends in an ampersand, continues; others are commentary.

    Parameters
    ----------
    raw : `bytes`
        Cards of a header, 80 bytes each.

    Returns
    -------
    raw : `bytes`
        The same cards, with blank ones in place of those.
    """
    at = raw.find(b"CONTINUE")
    strays: list[int] = []
    while at >= 0:
        if at % _CARD == 0:
            previous = at - _CARD
            follows = previous >= 0 and previous not in strays[-1:] and _is_open(raw[previous:at])
            if not follows or raw[at : at + 10] != _CONTINUE or not raw[at + 10 : at + _CARD].strip(b" "):
                strays.append(at)
        at = raw.find(b"CONTINUE", at + 8)
    if not strays:
        return raw
    cleaned = bytearray(raw)
    for at in strays:
        cleaned[at : at + _CARD] = b" " * _CARD
    return bytes(cleaned)


def _parse_value(rest: str, image: str, more: list[str]) -> tuple[Any, str]:
    """Parse what follows the value indicator; `None` if undefined."""
    if match := _TEXT.fullmatch(rest):
        pieces = [match[1].replace("''", "'").rstrip(" ")]
        for card in more:
            continued = _CONTINUED.fullmatch(card[8:])
            if continued is None:
                return UnreadableCard(image + "".join(more)), ""
            pieces[-1] = pieces[-1].removesuffix("&")
            pieces.append(continued[1].replace("''", "'").rstrip(" "))
        return "".join(pieces), (match[2] or "").strip(" ")
    if match := _NUMBER.fullmatch(rest):
        comment = (match[4] or "").strip(" ")
        if match[1]:
            return int(match[1]), comment
        if match[2]:
            return float(match[2].upper().replace("D", "E")), comment
        return (match[3].upper() == "T" if match[3] else None), comment
    if not rest.startswith(" "):
        # For astropy this is a keyword without value indicator.
        return UnreadableCard(image), ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # Complex numbers, and what else astropy knows.
            card = fits.Card.fromstring(image)
            return card.value, card.comment
        except Exception:
            # Astropy lets several exception classes out of the value parser.
            return UnreadableCard(image), ""


def read_cards(raw: bytes) -> list[tuple[str, Any, str]]:
    """List the cards of a header.

    Parameters
    ----------
    raw : `bytes`
        Cards of a header, 80 bytes each, with or without END.

    Returns
    -------
    cards : `list` of (`str`, value, `str`)
        Upper-case keyword, value (`None` if undefined, `UnreadableCard` if it
        can't be parsed) and comment.
    """
    header = blank_stray_continues(bytes(raw)).translate(_PRINTABLE).decode("ascii")
    images = [header[i : i + _CARD] for i in range(0, len(header), _CARD)]
    cards: list[tuple[str, Any, str]] = []
    position = 0
    while position < len(images):
        image = images[position]
        position += 1
        if image[:8] == "END     ":
            break
        more: list[str] = []
        while position < len(images) and images[position].startswith("CONTINUE  "):
            more.append(images[position])
            position += 1
        keyword = image[:8].rstrip(" ").upper()
        if keyword == "HIERARCH" and (match := _HIERARCH.fullmatch(image)):
            cards.append((match[1].upper(), *_parse_value(match[2], image, more)))
        elif keyword in _COMMENTARY or image[8:9] != "=" or not _STANDARD.fullmatch(image[:8]):
            text = image[8:].rstrip(" ")
            if image.strip(" "):
                cards.append((keyword, text if keyword in _COMMENTARY else BareText(text), ""))
        else:
            cards.append((keyword, *_parse_value(image[9:], image, more)))
    return cards


def header_cards(header: fits.Header) -> list[tuple[str, Any, str]]:
    """List the cards of a header that astropy has read.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        Header.

    Returns
    -------
    cards : `list` of (`str`, value, `str`)
        See `read_cards`.
    """
    return read_cards(header.tostring(padding=False).encode("ascii", "replace"))
