# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lsst.daf.butler import Butler
from lsst.meas.finalize.simulate import VisitSimulation, put_simulated_visit

_DATA = Path(__file__).parent / "data"
_GOLDEN = Path(__file__).parents[2] / "shared" / "golden"

# How fast a busy machine makes examples tells nothing about the code.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


@pytest.fixture(scope="session")
def tiny() -> Path:
    """Golden set of two small detectors, written by the real stack."""
    return _DATA / "tiny"


@pytest.fixture(scope="session")
def stack_files() -> Path:
    """Folder of small files of the real stack; its README has the values."""
    return _DATA / "stack_files"


@pytest.fixture(scope="session")
def golden_visit() -> Path:
    """Large golden set, which is kept outside the repository."""
    path = _GOLDEN / "visit"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="session")
def simulation() -> VisitSimulation:
    """Return a visit of five small detectors."""
    return VisitSimulation(
        n_detectors=5,
        size=420,
        n_stars=40,
        n_galaxies=5,
        n_blends=2,
        n_cosmic_rays=3,
        n_bad_columns=1,
    )


@pytest.fixture(scope="session")
def simulated_repo(simulation: VisitSimulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate that visit into a repository; tests write to own runs."""
    repo = tmp_path_factory.mktemp("simulated") / "repo"
    put_simulated_visit(str(repo), simulation)
    return repo


@pytest.fixture
def simulated_butler(simulated_repo: Path) -> Iterator[Butler]:
    """Return a butler of the simulated visit."""
    with Butler.from_config(str(simulated_repo), writeable=True) as butler:
        yield butler
