# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of progress bars."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet
import pytest

from lsst.daf.butler.cli.progress import ClickProgressHandler
from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.daf.butler.progress import Progress
from lsst.meas.finalize._progress import progress_bar
from lsst.meas.finalize.afw import read_exposure_catalog
from lsst.meas.finalize.simulate import put_simulated_visits, survey
from lsst.pipe.tasks.finalizeCharacterization import ConsolidateFinalizeCharacterizationDetectorTask


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard error a terminal."""
    result = Terminal()
    # pytest puts its own file into sys between a fixture and its test.
    monkeypatch.setattr("lsst.meas.finalize._progress.sys", SimpleNamespace(stderr=result))
    return result


def work(n: int) -> None:
    """Do a number of steps."""
    with progress_bar("Working", n) as bar:
        for _ in range(n):
            bar.update(1)


def test_terminal_shows_how_much_is_done(terminal: Terminal) -> None:
    """Draw a bar that ends at all of it; none for a single step."""
    work(4)
    shown = terminal.getvalue()
    assert "Working" in shown
    assert " 50%" in shown
    assert "100%" in shown
    work(1)
    assert terminal.getvalue() == shown


def test_logs_have_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Write nothing where standard error is a file or a pipe."""
    work(4)
    assert capfd.readouterr() == ("", "")


def test_processes_of_a_pool_do_not_draw(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the terminal to the process that started the others."""
    monkeypatch.setattr("multiprocessing.parent_process", lambda: "its parent")
    work(4)
    assert terminal.getvalue() == ""


def test_handler_of_the_application_is_used(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Give the bar to where an application wants it."""
    other = Terminal()
    monkeypatch.setattr(Progress, "_active_handler", ClickProgressHandler(file=other))
    with caplog.at_level("INFO", logger="lsst.meas.finalize"):
        work(4)
    assert "Working" in other.getvalue()
    assert terminal.getvalue() == ""


def test_simulating_tells_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    """Count the detectors of all visits."""
    simulations = survey(2, visit=20260304001, bands="r", n_detectors=1, size=200, n_stars=3, n_galaxies=0)
    put_simulated_visits(str(tmp_path / "repo"), simulations)
    shown = terminal.getvalue()
    assert "Simulating" in shown
    assert " 50%" in shown
    assert "100%" in shown


def test_merging_tells_a_terminal(terminal: Terminal, tiny: Path) -> None:
    """Count catalogs and tables of detectors."""
    folders = {detector: tiny / f"expected/default/detector_{detector}" for detector in (0, 1)}
    catalogs = {d: read_exposure_catalog(next(f.glob("*.fits"))) for d, f in folders.items()}
    tables = {
        d: arrow_to_astropy(pyarrow.parquet.read_table(next(f.glob("*.parq*")))) for d, f in folders.items()
    }
    task = ConsolidateFinalizeCharacterizationDetectorTask()
    task.run(psf_ap_corr_detector_dict=catalogs, src_detector_table_dict=tables)
    assert "Merging detectors" in terminal.getvalue()
    assert " 25%" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
