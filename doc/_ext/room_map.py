# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Draw the rooms of the package and what they import, from the sources.

The list of rooms in ``developing.rst`` gives the order from top to bottom.
"""

from __future__ import annotations

import ast
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

_PACKAGE = ("lsst", "meas", "finalize")
_WIDTH, _ROW, _GAP, _ARCS = 620, 46, 14, 260


def list_rooms(page: Path) -> list[str]:
    """Return the rooms in the order of the table in the documentation."""
    table = page.read_text().partition("Room          Subject")[2].split("\n\n")[0]
    return [line.split()[0].strip("`") for line in table.splitlines() if line.startswith("`")]


def count_imports(source: Path, rooms: list[str]) -> Counter[tuple[str, str]]:
    """Count the modules of a room that import another room."""
    edges: Counter[tuple[str, str]] = Counter()
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).parts
        if parts[0] not in rooms:
            continue
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                package = [*_PACKAGE, *parts[:-1]]
                base = package[: len(package) - node.level + 1] if node.level else []
                names = [*base, *(node.module or "").split(".")]
                if tuple(names[:3]) == _PACKAGE:
                    found |= {names[3]} if len(names) > 3 and names[3] else {a.name for a in node.names}
        edges.update((parts[0], room) for room in found if room in rooms and room != parts[0])
    return edges


def draw(source: Path, rooms: list[str]) -> str:
    """Return an SVG picture: rooms from top to bottom, imports as arcs."""
    edges = count_imports(source, rooms)
    y = {room: _GAP + k * (_ROW + _GAP) for k, room in enumerate(rooms)}
    height = _GAP + len(rooms) * (_ROW + _GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + _ARCS} {height}" '
        'font-family="sans-serif" font-size="13">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0 0 8 4 0 8z" fill="#456"/></marker></defs>',
        f'<rect width="{_WIDTH + _ARCS}" height="{height}" fill="white"/>',
    ]
    for (above, below), number in sorted(edges.items()):
        start, stop = y[above] + _ROW * 0.65, y[below] + _ROW * 0.35
        bulge = 20 + (_ARCS - 40) * (rooms.index(below) - rooms.index(above)) / len(rooms)
        lines.append(
            f'<path d="M{_WIDTH} {start:.0f} C{_WIDTH + bulge:.0f} {start:.0f} {_WIDTH + bulge:.0f} '
            f'{stop:.0f} {_WIDTH + 3} {stop:.0f}" fill="none" stroke="#456" stroke-opacity="0.55" '
            f'stroke-width="{0.8 + number**0.5 / 3:.1f}" marker-end="url(#head)">'
            f"<title>{escape(f'{number} modules of {above} import {below}')}</title></path>"
        )
    for room in rooms:
        inner = sorted(
            p.parent.name for p in (source / room).glob("*/__init__.py") if p.parent.name[0] != "_"
        )
        lines.append(
            f'<rect x="8" y="{y[room]}" width="{_WIDTH - 8}" height="{_ROW}" rx="4" fill="#eef3f7" '
            'stroke="#456"/>'
            f'<text x="18" y="{y[room] + 19}" font-weight="bold">{escape(room)}</text>'
            f'<text x="18" y="{y[room] + 37}" font-size="11" fill="#345">{escape(", ".join(inner))}</text>'
        )
    return "\n".join([*lines, "</svg>\n"])


def write_picture(app: Any) -> None:
    """Write the picture that ``developing.rst`` shows."""
    pages = Path(app.srcdir) / "lsst.meas.finalize"
    source = Path(app.srcdir).parent / "python" / Path(*_PACKAGE)
    picture = draw(source, list_rooms(pages / "developing.rst"))
    target = pages / "figures" / "rooms.svg"
    if not target.exists() or target.read_text() != picture:
        target.write_text(picture)


def setup(app: Any) -> dict[str, bool]:
    """Draw before pages are read."""
    app.connect("builder-inited", write_picture)
    return {"parallel_read_safe": True}
