# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of the recipes of containers; ``containers/try.sh`` runs them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"


def section(text: str, name: str) -> list[str]:
    """Return the lines of a section of an Apptainer recipe."""
    match = re.search(rf"^%{name}\n((?:    .*\n)+)", text, re.MULTILINE)
    assert match is not None, name
    return [line.strip() for line in match[1].splitlines()]


def test_both_recipes_make_the_same_image() -> None:
    """Compare base, files, variables and the step."""
    docker = dict(line.split(maxsplit=1) for line in (CONTAINERS / "Dockerfile").read_text().splitlines())
    apptainer = (CONTAINERS / "finalize.def").read_text()
    assert docker.keys() == {"FROM", "ENV", "COPY", "RUN"}
    assert f"From: {docker['FROM']}\n" in apptainer
    assert section(apptainer, "files") == [docker["COPY"]]
    assert section(apptainer, "environment") == [f"export {docker['ENV']}"]
    variables, step = section(apptainer, "post")
    assert docker["ENV"].startswith(variables.removeprefix("export "))
    assert step == docker["RUN"]


def test_recipes_do_what_is_tried() -> None:
    """Run the script that is run in CI, and nothing else."""
    shell, script, *arguments = section((CONTAINERS / "finalize.def").read_text(), "post")[-1].split()
    assert (shell, arguments) == ("sh", ["/opt/meas_finalize", "/opt/finalize"])
    assert script.removeprefix("/opt/meas_finalize/") == "containers/install.sh"
    assert "sh checkout/containers/install.sh" in (CONTAINERS / "try.sh").read_text()
    assert "\ncontainers/try.sh\n" in (ROOT / ".ci/run").read_text()
