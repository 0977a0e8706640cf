# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of where compiled kernels are kept: read-only, shared, damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Only the kernels are imported, as the rooms around them take seconds.
_SCRIPT = """
import os, sys, tempfile, types
import numba
tempfile.tempdir = os.environ["TMPDIR"]  # even if it cannot be written to
if "NO_TEMPORARY" in os.environ:
    tempfile.tempdir, tempfile._candidate_tempdir_list = None, lambda: ["/nonexistent"]
from pathlib import Path
numba.njit(lambda x: (x, 1.0 / x))(2.0)  # imports what another user may not
house, user = Path(sys.argv[1]), int(sys.argv[2])
for name in ("house", "house.measure", "house.measure.moments"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(house.joinpath(*name.split(".")[1:]))]
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
from house.measure.moments.gaussian_numba import invert
value = invert(2.0, 0.5, 3.0)
hits = sum(invert.stats.cache_hits.values())
misses = sum(invert.stats.cache_misses.values())
print(value, hits, misses, invert.stats.cache_path, sep="|")
"""
_NOBODY = 65534


@pytest.fixture
def tree() -> Iterator[Path]:
    """Copy the kernels, without compiled code, to where all users can read."""
    import lsst.meas.finalize

    source = Path(lsst.meas.finalize.__file__).parent
    # Other users cannot enter pytest's folders.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = Path(folder, "house")
        ignored = shutil.ignore_patterns("__pycache__", "*.nb?")
        shutil.copytree(source / "measure", copy / "measure", ignore=ignored)
        for module in ("_jit_numba.py", "_collection.py"):
            shutil.copy(source / module, copy)
        yield copy
        _set_writable(copy, True)


def _set_writable(tree: Path, writable: bool) -> None:
    for path in [tree, *tree.rglob("*")]:
        os.chmod(path, path.stat().st_mode | 0o200 if writable else path.stat().st_mode & ~0o222)


def _start(tree: Path, home: Path, *, user: int | None = None, **environment: str) -> subprocess.Popen[str]:
    """Run a kernel as a user to whom folders without write bits are closed."""
    if user is None:
        user = _NOBODY if os.getuid() == 0 else 0
    names = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    names |= {"HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(tree), str(user)],
        env=names,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _finish(process: subprocess.Popen[str]) -> tuple[str, int, int, str, str]:
    out, err = process.communicate()
    assert process.returncode == 0, err
    value, hits, misses, path = out.strip().splitlines()[-1].split("|")
    return value, int(hits), int(misses), path, err


def _folder(tree: Path, name: str, mode: int) -> Path:
    folder = tree.parent / name
    folder.mkdir()
    if os.getuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
    folder.chmod(mode)
    return folder


def test_nowhere_to_write(tree: Path) -> None:
    """Measure all the same, and say once what to do."""
    closed = _folder(tree, "closed", 0o555)
    _set_writable(tree, False)
    value, hits, misses, path, err = _finish(_start(tree, closed))
    assert (hits, misses, path) == (0, 1, "None")
    assert err.count("set NUMBA_CACHE_DIR") == 1
    assert value == "(True, 0.5217391304347826, -0.08695652173913043, 0.34782608695652173)"


def test_compiled_code_in_a_read_only_tree(tree: Path) -> None:
    """Use what another user compiled beside the modules."""
    closed = _folder(tree, "closed", 0o555)
    _finish(_start(tree, closed, user=0))
    _set_writable(tree, False)
    _, hits, misses, _, err = _finish(_start(tree, closed))
    assert (hits, misses) == (1, 0)
    assert "NUMBA_CACHE_DIR" not in err


def test_own_folder(tree: Path) -> None:
    """Compile once where the tree is read-only and the home is not."""
    home = _folder(tree, "home", 0o755)
    _set_writable(tree, False)
    assert _finish(_start(tree, home))[1:3] == (0, 1)
    _, hits, misses, path, _ = _finish(_start(tree, home))
    assert (hits, misses) == (1, 0)
    assert Path(path).is_relative_to(home)


def test_folder_of_the_environment(tree: Path) -> None:
    """Write to NUMBA_CACHE_DIR even if other folders can be written to."""
    home = _folder(tree, "home", 0o755)
    chosen = _folder(tree, "chosen", 0o755)
    path = _finish(_start(tree, home, user=0, NUMBA_CACHE_DIR=str(chosen)))[3]
    assert Path(path).is_relative_to(chosen)
    assert not list(tree.rglob("*.nbc"))
    assert _finish(_start(tree, home, user=0, NUMBA_CACHE_DIR=str(chosen)))[1:3] == (1, 0)


def test_folders_of_others_are_not_trusted(tree: Path) -> None:
    """Load nothing from a folder that others can write to."""
    home = _folder(tree, "home", 0o755)
    _set_writable(tree, False)
    path = Path(_finish(_start(tree, home))[3])
    path.parent.chmod(0o777)
    _, hits, misses, _, _ = _finish(_start(tree, home))
    assert (hits, misses) == (0, 1)


def test_damaged_cache(tree: Path) -> None:
    """Compile again what cannot be read."""
    home = _folder(tree, "home", 0o755)
    _finish(_start(tree, home, user=0))
    (index,) = tree.rglob("*.invert-*.nbi")
    index.write_bytes(index.read_bytes()[:-20])
    for data in tree.rglob("*.invert-*.nbc"):
        data.write_bytes(b"")
    value, hits, misses, _, _ = _finish(_start(tree, home, user=0))
    assert (hits, misses) == (0, 1)
    assert value.startswith("(True, 0.52")


def test_changed_kernel_of_another_module(tree: Path) -> None:
    """Compile again when a kernel that may be inlined has changed."""
    home = _folder(tree, "home", 0o755)
    _finish(_start(tree, home, user=0))
    other = next(tree.rglob("_blur_numba.py"))
    other.write_text(other.read_text() + "# changed\n")
    assert _finish(_start(tree, home, user=0))[1:3] == (0, 1)


def test_many_processes_at_once(tree: Path) -> None:
    """Start on an empty cache together; the next one finds a whole one."""
    home = _folder(tree, "home", 0o755)
    processes = [_start(tree, home, user=0) for _ in range(4)]
    values = {_finish(process)[0] for process in processes}
    assert len(values) == 1
    assert _finish(_start(tree, home, user=0))[1:3] == (1, 0)
    assert not list(tree.rglob("*.tmp.*"))


def test_no_temporary_folder_anywhere(tree: Path) -> None:
    """Measure where even the search for a temporary folder fails."""
    closed = _folder(tree, "closed", 0o555)
    _set_writable(tree, False)
    _, hits, misses, path, err = _finish(_start(tree, closed, NO_TEMPORARY="1"))
    assert (hits, misses, path) == (0, 1, "None")
    assert err.count("set NUMBA_CACHE_DIR") == 1


def test_folder_shared_with_others(tree: Path) -> None:
    """Use the own folder if files in the chosen one are another user's."""
    home = _folder(tree, "home", 0o755)
    chosen = _folder(tree, "chosen", 0o777)
    _set_writable(tree, False)
    path = Path(_finish(_start(tree, home, NUMBA_CACHE_DIR=str(chosen)))[3])
    for file in path.glob("*.nb?"):
        file.unlink()
    (path / "numba.lock").unlink()
    (path / "numba.lock").mkdir()  # cannot be opened by anybody
    _, hits, misses, _, err = _finish(_start(tree, home, NUMBA_CACHE_DIR=str(chosen)))
    assert (hits, misses, err) == (0, 1, "")
    assert _finish(_start(tree, home, NUMBA_CACHE_DIR=str(chosen)))[1:3] == (1, 0)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x05\x8c\x02\xff\xff.", b"\x80\x05\x95" + b"\xff" * 8, b"X\xff\xff\xff\x7f", b"Kx."],
)
def test_damaged_index(tree: Path, content: bytes) -> None:
    """Begin a new index, whatever unpickling the old one raises."""
    home = _folder(tree, "home", 0o755)
    _finish(_start(tree, home, user=0))
    (index,) = tree.rglob("gaussian_numba.invert*.nbi")
    index.write_bytes(content)
    assert _finish(_start(tree, home, user=0))[1:3] == (0, 1)
    assert _finish(_start(tree, home, user=0))[1:3] == (1, 0)


_CACHED = """
import sys
import numba
from lsst.meas.finalize.measure.moments.gaussian_numba import invert
values = invert(2.0, 0.5, 3.0)
print(sum(invert.stats.cache_hits.values()), "numba.misc.cffiimpl" in sys.modules)
# What has been loaded can be compiled into other functions later.
assert numba.njit(lambda x: invert(x, 0.5, 3.0))(2.0) == values
assert "numba.misc.cffiimpl" in sys.modules
"""


def test_loading_imports_no_compiler() -> None:
    """Import what numba compiles with only if something is compiled."""
    for _ in range(2):
        result = subprocess.run([sys.executable, "-c", _CACHED], capture_output=True, text=True, check=False)
        assert not result.returncode, result.stderr
    # The first process may have had to compile.
    assert result.stdout.split() == ["1", "False"]
