# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Layout of binary tables from their header cards.

The order in which columns and flags first appear in the header is the order
of the fields (spec 02 §4.6).
"""

from __future__ import annotations

__all__ = ("Column", "FlagBit", "TableLayout", "parse_layout")

import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._errors import FitsFormatError
from ._read_cards import BareText, UnreadableCard

_LOG = logging.getLogger(__name__)

_ITEM_SIZES = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16}
_TFORM = re.compile(r"(\d{0,18})([PQ]?)([LXBIJKAEDCM])")
_INDEXED_KEY = re.compile(r"(TTYPE|TFORM|TDOC|TUNIT|TCCLS|TZERO|TSCAL|TFLAG|TFDOC)([1-9]\d{0,3})")
_BOILERPLATE = "label for field"
_MAX_ROW_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a binary table.

    Attributes
    ----------
    name, doc, unit, kind : `str`
        TTYPE, TDOC (or the comment of TTYPE), TUNIT and TCCLS cards.
    code : `str`
        FITS type letter of one element.
    count : `int`
        Elements per row; 1 for variable-length columns.
    variable : `str`
        Empty for columns of fixed length, otherwise ``"P"`` or ``"Q"``.
    unsigned : `bool`
        Whether 16-bit integers are offset by 32768.
    offset : `int`
        Byte offset in the row.
    """

    name: str
    code: str
    count: int
    variable: str = ""
    unsigned: bool = False
    offset: int = 0
    doc: str = ""
    unit: str = ""
    kind: str = ""

    @property
    def width(self) -> int:
        """Bytes per row."""
        if self.variable:
            return 16 if self.variable == "Q" else 8
        if self.code == "X":
            return (self.count + 7) // 8
        return self.count * _ITEM_SIZES[self.code]

    @property
    def item_size(self) -> int:
        """Bytes of one element (of the heap, if of variable length)."""
        return _ITEM_SIZES[self.code]


@dataclasses.dataclass(frozen=True)
class FlagBit:
    """One bit of the packed flags column.

    Attributes
    ----------
    name, doc : `str`
        TFLAG and TFDOC cards.
    bit : `int`
        Position from 0; bit 0 is the most significant one of the first byte.
    """

    name: str
    bit: int
    doc: str = ""


@dataclasses.dataclass(frozen=True)
class TableLayout:
    """What the header of a binary table says about its rows.

    Attributes
    ----------
    items : `tuple` [`Column` | `FlagBit`]
        Columns and flags in the order of their first cards, without the
        column holding the packed flags.
    flag_column : `Column` | `None`
        The column holding the packed flags.
    n_rows, row_bytes : `int`
        Table size.
    heap_offset, heap_bytes : `int`
        Start (from the start of the data) and size of the heap.
    """

    items: tuple[Column | FlagBit, ...]
    flag_column: Column | None
    n_rows: int
    row_bytes: int
    heap_offset: int
    heap_bytes: int

    @property
    def columns(self) -> tuple[Column, ...]:
        """Only the columns, in header order."""
        return tuple(item for item in self.items if isinstance(item, Column))

    @property
    def flags(self) -> tuple[FlagBit, ...]:
        """Only the flags, in header order."""
        return tuple(item for item in self.items if isinstance(item, FlagBit))

    @property
    def data_bytes(self) -> int:
        """Size of rows, gap and heap without padding."""
        return max(self.heap_offset, self.n_rows * self.row_bytes) + self.heap_bytes


def _integer(values: dict[str, Any], key: str, where: str, default: int | None = None) -> int:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise FitsFormatError(f"{where}: header card {key} must be a non-negative integer, not {value!r}")
    return int(value)


def _text(value: Any) -> str:
    return "" if value is None else str(value).rstrip()


def _indexed_value(keyword: str, key: str, value: Any, entry: dict[str, Any], where: str) -> Any:
    if isinstance(value, BareText):
        value = UnreadableCard(f"{keyword:<8}{value}")
    if isinstance(value, UnreadableCard):
        if key not in ("TDOC", "TUNIT", "TFDOC"):
            raise FitsFormatError(f"{where}: unreadable header card {keyword!r}: {value.image!r}")
        _LOG.warning("%s: ignoring the unreadable header card %r: %r", where, keyword, value.image)
        value = ""
    if key in entry and entry[key] != value:
        raise FitsFormatError(
            f"{where}: header card {keyword!r} is there twice, with {entry[key]!r} and {value!r}"
        )
    return value


def _indexed_cards(
    cards: Sequence[tuple[str, Any, str]], where: str
) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]], list[tuple[str, int]]]:
    columns: dict[int, dict[str, Any]] = {}
    flags: dict[int, dict[str, Any]] = {}
    order: dict[tuple[str, int], None] = {}
    for keyword, value, comment in cards:
        if keyword[:1] != "T" or not (match := _INDEXED_KEY.fullmatch(keyword)):
            continue
        key, number = match[1], int(match[2])
        is_flag = key in ("TFLAG", "TFDOC")
        entry = (flags if is_flag else columns).setdefault(number, {})
        entry[key] = _indexed_value(keyword, key, value, entry, where)
        if key == "TTYPE" and comment != _BOILERPLATE:
            entry["comment"] = comment
        order.setdefault(("flag" if is_flag else "column", number))
    return columns, flags, list(order)


def _make_column(number: int, entry: dict[str, Any], offset: int, where: str) -> Column:
    name = _text(entry.get("TTYPE"))
    tform = entry.get("TFORM")
    match = _TFORM.match(tform.strip().upper()) if isinstance(tform, str) else None
    if match is None:
        raise FitsFormatError(f"{where}: column {number} ({name!r}) has the invalid TFORM {tform!r}")
    count = int(match[1]) if match[1] else 1
    code = match[3]
    if match[2] and (count > 1 or code in "XL"):
        raise FitsFormatError(f"{where}: column {number} ({name!r}) has the unsupported TFORM {tform!r}")
    zero, scale = entry.get("TZERO", 0) or 0, entry.get("TSCAL", 1)
    unsigned = code == "I" and zero == 32768
    if (zero != 0 and not unsigned) or scale not in (1, None):
        raise FitsFormatError(
            f"{where}: column {number} ({name!r}) has the unsupported scaling TZERO={zero!r}, TSCAL={scale!r}"
        )
    doc = _text(entry["TDOC"] if "TDOC" in entry else entry.get("comment", ""))
    return Column(
        name=name,
        code=code,
        count=max(count, 1) if match[2] else count,
        variable=match[2],
        unsigned=unsigned,
        offset=offset,
        doc=doc,
        unit=_text(entry.get("TUNIT")),
        kind=_text(entry.get("TCCLS")),
    )


def _parse_columns(
    entries: dict[int, dict[str, Any]], n_fields: int, row_bytes: int, where: str
) -> dict[int, Column]:
    columns: dict[int, Column] = {}
    offset = 0
    for number in range(1, n_fields + 1):
        if number not in entries:
            raise FitsFormatError(f"{where}: TFIELDS is {n_fields} but column {number} has no cards")
        columns[number] = _make_column(number, entries[number], offset, where)
        offset += columns[number].width
    if offset != row_bytes or row_bytes > _MAX_ROW_BYTES:
        raise FitsFormatError(f"{where}: the columns take {offset} bytes per row, but NAXIS1 is {row_bytes}")
    return columns


def _order_items(
    columns: dict[int, Column],
    flags: dict[int, dict[str, Any]],
    order: list[tuple[str, int]],
    flag_column: Column | None,
    where: str,
) -> tuple[Column | FlagBit, ...]:
    items: list[Column | FlagBit] = []
    for kind, number in order:
        if kind == "column":
            if number in columns and columns[number] is not flag_column:
                items.append(columns[number])
        elif flag_column is not None:
            if number > flag_column.count:
                raise FitsFormatError(f"{where}: TFLAG{number} is beyond the {flag_column.count} bits")
            entry = flags[number]
            items.append(FlagBit(_text(entry.get("TFLAG")), number - 1, _text(entry.get("TFDOC"))))
    names = [item.name for item in items]
    if "" in names:
        raise FitsFormatError(f"{where}: a column or flag has no name (TTYPE or TFLAG card)")
    if len(set(names)) != len(names):
        duplicates = sorted(name for name, count in Counter(names).items() if count > 1)
        raise FitsFormatError(f"{where}: duplicate column or flag names {duplicates}")
    return tuple(items)


def parse_layout(cards: Sequence[tuple[str, Any, str]], where: str) -> TableLayout:
    """Work out the layout of a binary table from its header.

    Parameters
    ----------
    cards : sequence of (`str`, value, `str`)
        Cards in file order, see `read_cards`.
    where : `str`
        Name of file and HDU for messages.

    Returns
    -------
    layout : `TableLayout`
        Columns, flags and sizes.

    Raises
    ------
    FitsFormatError
        Raised if the cards are missing, invalid or inconsistent.
    """
    values = {keyword: value for keyword, value, _ in reversed(cards)}
    if _text(values.get("XTENSION")) != "BINTABLE":
        raise FitsFormatError(f"{where}: not a binary table (XTENSION is {values.get('XTENSION')!r})")
    if values.get("BITPIX", 8) != 8 or values.get("GCOUNT", 1) != 1:
        raise FitsFormatError(f"{where}: not a binary table of bytes")
    row_bytes = _integer(values, "NAXIS1", where)
    n_rows = _integer(values, "NAXIS2", where)
    if n_rows and not row_bytes:
        raise FitsFormatError(f"{where}: there are {n_rows} rows, but NAXIS1 is 0")
    column_cards, flag_cards, order = _indexed_cards(cards, where)
    columns = _parse_columns(column_cards, _integer(values, "TFIELDS", where), row_bytes, where)
    flag_column = None
    if "FLAGCOL" in values:
        number = _integer(values, "FLAGCOL", where)
        flag_column = columns.get(number)
        if flag_column is None or flag_column.code != "X" or flag_column.variable:
            raise FitsFormatError(f"{where}: FLAGCOL is {number}, which is no column of bits")
    elif flag_cards:
        raise FitsFormatError(f"{where}: there are TFLAG cards, but no FLAGCOL")
    items = _order_items(columns, flag_cards, order, flag_column, where)
    pcount = _integer(values, "PCOUNT", where, 0)
    heap_offset = _integer(values, "THEAP", where, n_rows * row_bytes)
    gap = heap_offset - n_rows * row_bytes
    if gap < 0 or gap > pcount:
        raise FitsFormatError(f"{where}: THEAP = {heap_offset} is outside of the data")
    return TableLayout(items, flag_column, n_rows, row_bytes, heap_offset, pcount - gap)
