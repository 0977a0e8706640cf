# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of the overlay's activation at interpreter start."""

from __future__ import annotations

import json
import os
import pickle
import re
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import lsst_meas_finalize_overlay as overlay
import pytest

from lsst.utils import doImportType

FOLDER = str(Path(overlay.__file__).parent / "lsst/meas/finalize/butler/overlay")
GENERIC = "lsst.obs.base.formatters.fitsGeneric"

pytestmark = pytest.mark.skipif(
    not any(Path(folder, "lsst_meas_finalize.pth").exists() for folder in site.getsitepackages()),
    reason="The distribution isn't installed in this environment.",
)

REPORT = f"""
import importlib.util, json, os, sys
early = [name for name in sys.modules if name.partition(".")[0] == "lsst"]
try:
    formatter = importlib.util.find_spec({GENERIC!r})
except ModuleNotFoundError:
    formatter = None
report = {{
    "path": os.environ.get("DAF_BUTLER_CONFIG_PATH"),
    "formatter": formatter and formatter.origin,
    "early": early,
    "finders": [getattr(finder, "__name__", "") for finder in sys.meta_path].count("StackNameFinder"),
}}
"""


def fresh(code: str = REPORT + "print(json.dumps(report))", *args: str, **env: str) -> Any:
    """Run code in a new interpreter as in a fresh shell; return its JSON."""
    base = {
        key: value
        for key, value in os.environ.items()
        if key not in (overlay.CONFIG_PATH, overlay.OFF_SWITCH)
    }
    result = subprocess.run(
        [sys.executable, *args, "-c", code], env=base | env, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.mark.parametrize("args", [(), ("-I",), ("-X", "utf8")])
def test_fresh_interpreter_has_the_overlay(args: tuple[str, ...]) -> None:
    """Find path and formatters in an interpreter where nothing was set."""
    report = fresh(REPORT + "print(json.dumps(report))", *args)
    assert report["path"] == FOLDER
    assert report["formatter"].endswith("_stack_names/obs/base/formatters/fitsGeneric.py")
    assert report["early"] == []


@pytest.mark.parametrize(("value", "active"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_off_switch(value: str, active: bool) -> None:
    """Switch the overlay off by an environment variable."""
    report = fresh(MEAS_FINALIZE_NO_OVERLAY=value)
    assert (report["path"] == FOLDER) is active
    assert (report["formatter"] is not None) is active


def test_off_switch_undoes_what_a_parent_set() -> None:
    """Keep a user's folders, and drop ours, in a child that is off."""
    path = os.pathsep.join(["/mine", FOLDER])
    report = fresh(MEAS_FINALIZE_NO_OVERLAY="1", DAF_BUTLER_CONFIG_PATH=path)
    assert report["path"] == "/mine"


def test_users_config_path_takes_precedence() -> None:
    """Append our folder to those that the user named."""
    path = os.pathsep.join(["/mine", "/others"])
    assert fresh(DAF_BUTLER_CONFIG_PATH=path)["path"] == os.pathsep.join([path, FOLDER])


def test_stack_is_left_alone(tmp_path: Path) -> None:
    """Do nothing where lsst.afw is on the path."""
    (tmp_path / "lsst/afw").mkdir(parents=True)
    report = fresh(PYTHONPATH=str(tmp_path), DAF_BUTLER_CONFIG_PATH=FOLDER)
    assert report["path"] is None
    assert report["finders"] == 0


def test_installed_obs_base_wins(tmp_path: Path) -> None:
    """Leave formatters to an installed package that has them."""
    folder = tmp_path
    for name in GENERIC.split(".")[:-1]:
        folder = folder / name
        folder.mkdir()
        (folder / "__init__.py").write_text(
            "import pkgutil\n__path__ = pkgutil.extend_path(__path__, __name__)\n"
        )
    (folder / "fitsGeneric.py").touch()
    assert fresh(PYTHONPATH=str(tmp_path))["formatter"] == str(folder / "fitsGeneric.py")


def test_children_have_the_overlay_once() -> None:
    """Find the overlay in subprocesses and in spawned workers."""
    child = REPORT + "print(json.dumps(report))"
    report = fresh(
        f"import json, subprocess, sys; sys.stdout.write("
        f"subprocess.run([sys.executable, '-c', {child!r}], capture_output=True, text=True).stdout)"
    )
    assert report["path"] == FOLDER
    assert report["finders"] == 1


def test_spawned_workers_find_formatters() -> None:
    """Find the formatters in a worker process that inherits nothing."""
    code = (
        "import importlib.util, json, multiprocessing\n"
        "with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        f"    print(json.dumps(pool.apply(importlib.util.find_spec, ({GENERIC!r},)).origin))\n"
    )
    assert fresh(code).endswith("_stack_names/obs/base/formatters/fitsGeneric.py")


def test_formatters_can_be_pickled() -> None:
    """Pickle a formatter class by the stack's name."""
    formatter = doImportType(f"{GENERIC}.FitsGenericFormatter")
    assert pickle.loads(pickle.dumps(formatter)) is formatter
    assert formatter.name() == f"{GENERIC}.FitsGenericFormatter"


def test_other_obs_modules_are_missing() -> None:
    """Get the usual error for modules of obs_base that aren't served."""
    code = (
        "import json\n"
        "try:\n"
        "    import lsst.obs.base.exposureAssembler\n"
        "except ModuleNotFoundError as err:\n"
        "    print(json.dumps(err.name))\n"
    )
    assert fresh(code) == "lsst.obs.base.exposureAssembler"


def test_cost_at_interpreter_start() -> None:
    """Spend less than 5 ms of interpreter start; the best of some tries."""
    micros = []
    for _ in range(7):
        result = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "pass"], capture_output=True, text=True, check=True
        )
        match = re.search(r"\|\s*(\d+) \|\s+lsst_meas_finalize_overlay$", result.stderr, re.MULTILINE)
        assert match is not None
        micros.append(int(match[1]))
    assert min(micros) < 5000


def test_deactivate_and_activate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off and on again within one process."""
    monkeypatch.setenv(overlay.CONFIG_PATH, os.pathsep.join([FOLDER, "/mine"]))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    overlay.deactivate()
    assert os.environ[overlay.CONFIG_PATH] == "/mine"
    assert overlay.StackNameFinder not in sys.meta_path
    overlay.activate()
    overlay.activate()
    assert os.environ[overlay.CONFIG_PATH] == os.pathsep.join(["/mine", FOLDER])
    assert sys.meta_path.count(overlay.StackNameFinder) == 1
