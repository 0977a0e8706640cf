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
    name="simulate-visit", short_help="Simulate a visit into a data repository.", cls=ButlerCommand
)
@repo_argument(required=True, help="URI of the repository; it is made if there is none.")
@click.option("--visit", type=int, help="Visit number, YYYYMMDDnnn.")
@click.option("--band", type=click.Choice(list("ugrizy")), help="Band.")
@click.option("--detectors", "n_detectors", type=click.IntRange(1, 10), help="Number of detectors.")
@click.option("--size", type=click.IntRange(200, 8192), help="Width and height of a detector in pixels.")
@click.option("--stars", "n_stars", type=click.IntRange(0), help="Stars per detector.")
@click.option("--galaxies", "n_galaxies", type=click.IntRange(0), help="Galaxies per detector.")
@click.option("--fwhm", type=click.FloatRange(0.4, 3.0), help="Seeing in arcsec.")
@click.option("--seed", type=click.IntRange(0), help="Seed of all random numbers.")
@click.option("--output-run", default="simulated/inputs", show_default=True, help="Output run collection.")
def simulate_visit(repo: str, output_run: str, **options: Any) -> None:
    """Simulate a visit with stars, galaxies, blends and detector defects.

    The repository gets the inputs of final characterization (``calexp``,
    ``src``, isolated stars, FGCM standard stars) and the true objects
    (``simulated_truth``).
    """
    from .simulate import VisitSimulation, put_simulated_visit

    given = {name: value for name, value in options.items() if value is not None}
    try:
        simulation = VisitSimulation(**given)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    put_simulated_visit(repo, simulation, run=output_run, progress=click.echo)


def get_cli_subcommands() -> list[click.Command]:
    """Return the subcommands; ``butler`` finds this by its entry point."""
    return [simulate_visit]
