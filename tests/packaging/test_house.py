# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of the form of modules and of what tells the way through them."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python/lsst/meas/finalize"
PAGE = (ROOT / "doc/lsst.meas.finalize/developing.rst").read_text()
MODULES = sorted(PACKAGE.rglob("*.py"))


def _folders(*rooms: str) -> list[str]:
    """Return the folders of rooms."""
    return [f"{room}/{path.parent.name}" for room in rooms for path in (PACKAGE / room).glob("*/__init__.py")]


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function has but for its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def _says_why(function: ast.FunctionDef | ast.AsyncFunctionDef, source: list[str]) -> bool:
    """Tell whether a docstring, or the comment in front, speaks of length."""
    start = min([function.lineno, *(node.lineno for node in function.decorator_list)])
    return bool(re.search(r"\b[Ll]ong(er)?\b", f"{source[start - 2]} {ast.get_docstring(function) or ''}"))


def _too_long(text: str, limit: int = 60) -> list[str]:
    """Return the functions that are too long and don't say why."""
    return [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and _lines(node) > limit
        and not _says_why(node, text.splitlines())
    ]


def test_long_functions_are_found() -> None:
    """Count lines without docstrings, and take a reason."""
    text = 'import a\n\n\n{}def f():\n    """Do.\n\n    It.\n    """\n    b = 1\n    c = 2\n    d = 3\n'
    assert _too_long(text.format(""), 3) == ["f"]
    assert _too_long(text.format(""), 4) == []
    assert _too_long(text.format("# Longer than a page: one loop.\n@a.b\n"), 3) == []


def test_functions_fit_a_page() -> None:
    """Write functions that can be read at once, or say why not."""
    found = {str(path.relative_to(PACKAGE)): _too_long(path.read_text()) for path in MODULES}
    assert {path: names for path, names in found.items() if names} == {}


def test_modules_begin_with_one_sentence() -> None:
    """Say in one sentence what a module is; more may follow it."""
    for path in MODULES:
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        if docstring:
            sentence = docstring.split("\n\n")[0]
            assert re.findall(r"[.!?](?=\s|$)", sentence) == [sentence[-1]], path


def test_tests_mirror_the_package() -> None:
    """Have the folders of the package only."""
    own = {"data", "packaging", "stack"}
    files = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")]
    folders = {path.parent for path in files if path.parent != Path() and path.parts[0] not in own}
    assert {folder for folder in folders if not (PACKAGE / folder / "__init__.py").is_file()} == set()


@pytest.mark.parametrize("folder", _folders("measure", "afw"))
def test_folders_are_on_the_page(folder: str) -> None:
    """Name every folder of the big rooms where developers look."""
    assert f"``{folder.partition('/')[2]}``" in PAGE


def test_the_page_names_what_is_there() -> None:
    """Find the files and folders that the walks and places name."""
    places = PAGE[PAGE.index("\nLayout\n") : PAGE.index("\nPSF determiners\n")]
    named = re.findall(r"``([\w/]+(?:/[\w.]+|\.py))``", places)
    assert len(named) > 15
    for name in named:
        if "/" in name:
            assert (PACKAGE / name).exists() or (ROOT / name).exists(), name
        else:
            assert list(PACKAGE.rglob(name)), name


def members(module: ModuleType) -> dict[str, Any]:
    """Return what a module has, with what it loads when it is asked for."""
    return {name: getattr(module, name) for name in dir(module)}


@pytest.mark.parametrize("room", ["measure", "afw"])
def test_reference_follows_the_folders(room: str) -> None:
    """List every exported class and function in the section of its folder."""
    text = (ROOT / f"doc/lsst.meas.finalize/api/{room}.rst").read_text()
    parts = re.split(r"^([\w ]+)\n\*+\n", text, flags=re.MULTILINE)[1:]
    listed = {
        title: set(re.findall(r":include: (\w+)", body))
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }
    name = f"lsst.meas.finalize.{room}"
    exported = {
        key: value
        for key, value in members(importlib.import_module(name)).items()
        if key[0] != "_" and (inspect.isclass(value) or inspect.isroutine(value))
    }
    expected = {
        folder: {key for key, value in exported.items() if members(module).get(key) is value}
        for folder in (path.partition("/")[2] for path in _folders(room))
        for module in [importlib.import_module(f"{name}.{folder}")]
    }
    top = next(iter(listed))
    expected[top] = exported.keys() - set().union(*expected.values())
    assert listed == {title: names for title, names in expected.items() if names}
