# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Visits of the focal plane in repositories."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import astropy.coordinates
import astropy.units as u
import numpy as np
import pytest
from click.testing import CliRunner

from lsst.daf.butler import Butler
from lsst.meas.finalize.cli import simulate_visit
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.simulate import (
    Scene,
    TruePsf,
    VisitPsf,
    VisitSimulation,
    make_scene,
    read_psf_truth,
    survey,
    true_psf,
)
from lsst.meas.finalize.simulate._render import render
from lsst.meas.finalize.simulate.focal_plane import FocalPlanePsf, FocalPlaneVisit, make_focal_plane_cell
from lsst.meas.finalize.simulate.focal_plane._cells import galaxy_moments
from lsst.meas.finalize.simulate.focal_plane._optics import Optics
from lsst.pipe.base import Pipeline
from lsst.pipe.base.simple_pipeline_executor import SimplePipelineExecutor

PIPELINES = Path(__file__).parents[3] / "pipelines"
VISIT = 20260304001
RUN = "simulated/inputs"
# Detectors 0 to 2 are turned by 90, 180 and 270 degrees.
FIRST, SECOND = survey(
    2,
    visit=VISIT,
    bands="ri",
    kind=FocalPlaneVisit,
    n_detectors=3,
    size=440,
    n_stars=40,
    refraction=0.1,
    galaxy_fraction=0.05,
    dither=4.0,
)
CONFIG = """
config.psf_determiner.name = "hierarchical"
config.psf_determiner["hierarchical"].spatialOrder = 1
config.measurement.plugins.names = [
    "base_FPPosition", "base_GaussianFlux", "base_PsfFlux",
    "ext_shapeHSM_HsmPsfMoments", "ext_shapeHSM_HsmSourceMoments",
]
config.measurement.slots.modelFlux = None
"""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate two visits into a repository, as a user does."""
    repo = tmp_path_factory.mktemp("focal_plane") / "repo"
    arguments = "--camera focal-plane --visits 2 --bands ri --detectors 3 --size 440 --stars 40"
    arguments += " --refraction 0.1 --galaxy-fraction 0.05 --dither 4"
    result = CliRunner().invoke(simulate_visit, [str(repo), *arguments.split()])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == f"Simulated in run {RUN}: visits {VISIT}, {VISIT + 1}"
    return repo


@pytest.fixture(scope="module")
def butler(repo: Path) -> Butler:
    """Return a butler of that repository."""
    return Butler.from_config(str(repo), collections=RUN, instrument="SynthCam")


@pytest.fixture(scope="module")
def content(butler: Butler) -> dict[str, Any]:
    """Return the dataset of the first visit's true PSF."""
    return butler.get("simulated_psf_truth", visit=VISIT)


@pytest.fixture(scope="module")
def truth(content: dict[str, Any]) -> TruePsf:
    """Return the first visit's true PSF, from the dataset."""
    return read_psf_truth(content)


def test_stored_truth_is_that_of_the_library(content: dict[str, Any], truth: TruePsf) -> None:
    """Draw the same PSF from the dataset as from the simulation."""
    assert content["options"] == dataclasses.asdict(FIRST)
    direct = FocalPlanePsf(FIRST.focal_plane)
    x, y, color = np.array([3.0, 400.0]), np.array([220.0, 7.0]), np.array([0.4, 2.5])
    for detector in range(3):
        expected = direct.images(detector, x, y, dx=0.2, dy=-0.4, color=color)
        drawn = truth.images(detector, x, y, dx=0.2, dy=-0.4, color=color, side=expected.shape[-1])
        np.testing.assert_array_equal(drawn, expected)
    # Refraction blurs red stars, along x here.
    round_, red = truth.shapes(0, x[:1], y[:1])[0], truth.shapes(0, x[:1], y[:1], color=3.0)[0]
    assert red[0] - round_[0] > 3 * abs(red[1] - round_[1])


def test_stored_truth_of_the_simple_camera(simulated_butler: Butler, simulation: VisitSimulation) -> None:
    """Draw the profile of that camera's PSF."""
    data_id = {"instrument": "SynthCam", "visit": simulation.visit}
    psf = read_psf_truth(simulated_butler.get("simulated_psf_truth", data_id, collections=RUN))
    image = psf.images(2, 30.0, 60.0, dx=0.25, dy=-0.1, side=31)[0]
    profile = VisitPsf(simulation).profile(2, 30.0, 60.0)
    expected = profile.drawImage(nx=31, ny=31, scale=0.2, offset=(0.25, -0.1), dtype=float).array
    np.testing.assert_allclose(image, expected, atol=1e-12)
    with pytest.raises(ValueError, match="side=30"):
        psf.images(2, 30.0, 60.0, side=30)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("options", None, r"lacks \['options'\]"),
        ("format_version", 2, "format_version 2, not 1"),
        ("camera", "hubble", "unknown camera 'hubble'"),
        ("options", {"zoom": 3}, "other options than this version: .*zoom"),
        ("options", {"fwhm": -1.0}, "fwhm"),
        ("probe", [0.1, 0.2], "draws other PSFs"),
    ],
)
def test_bad_truth_is_refused(
    content: dict[str, Any], truth: TruePsf, key: str, value: Any, message: str
) -> None:
    """Say what is wrong with a dataset, or that it is of another version."""
    bad = copy.deepcopy(content)
    if value is None:
        del bad[key]
    elif key == "options":
        bad[key] |= value
    else:
        bad[key] = value
    with pytest.raises(ValueError, match=message):
        read_psf_truth(bad)


def test_other_random_numbers_are_noticed(content: dict[str, Any], truth: TruePsf) -> None:
    """Refuse a PSF that has changed by a thousandth of a percent."""
    bad = copy.deepcopy(content)
    bad["probe"] = [1.00001 * value for value in bad["probe"]]
    with pytest.raises(ValueError, match="draws other PSFs"):
        read_psf_truth(bad)


def test_star_in_an_image_is_the_truth(butler: Butler, truth: TruePsf) -> None:
    """Find a star without noise in the image, but for whole electrons."""
    x, y, flux = 200.3, 180.8, 3e4
    nothing = np.zeros(1)
    yes = np.ones(1, dtype=bool)
    star = Scene(
        np.array([x]), np.array([y]), np.array([flux]), nothing + 2.2, yes, nothing, nothing, nothing, yes
    )
    detector = 2
    drawn = render(FIRST, detector, star, truth)
    empty = render(FIRST, detector, Scene(**{k: v[:0] for k, v in vars(star).items()}), truth)
    half = 21
    stamp = np.s_[181 - half : 181 + half + 1, 200 - half : 200 + half + 1]
    expected = flux * truth.images(detector, x, y, dx=0.3, dy=-0.2, color=2.2, side=2 * half + 1)[0]
    np.testing.assert_allclose((drawn.variance - empty.variance)[stamp], expected, atol=1e-3)
    assert FIRST.n_tracks == 1
    assert FocalPlaneVisit().n_tracks == 100
    assert drawn.variance.sum(dtype=float) - 900.0 * 440**2 == pytest.approx(flux, rel=2e-3)
    # In the stored images the noise is what the variance says.
    pulls = []
    image, table = (butler.get(n, visit=VISIT, detector=detector) for n in ("calexp", "simulated_truth"))
    np.testing.assert_array_equal(image.image.array, np.rint(image.image.array))
    repaired = image.mask.get("INTERPOLATED")
    inside = (abs(table["x"] - 219.5) < 190) & (abs(table["y"] - 219.5) < 190)
    for row in table[inside & table["is_isolated"] & table["is_star"]]:
        cx, cy = round(row["x"]), round(row["y"])
        stamp = np.s_[cy - 7 : cy + 8, cx - 7 : cx + 8]
        shift = {"dx": row["x"] - cx, "dy": row["y"] - cy}
        model = (
            row["flux"] * truth.images(detector, row["x"], row["y"], **shift, color=row["color"], side=15)[0]
        )
        pull = (image.image.array[stamp] - model) / np.sqrt(image.variance.array[stamp])
        if not repaired[stamp].any():
            pulls.append(pull)
    assert len(pulls) > 10
    assert np.std(pulls) == pytest.approx(1.0, abs=0.05)
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("detector", [0, 1, 2])
def test_sky_positions_of_stars_are_on_the_turned_detector(butler: Butler, detector: int) -> None:
    """Place isolated stars by spherical geometry, and by the image's WCS."""
    visit, image = FIRST, butler.get("calexp", visit=VISIT, detector=detector)
    src = butler.get("src", visit=VISIT, detector=detector)
    assert visit.quarter_turns(detector) == detector + 1
    boresight = astropy.coordinates.SkyCoord(*visit.boresight, unit="deg")
    count = 0
    for tract in visit.tracts:
        data_id = {"skymap": "synth_tracts", "tract": tract}
        stars = butler.get("isolated_star_presource_associations", data_id)
        sources = butler.get("isolated_star_presources", data_id)
        sources = sources[(sources["visit"] == VISIT) & (sources["detector"] == detector)]
        if not len(sources):
            continue
        rows = np.searchsorted(src["id"], sources["sourceId"])
        x, y = src["slot_Centroid_x"][rows], src["slot_Centroid_y"][rows]
        sky = astropy.coordinates.SkyCoord(
            stars["ra"][sources["obj_index"]], stars["dec"][sources["obj_index"]], unit="deg"
        )
        pixel = image.sky_projection.sky_to_pixel(sky)
        # Measured centroids scatter, some by a cosmic ray.
        assert np.median(np.hypot(pixel.x - x, pixel.y - y)) < 0.1
        assert np.hypot(pixel.x - x, pixel.y - y).max() < 1.0
        # The x axis of the focal plane points to the west.
        mm = visit.focal_plane.focal_position(detector, pixel.x, pixel.y)
        angle = np.arctan2(-mm[:, 0], mm[:, 1]) * u.rad
        distance = np.arctan(np.hypot(*mm.T) * (0.2 * u.arcsec).to_value(u.rad) / 0.01) * u.rad
        expected = boresight.directional_offset_by(angle, distance)
        assert expected.separation(sky).to_value(u.arcsec).max() < 1e-5
        focal = image.detector.to_focal_plane.apply_forward(x=pixel.x, y=pixel.y)
        np.testing.assert_allclose(np.stack([focal.x, focal.y], axis=1), mm, atol=1e-9)
        count += len(sources)
    assert count > 15
    orientation = image.detector.orientation
    assert orientation.yaw.to_value(u.deg) == 90.0 * visit.quarter_turns(detector)
    assert image.detector.physical_type == "B"


def test_visits_see_the_same_stars(butler: Butler) -> None:
    """Find stars of both visits, and an atmosphere of each one's own."""
    both = 0
    for tract in FIRST.tracts:
        stars = butler.get("isolated_star_presource_associations", skymap="synth_tracts", tract=tract)
        both += int(np.sum((stars["nsource_r"] > 0) & (stars["nsource_i"] > 0)))
    assert both > 50
    second = read_psf_truth(butler.get("simulated_psf_truth", visit=VISIT + 1))
    images = [psf.images(1, 200.0, 200.0)[0] for psf in (true_psf(FIRST), second)]
    assert np.abs(images[0] - images[1]).max() > 0.02 * images[0].max()
    # The detectors are the same.
    first, other = (Optics(visit.focal_plane) for visit in (FIRST, SECOND))
    assert first.height(1, 3.0, 200.0) == other.height(1, 3.0, 200.0)
    assert not np.allclose(first.wavefront(1, [3.0], [200.0]), other.wavefront(1, [3.0], [200.0]))


def test_galaxies_are_turned_with_the_sky() -> None:
    """Keep the moments of galaxies on the sky, and turn them on detectors."""
    visit = FocalPlaneVisit(n_detectors=3, size=440, n_stars=60, galaxy_fraction=1.0)
    cell = make_focal_plane_cell(visit, 0, 0)
    cell.pop("kind")
    sky = Scene(**cell, is_isolated=~cell["is_star"])
    moments = galaxy_moments(sky)
    assert np.all(moments[:, :2] > 0.004)
    assert np.all(np.hypot(sky.g1, sky.g2) < 0.3)
    assert np.ptp(sky.g1) > 0.2
    determinant = moments[:, 0] * moments[:, 1] - moments[:, 2] ** 2
    np.testing.assert_allclose(sky.radius, np.sqrt(2 * np.log(2)) * determinant**0.25)
    for detector in range(3):
        scene = make_scene(visit, detector)
        assert len(scene) > 20
        # Their true shapes are those of the field's galaxies, turned back.
        west, north = visit.pixel_to_plane(detector, scene.x, scene.y)
        rotation = visit.rotation(detector)
        i, j = int(np.floor(west[0] / 440)), int(np.floor(north[0] / 440))
        cell = make_focal_plane_cell(visit, i, j)
        row = np.argmin(np.hypot(cell["x"] - west[0], cell["y"] - north[0]))
        cell.pop("kind")
        (xx, yy, xy) = galaxy_moments(Scene(**cell, is_isolated=~cell["is_star"]))[row]
        turned = rotation.T @ np.array([[xx, xy], [xy, yy]]) @ rotation
        np.testing.assert_allclose(
            galaxy_moments(scene)[0], [turned[0, 0], turned[1, 1], turned[0, 1]], atol=1e-12
        )


def test_visit_task_reaches_the_truth(repo: Path, truth: TruePsf) -> None:
    """Fit two detectors with the visit's model and compare with the truth."""
    pipeline = Pipeline.from_uri(str(PIPELINES / "FinalizeCharacterizationVisit.yaml#finalize"))
    pipeline.addConfigPython("finalizeCharacterization", CONFIG)
    butler = SimplePipelineExecutor.prep_butler(str(repo), [RUN], "test/visit")
    where = f"visit = {VISIT} AND detector < 2"
    executor = SimplePipelineExecutor.from_pipeline(pipeline, where=where, butler=butler)
    executor.run(register_dataset_types=True)
    with Butler.from_config(str(repo), collections=executor.butler.run, instrument="SynthCam") as done:
        catalog = done.get("finalized_psf_ap_corr_catalog", visit=VISIT)
    assert catalog["id"].tolist() == [0, 1]
    x, y = np.array([120.0, 300.0]), np.array([250.0, 140.0])
    for record in catalog:
        model = as_batch_psf(record.psf).draw_kernel_images(x, y)
        side = model.shape[-1]
        expected = truth.images(record.id, x, y, color=1.35, side=side)
        expected /= expected.sum(axis=(1, 2), keepdims=True)
        error = model / model.sum(axis=(1, 2), keepdims=True) - expected
        assert np.sqrt((error**2).sum(axis=(1, 2)) / (expected**2).sum(axis=(1, 2))).max() < 0.1
        assert record.ap_corr_map


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detectors", "30"], "n_detectors=30 is neither 1 to 21 nor 189"),
        (["--size", "4300"], "size=4300"),
        (["--fwhm", "2.5"], "seeing of 2.5"),
        (["--galaxies", "5"], "Camera focal-plane has no option --galaxies"),
        (["--refraction", "1.5"], "--refraction"),
        (["--galaxy-fraction", "2"], "--galaxy-fraction"),
        (["--camera", "fisheye"], "'fisheye' is not one of"),
        (["--visits", "2", "--bands", "rx"], "Band 'x'"),
    ],
)
def test_command_refuses_bad_options(tmp_path: Path, arguments: list[str], message: str) -> None:
    """Tell of an option that the camera hasn't, or that is out of range."""
    result = CliRunner().invoke(
        simulate_visit, [str(tmp_path / "repo"), "--camera", "focal-plane", *arguments]
    )
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("galaxy_fraction", float("nan"), "Fractions"),
        ("refraction", float("nan"), "refraction"),
        ("sky", float("nan"), "sky"),
        ("n_cosmic_rays", -1, "negative"),
        ("n_detectors", 0, "n_detectors=0"),
    ],
)
def test_bad_options_are_named(option: str, value: Any, message: str) -> None:
    """Name an option that is out of its range."""
    with pytest.raises(ValueError, match=message):
        FocalPlaneVisit(**{option: value})
