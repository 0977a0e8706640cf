# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""How catalogues show themselves at a prompt and in a notebook."""

from __future__ import annotations

__all__ = ("counted", "html_table", "short")

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

_MOST_ROWS = 10
_LONGEST = 60


def counted(n: int, noun: str) -> str:
    """Return a number and what it counts, like "2 rows".

    Parameters
    ----------
    n
        The number.
    noun
        Its singular.
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def short(value: Any) -> str:
    """Return a value in a few characters; floats have six digits.

    Parameters
    ----------
    value
        A number, text, array, or any object.
    """
    if isinstance(value, np.ndarray) and value.ndim:
        return f"array of {' × '.join(map(str, value.shape))}"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def html_table(caption: str, columns: Mapping[str, Sequence[Any] | np.ndarray], n: int) -> str:
    """Return the first rows of columns as HTML.

    Parameters
    ----------
    caption
        What the table is.
    columns
        Columns by name.
    n
        Number of all rows.
    """
    rows = range(min(n, _MOST_ROWS))
    lines = [_line("th", columns)]
    lines += [_line("td", (short(column[i]) for column in columns.values())) for i in rows]
    if n > len(rows):
        lines.append(_line("td", ["…" for _ in columns]))
    return f"<table><caption>{escape(caption)}</caption>{''.join(lines)}</table>"


def _line(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
