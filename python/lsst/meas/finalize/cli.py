# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The ``butler`` subcommands of this package."""

from __future__ import annotations

__all__ = ("get_cli_subcommands", "simulate_visit")

from typing import Any

import click

from lsst.daf.butler.cli.opt import repo_argument
from lsst.daf.butler.cli.utils import ButlerCommand

# The command line must start fast, so nothing here imports the simulation
# before the command runs; its defaults are those of VisitSimulation.


@click.command(
    name="simulate-visit",
    short_help="Simulate a visit into a data repository.",
    cls=ButlerCommand,
    context_settings={"show_default": True},
)
@repo_argument(required=True, help="URI of the repository; it is made if there is none.")
@click.option("--visit", type=int, default=20260304001, help="Visit number, YYYYMMDDnnn.")
@click.option("--band", type=click.Choice(list("ugrizy")), default="r", help="Band.")
@click.option(
    "--detectors", "n_detectors", type=click.IntRange(1, 10), default=4, help="Number of detectors."
)
@click.option(
    "--size", type=click.IntRange(200, 8192), default=1000, help="Width and height of a detector in pixels."
)
@click.option("--stars", "n_stars", type=click.IntRange(0), default=160, help="Stars per detector.")
@click.option("--galaxies", "n_galaxies", type=click.IntRange(0), default=60, help="Galaxies per detector.")
@click.option("--fwhm", type=click.FloatRange(0.4, 3.0), default=0.75, help="Seeing in arcsec.")
@click.option("--seed", type=click.IntRange(0), default=1, help="Seed of all random numbers.")
@click.option("--output-run", default="simulated/inputs", help="Output run collection.")
def simulate_visit(repo: str, output_run: str, **options: Any) -> None:
    """Simulate a visit with stars, galaxies, blends and detector defects.

    The repository gets the inputs of final characterization (``calexp``,
    ``src``, isolated stars, FGCM standard stars) and the true objects
    (``simulated_truth``).
    """
    from lsst.daf.butler.registry import ConflictingDefinitionError

    from .simulate import VisitSimulation, put_simulated_visit

    if not output_run.strip():
        raise click.UsageError("The name of the output run is empty.")
    try:
        simulation = VisitSimulation(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        put_simulated_visit(repo, simulation, run=output_run, progress=click.echo)
    except (ConflictingDefinitionError, OSError) as error:
        raise click.ClickException(f"Repository {repo}: {str(error).splitlines()[0]}") from error


def get_cli_subcommands() -> list[click.Command]:
    """Return the subcommands; ``butler`` finds this by its entry point."""
    return [simulate_visit]
