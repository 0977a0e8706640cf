# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests that programs understand the commands that the documentation shows."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lsst.ctrl.mpexec.cli.pipetask import cli as pipetask
from lsst.daf.butler.cli.butler import cli as butler

ROOT = Path(__file__).parents[2]
NAMES = ("butler", "developing", "getting-started", "notebook", "operating", "quality")
PAGES = [ROOT / "README.rst", ROOT / "doc/index.rst"]
PAGES += [ROOT / f"doc/lsst.meas.finalize/{name}.rst" for name in NAMES]
BLOCK = re.compile(r"^( *)\.\. code-block:: sh\n\n((?:\1 +.*\n|\n)+)", re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """Return the words of each command in the shell blocks of a page."""
    for _, block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            # As in a shell, and not in shlex, a comment begins after a space.
            words = shlex.split(re.sub(r"(^|\s)#.*$", "", line))
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield words


CASES = [
    pytest.param(words, id=f"{page.stem}: {shlex.join(words)[:60]}")
    for page in PAGES
    for words in commands(page.read_text())
]


def parse(program: click.MultiCommand, words: list[str]) -> None:
    """Parse a command line as its program would, without running it."""
    name, *rest = words
    context = click.Context(program, info_name="program")
    command = program.get_command(context, name)
    assert command is not None, f"There is no command {name!r}."
    command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("words", CASES)
def test_command_is_understood(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse options and arguments; look up modules, extras and targets."""
    program, *arguments = words
    if program in ("butler", "pipetask", "bps"):
        monkeypatch.chdir(tmp_path)
        for name in ("survey.yaml", "survey.qg", "REPO"):
            (tmp_path / name).touch()
        if program == "bps":
            cli = pytest.importorskip("lsst.ctrl.bps.cli.bps", reason="bps isn't installed").cli
        else:
            cli = butler if program == "butler" else pipetask
        parse(cli, arguments)
    elif program == "make":
        targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert arguments[0] in targets
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for extra in re.findall(r"\[(\w+)\]", arguments[-1]):
            assert extra in extras
    elif program in ("python", "python3"):
        if arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1]) is not None
        else:
            assert (ROOT / arguments[0]).is_file()
    elif program == "setup":
        assert arguments == ["-k", "-r", "."]
        assert (ROOT / "ups/meas_finalize.table").is_file()
    elif program == "bash":
        assert (ROOT / arguments[0]).is_file()
    else:
        assert words in ([".", ".venv/bin/activate"], ["export", *arguments]), words


def test_pages_have_commands() -> None:
    """Make sure that the blocks are found."""
    text = "\n".join(page.read_text() for page in PAGES)
    assert len(BLOCK.findall(text)) == len(re.findall(r"\.\. code-block:: sh\n", text)) > 15
