# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lsst.daf.butler import Butler


@pytest.fixture(scope="session")
def repo_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an empty repository, to be copied: making one is slow."""
    path = tmp_path_factory.mktemp("template") / "repo"
    Butler.makeRepo(str(path))
    return path


@pytest.fixture
def butler(repo_template: Path, tmp_path: Path) -> Butler:
    """Butler of a new repository."""
    shutil.copytree(repo_template, tmp_path / "repo")
    return Butler.from_config(str(tmp_path / "repo"), writeable=True)
