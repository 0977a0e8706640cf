# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What the determiner hands to the fit of a visit, and what it makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lsst.images import Box
from lsst.meas.finalize.catalogs import StampSet
from lsst.meas.finalize.focal_plane import DetectorFrame, nearest_orientation
from lsst.meas.finalize.psf import HierarchicalPsfDeterminerConfig, HierarchicalPsfDeterminerTask
from lsst.meas.finalize.psf._weights import star_weights
from lsst.meas.finalize.psf.hierarchical._basis import make_basis
from lsst.meas.finalize.psf.hierarchical._determiner import DetectorStars, _join, _variance_slope
from lsst.meas.finalize.simulate.focal_plane import FocalPlanePsf, FocalPlaneSimulation, simulate_stars


def _detector_stars(psf: FocalPlanePsf, detector: int) -> DetectorStars:
    """Return stars of a detector of which every second candidate is usable."""
    simulation, part = psf.simulation, simulate_stars(psf, detector)
    jacobian = simulation.rotation(detector) * simulation.pixel_size
    offset = simulation.focal_position(detector, [0.0], [0.0])[0]
    last, number = simulation.size - 1.0, len(part.x)
    stamps = StampSet(part.image, part.variance, part.bad.astype(np.uint32), part.x0, part.y0, {"BAD": 0})
    frame = DetectorFrame(
        (0.0, last, 0.0, last),
        (offset[0], offset[1]),
        tuple(map(tuple, jacobian)),
        tuple(map(tuple, nearest_orientation(jacobian).tolist())),
    )
    return DetectorStars(
        frame=frame,
        bbox=Box.factory[0 : simulation.size, 0 : simulation.size],
        band="r",
        total=2 * number + 3,
        kept=2 * np.arange(number) + 1,
        id=1000 * detector + np.arange(number),
        x=part.x_measured,
        y=part.y_measured,
        color=np.zeros(number),
        color_type=np.full(number, "g-i"),
        stamps=stamps,
        good=~part.bad,
        weight=star_weights(stamps, ~part.bad, 200.0),
        scale=0.2,
        slope=_variance_slope(stamps, ~part.bad),
    )


@pytest.fixture(scope="module")
def detectors() -> dict[int, DetectorStars]:
    """Simulate three detectors of 14 stars, with a wild one among them."""
    psf = FocalPlanePsf(FocalPlaneSimulation(seed=5, n_stars=14, n_reserved=0, galaxy_fraction=0.0))
    made = {d: _detector_stars(psf, d) for d in (2, 5, 9)}
    image = made[5].stamps.image
    image[3] = np.roll(image[3], 3, axis=1) + image[3]
    return made


def _fit(detectors: dict[int, DetectorStars], spatial_order: int) -> dict:
    config = HierarchicalPsfDeterminerConfig()
    config.spatialOrder = spatial_order
    return HierarchicalPsfDeterminerTask(config=config).fit_visit(detectors)


def test_used_stars_are_told_by_candidate_and_id(detectors: dict[int, DetectorStars]) -> None:
    """Candidates that weren't usable count among all, but are never used."""
    fits = _fit(detectors, 2)
    assert fits.keys() == detectors.keys()
    for d, fit in fits.items():
        assert len(fit.used) == detectors[d].total
        chosen = np.isin(detectors[d].id, fit.used_ids)
        np.testing.assert_array_equal(np.flatnonzero(fit.used), detectors[d].kept[chosen])
    assert 5003 not in fits[5].used_ids
    assert sum(len(f.used_ids) for f in fits.values()) >= 38


@pytest.mark.parametrize("rejected", [False, True])
def test_stars_that_were_rejected_are_none(detectors: dict[int, DetectorStars], rejected: bool) -> None:
    """A detector is flagged by what is left of its stars."""
    stars = detectors[5]
    # A fit of order 2 needs 6 stars.
    chosen = np.array([0, 1, 2, 3, 4, 5] if rejected else [0, 1, 2, 4, 5, 6])
    fields = ("kept", "id", "x", "y", "color", "color_type", "good", "weight")
    few = replace(stars, stamps=stars.stamps.take(chosen), **{n: getattr(stars, n)[chosen] for n in fields})
    fits = _fit({**detectors, 5: few}, 2)
    assert (3 + 5000 in few.id) == rejected
    assert len(fits[5].used_ids) == 6 - rejected
    assert fits[5].few_stars == rejected
    assert not fits[2].few_stars


@pytest.mark.parametrize(("order", "least"), [(2, 3), (4, 5), (6, 7)])
def test_small_stamps_are_no_failure(
    detectors: dict[int, DetectorStars], order: int, least: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Those with fewer pixels than directions can't be fitted together."""
    config = HierarchicalPsfDeterminerConfig()
    config.derivativeOrder = order
    task = HierarchicalPsfDeterminerTask(config=config)
    assert config.options().least_size == least
    mean = np.random.default_rng(0).uniform(1.0, 2.0, (least, least))
    n_directions = len(make_basis(mean / mean.sum(), order).vectors)
    assert (least - 2) ** 2 < n_directions + 3 <= least**2
    cut = slice(13 - least // 2, 12 + least // 2)
    small = {}
    for d, stars in detectors.items():
        stamps = stars.stamps
        images = [getattr(stamps, n)[:, cut, cut] for n in ("image", "variance", "mask")]
        inner = StampSet(*images, stamps.x0 + cut.start, stamps.y0 + cut.start, stamps.planes)
        weight, good = stars.weight[:, cut, cut], stars.good[:, cut, cut]
        small[d] = replace(stars, stamps=inner, weight=weight, good=good)
    assert task.fit_visit(small) == {}
    assert f"Stamps of {least - 2} pixels are smaller than the {least}" in caplog.text


def test_options_are_those_of_the_fit() -> None:
    """Each has its counterpart."""
    config = HierarchicalPsfDeterminerConfig()
    assert (config.options().height_order, config.options().height_starts) == (7, 8)
    config.heightOrder, config.heightStarts = 3, 5
    assert (config.options().height_order, config.options().height_starts) == (3, 5)


def test_variance_grows_with_signal(detectors: dict[int, DetectorStars]) -> None:
    """The slope is that of pixels to use, and the fit gets its median."""
    rng = np.random.default_rng(1)
    image = rng.uniform(0.0, 1e4, (5, 7, 7)).astype(np.float32)
    variance = np.float32(100.0) + np.float32(0.7) * image
    good = rng.uniform(size=image.shape) > 0.2
    variance[~good] = np.nan
    place = np.zeros(5, dtype=np.int64)
    stamps = StampSet(image, variance, np.zeros(image.shape, dtype=np.uint32), place, place, {})
    assert _variance_slope(stamps, good) == pytest.approx(0.7, rel=1e-5)
    assert _variance_slope(stamps, np.zeros_like(good)) == 0.0
    slopes = [replace(d, slope=s) for d, s in zip(detectors.values(), (0.5, 1.1, 90.0), strict=True)]
    assert _join(slopes).slope == 1.1
