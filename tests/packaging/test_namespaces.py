# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of the namespace packages shared with the stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lsst.meas.finalize.version import __version__

PYTHON = Path(__file__).parents[2] / "python"
DOUBLES = Path(__file__).parents[1] / "stack" / "doubles"
NAMESPACES = ("lsst", "lsst/meas", "lsst/pipe", "lsst/pipe/tasks")
EXTEND_PATH = "import pkgutil\n\n__path__ = pkgutil.extend_path(__path__, __name__)\n"
REPLACED = ("finalizeCharacterization", "reserveIsolatedStars")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Return a folder like a stack package's ``python`` folder."""
    tasks = tmp_path / "lsst/pipe/tasks"
    tasks.mkdir(parents=True)
    for folder in ("lsst", "lsst/pipe", "lsst/pipe/tasks"):
        (tmp_path / folder / "__init__.py").write_text(EXTEND_PATH)
    for module in ("foo", *REPLACED):
        (tasks / f"{module}.py").write_text(f"origin = 'stack {module}'\n")
    return tmp_path


def origins(*path: Path) -> dict[str, str]:
    """Return the file of each module with these folders first on the path."""
    modules = ["lsst.meas.finalize", *(f"lsst.pipe.tasks.{name}" for name in ("foo", *REPLACED))]
    code = (
        "from importlib.util import find_spec\n"
        f"for name in {modules}:\n"
        "    print(name.rpartition('.')[2], find_spec(name).origin)\n"
        "import lsst.pipe.tasks.foo, lsst.pipe.base, lsst.meas.finalize\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return dict(line.split(maxsplit=1) for line in result.stdout.splitlines())


@pytest.mark.parametrize("folder", NAMESPACES)
def test_namespace_levels_extend_the_path(folder: str) -> None:
    """Check that no namespace level hides other packages' modules."""
    text = (PYTHON / folder / "__init__.py").read_text()
    assert text.startswith(EXTEND_PATH)
    # The last one has a version, too, made when it is asked for.
    rest = text.removeprefix(EXTEND_PATH)
    assert not rest or (folder == "lsst/pipe/tasks" and rest.startswith("\n\ndef __getattr__("))


def check(*path: Path, **environment: str) -> tuple[int, str]:
    """Run the command that tells what would run, with this path."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))} | environment
    command = [sys.executable, "-m", "lsst.meas.finalize.check"]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert not result.stderr
    return result.returncode, result.stdout


def test_check_names_the_module_in_front(stack: Path) -> None:
    """Tell that the stack's tasks would run, and what to do."""
    code, text = check(stack, PYTHON)
    assert code == 1
    module = stack / "lsst/pipe/tasks/finalizeCharacterization.py"
    assert f"PROBLEM: lsst.pipe.tasks.finalizeCharacterization is {module}, not that of this package" in text
    assert f"Put {PYTHON} before {stack} on PYTHONPATH." in text


def test_check_in_a_stack(stack: Path) -> None:
    """Tell that our tasks run beside lsst.afw, and which overlay is off."""
    code, text = check(PYTHON, DOUBLES, stack)
    assert code == 0, text
    facts = dict(line.split(maxsplit=1) for line in text.splitlines() if len(line.split(maxsplit=1)) == 2)
    assert facts["lsst.afw"] == str(DOUBLES / "lsst/afw")
    assert facts["lsst.pipe.tasks.reserveIsolatedStars"].startswith(str(PYTHON))
    assert "butler overlay" in text
    assert "Pipelines run the tasks of this package." in text


def test_version_tells_whose_it_is(stack: Path) -> None:
    """Have the stack's version and ours, or ours alone."""
    command = [sys.executable, "-c", "import lsst.pipe.tasks; print(lsst.pipe.tasks.__version__)"]

    def version(*path: Path) -> str:
        env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()

    assert version(PYTHON) == __version__
    (stack / "lsst/pipe/tasks/version.py").write_text('__all__ = ("__version__",)\n__version__ = "g123+4"\n')
    assert version(PYTHON, stack) == f"g123+4+meas_finalize.{__version__}"


def test_ours_first_replaces_only_our_modules(stack: Path) -> None:
    """Find our task modules, and the stack's others, behind our folder."""
    found = origins(PYTHON, stack)
    assert found["foo"] == str(stack / "lsst/pipe/tasks/foo.py")
    for name in REPLACED:
        assert found[name] == str(PYTHON / f"lsst/pipe/tasks/{name}.py")


def test_stack_first_keeps_the_stacks_modules(stack: Path) -> None:
    """Find the stack's task modules, and our package, behind the stack."""
    found = origins(stack, PYTHON)
    assert found["finalize"] == str(PYTHON / "lsst/meas/finalize/__init__.py")
    for name in ("foo", *REPLACED):
        assert found[name] == str(stack / f"lsst/pipe/tasks/{name}.py")
