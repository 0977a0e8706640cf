# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import galsim
import numpy as np
import pytest

from lsst.meas.finalize.simulate.focal_plane import FocalPlanePsf, FocalPlaneSimulation, simulate_stars


@pytest.fixture(scope="module")
def psf() -> FocalPlanePsf:
    """Return the truth of a small visit."""
    return FocalPlanePsf(FocalPlaneSimulation(seed=5, n_stars=40, n_reserved=5))


def test_geometry() -> None:
    """Detectors are those of LSSTCam."""
    simulation = FocalPlaneSimulation(n_detectors=189)
    centres = np.array([simulation.centre(d) for d in range(189)])
    distance = np.linalg.norm(centres[:, np.newaxis] - centres, axis=2) + 1e9 * np.eye(189)
    assert distance.min() == pytest.approx(42.25)
    assert np.linalg.norm(centres, axis=1).max() < 1.1 * simulation.radius
    assert {simulation.vendor(d) for d in range(189)} == {0, 1}
    assert {simulation.quarter_turns(d) for d in range(189)} == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="no detector 189"):
        simulation.centre(189)
    with pytest.raises(ValueError, match="n_detectors"):
        FocalPlaneSimulation(n_detectors=22)
    # Fewer are the first of the 21.
    few, many = FocalPlaneSimulation(n_detectors=2), FocalPlaneSimulation()
    assert [few.centre(d) for d in range(2)] == [many.centre(d) for d in range(2)]


def test_turned_detector_sees_turned_image(psf: FocalPlanePsf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quarter turns turn the image, not the optics."""
    simulation = psf.simulation
    middle = [(simulation.size - 1) / 2]
    for detector in (0, 1, 2):
        turned = psf.images(detector, middle, middle)[0]
        with monkeypatch.context() as patch:
            patch.setattr(FocalPlaneSimulation, "quarter_turns", lambda self, d: 0)
            straight = psf.images(detector, middle, middle)[0]
        # Image axes are (y, x), so the sense of rot90 is the opposite.
        back = np.rot90(turned, -simulation.quarter_turns(detector))
        np.testing.assert_allclose(back, straight, atol=1e-12)


def test_defocus_is_that_of_geometry(psf: FocalPlanePsf) -> None:
    """A height h blurs a point to an annulus of outer diameter h / F."""
    before = psf.optics.rays(4, [2000.0], [2000.0])[0]
    psf.optics.focus_shift[4] = 25.0
    change = psf.optics.rays(4, [2000.0], [2000.0])[0] - before
    psf.optics.focus_shift.clear()
    radius = np.linalg.norm(change, axis=1).max()
    edge = np.sqrt(0.61**2 + (1 - 0.61**2) * 0.9)
    # 10 micrometres are 0.2 arcsec.
    assert radius == pytest.approx(25.0 / 1.234 / 2 / 10 * 0.2 * edge, rel=0.02)


def test_images_are_of_flux_one_and_shift(psf: FocalPlanePsf) -> None:
    """Derivatives are those by the centre."""
    image = psf.images(3, [100.0, 900.0], [200.0, 3000.0], dx=[0.0, 0.25], dy=0.0, derivatives=True)
    assert image[0].sum(axis=(1, 2)) == pytest.approx(1.0, abs=0.02)
    step = 1e-4
    moved = psf.images(3, [100.0, 900.0], [200.0, 3000.0], dx=[step, 0.25 + step])
    np.testing.assert_allclose((moved - image[0]) / step, image[1], atol=1e-5)


def test_size_agrees_with_galsim(psf: FocalPlanePsf) -> None:
    """Without aberrations and fields it is GalSim's von Karman profile."""
    flat = FocalPlanePsf(psf.simulation)
    flat.optics.rays = lambda d, x, y: np.zeros((len(x), 1, 2))  # type: ignore[method-assign]
    flat.atmosphere.parameters = lambda p: np.zeros((len(p), 3))  # type: ignore[method-assign]
    image = flat.images(0, [5.0], [5.0])[0]
    r0 = 0.976 * 620e-9 / np.deg2rad(psf.simulation.seeing / 3600)
    profile = galsim.VonKarman(lam=620.0, r0=r0, L0=25.0, scale_unit=galsim.arcsec)
    expected = profile.drawImage(nx=25, ny=25, scale=0.2).array
    # GalSim folds the wings of an image, 0.5 % of the flux.
    np.testing.assert_allclose(image, expected, atol=1e-3 * expected.max())


def test_fields_are_correlated_over_a_tenth_of_a_degree_to_one(psf: FocalPlanePsf) -> None:
    """Correlations have the scale of the outer scale seen from below."""
    rng = np.random.default_rng(3)
    start = rng.uniform(-200.0, 200.0, (3000, 2))
    angle = rng.uniform(0.0, 2.0 * np.pi, 3000)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    here = psf.atmosphere.parameters(start)
    correlation = {}
    for degrees in (0.02, 0.1, 1.0):
        there = psf.atmosphere.parameters(start + degrees * 180.0 * direction)
        correlation[degrees] = np.mean([np.corrcoef(here[:, i], there[:, i])[0, 1] for i in range(3)])
    assert correlation[0.02] > 0.85
    assert 0.3 < correlation[0.1] < 0.8
    assert abs(correlation[1.0]) < 0.25


def test_stars_have_their_noise_and_fewer_are_the_first_of_more(psf: FocalPlanePsf) -> None:
    """Stars are truth plus noise, whatever their number."""
    stars = simulate_stars(psf, 2)
    assert stars.is_reserved.sum() == 5
    fewer = simulate_stars(FocalPlanePsf(FocalPlaneSimulation(seed=5, n_stars=10, n_reserved=0)), 2)
    np.testing.assert_array_equal(fewer.x, stars.x[:10])
    np.testing.assert_allclose(fewer.flux, stars.flux[:10])
    star = np.flatnonzero(~stars.is_galaxy)
    half = psf.simulation.stamp_size // 2
    dx, dy = stars.x - stars.x0 - half, stars.y - stars.y0 - half
    model = psf.images(2, stars.x, stars.y, dx=dx, dy=dy) * stars.flux[:, np.newaxis, np.newaxis]
    pull = ((stars.image - model) / np.sqrt(stars.variance))[star]
    # Colours don't matter without refraction.
    assert pull.std() == pytest.approx(1.0, abs=0.02)
    assert pull.mean() == pytest.approx(0.0, abs=0.03)
