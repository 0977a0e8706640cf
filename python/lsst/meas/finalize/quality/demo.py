# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Simulate a visit, finalize it with ``pipetask run``, and judge the result.

Usage: python -m lsst.meas.finalize.quality.demo [DIRECTORY]
"""

from __future__ import annotations

__all__ = ("main",)

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PIPELINE = "resource://lsst.meas.finalize/pipelines/FinalizeCharacterization.yaml"
VISIT = 20260304001
INPUTS = "simulated/inputs"
OUTPUT = "demo/finalized"


def _run(message: str, *command: str) -> None:
    """Run one of the commands that come with Python's environment."""
    print(f"\n== {message}\n$ {' '.join(command)}", flush=True)
    program = Path(sys.executable).parent / command[0]
    subprocess.run([str(program), *command[1:]], check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration.

    Parameters
    ----------
    arguments
        Command-line arguments; those of the process if not given.

    Returns
    -------
    `int`
        Exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", nargs="?", default="demo", type=Path, help="where to work")
    parser.add_argument("-j", "--jobs", default=2, type=int, help="number of processes")
    args = parser.parse_args(arguments)
    start = time.monotonic()
    repo = args.directory / "repo"
    if repo.exists():
        shutil.rmtree(repo)
    args.directory.mkdir(parents=True, exist_ok=True)
    try:
        _run("Simulating a visit", "butler", "simulate-visit", str(repo), "--visit", str(VISIT))
        _run(
            "Finalizing it",
            *("pipetask", "run", "-b", str(repo), "-p", PIPELINE, "-i", INPUTS, "-o", OUTPUT),
            *("--register-dataset-types", "-j", str(args.jobs)),
        )
    except subprocess.CalledProcessError as error:
        return error.returncode
    _judge(repo, args.directory)
    print(f"\nDone in {time.monotonic() - start:.0f} s.")
    return 0


def _judge(repo: Path, directory: Path) -> None:
    from lsst.daf.butler import Butler

    from . import format_summary, report_visit

    with Butler.from_config(str(repo)) as butler:
        qualities, plots = report_visit(butler, VISIT, OUTPUT, directory / "plots")
    print("\n== PSF models at reserved stars against the true PSF, and aperture corrections")
    print(format_summary(qualities))
    print("\nPlots: " + ", ".join(map(str, plots)))


if __name__ == "__main__":
    sys.exit(main())
