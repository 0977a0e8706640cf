# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of aperture corrections that are fitted to a whole visit."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import pytest

from lsst.images import Box
from lsst.meas.finalize.apcorr import (
    DetectorFluxes,
    MeasureApCorrConfig,
    MeasureApCorrTask,
    chebyshev_projections,
    fit_visit_ratio,
)
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.focal_plane import DetectorFrame, FieldBasis, StarPlaces

NAME = "test_visit_Flux"
WIDTH, HEIGHT = 200, 300
BOX = Box.factory[-20 : HEIGHT - 20, 10 : WIDTH + 10]
FRAMES = [
    # Every other detector is turned by a quarter.
    DetectorFrame(
        (10.0, WIDTH + 9.0, -20.0, HEIGHT - 21.0),
        (350.0 * column, 350.0 * row),
        *(((((0.0, -1.0), (1.0, 0.0)),) * 2) if column % 2 else ((((1.0, 0.0), (0.0, 1.0)),) * 2)),
    )
    for row in range(3)
    for column in range(3)
]
NOISE = 3e-3


def truth(detector: int, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the true ratio: a bowl over the focal plane, one detector off."""
    u, v = (FRAMES[detector].focal(x, y) / 500.0 - 1.0).T
    return 1.1 + 0.02 * (u**2 + 0.5 * u * v) + (0.05 if detector == 4 else 0.0)


def make_detectors(
    counts: list[int], *, errors: bool = True
) -> tuple[MeasureApCorrTask, dict[int, DetectorFluxes]]:
    """Make catalogues of some stars with noise."""
    rng = np.random.default_rng(5)
    schema = Schema.source_minimal()
    for name in ("cen_x", "cen_y"):
        schema.add_field(name, "D")
    for name in ("ref", NAME, "base_PsfFlux"):
        schema.add_field(f"{name}_instFlux", "D")
        schema.add_field(f"{name}_instFluxErr", "D")
        schema.add_flag(f"{name}_flag")
    schema.set_alias("slot_Centroid", "cen")
    schema.set_alias("slot_CalibFlux", "ref")
    config = MeasureApCorrConfig(fitVisit=True)
    config.sourceSelector["science"].doFlags = config.sourceSelector["science"].doUnresolved = False
    task = MeasureApCorrTask(config, schema=schema, namesToCorrect=[NAME])
    detectors = {}
    for d, count in enumerate(counts):
        catalog = SourceCatalog(schema, count)
        catalog["id"] = np.arange(count) + 1000 * d
        catalog["cen_x"] = rng.uniform(10, WIDTH + 9, count)
        catalog["cen_y"] = rng.uniform(-20, HEIGHT - 21, count)
        ratio = truth(d, catalog["cen_x"], catalog["cen_y"]) + rng.normal(0.0, NOISE, count)
        for name, flux in (("ref", 1e5 * ratio), (NAME, 1e5), ("base_PsfFlux", 1e5)):
            catalog[f"{name}_instFlux"], catalog[f"{name}_instFluxErr"] = flux, 1e5 * NOISE
        if not errors:
            catalog["ref_instFluxErr"] = np.nan
        detectors[d] = DetectorFluxes(BOX, FRAMES[d], catalog)
    return task, detectors


def error(detector: int, correction: object) -> float:
    """Return the rms error of a correction."""
    y, x = (c.ravel().astype(float) for c in np.mgrid[-20 : HEIGHT - 20 : 30, 10 : WIDTH + 10 : 30])
    return float(np.sqrt(((correction(x=x, y=y) - truth(detector, x, y)) ** 2).mean()))


@pytest.mark.parametrize("errors", [True, False])
def test_better_than_detectors_alone(errors: bool) -> None:
    """Few stars per detector are enough, and none for one inside others."""
    task, detectors = make_detectors([10, 10, 10, 10, 10, 10, 10, 0, 10], errors=errors)
    maps = task.run_visit(detectors)
    visit = np.array([error(d, maps[d][f"{NAME}_instFlux"]) for d in range(9)])
    stars = [d for d in range(9) if d != 7]
    alone = np.array(
        [error(d, task.run(detectors[d], detectors[d].catalog).apCorrMap[f"{NAME}_instFlux"]) for d in stars]
    )
    assert np.sqrt((visit[stars] ** 2).mean()) < 0.7 * np.sqrt((alone**2).mean())
    assert visit[7] < 0.02
    sigma = maps[0][f"{NAME}_instFluxErr"]
    assert sigma(x=50.0, y=50.0) == pytest.approx(NOISE, rel=0.3)
    assert maps[7][f"{NAME}_instFluxErr"](x=9.0, y=9.0) == sigma(x=9.0, y=9.0)


def test_errors_that_are_too_small_do_no_harm() -> None:
    """Where stars scatter three times as much as they say, hardly a worse map
    comes of it.
    """
    scatter = []
    for factor in (1.0, 1.0 / 3.0):
        task, detectors = make_detectors([30] * 9)
        for detector in detectors.values():
            detector.catalog["ref_instFluxErr"] *= factor
        maps = task.run_visit(detectors)
        scatter.append(np.mean([error(d, maps[d][f"{NAME}_instFlux"]) ** 2 for d in range(9)]) ** 0.5)
    assert scatter[1] < 1.2 * scatter[0]


def test_errors_that_say_nothing_give_finite_maps() -> None:
    """Ratios all far from any model by their errors have a scatter."""
    _, detectors = make_detectors([4] * 9)
    x, y = (np.concatenate([d.catalog[f"cen_{c}"] for d in detectors.values()]) for c in "xy")
    places = StarPlaces(FRAMES, np.repeat(np.arange(9), 4), x, y)
    ratio = 1.0 + np.random.default_rng(4).choice([-0.01, 0.01], 36)
    fit = fit_visit_ratio(
        places, ratio, np.full(36, 1e-6), FieldBasis(tuple(FRAMES), 0, 0), n_iter=1, n_sigma=4.0
    )
    assert fit.used.all()
    assert fit.sigma == pytest.approx(0.01, rel=0.3)
    np.testing.assert_allclose(fit.residuals + ratio, 1.0, atol=0.011)


def test_clipping_of_all_stars_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Too few stars are left as in the fit of a detector."""
    task, detectors = make_detectors([10] * 9)
    task.config.numSigmaClip = 0.01
    assert set(task.run_visit(detectors).values()) == {None}
    assert "usable source(s), at least" in caplog.text


def test_outliers_are_rejected_detectors_are_not() -> None:
    """A wild star is left out; one detector unlike the others isn't."""
    task, detectors = make_detectors([10] * 9)
    detectors[2].catalog["ref_instFlux"][3] *= 1.3
    maps = task.run_visit(detectors)
    used = [detectors[d].catalog[f"apcorr_{NAME}_used"] for d in range(9)]
    assert not used[2][3]
    assert used[4].all()
    assert sum(u.sum() for u in used) >= 86
    assert error(2, maps[2][f"{NAME}_instFlux"]) < 0.006
    assert error(4, maps[4][f"{NAME}_instFlux"]) < 0.006


def test_scatter_is_that_of_the_stars_that_are_used() -> None:
    """Stars that are left out don't make the quoted error larger."""
    task, detectors = make_detectors([40] * 9)
    for detector in detectors.values():
        # A fifth are off by 20 times the noise, to either side.
        off = np.where(np.arange(40) % 5 == 1, 6e3, 0.0) * (-1) ** np.arange(40)
        detector.catalog["ref_instFlux"] += off
    maps = task.run_visit(detectors)
    residual = []
    for d, detector in detectors.items():
        catalog = detector.catalog
        ratio = catalog["ref_instFlux"] / catalog[f"{NAME}_instFlux"]
        residual.append(ratio - maps[d][f"{NAME}_instFlux"](x=catalog["cen_x"], y=catalog["cen_y"]))
    used = np.concatenate([d.catalog[f"apcorr_{NAME}_used"] for d in detectors.values()])
    usual, everyone = (
        1.4826 * np.median(np.abs(r - np.median(r)))
        for r in (np.concatenate(residual)[used], np.concatenate(residual))
    )
    assert usual == pytest.approx(NOISE, rel=0.15)
    assert everyone > 1.15 * usual
    for corrections in maps.values():
        assert corrections[f"{NAME}_instFluxErr"](x=9.0, y=9.0) == pytest.approx(usual, rel=1e-3)


def test_maps_are_the_model() -> None:
    """Chebyshev polynomials on a detector are the fields themselves."""
    _, detectors = make_detectors([20] * 9)
    x, y = (np.concatenate([d.catalog[f"cen_{c}"] for d in detectors.values()]) for c in "xy")
    places = StarPlaces(FRAMES, np.repeat(np.arange(9), 20), x, y)
    ratio = np.concatenate([d.catalog["ref_instFlux"] for d in detectors.values()]) / 1e5
    for orders in ((4, 2), (1, 3), (0, 0)):
        basis = FieldBasis(tuple(FRAMES), *orders)
        fit = fit_visit_ratio(places, ratio, np.full(180, NOISE), basis, n_iter=2, n_sigma=4.0)
        for d, pair in enumerate(chebyshev_projections(basis, [BOX] * 9)):
            coefficients = fit.coefficients(d, pair)
            u, v = (x - 109.5) / 100.0, (y - 129.5) / 150.0
            values = np.polynomial.chebyshev.chebval2d(v, u, coefficients)
            np.testing.assert_allclose(values, fit.offset + fit.model.values(d, x, y)[:, 0], atol=1e-12)


def test_one_detector_is_fitted_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A visit with stars on one detector gives what `run` does."""
    task, detectors = make_detectors([10, 0])
    with caplog.at_level(logging.INFO):
        maps = task.run_visit(detectors)
    assert "each is fitted on its own" in caplog.text
    expected = task.run(detectors[0], detectors[0].catalog).apCorrMap[f"{NAME}_instFlux"]
    np.testing.assert_array_equal(maps[0][f"{NAME}_instFlux"].coefficients, expected.coefficients)
    assert maps[1] is None


def test_too_few_stars(caplog: pytest.LogCaptureFixture) -> None:
    """A flux without stars fails for the visit, unless it is allowed to."""
    task, detectors = make_detectors([3, 3, 0])
    for d in (0, 1):
        detectors[d].catalog[f"{NAME}_flag"] = True
    assert task.run_visit(detectors) == {0: None, 1: None, 2: None}
    assert "could not be measured for this visit" in caplog.text
    task.config.allowFailure = [NAME]
    assert task.run_visit(detectors) == {0: {}, 1: {}, 2: {}}
    assert task.run_visit({}) == {}


@pytest.mark.parametrize("counts", [[1, 1], [2, 1], [1] * 9, [0, 3, 0, 2]])
def test_very_few_stars_give_finite_maps(counts: list[int]) -> None:
    """Nothing wild comes of next to nothing."""
    task, detectors = make_detectors(counts)
    for d, corrections in task.run_visit(detectors).items():
        assert error(d, corrections[f"{NAME}_instFlux"]) < 0.1
