# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of images and sources of plain arrays."""

from __future__ import annotations

import astropy.units as u
import astropy.wcs
import numpy as np
import pytest
import scipy.ndimage
from astropy.coordinates import SkyCoord

from lsst.images import VisitImage
from lsst.meas.finalize.arrays import detect, find_sources, make_image
from lsst.meas.finalize.arrays._detect import _grow, _peaks

SIGMA, FLUX = 1.7, 1e5
STARS = np.array([[40.3, 30.6], [90.0, 60.2], [60.4, 91.7]])  # x, y


def pixels(shape: tuple[int, int] = (120, 130)) -> np.ndarray:
    """Draw Gaussian stars of one flux."""
    y, x = np.indices(shape)
    image = np.zeros(shape)
    for x0, y0 in STARS:
        radius2 = (x - x0) ** 2 + (y - y0) ** 2
        image += FLUX / (2 * np.pi * SIGMA**2) * np.exp(-radius2 / (2 * SIGMA**2))
    return image


def test_sources_are_where_the_stars_are() -> None:
    """Find stars of known places and fluxes, beside pixels without value."""
    image = pixels()
    image[:5], image[:, -3:] = np.nan, np.inf
    made = make_image(image, 100.0, fwhm=2.355 * SIGMA, masks={"BAD": ~np.isfinite(image)})
    src = find_sources(made, first_id=70)
    assert sorted(src["id"]) == [71, 72, 73]
    found = np.stack([src["slot_Centroid_x"], src["slot_Centroid_y"]], axis=1)
    order = np.argsort(found[:, 0]), np.argsort(STARS[:, 0])
    np.testing.assert_allclose(found[order[0]], STARS[order[1]], atol=0.01)
    np.testing.assert_allclose(src["slot_PsfFlux_instFlux"], FLUX, rtol=2e-3)
    assert made.mask.get("DETECTED")[60, 90]
    assert made.mask.get("BAD")[2, 60]


def test_children_name_their_parent() -> None:
    """Tell which source was split, be it the first of all."""
    image = pixels()
    image += np.roll(pixels(), 8, axis=1) * (np.indices(image.shape)[0] < 45)
    src = find_sources(make_image(image, 100.0, fwhm=2.355 * SIGMA), first_id=70)
    assert src["id"].tolist() == [71, 72, 73, 74, 75]
    assert src["parent"].tolist() == [0, 0, 0, 71, 71]
    assert src["deblend_nChild"].tolist() == [2, 0, 0, 0, 0]


def test_nothing_is_found_in_noise() -> None:
    """Return an empty catalogue of an image without a source."""
    noise = np.random.default_rng(2).normal(0.0, 1.0, (60, 50))
    src = find_sources(make_image(noise, 1.0, fwhm=4.0))
    assert len(src) == len(src["coord_ra"]) == 0


def test_wcs_gives_the_coordinates() -> None:
    """Use the WCS that is given, with pixels that count from 0."""
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [150.0, 2.0], [61.0, 51.0]
    wcs.wcs.cd = np.diag([-0.3, 0.3]) / 3600
    src = find_sources(make_image(pixels(), 100.0, fwhm=4.0, wcs=wcs))
    expected = wcs.pixel_to_world(src["slot_Centroid_x"], src["slot_Centroid_y"])
    actual = SkyCoord(src["coord_ra"], src["coord_dec"], unit=u.rad)
    assert np.all(expected.separation(actual) < 1e-6 * u.arcsec)


def test_image_knows_what_it_is() -> None:
    """Hand over band, numbers and scale; copy the pixels."""
    image = np.zeros((30, 40), dtype=np.float32)
    made = make_image(image, 1.0, fwhm=4.0, band="i", visit=7, detector=3, pixel_scale=0.5)
    image += 1
    assert isinstance(made, VisitImage)
    assert (made.band, made.detector.id, made.obs_info.visit_id) == ("i", 3, 7)
    assert made.image.array.max() == 0
    sky = made.sky_projection.pixel_to_sky(x=np.array([0.0, 10.0]), y=np.array([0.0, 0.0]))
    assert sky[0].separation(sky[1]).arcsec == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variance": np.ones((3, 3))}, "variance has the shape (3, 3), the image (30, 40)"),
        ({"masks": {"COMET": True}}, "no mask plane 'COMET'"),
        ({"masks": {"BAD": [True]}}, "The mask BAD has the shape (1,)"),
        ({"fwhm": 0.0}, "fwhm=0.0"),
        ({"fwhm": np.nan}, "fwhm=nan"),
        ({"pixel_scale": -1.0}, "pixel_scale=-1.0"),
        ({"image": np.zeros(5)}, "two dimensions, not the shape (5,)"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, object], message: str) -> None:
    """Refuse shapes, planes and numbers that can't be meant."""
    arguments = {"image": np.zeros((30, 40)), "variance": 1.0, "fwhm": 4.0} | changes
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        make_image(arguments.pop("image"), arguments.pop("variance"), **arguments)


@pytest.mark.parametrize("variance", [0.0, np.nan, np.inf])
def test_image_without_a_usable_pixel_is_refused(variance: float) -> None:
    """Say so, rather than to find nothing."""
    with pytest.raises(ValueError, match="No pixel of the image"):
        find_sources(make_image(np.zeros((30, 40)), variance, fwhm=4.0))


@pytest.mark.parametrize("radius", [0.5, 2.0, 4.6])
def test_detections_grow_by_a_disc(radius: float) -> None:
    """Compare growing and peaks with SciPy's filters, edges included."""
    rng = np.random.default_rng(4)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(60, 45)), 1.5)
    smooth[10, 10:13] = smooth.max()
    above = smooth > np.quantile(smooth, 0.8)
    reach = np.arange(-5, 6)
    disc = np.hypot(reach, reach[:, np.newaxis]) <= radius
    np.testing.assert_array_equal(_grow(above, radius), scipy.ndimage.binary_dilation(above, disc))
    peaks = above & (smooth == scipy.ndimage.maximum_filter(smooth, size=7))
    np.testing.assert_array_equal(_peaks(smooth, above), np.nonzero(peaks))
    assert _grow(above & False, radius).sum() == len(_peaks(smooth, above & False)[0]) == 0


def test_large_blends_are_split_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give pixels to the nearest peak, however few are looked at at once."""
    rng = np.random.default_rng(6)
    image = scipy.ndimage.gaussian_filter(1e3 * rng.exponential(size=(70, 60)), 2.0)
    everywhere = np.ones(image.shape, dtype=bool)
    variance = np.full(image.shape, 100.0)
    found = {}
    for block in (1 << 20, 40):
        monkeypatch.setattr("lsst.meas.finalize.arrays._detect._BLOCK", block)
        found[block] = detect(image, variance, 2.0, everywhere)
    whole, blocks = found.values()
    assert whole.n_children.max() > 20
    for name in ("span_offsets", "span_y", "span_x0", "span_x1", "heavy_image"):
        np.testing.assert_array_equal(getattr(blocks.footprints, name), getattr(whole.footprints, name))
    # The first pixel of each child is nearest to its own peak.
    x, y = whole.footprints.first_peaks()[:2]
    children = np.flatnonzero(whole.parent >= 0)
    first = whole.footprints.span_offsets[children]
    px, py = whole.footprints.span_x0[first], whole.footprints.span_y[first]
    distance = np.hypot(px[:, np.newaxis] - x[children], py[:, np.newaxis] - y[children])
    np.testing.assert_allclose(np.diag(distance), distance.min(axis=1))
