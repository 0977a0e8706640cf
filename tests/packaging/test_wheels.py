# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of what the wheels contain."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("COPYRIGHT", "LICENSE", "MANIFEST.in", "README.rst", "pyproject.toml", "setup.py")
PTH = "lsst_meas_finalize.pth"

pytest.importorskip("setuptools", minversion="77")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return the names in a plain and in an editable wheel of this tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        shutil.copy(ROOT / name, tree)
    junk = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "python", tree / "python", ignore=junk)
    names = {}
    for kind in ("wheel", "editable"):
        out = tmp_path_factory.mktemp(kind)
        code = f"import setuptools.build_meta as b; b.build_{kind}({str(out)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, capture_output=True)
        (path,) = out.glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            (record,) = (name for name in archive.namelist() if name.endswith("RECORD"))
            names[kind] = [line.split(",")[0] for line in archive.read(record).decode().splitlines()]
    return names


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_activation_file_is_in_the_record(wheels: dict[str, list[str]], kind: str) -> None:
    """Check that pip installs the file, and so removes it too."""
    assert PTH in wheels[kind]


def test_plain_wheel_holds_the_whole_package(wheels: dict[str, list[str]]) -> None:
    """Check that every module and data file of the tree is in the wheel."""
    python = ROOT / "python"
    expected = {
        str(path.relative_to(python))
        for pattern in ("*.py", "*.yaml", "*.pth", "py.typed")
        for path in python.rglob(pattern)
    }
    for folder in ("bps", "pipelines"):
        files = (ROOT / folder).rglob("*.yaml")
        expected |= {f"lsst/meas/finalize/{path.relative_to(ROOT)}" for path in files}
    assert expected <= set(wheels["wheel"])
