# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lsst.daf.butler import Butler
from lsst.meas.finalize.arrays import detect
from lsst.meas.finalize.cli import simulate_visit
from lsst.meas.finalize.simulate import CAMERAS, VisitPsf, VisitSimulation, make_scene, simulate_detector
from lsst.meas.finalize.simulate._associations import associate_stars
from lsst.meas.finalize.simulate._render import _interpolate, render


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("band", "x", "Band 'x'"),
        ("band", "gr", "Band 'gr'"),
        ("seed", -1, "seed=-1"),
        ("n_detectors", 190, "n_detectors=190"),
        ("dither", -1.0, "dither=-1"),
        ("size", 10, "size=10"),
        ("n_stars", -1, "negative"),
        ("visit", 5, "visit=5"),
        ("visit", 20261399001, "begin with a date"),
        ("visit", 21000101001, "between 1970 and 2099"),
        ("fwhm", float("nan"), "positive numbers"),
        ("sky", -1.0, "positive numbers"),
    ],
)
def test_bad_options_are_named(option: str, value: object, message: str) -> None:
    """Name an option that is out of its range."""
    with pytest.raises(ValueError, match=message):
        VisitSimulation(**{option: value})


def test_scene_is_reproducible(simulation: VisitSimulation) -> None:
    """Make the same objects from the same seed, others for a detector."""
    first, again, other = (make_scene(simulation, d) for d in (0, 0, 1))
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.x, other.x)


def test_isolated_stars_are_isolated(simulation: VisitSimulation) -> None:
    """Keep galaxies and blends out of the isolated stars."""
    scene = make_scene(simulation, 0)
    assert np.all(scene.is_star[scene.is_isolated])
    assert not np.any(scene.is_isolated[-2 * simulation.n_blends :])


def test_rendered_flux_is_that_of_the_scene(simulation: VisitSimulation) -> None:
    """Find the flux of an isolated star in its pixels."""
    scene = make_scene(simulation, 0)
    planes = render(simulation, 0, scene, VisitPsf(simulation))
    inside = (np.abs(scene.x - simulation.size / 2) < 150) & (np.abs(scene.y - simulation.size / 2) < 150)
    bad = planes.masks["INTERPOLATED"]
    checked = 0
    for i in np.flatnonzero(scene.is_isolated & inside & (scene.flux > 5e4)):
        y, x = round(scene.y[i]), round(scene.x[i])
        window = np.s_[y - 10 : y + 11, x - 10 : x + 11]
        if bad[window].any():
            continue
        # A window of 21 pixels holds 98 % of a Moffat star's flux.
        error = np.sqrt(planes.variance[window].sum())
        assert abs(planes.image[window].sum() - 0.98 * scene.flux[i]) < 0.02 * scene.flux[i] + 5 * error
        checked += 1
    assert checked > 3


def test_bad_pixels_are_interpolated_along_rows() -> None:
    """Compare with NumPy's interpolation, row by row."""
    rng = np.random.default_rng(8)
    image = rng.normal(size=(40, 50))
    bad = rng.random(image.shape) < 0.3
    bad[:, 20] = bad[3] = True
    bad[4], bad[5, :10], bad[6, 40:], bad[7, 1:] = False, True, True, True
    expected = image.copy()
    columns = np.arange(50)
    for row in np.flatnonzero(~bad.all(axis=1)):
        good = ~bad[row]
        expected[row, ~good] = np.interp(columns[~good], columns[good], image[row, good])
    repaired = image.copy()
    _interpolate(repaired, bad)
    np.testing.assert_allclose(repaired, expected, atol=1e-14)
    assert np.any(repaired != image)
    _interpolate(repaired, np.zeros_like(bad))
    np.testing.assert_allclose(repaired, expected, atol=1e-14)


def test_blend_is_split_into_heavy_children() -> None:
    """Give two close stars a parent and a heavy child each."""
    y, x = np.mgrid[:60, :80]
    image = sum(1000 * np.exp(-((x - cx) ** 2 + (y - 30) ** 2) / 8) for cx in (30, 40)).astype(np.float32)
    image += (500 * np.exp(-((x - 65) ** 2 + (y - 12) ** 2) / 8)).astype(np.float32)
    variance = np.ones_like(image)
    found = detect(image, variance, 2.0, np.ones(image.shape, dtype=bool))
    assert len(found.footprints) == 4
    assert found.parent.tolist() == [-1, -1, 1, 1]
    assert found.n_children.tolist() == [0, 2, 0, 0]
    assert found.footprints.is_heavy.tolist() == [False, False, True, True]
    # The children share out the parent's pixels.
    assert found.footprints.area[2:].sum() == found.footprints.area[1]
    np.testing.assert_array_equal(found.footprints.first_peaks()[0][2:], [30, 40])
    row, py, px = found.footprints.pixels(np.array([2]))
    np.testing.assert_array_equal(found.footprints.heavy_image[: len(row)], image[py, px])


def test_repository_holds_consistent_tables(simulated_butler: Butler, simulation: VisitSimulation) -> None:
    """Check the associations against sources and truth."""
    data_id = {"instrument": "SynthCam", "visit": simulation.visit, "detector": 0}
    with simulated_butler.query() as query:
        assert query.datasets("calexp", "simulated/inputs").count() == simulation.n_detectors
    src = simulated_butler.get("src", data_id, collections="simulated/inputs")
    truth = simulated_butler.get("simulated_truth", data_id, collections="simulated/inputs")
    found = truth[truth["source_id"] > 0]
    rows = np.searchsorted(src["id"], found["source_id"])
    distance = np.hypot(src["slot_Centroid_x"][rows] - found["x"], src["slot_Centroid_y"][rows] - found["y"])
    assert np.max(distance) < 1.0
    assert np.mean(truth["source_id"][truth["is_isolated"]] > 0) > 0.8
    for isolated, sources in associate_stars(simulation, {0: truth}).values():
        for star in range(len(isolated)):
            first = isolated["source_cat_index_r"][star]
            block = sources["obj_index"][first : first + isolated["nsource_r"][star]]
            assert np.all(block == star)


def test_command_simulates_into_a_new_repository(tmp_path: object) -> None:
    """Run the butler subcommand."""
    repo = f"{tmp_path}/repo"
    arguments = [
        "--detectors",
        "1",
        "--size",
        "300",
        "--stars",
        "15",
        "--band",
        "i",
        "--visit",
        "20260101007",
    ]
    result = CliRunner().invoke(simulate_visit, [repo, *arguments])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == ["Simulated in run simulated/inputs: visit 20260101007"]
    with Butler.from_config(repo, collections="simulated/inputs") as butler:
        calexp = butler.get("calexp", instrument="SynthCam", visit=20260101007, detector=0)
    assert calexp.band == "i"
    assert calexp.bbox.shape == (300, 300)


SMALL = ("--detectors", "1", "--size", "200", "--stars", "5", "--galaxies", "0")


@pytest.mark.parametrize("camera", list(CAMERAS))
def test_command_has_the_defaults_of_the_simulation(camera: str) -> None:
    """State the defaults that a camera's visits have, and refuse others."""
    options = {parameter.name: parameter for parameter in simulate_visit.params}
    assert list(options.pop("camera").type.choices) == list(CAMERAS)
    for name in ("repo", "output_run", "n_visits", "dither", "jobs"):
        del options[name]
    visit = CAMERAS[camera].visit()
    for name, option in options.items():
        stated = option.help.partition("[default: ")[2].rstrip("]") or str(option.default)
        if not hasattr(visit, name):
            assert "focal plane" in stated
            result = CliRunner().invoke(simulate_visit, ["repo", "--camera", camera, option.opts[0], "1"])
            assert result.exit_code == 2
            assert f"Camera {camera} has no option {option.opts[0]}." in result.output
            continue
        simple, _, other = stated.partition("; focal-plane: ")
        stated = (other or simple) if camera == "focal-plane" else simple
        assert stated.partition(";")[0] == str(getattr(visit, name)), name


def test_command_puts_other_visits_beside_the_first(tmp_path: Path) -> None:
    """Add a visit with other detectors; refuse the same one in one line."""
    repo = str(tmp_path / "repo")
    for arguments, message in (
        (["--visit", "20260101007"], ""),
        (["--visit", "20260101007"], "Run 'simulated/inputs' has visit 20260101007 already"),
        (["--visit", "20260101007", "--band", "i", "--output-run", "b"], "differs from one of that number"),
        (["--visit", "20260101008", "--size", "220", "--output-run", "b"], ""),
    ):
        result = CliRunner().invoke(simulate_visit, [repo, *SMALL, *arguments])
        assert result.exit_code == bool(message), result.output
        assert message in result.output
        assert not message or result.output.count("Error") == 1
    with Butler.from_config(repo) as butler:
        assert len(butler.query_datasets("calexp", "*", find_first=False)) == 2


@pytest.mark.parametrize(
    ("repo", "arguments", "message"),
    [("file", [], "not a directory"), ("repo", ["--output-run", " "], "output run is empty")],
)
def test_command_tells_of_bad_places(tmp_path: Path, repo: str, arguments: list, message: str) -> None:
    """Tell in one line what can't be written to."""
    (tmp_path / "file").touch()
    result = CliRunner().invoke(simulate_visit, [str(tmp_path / repo), *SMALL, *arguments])
    assert isinstance(result.exception, SystemExit)
    assert message in result.output
    assert not (tmp_path / "repo").exists()


def test_boundary_of_tracts_runs_through_detectors(
    simulated_butler: Butler, simulation: VisitSimulation
) -> None:
    """Have a detector with stars of both tracts."""
    detectors = [
        set(
            simulated_butler.get(
                "isolated_star_presources",
                skymap="synth_tracts",
                tract=tract,
                instrument="SynthCam",
                collections="simulated/inputs",
            )["detector"].tolist()
        )
        for tract in simulation.tracts
    ]
    assert detectors[0] & detectors[1]
    assert detectors[0] != detectors[1]


def test_command_refuses_bad_visit(tmp_path: object) -> None:
    """Tell in one line what is wrong with an option."""
    result = CliRunner().invoke(simulate_visit, [f"{tmp_path}/repo", "--visit", "5"])
    assert result.exit_code == 2
    assert "visit=5 does not have the 11 digits" in result.output


@pytest.mark.parametrize("camera", list(CAMERAS))
def test_sky_may_be_empty(camera: str) -> None:
    """Simulate a detector that sees nothing, and repair nothing on it."""
    options = {"n_stars": 0, "n_cosmic_rays": 0, "n_bad_columns": 0, "size": 200, "n_detectors": 1}
    if camera == "simple":
        options |= {"n_galaxies": 0, "n_blends": 0}
    made = simulate_detector(CAMERAS[camera].visit(**options), 0)
    assert len(made.src) == len(made.truth) == 0
    assert np.std(made.calexp.image.array[:180, :180]) == pytest.approx(30.0, rel=0.02)
    assert associate_stars(VisitSimulation(), {0: made.truth}).keys() == set(VisitSimulation.tracts)
