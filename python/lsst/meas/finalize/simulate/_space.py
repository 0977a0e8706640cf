# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Refusals before anything is simulated."""

from __future__ import annotations

__all__ = ("refuse_full_disk", "refuse_read_only_registry", "refuse_run_name", "refuse_unwritable")

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy.engine import make_url

from lsst.daf.butler import ButlerConfig
from lsst.resources import ResourcePath

from ._config import SimulatedVisit

# Image, variance and mask compress to 5.3 bytes per pixel, and to 1.4 if
# electrons are whole; a source has 4 kB.
_BYTES_PER_PIXEL = {False: 6, True: 2}  # whether electrons are whole numbers
_BYTES_PER_SOURCE = 6000
_BYTES_PER_VISIT = 1 << 20  # registry and tables of stars


def refuse_run_name(run: str) -> None:
    """Refuse a run whose files would be at wrong places.

    Parameters
    ----------
    run
        Output run collection, which is a folder of the datastore, too.

    Raises
    ------
    OSError
        Raised if the name leads out of the datastore, or has a ``#``, from
        which on the butler cuts the names of files.
    """
    if "#" in run or ".." in run.split("/"):
        raise OSError(f"Run {run!r} can't be a folder of the repository; leave out '#' and '..'.")


def refuse_full_disk(roots: Iterable[ResourcePath], simulations: Sequence[SimulatedVisit]) -> None:
    """Refuse to start what can't be stored.

    Parameters
    ----------
    roots
        Where the files go; only local places can be checked.
    simulations
        The visits.

    Raises
    ------
    OSError
        Raised if there is less space than the visits take.
    """
    needed = sum(
        s.n_detectors * (_BYTES_PER_PIXEL[s.whole_electrons] * s.size**2 + _BYTES_PER_SOURCE * s.n_objects)
        + _BYTES_PER_VISIT
        for s in simulations
    )
    for folder in _local(roots):
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(
                f"{folder} has {free / 1e6:.0f} MB of free space; the simulation takes {needed / 1e6:.0f} MB."
            )


def refuse_unwritable(roots: Iterable[ResourcePath]) -> None:
    """Refuse to start what can't be written.

    Parameters
    ----------
    roots
        Where the files go; only local places can be checked.

    Raises
    ------
    OSError
        Raised if no file can be made there.
    """
    for folder in _local(roots):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OSError(f"{folder} can't be written to: {error.strerror}.") from error


def refuse_read_only_registry(repo: str) -> None:
    """Refuse a repository whose SQLite file can't be written.

    Parameters
    ----------
    repo
        URI of the repository.

    Raises
    ------
    OSError
        Raised if the file can't be opened for writing.
    """
    config = ButlerConfig(repo)
    url = make_url(config["registry", "db"])
    if url.get_backend_name() != "sqlite" or not url.database:
        return
    root = config.configDir
    path = url.database.replace("<butlerRoot>", root.ospath if root is not None and root.isLocal else "")
    try:
        with open(path, "r+b"):
            pass
    except FileNotFoundError:
        pass  # the butler tells of that better
    except OSError as error:
        raise OSError(f"{path} can't be written to: {error.strerror}.") from error


def _local(roots: Iterable[ResourcePath]) -> list[Path]:
    """Return folders that exist: the roots, or what they will be in."""
    folders = []
    for root in roots:
        if root.isLocal:
            path = Path(root.ospath).absolute()
            folders.append(next(folder for folder in (path, *path.parents) if folder.exists()))
    return folders
