# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The ``butler`` subcommands of this package."""

from __future__ import annotations

__all__ = ("finalize_report", "finalize_status", "get_cli_subcommands", "simulate_visit")

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lsst.daf.butler.cli.opt import repo_argument
from lsst.daf.butler.cli.utils import ButlerCommand

if TYPE_CHECKING:
    from .operations import RunSource

# The command line must start fast, so nothing here imports the simulation
# before the command runs; its defaults are those of the cameras' visits.


def _camera_option(flag: str, name: str, type_: click.ParamType, text: str, default: str) -> Any:
    """Make an option whose default depends on the camera."""
    return click.option(flag, name, type=type_, help=f"{text}  [default: {default}]")


@click.command(
    name="simulate-visit",
    short_help="Simulate visits into a data repository.",
    cls=ButlerCommand,
    context_settings={"show_default": True},
)
@repo_argument(required=True, help="URI of the repository; it is made if there is none.")
@click.option(
    "--camera",
    type=click.Choice(["simple", "focal-plane"]),
    default="simple",
    help="Camera: one of small detectors, or the focal plane of LSSTCam with optics, heights of detectors, "
    "and atmosphere.",
)
@click.option("--visit", type=int, default=20260304001, help="Number of the first visit, YYYYMMDDnnn.")
@click.option("--visits", "n_visits", type=click.IntRange(1, 999), default=1, help="Number of visits.")
@click.option(
    "--band",
    "--bands",
    "band",
    default="r",
    help="Band, or several like gri, of which each visit takes the next.",
)
@_camera_option(
    "--detectors",
    "n_detectors",
    click.IntRange(1, 189),
    "Number of detectors; of the focal plane 21 (one of each raft) or fewer, or all 189.",
    "4; focal-plane: 21",
)
@click.option(
    "--dither",
    type=click.FloatRange(0, 3600),
    help="Largest offset of a visit in arcsec.  [default: 30 for several visits, else 0]",
)
@_camera_option(
    "--size",
    "size",
    click.IntRange(200, 8192),
    "Width and height of a detector in pixels.",
    "1000; focal-plane: 4000",
)
@_camera_option("--stars", "n_stars", click.IntRange(0), "Stars per detector.", "160; focal-plane: 100")
@_camera_option(
    "--galaxies", "n_galaxies", click.IntRange(0), "Galaxies per detector.", "60; not of the focal plane"
)
@_camera_option(
    "--galaxy-fraction",
    "galaxy_fraction",
    click.FloatRange(0, 1),
    "Fraction of the stars that are galaxies taken as such.",
    "0.015; focal plane only",
)
@_camera_option(
    "--refraction",
    "refraction",
    click.FloatRange(0, 1),
    "Chromatic refraction in arcsec per magnitude of g-i.",
    "0.0; focal plane only",
)
@click.option("--fwhm", type=click.FloatRange(0.4, 3.0), default=0.75, help="Seeing in arcsec.")
@click.option("--seed", type=click.IntRange(0), default=1, help="Seed of all random numbers.")
@click.option("--output-run", default="simulated/inputs", help="Output run collection.")
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, help="Number of processes.")
@click.pass_context
def simulate_visit(
    context: click.Context,
    repo: str,
    camera: str,
    output_run: str,
    n_visits: int,
    dither: float | None,
    jobs: int,
    **options: Any,
) -> None:
    """Simulate visits with stars, galaxies, blends and detector defects.

    The repository gets the inputs of final characterization (``calexp``,
    ``src``, isolated stars, FGCM standard stars), the true objects
    (``simulated_truth``) and what draws the true PSF anywhere
    (``simulated_psf_truth``). Several visits, and visits that are added later
    with the same camera, seed, numbers of objects and size, see the same
    field.
    """
    from .simulate import CAMERAS, put_simulated_visits, survey

    if not output_run.strip():
        raise click.UsageError("The name of the output run is empty.")
    if dither is None:
        dither = 30.0 if n_visits > 1 else 0.0
    kind = CAMERAS[camera].visit
    given = {name: value for name, value in options.items() if value is not None}
    for parameter in context.command.params:
        if parameter.name in given and parameter.name not in kind.__dataclass_fields__:
            raise click.UsageError(f"Camera {camera} has no option {parameter.opts[0]}.")
    try:
        simulations = survey(n_visits, bands=given.pop("band"), kind=kind, dither=dither, **given)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with _one_line_errors(repo):
        put_simulated_visits(repo, simulations, run=output_run, jobs=jobs)
    visits = ", ".join(str(simulation.visit) for simulation in simulations)
    click.echo(f"Simulated in run {output_run}: visit{'s' if n_visits > 1 else ''} {visits}")


@contextmanager
def _one_line_errors(repo: str, *others: type[Exception], exit_code: int = 1) -> Iterator[None]:
    """Tell in one line what is wrong with a repository."""

    def fail(message: str, cause: BaseException) -> NoReturn:
        exception = click.ClickException(f"Repository {repo}: {message}")
        exception.exit_code = exit_code  # type: ignore[misc]
        raise exception from cause

    from sqlalchemy.exc import SQLAlchemyError

    from lsst.daf.butler import ButlerUserError
    from lsst.daf.butler.registry import ConflictingDefinitionError

    one_line: tuple[type[Exception], ...] = (
        ButlerUserError,
        ConflictingDefinitionError,
        OSError,
        SQLAlchemyError,
        *others,
    )
    try:
        _refuse_unreachable(repo)
        yield
    except one_line as error:
        fail(str(error).splitlines()[0], error)
    except Exception as error:
        # What a formatter could not write, for instance to a full disk.
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, OSError):
            fail(str(error.__cause__), error)
        if exit_code == 1:
            raise
        # A traceback would end with another exit code.
        fail(_with_name(error), error)


def _refuse_unreachable(repo: str) -> None:
    """Turn what the client of a place for files raises into `OSError`."""
    from lsst.daf.butler import Butler

    try:
        Butler.has_repo_config(repo)
    except OSError:
        raise
    except Exception as error:  # a scheme that is unknown, no credentials
        raise OSError(_with_name(error)) from error


def _with_name(error: Exception) -> str:
    """Give the name of an error and its first line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


@click.command(
    name="finalize-status",
    short_help="Tell what became of each detector of final characterization.",
    cls=ButlerCommand,
)
@repo_argument(required=True, help="URI of the repository.")
@click.argument("collection", required=False)
@click.option("-i", "--input", "inputs", multiple=True, help="Collection of inputs that COLLECTION hasn't.")
@click.option("-d", "--data-query", "where", default="", help="Data that are wanted, as for pipetask.")
@click.option(
    "-g",
    "--graph",
    "graphs",
    multiple=True,
    help="Quantum graph, or submit directory with it: for batch runs whose outputs aren't in COLLECTION yet.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON rather than a table.")
def finalize_status(
    repo: str,
    collection: str | None,
    inputs: tuple[str, ...],
    where: str,
    graphs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Tell what became of each detector, during or after a run.

    COLLECTION is the output collection of pipetask or bps. Every visit whose
    inputs it has is expected to be there, or those of --data-query, or those
    of the quantum graph. The exit code is 0 if all that is expected is done
    or had no work, 1 if something is missing or failed, and 2 if that can't
    be found out or nothing is expected.
    """
    from .operations import NoRunError, find_status, format_status

    if not collection and not graphs:
        raise click.UsageError("Give a collection, a quantum graph, or both.")
    with _one_line_errors(repo, NoRunError, exit_code=2):
        visits = find_status(_status_sources(repo, collection, inputs, where, graphs))
        if not visits:
            raise NoRunError("No detector with inputs or outputs was found; is the data query right?")
    if as_json:
        report = {
            "collection": collection,
            "complete": all(status.is_complete for status in visits),
            "visits": [status.to_dict() for status in visits],
        }
        click.echo(json.dumps(report, indent=1))
    else:
        click.echo(format_status(visits))
    if not all(status.is_complete for status in visits):
        raise click.exceptions.Exit(1)


def _status_sources(
    repo: str, collection: str | None, inputs: tuple[str, ...], where: str, graphs: tuple[str, ...]
) -> list[RunSource]:
    from lsst.daf.butler import Butler, MissingCollectionError

    from .operations import CollectionSource, GraphSource, NoRunError

    sources: list[RunSource] = [GraphSource(repo, graph) for graph in graphs]
    if collection:
        try:
            # Its collections tell the butler which instrument is meant.
            butler = Butler.from_config(repo, collections=[collection, *inputs])
            sources.append(CollectionSource(butler, collection, inputs=inputs, where=where))
        except (NoRunError, MissingCollectionError) as error:
            # A batch run makes its collection at the end.
            if not graphs:
                reason = str(error).splitlines()[0]
                raise NoRunError(
                    f"{reason} Of a batch run that goes on, give the graph (--graph)."
                ) from error
    return sources


@click.command(
    name="finalize-report",
    short_help="Write pages on the quality of PSF models of visits.",
    cls=ButlerCommand,
)
@repo_argument(required=True, help="URI of the repository.")
@click.argument("collection")
@click.option(
    "--output",
    "directory",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to make; a report in it is replaced.",
)
def finalize_report(repo: str, collection: str, directory: Path) -> None:
    """Write a static site on the quality of PSF models of visits.

    COLLECTION has the outputs of the pipeline's subset "analyze". The site
    needs no network and can be opened as files, beginning with index.html.
    """
    from lsst.daf.butler import Butler, MissingCollectionError

    from .quality.site import NothingToReportError, collect_surveys, collect_visits, write_report

    with (
        _one_line_errors(repo, NothingToReportError, MissingCollectionError),
        Butler.from_config(repo) as butler,
    ):
        page = write_report(
            directory,
            collect_visits(butler, collection),
            collect_surveys(butler, collection),
            collection=collection,
            repository=repo,
        )
    click.echo(f"Report: {page}")


def get_cli_subcommands() -> list[click.Command]:
    """Return the subcommands; ``butler`` finds this by its entry point."""
    return [finalize_report, finalize_status, simulate_visit]
