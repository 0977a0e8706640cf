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

import astropy.table
import numpy as np
import pytest

from lsst.images import VisitImage
from lsst.meas.finalize.catalogs import ExposureCatalog
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.quality import (
    AnalyzeFinalizedVisitConfig,
    AnalyzeFinalizedVisitTask,
    DetectorStacks,
    StarColumns,
    fit_stamps,
    select_stars,
    stack_detector,
    stack_residuals,
)
from lsst.meas.finalize.quality.plots import plot_residual_stacks
from lsst.pipe.base import InMemoryDatasetHandle

from .conftest import read_golden, tiny_exposure

type Golden = tuple[astropy.table.Table, ExposureCatalog, VisitImage]


@pytest.fixture(scope="module")
def golden(tiny: Path) -> Golden:
    """Return stars, models and the image of the first detector of tiny."""
    return *read_golden(tiny), tiny_exposure(tiny)


@pytest.fixture(scope="module")
def stacked(golden: Golden) -> tuple[StarColumns, DetectorStacks]:
    """Stack the stars of that image."""
    columns = StarColumns.from_table(golden[0], "r")
    rows = np.flatnonzero(select_stars(columns) & (columns.detector == 0))
    return columns, stack_detector(golden[2], as_batch_psf(golden[1].find(0).psf), columns, rows, 0)


def good_pixels(exposure: VisitImage) -> np.ndarray:
    """Return which pixels have none of the bad planes, by lsst.images."""
    names = ("BAD", "COSMIC_RAY", "DETECTION_EDGE", "INTERPOLATED", "NO_DATA", "SATURATED")
    known = {plane.name for plane in exposure.mask.schema if plane is not None}
    good = np.ones(exposure.image.array.shape, dtype=bool)
    for name in set(names) & known:
        good &= ~exposure.mask.get(name)
    return good


@pytest.mark.parametrize("sample", ["used", "reserved"])
def test_stacks_equal_a_loop_over_stars(
    golden: Golden, stacked: tuple[StarColumns, DetectorStacks], sample: str
) -> None:
    """Compare with cut-outs, models and sums of one star after another."""
    exposure, (columns, stack) = golden[2], stacked
    psf, good = golden[1].find(0).psf, good_pixels(exposure)
    over, under, chi2, n = 0.0, 0.0, [], 0
    limit = 3 * np.median(stack.chi2 / stack.dof)
    for row in stack.rows[columns.samples[sample][stack.rows]]:
        model = psf.compute_stellar_image(x=columns.x[row], y=columns.y[row])
        boxes = ((box.y, box.x) for box in (model.bbox, exposure.bbox))
        ys, xs = (slice(b.start - o.start, b.stop - o.start) for b, o in zip(*boxes, strict=True))
        assert min(ys.start, xs.start) >= 0
        p = model.array / model.array.sum()
        image, weight = (plane.array[ys, xs].astype(float) for plane in (exposure.image, exposure.variance))
        weight = good[ys, xs] / weight
        flux = (weight * p * image).sum() / (weight * p * p).sum()
        left = image - flux * p
        chi2.append((weight * left**2).sum() / (good[ys, xs].sum() - 1))
        if chi2[-1] < limit:
            over, under, n = over + weight * flux**2 * (left / flux), under + weight * flux**2, n + 1
    found = stack.stacks[sample]
    assert found.n_stars == n >= 3
    np.testing.assert_allclose(found.mean, over / under, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.error, 1 / np.sqrt(under), rtol=1e-6)
    mine = columns.samples[sample][stack.rows]
    np.testing.assert_allclose((stack.chi2 / stack.dof)[mine], chi2, rtol=1e-6)
    # The model is good: what is left is noise.
    assert 0.7 < np.median(chi2) < 1.4


def test_a_wrong_model_is_seen() -> None:
    """Find a residual that was put in, in 20 seeds, and chi2 of noise."""
    y, x = np.mgrid[-12:13, -12:13]
    model = np.exp(-(x**2 + y**2) / (2 * 1.7**2))
    model /= model.sum()
    wrong = np.where((x == 3) & (y == -2), 0.002, 0.0)
    chi2, pulls = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        flux = 10 ** rng.uniform(4, 5, 50)[:, None, None]
        variance = 100 + flux * (model + wrong)
        image = flux * (model + wrong) + rng.normal(size=variance.shape) * np.sqrt(variance)
        fits = fit_stamps(image, variance, np.ones(image.shape, dtype=bool), np.tile(model, (50, 1, 1)))
        stack = stack_residuals(fits, np.ones(50, dtype=bool))
        # The fitted flux takes a little of it.
        pulls.append((stack.mean[10, 15] - 0.002) / stack.error[10, 15])
        assert np.unravel_index(np.argmax(stack.mean / stack.error), stack.mean.shape) == (10, 15)
        fits = fit_stamps(
            image - flux * wrong, variance, np.ones(image.shape, dtype=bool), np.tile(model, (50, 1, 1))
        )
        chi2.append(fits.chi2.sum() / fits.dof.sum())
    assert abs(np.mean(pulls)) < 4 / np.sqrt(20) + 0.3
    # 20 * 50 * 624 pixels determine it to 0.18 %.
    assert np.mean(chi2) == pytest.approx(1, abs=0.01)


def test_pixels_that_say_nothing_do_not_count() -> None:
    """Leave out bad, infinite and unknown pixels, and stars without any."""
    rng = np.random.default_rng(3)
    model = np.full((4, 5, 5), 1 / 25)
    image, variance = rng.normal(100, 1, (4, 5, 5)), np.ones((4, 5, 5))
    good = np.ones(image.shape, dtype=bool)
    image[0, 0, 0], variance[0, 1, 1], variance[0, 2, 2], good[0, 3, 3] = np.nan, 0, np.nan, False
    image[1] = np.nan
    image[2] *= -1
    good[3], good[3, 2, 2] = False, True
    fits = fit_stamps(image, variance, good, model)
    assert fits.dof.tolist() == [20, 0, 24, 0]
    assert np.isnan(fits.chi2).tolist() == [False, True, False, True]
    stack = stack_residuals(fits, np.ones(4, dtype=bool))
    assert stack.n_stars == 1
    assert np.isnan(stack.mean).sum() == 4
    nothing = stack_residuals(fits, np.zeros(4, dtype=bool))
    assert nothing.n_stars == 0
    assert np.isnan(nothing.mean).all()


def test_the_task_reads_images_one_by_one(golden: Golden) -> None:
    """Tell of images and models that are missing or damaged."""
    stars, catalog, exposure = golden
    config = AnalyzeFinalizedVisitConfig(doResidualStacks=True, doPlots=False)
    task = AnalyzeFinalizedVisitTask(config=config)
    handle = InMemoryDatasetHandle(exposure, storageClass="VisitImage")
    metrics = task.run(stars, catalog, visit=1, calexps={0: handle, 1: object()}).finalized_visit_metrics
    values = metrics["stampReducedChi2"]
    assert np.all((values[metrics["detector"] != 1] > 0.7) & (values[metrics["detector"] != 1] < 1.4))
    damaged = metrics[metrics["detector"] == 1]
    assert np.isnan(damaged["stampReducedChi2"]).all()
    assert all(
        "no stampReducedChi2: TypeError: the calibrated image is a object" in text
        for text in damaged["reasons"]
    )
    assert metrics["stampReducedChi2"].description
    metrics = task.run(stars[:0], catalog, visit=1).finalized_visit_metrics
    assert np.isnan(metrics["stampReducedChi2"]).all()
    assert "no stampReducedChi2: no calibrated image" in metrics["reasons"][3]


@pytest.mark.parametrize("some", [True, False])
def test_stacks_are_drawn(stacked: tuple[StarColumns, DetectorStacks], some: bool) -> None:
    """Draw used and reserved stars of detectors, or that there are none."""
    stacks = [stacked[1], DetectorStacks(1, reason="no image")] if some else []
    figure = plot_residual_stacks(stacks, "Cam visit 1")
    figure.canvas.draw()
    titles = [ax.get_title() for ax in figure.axes]
    assert any(title.endswith("used stars") and not title.startswith("0 ") for title in titles) == some
    assert "star − model" in figure.get_suptitle()
