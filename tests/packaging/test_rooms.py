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
import re
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
    table = page[page.index("Room          Subject") :].split("\n\n")[0]
    return [line.split()[0].strip("`") for line in table.splitlines() if line.startswith("`")]


FILES = {_module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
NODES = {name: list(ast.walk(tree)) for name, tree in TREES.items()}
ROOMS = _documented_rooms()


def _dotted(node: ast.expr) -> list[str]:
    """Return the parts of ``a.b.c``, nothing for attributes of what else."""
    if isinstance(node, ast.Attribute):
        return [*before, node.attr] if (before := _dotted(node.value)) else []
    return [node.id] if isinstance(node, ast.Name) else []


def _imported(nodes: list[ast.AST], package: str) -> set[str]:
    """Return the modules of this package that a module of ``package``
    imports, lazily or for type checking ones included, or reaches through
    one that it imports.
    """
    found = set()
    modules: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            modules |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in FILES else base)
                modules[alias.asname or alias.name] = inner
    for node in nodes:
        if isinstance(node, ast.Attribute) and (parts := _dotted(node)):
            found.add(".".join([modules.get(parts[0], parts[0]), *parts[1:]]))
    return found & FILES.keys()


def _imports(name: str) -> set[str]:
    """Return the modules of this package that one of them imports."""
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    return _imported(NODES[name], package) - {name}


IMPORTS = {name: _imports(name) for name in FILES}


def _room(name: str) -> str | None:
    """Return the room a module is in, `None` for those above all rooms."""
    parts = name.removeprefix(PACKAGE + ".").split(".")
    return parts[0] if name.startswith(PACKAGE + ".") and parts[0] in ROOMS else None


def _is_foundation(name: str) -> bool:
    """Tell whether a module is one of those below all rooms."""
    parent, _, last = name.rpartition(".")
    return name == PACKAGE or (parent == PACKAGE and (last.startswith("_") or last == "version"))


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


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("import lsst.meas.finalize.afw.fits._open", "afw.fits._open"),
        ("import lsst.meas.finalize.afw.fits as f\nf._open.open_fits", "afw.fits._open"),
        ("import lsst.meas.finalize\nlsst.meas.finalize.afw.fits._open.open_fits", "afw.fits._open"),
        ("from . import _task", "measure._task"),
        ("from ..afw import fits\nfits._open.open_fits", "afw.fits._open"),
        ("from ..afw.fits import _open as x", "afw.fits._open"),
        ("def f():\n    from ..afw.fits._open import open_fits", "afw.fits._open"),
        ("if TYPE_CHECKING:\n    from ..tasks import Output", "tasks"),
        ("from lsst.pipe.tasks.finalizeCharacterization import *", None),
    ],
)
def test_imports_are_found(text: str, module: str | None) -> None:
    """See imports of every form, so that the next tests can fail."""
    wanted = f"{PACKAGE}.{module}" if module else "lsst.pipe.tasks.finalizeCharacterization"
    assert wanted in _imported(list(ast.walk(ast.parse(text))), f"{PACKAGE}.measure")


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room: str) -> None:
    """Import from rooms further down the list only, and what is below all."""
    upward = [
        (name, other)
        for name, others in IMPORTS.items()
        if _room(name) == room
        for other in others
        if not _is_foundation(other)
        and ((above := _room(other)) is None or ROOMS.index(above) < ROOMS.index(room))
    ]
    assert upward == []


def test_foundations_import_no_room() -> None:
    """Import rooms in none of the modules that every room may use."""
    imports = {name: others for name, others in IMPORTS.items() if _is_foundation(name)}
    assert {name for name, others in imports.items() if not all(map(_is_foundation, others))} == set()


# What is imported by a name made at run time, which these tests don't see.
BY_NAME = {
    "lsst.meas.finalize._deferred_names": "what is imported when a name of it is used",
    "lsst.meas.finalize._lazy": "what type checkers are told of a room is in it",
    "lsst.meas.finalize._stored_names": "the rooms that stored files name",
    "lsst.meas.finalize.afw.archive._registry": "the folders whose classes register themselves",
    "lsst.meas.finalize.check": "what may be broken",
    "lsst.pipe.tasks": "the version of the stack that is behind it",
}


def test_imports_can_be_seen() -> None:
    """Import by name where there is a reason only."""
    names = {"import_module", "__import__", "doImport", "doImportType", "exec", "eval"}
    by_name = {
        name
        for name, nodes in NODES.items()
        for node in nodes
        if names & {getattr(node, key, None) for key in ("id", "attr", "name")}
    }
    assert by_name == set(BY_NAME)


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


# Folders and modules of a room that others import past its door.
SIDE_DOORS = {
    ("cli", "quality.site"): "only who writes pages needs Jinja",
    ("psf._piff_setup", "afw.piff"): "only coordinates on the sky need these classes, and GalSim",
}


def test_other_rooms_are_entered_by_the_room() -> None:
    """Import what a room exports, and none of its folders, from outside."""
    past = {
        (name.removeprefix(f"{PACKAGE}."), other.removeprefix(f"{PACKAGE}."))
        for name, others in IMPORTS.items()
        for other in others
        if (room := _room(other)) not in (None, _room(name)) and other != f"{PACKAGE}.{room}"
    }
    assert past == set(SIDE_DOORS)


@pytest.mark.parametrize("room", ["arrays", "stars", "psf", "measure", "apcorr", "catalogs"])
def test_these_rooms_know_neither_butler_nor_files(room: str) -> None:
    """Take arrays and tables."""
    known = {
        (name.removeprefix(f"{PACKAGE}."), other.removeprefix(f"{PACKAGE}."))
        for name, others in IMPORTS.items()
        if _room(name) == room
        for other in others
        if _room(other) in ("butler", "afw")
    }
    assert known <= set(SIDE_DOORS)
    for name, path in FILES.items():
        if _room(name) == room:
            assert not re.search(r"^\s*(from|import) (lsst\.daf|astropy\.io)", path.read_text(), re.M), name


FOLDERS = [
    (room, path.parent.name)
    for room in ("measure", "afw")
    for path in sorted((SOURCE / "lsst/meas/finalize" / room).glob("*/__init__.py"))
]


@pytest.mark.parametrize(("room", "folder"), FOLDERS)
def test_folders_use_what_they_say(room: str, folder: str) -> None:
    """Import those other folders of a room that the docstring names."""
    siblings = {name for other, name in FOLDERS if other == room} - {folder}
    top = f"{PACKAGE}.{room}."
    docstring = ast.get_docstring(TREES[top + folder])
    assert docstring
    said = re.search(r"\b[Uu]ses? (.+?)[.;]", " ".join(docstring.split()))
    assert said, docstring
    named = siblings & set(re.findall(r"`(\w+)`", said[1]))
    used = {
        other.removeprefix(top).split(".")[0]
        for name, others in IMPORTS.items()
        if f"{name}.".startswith(f"{top}{folder}.")
        for other in others
        if other.startswith(top)
    } & siblings
    if "all the other" in said[1]:
        assert not used & named
    else:
        assert used == named


def _declared(name: str) -> set[str]:
    """Return the names in ``__all__`` of a module."""
    return {
        value
        for node in TREES[name].body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for value in ast.literal_eval(node.value)
    }


def test_kernels_are_shared_by_name() -> None:
    """Import of modules of other folders what they declare only.

    These are compiled kernels, which a folder's ``__init__.py`` can't import.
    """
    hidden = {
        (name, other, alias.name)
        for name, nodes in NODES.items()
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.level > 1 and node.module
        for other in [".".join([*name.split(".")[: -node.level], node.module])]
        if other.endswith("_numba")
        for alias in node.names
        if alias.name not in _declared(other)
    }
    assert hidden == set()


def test_compiled_kernels_are_recognisable() -> None:
    """Import numba, and what compiles, in modules named for it only."""
    importers = set()
    for name, nodes in NODES.items():
        for node in nodes:
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if any(module.partition(".")[0] == "numba" for module in names):
                importers.add(name)
            if isinstance(node, ast.ImportFrom) and "njit" in {alias.name for alias in node.names}:
                importers.add(name)
    assert [name for name in sorted(importers) if not name.endswith("_numba")] == []


def test_modules_say_what_they_are() -> None:
    """Begin every module with a docstring."""
    silent = [name for name, tree in TREES.items() if not ast.get_docstring(tree)]
    # Those that share a namespace with other distributions hold nothing else.
    namespaces = {"lsst", "lsst.meas", "lsst.pipe", "lsst.pipe.tasks"}
    assert [name for name in silent if name not in namespaces and "_stack_names" not in name] == []
