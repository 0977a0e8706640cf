# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of which rooms import which: down the list, and through the door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "python"
PACKAGE = "lsst.meas.finalize"


def _module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _documented_rooms() -> list[str]:
    """Return the rooms of the list in the documentation, from the top."""
    page = (ROOT / "doc/lsst.meas.finalize/developing.rst").read_text()
    table = page[page.index("Room         Subject") :].split("\n\n")[0]
    return [line.split()[0].strip("`") for line in table.splitlines() if line.startswith("`")]


FILES = {_module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
ROOMS = _documented_rooms()


def _imports(name: str) -> set[str]:
    """Return the modules of this package that a module imports, lazily or
    for type checking ones included.
    """
    path = FILES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in FILES else base)
    return {module for module in found if module in FILES and module != name}


IMPORTS = {name: _imports(name) for name in FILES}


def _room(name: str) -> str | None:
    """Return the room a module is in, `None` for those above all rooms."""
    parts = name.removeprefix(PACKAGE + ".").split(".")
    return parts[0] if name.startswith(PACKAGE + ".") and parts[0] in ROOMS else None


def _cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that reach each other (Tarjan)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[set[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            at = stack.index(node)
            group = set(stack[at:])
            del stack[at:]
            if len(group) > 1:
                groups.append(group)

    for node in graph:
        if node not in order:
            visit(node)
    return groups


def test_every_room_is_documented() -> None:
    """Find each folder in the list of rooms, and each room as a folder."""
    folders = {path.parent.name for path in (SOURCE / "lsst/meas/finalize").glob("*/__init__.py")}
    assert sorted(folders) == sorted(ROOMS)


def test_cycles_are_found() -> None:
    """Find a cycle and nothing but it, so that the next test can fail."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "c"}}
    assert _cycles(graph) == [{"b", "c"}]


def test_no_import_cycles() -> None:
    """Import no module that imports this one, for type checking neither."""
    assert _cycles(IMPORTS) == []


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room: str) -> None:
    """Import from rooms further down the list only."""
    upward = [
        (name, other)
        for name, others in IMPORTS.items()
        if _room(name) == room
        for other in others
        if (above := _room(other)) is not None and ROOMS.index(above) < ROOMS.index(room)
    ]
    assert upward == []


def test_rooms_are_entered_by_the_door() -> None:
    """Import no private module of a folder from outside that folder."""
    past = []
    for name, others in IMPORTS.items():
        for other in others:
            parts = other.split(".")
            private = next((i for i, part in enumerate(parts) if part.startswith("_")), None)
            if private is not None and name.split(".")[:private] != parts[:private]:
                past.append((name, other))
    assert past == []


def test_compiled_kernels_are_recognisable() -> None:
    """Import numba in modules named for it only."""
    importers = set()
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if any(module.partition(".")[0] == "numba" for module in names):
                importers.add(name)
    assert [name for name in sorted(importers) if not name.endswith("_numba")] == []


def test_modules_say_what_they_are() -> None:
    """Begin every module with a docstring."""
    silent = [name for name, path in FILES.items() if not ast.get_docstring(ast.parse(path.read_text()))]
    # Those that share a namespace with other distributions hold nothing else.
    namespaces = {"lsst", "lsst.meas", "lsst.pipe", "lsst.pipe.tasks"}
    assert [name for name in silent if name not in namespaces and "_stack_names" not in name] == []
