# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
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
import shlex
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


_MARKER = "made-by-make-demo"  # tells that the repository may be replaced


def _run(message: str, *command: str) -> None:
    """Run one of the commands that come with Python's environment."""
    print(f"\n== {message}\n$ {shlex.join(command)}", flush=True)
    program = Path(sys.executable).parent / command[0]
    subprocess.run([str(program), *command[1:]], check=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_positive.__name__ = "number of processes"  # for argparse's message


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
    parser = argparse.ArgumentParser(
        prog="python -m lsst.meas.finalize.quality.demo",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument(
        "directory",
        nargs="?",
        default="demo",
        type=Path,
        help="where to put repository and plots (default: %(default)s); an earlier run's are replaced",
    )
    parser.add_argument(
        "-j", "--jobs", default=2, type=_positive, help="number of processes (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    try:
        return _demonstrate(args.directory, args.jobs)
    except subprocess.CalledProcessError as error:
        print(f"\n{error.cmd[0]} failed with exit code {error.returncode}.", file=sys.stderr)
        return error.returncode
    except OSError as error:
        print(f"\nThe demonstration failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; start it again to begin anew.", file=sys.stderr)
        return 130


def _demonstrate(directory: Path, jobs: int) -> int:
    start = time.monotonic()
    repo = directory / "repo"
    if repo.exists():
        if not (repo / _MARKER).exists():
            print(f"{repo} wasn't made by this demonstration; choose another folder.", file=sys.stderr)
            return 2
        shutil.rmtree(repo)
    repo.mkdir(parents=True)
    (repo / _MARKER).touch()
    _run("Simulating a visit", "butler", "simulate-visit", str(repo), "--visit", str(VISIT))
    # Otherwise each of pipetask's processes compiles all of them.
    _run(
        "Compiling the measurement plugins, which takes a minute the first time",
        *("python", "-m", "lsst.meas.finalize.precompile", "-j", str(min(jobs, 2))),
    )
    _run(
        "Finalizing it",
        *("pipetask", "run", "-b", str(repo), "-p", PIPELINE, "-i", INPUTS, "-o", OUTPUT),
        *("--register-dataset-types", "-j", str(jobs)),
    )
    _judge(repo, directory)
    print(f"\nDone in {time.monotonic() - start:.0f} s.")
    return 0


def _judge(repo: Path, directory: Path) -> None:
    from lsst.daf.butler import Butler

    from . import format_summary, report_visit

    with Butler.from_config(str(repo)) as butler:
        qualities, plots = report_visit(butler, VISIT, OUTPUT, directory / "plots")
    print("\n== PSF models against the true PSF, and aperture corrections")
    print(format_summary(qualities))
    print("\nPlots: " + ", ".join(map(str, plots)))
    report = directory / "report"
    _run("Writing the report", "butler", "finalize-report", str(repo), OUTPUT, "--output", str(report))
    print(f"\nOpen {(report / 'index.html').absolute().as_uri()} in a browser.")


if __name__ == "__main__":
    sys.exit(main())
