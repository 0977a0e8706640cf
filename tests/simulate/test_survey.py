# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of several visits of one field."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import astropy.table
import numpy as np
import pytest
from click.testing import CliRunner, Result

from lsst.daf.butler import Butler, CollectionType, DatasetType
from lsst.meas.finalize.cli import simulate_visit
from lsst.meas.finalize.simulate import (
    VisitSimulation,
    make_scene,
    put_simulated_visits,
    simulate_detector,
    survey,
)
from lsst.meas.finalize.simulate._associations import TruthsOfVisit, associate_visits
from lsst.meas.finalize.simulate._camera import make_detector, make_sky_projection

FIRST = 20260304001
SMALL = VisitSimulation(
    n_detectors=2, size=200, n_stars=10, n_galaxies=0, n_blends=0, n_cosmic_rays=0, n_bad_columns=0, dither=4
)
ARGUMENTS = ("--detectors", "1", "--size", "200", "--stars", "8", "--galaxies", "0")
TRACTS = VisitSimulation.tracts


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate one visit into a repository, which tests copy."""
    repo = tmp_path_factory.mktemp("survey") / "repo"
    put_simulated_visits(str(repo), [SMALL])
    return repo


@pytest.fixture
def repo(template: Path, tmp_path: Path) -> str:
    """Return a repository with one visit."""
    return str(shutil.copytree(template, tmp_path / "repo"))


def command(repo: str, *arguments: str) -> Result:
    """Run the command as a user would."""
    return CliRunner().invoke(simulate_visit, [repo, *ARGUMENTS, *arguments])


def sky(simulation: VisitSimulation, detector: int) -> dict[str, np.ndarray]:
    """Return the true objects of a detector with their sky positions."""
    scene = make_scene(simulation, detector)
    camera_detector = make_detector(simulation, detector)
    projection = make_sky_projection(simulation, camera_detector, camera_detector.frame)
    position = projection.pixel_to_sky(x=scene.x, y=scene.y)
    return vars(scene) | {"ra": position.ra.deg, "dec": position.dec.deg}


def test_dithered_visits_see_the_same_objects() -> None:
    """Find objects of one visit in another at the same place in the sky."""
    first = VisitSimulation(n_detectors=1, size=600, seed=3)
    second = replace(first, visit=FIRST + 6, band="g", dither=20.0)
    assert np.hypot(*np.subtract(second.boresight, first.boresight)) * 3600 > 1
    one, two = sky(first, 0), sky(second, 0)
    offset = np.hypot(
        (one["ra"][:, None] - two["ra"]) * np.cos(np.deg2rad(2.2)), one["dec"][:, None] - two["dec"]
    )
    row, column = np.nonzero(offset * 3600 < 1e-4)
    assert len(row) > 0.6 * len(one["ra"])
    assert len(set(row)) == len(row) == len(set(column))
    np.testing.assert_array_equal(one["is_isolated"][row], two["is_isolated"][column])
    # Stars of colour g-i are 0.6 times that fainter in g than in r.
    fainter = 2.5 * np.log10(one["flux"][row] / two["flux"][column])
    np.testing.assert_allclose(fainter, 0.6 * one["color"][row])
    # Of those that only one has, none is inside of the other.
    only_first = np.setdiff1d(np.arange(len(one["ra"])), row)
    shift = (np.median(two["x"][column] - one["x"][row]), np.median(two["y"][column] - one["y"][row]))
    x, y = one["x"][only_first] + shift[0], one["y"][only_first] + shift[1]
    assert not np.any((x > 1) & (x < 598) & (y > 1) & (y < 598))


def test_neighbouring_detectors_share_no_object() -> None:
    """Have each object on one detector at most, whatever their number."""
    simulation = VisitSimulation(n_detectors=12, size=300, dither=30.0)
    positions = [(object_["ra"], object_["dec"]) for object_ in (sky(simulation, d) for d in range(12))]
    ra, dec = np.concatenate(positions, axis=1)
    assert np.unique(np.round([ra, dec], 7), axis=1).shape[1] == len(ra) > 1000
    assert np.ptp(ra) * 3600 > 3.9 * 300 * 0.2
    assert np.ptp(dec) * 3600 > 2.9 * 300 * 0.2


def test_number_of_objects_is_that_asked_for() -> None:
    """Find the density of stars and galaxies."""
    simulation = VisitSimulation(n_detectors=9, size=500, n_stars=50, n_galaxies=30, n_blends=5)
    scenes = [make_scene(simulation, detector) for detector in range(9)]
    # Only how cells are cut makes the numbers differ.
    assert np.mean([np.sum(scene.is_star) for scene in scenes]) == pytest.approx(60, rel=0.1)
    assert np.mean([np.sum(~scene.is_star) for scene in scenes]) == pytest.approx(30, rel=0.15)


def test_survey_takes_bands_in_turn() -> None:
    """Number the visits and go through the bands."""
    visits = survey(5, visit=FIRST, bands="gri", n_detectors=9)
    assert [s.band for s in visits] == list("grigr")
    assert [s.visit for s in visits] == list(range(FIRST, FIRST + 5))
    with pytest.raises(ValueError, match="Bands are missing"):
        survey(2, visit=FIRST, bands="")


def test_visits_are_associated_star_by_star() -> None:
    """Compare the tables with a count by brute force."""
    rng = np.random.default_rng(5)
    n = 60
    ra = 150.1 + rng.uniform(-0.02, 0.02, n)
    dec = 2.2 + rng.uniform(-0.02, 0.02, n)
    visits, seen = [], {}
    for number, band in ((FIRST, "r"), (FIRST + 1, "i"), (FIRST + 2, "r")):
        rows = np.flatnonzero(rng.random(n) < 0.6)
        isolated = rng.random(len(rows)) < 0.9
        ids = np.where(rng.random(len(rows)) < 0.9, number * 1000 + rows, 0)
        truth = astropy.table.Table(
            {
                # A milliarcsecond of difference, as after projections.
                "ra": ra[rows] + rng.normal(0, 3e-7, len(rows)),
                "dec": dec[rows],
                "flux": np.full(len(rows), 1e4),
                "color": np.full(len(rows), 1.0),
                "is_isolated": isolated,
                "source_id": ids,
            }
        )
        visits.append(TruthsOfVisit(number, band, {3: truth}))
        for row, source in zip(rows[isolated & (ids > 0)], ids[isolated & (ids > 0)], strict=True):
            seen.setdefault(int(row), {})[number] = int(source)
    simulation = VisitSimulation(size=200)
    found: dict[int, dict[int, int]] = {}
    identifiers = []
    for isolated, sources, standard in associate_visits(simulation, visits).values():
        identifiers += isolated["isolated_star_id"].tolist()
        np.testing.assert_array_equal(standard["ra"], isolated["ra"])
        for star in range(len(isolated)):
            row = int(np.argmin(np.hypot(ra - isolated["ra"][star], dec - isolated["dec"][star])))
            first, number = isolated["source_cat_index"][star], isolated["nsource"][star]
            block = sources[first : first + number]
            assert set(block["obj_index"]) == {star}
            found[row] = dict(zip(block["visit"].tolist(), block["sourceId"].tolist(), strict=True))
            band_visits = {"r": {FIRST, FIRST + 2}, "i": {FIRST + 1}}
            for band, members in band_visits.items():
                first, number = isolated[f"source_cat_index_{band}"][star], isolated[f"nsource_{band}"][star]
                assert set(sources["visit"][first : first + number]) == members & found[row].keys()
            has_i = FIRST + 1 in found[row]
            assert isolated["primary_band"][star] == ("i" if has_i else "r")
            # g-i is 1, and fluxes are of the first band in which it is seen.
            assert standard["mag_g"][star] - standard["mag_i"][star] == pytest.approx(1.0)
            assert standard["mag_i" if has_i else "mag_r"][star] == pytest.approx(31.4 - 10)
    assert found == seen
    assert len(set(identifiers)) == len(identifiers)


def visits_of_stars(repo: str, collections: Any) -> dict[int, set[int]]:
    """Return the visits with their detectors in the tables of stars."""
    found: dict[int, set[int]] = {}
    with Butler.from_config(repo, collections=collections) as butler:
        for tract in TRACTS:
            data_id = {"instrument": "SynthCam", "skymap": "synth_tracts", "tract": tract}
            sources = butler.get("isolated_star_presources", data_id)
            stars = butler.get("isolated_star_presource_associations", data_id)
            assert len(butler.get("fgcm_standard_star", data_id)) == len(stars)
            for visit, detector in zip(sources["visit"], sources["detector"], strict=True):
                found.setdefault(int(visit), set()).add(int(detector))
    return found


def test_added_visits_are_associated_with_the_first(repo: str) -> None:
    """Add a visit to the run, with two processes, and one to another run."""
    run, added = "simulated/inputs", replace(SMALL, visit=FIRST + 1, band="i")
    put_simulated_visits(repo, [added], jobs=2)
    with Butler.from_config(repo, collections=run) as butler:
        image = butler.get("calexp", instrument="SynthCam", visit=added.visit, detector=1).image.array
    # What a process of its own has made is what this one makes.
    np.testing.assert_array_equal(image, simulate_detector(added, 1).calexp.image.array)
    assert visits_of_stars(repo, run) == {FIRST: {0, 1}, FIRST + 1: {0, 1}}
    put_simulated_visits(repo, [replace(SMALL, visit=FIRST + 2, n_detectors=1)], run="other")
    for collections in ([run, "other"], ["other", run]):
        found = visits_of_stars(repo, collections)
        assert found == {FIRST: {0, 1}, FIRST + 1: {0, 1}, FIRST + 2: {0}}
    with Butler.from_config(repo) as butler:
        assert len(butler.query_datasets("calexp", "*", find_first=False)) == 5


def refuse_pixels(*args: Any, **kwargs: Any) -> None:
    """Fail, in place of the simulation of a detector."""
    raise AssertionError("A pixel was simulated.")


PATCHED = "lsst.meas.finalize.simulate._repo.simulate_detector"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--visits", "3"], "has visit 20260304001 already"),
        (["--visit", "20260331999", "--visits", "2"], "does not begin with a date"),
        (["--output-run", "b", "--band", "g"], "differs from one of that number"),
        (["--band", "rq", "--visits", "2"], "Band 'q'"),
        (["--band", ""], "Bands are missing"),
        (["--output-run", "chain", "--visit", "20260305001"], "is not a run"),
        (["--output-run", "../b", "--visit", "20260305001"], "can't be a folder of the repository"),
        (["--output-run", "b#c", "--visit", "20260305001"], "can't be a folder of the repository"),
    ],
)
def test_refusals_come_first(
    repo: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """Refuse in one line, and change nothing."""
    monkeypatch.setattr(PATCHED, refuse_pixels)
    with Butler.from_config(repo, writeable=True) as butler:
        butler.collections.register("chain", CollectionType.CHAINED)
    result = command(repo, *arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert message in result.output
    assert result.output.count("Error") == 1
    with Butler.from_config(repo) as butler:
        assert len(butler.query_dimension_records("visit", instrument="SynthCam")) == 1


def test_unknown_places_are_refused() -> None:
    """Refuse in one line a repository at a place of an unknown kind."""
    result = command("foo://bar")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "Error: Repository foo://bar: NotImplementedError: No URI support for scheme: 'foo' in foo://bar"
    ]


def test_dataset_types_of_others_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the dataset type that a repository has with another meaning."""
    monkeypatch.setattr(PATCHED, refuse_pixels)
    repo = str(tmp_path / "repo")
    Butler.makeRepo(repo)
    with Butler.from_config(repo, writeable=True) as butler:
        other = DatasetType("calexp", ("instrument",), "StructuredDataDict", universe=butler.dimensions)
        butler.registry.registerDatasetType(other)
    result = command(repo)
    assert "Dataset type 'calexp' is another one here" in result.output
    assert result.exit_code == 1


def test_full_disk_is_refused(repo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Say how much space there is before anything is made."""
    monkeypatch.setattr(PATCHED, refuse_pixels)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    for place in (repo, str(tmp_path / "new")):
        result = command(place, "--visit", str(FIRST + 1))
        assert "has 1 MB of free space; the simulation takes" in result.output
        assert result.exit_code == 1
    assert not (tmp_path / "new").exists()


def as_plain_user(*arguments: str) -> subprocess.CompletedProcess:
    """Run the command without root's right to ignore permissions."""
    program = [str(Path(sys.executable).parent / "butler"), "simulate-visit", *arguments]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv isn't installed")
        rights = "-dac_override,-dac_read_search"
        program = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *program]
    return subprocess.run(program, capture_output=True, text=True)


def test_read_only_registry_is_refused(repo: str) -> None:
    """Refuse in one line what can't be written."""
    path = Path(repo, "gen3.sqlite3")
    path.chmod(0o444)
    result = as_plain_user(repo, *ARGUMENTS, "--visit", str(FIRST + 1))
    assert result.returncode == 1
    assert result.stderr.startswith("Error:")
    assert "gen3.sqlite3 can't be written to: Permission denied" in result.stderr
    assert len((result.stdout + result.stderr).splitlines()) == 1


def test_read_only_folder_is_refused(repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse a place where no file can be made."""
    monkeypatch.setattr(PATCHED, refuse_pixels)
    Path(repo, "other").touch()
    result = command(repo, "--output-run", "other", "--visit", str(FIRST + 1))
    assert "other can't be written to: Not a directory" in result.output
    with Butler.from_config(repo) as butler:
        assert len(butler.query_dimension_records("visit", instrument="SynthCam")) == 1


def failing(error: BaseException) -> Callable:
    """Return a simulation whose second detector fails."""

    def simulate(simulation: VisitSimulation, detector: int) -> Any:
        if detector == 1:
            raise error
        return simulate_detector(simulation, detector)

    return simulate


def test_interrupted_visit_leaves_nothing(repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out half a visit, keep the finished ones, and allow it again."""
    visits = [replace(SMALL, visit=FIRST + 1, n_detectors=1), replace(SMALL, visit=FIRST + 2)]
    monkeypatch.setattr(PATCHED, failing(OSError("No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        put_simulated_visits(repo, visits)
    with Butler.from_config(repo) as butler:
        for name in ("src", "simulated_psf_truth"):
            refs = butler.query_datasets(name, "*", find_first=False)
            assert {ref.dataId["visit"] for ref in refs} == {FIRST, FIRST + 1}
    assert not list(Path(repo).rglob(f"*{FIRST + 2}*.fits"))
    assert visits_of_stars(repo, "simulated/inputs").keys() == {FIRST, FIRST + 1}
    monkeypatch.undo()
    put_simulated_visits(repo, visits[1:])
    assert visits_of_stars(repo, "simulated/inputs").keys() == {FIRST, FIRST + 1, FIRST + 2}


@pytest.mark.parametrize("killed", [False, True])
def test_interrupted_visit_can_become_another(
    repo: str, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Give the number of an interrupted visit to a smaller one."""
    monkeypatch.setattr(PATCHED, failing(KeyboardInterrupt()))
    if killed:
        monkeypatch.setattr("lsst.meas.finalize.simulate._repo._prune", lambda butler, refs: None)
    with pytest.raises(KeyboardInterrupt):
        put_simulated_visits(repo, [replace(SMALL, visit=FIRST + 1, size=300, band="g")])
    monkeypatch.undo()
    put_simulated_visits(repo, [replace(SMALL, visit=FIRST + 1, n_detectors=1)])
    with Butler.from_config(repo) as butler:
        (record,) = butler.query_dimension_records("visit", instrument="SynthCam", visit=FIRST + 1)
        assert record.physical_filter == "r_sim"
        data_id = {"instrument": "SynthCam", "visit": FIRST + 1}
        (image,) = butler.query_datasets("calexp", "*", data_id=data_id, find_first=False)
        assert butler.get(image).image.array.shape == (200, 200)


def test_killed_simulation_is_made_anew(repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace what a killed process has left of a visit."""
    new = replace(SMALL, visit=FIRST + 1)
    monkeypatch.setattr(PATCHED, failing(OSError("killed")))
    monkeypatch.setattr("lsst.meas.finalize.simulate._repo._prune", lambda butler, refs: None)
    with pytest.raises(OSError, match="killed"):
        put_simulated_visits(repo, [new])
    monkeypatch.undo()
    # Half a visit isn't associated by others.
    put_simulated_visits(repo, [replace(SMALL, visit=FIRST + 2, n_detectors=1)])
    assert visits_of_stars(repo, "simulated/inputs").keys() == {FIRST, FIRST + 2}
    put_simulated_visits(repo, [new])
    assert visits_of_stars(repo, "simulated/inputs").keys() == {FIRST, FIRST + 1, FIRST + 2}
