# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The visit task with one PSF model for all detectors."""

from __future__ import annotations

import logging
from pathlib import Path

import astropy.table
import galsim
import numpy as np
import piff
import pytest

from lsst.daf.butler import Butler
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.psf._interpolant import InterpolantTaps
from lsst.meas.finalize.simulate import VisitSimulation
from lsst.meas.finalize.tasks import FinalizeCharacterizationConfig, FinalizeCharacterizationTask
from lsst.pipe.base import Struct

_PLUGINS = [
    "base_FPPosition",
    "base_GaussianFlux",
    "base_PsfFlux",
    "ext_shapeHSM_HsmPsfMoments",
    "ext_shapeHSM_HsmSourceMoments",
]


def _make_task(**options: object) -> FinalizeCharacterizationTask:
    """Make a task with options of the determiner."""
    config = FinalizeCharacterizationConfig()
    config.psf_determiner.name = "hierarchical"
    determiner = config.psf_determiner["hierarchical"]
    determiner.spatialOrder = 1
    for name, value in options.items():
        setattr(determiner, name, value)
    config.measurement.plugins.names = _PLUGINS
    config.measurement.slots.modelFlux = None
    config.validate()
    return FinalizeCharacterizationTask(config=config)


def _run(
    butler: Butler,
    simulation: VisitSimulation,
    detectors: list[int],
    task: FinalizeCharacterizationTask | None = None,
    **options: object,
) -> Struct:
    """Run the task on some detectors of the simulated visit."""
    task = task or _make_task(**options)
    data_id = {"instrument": "SynthCam", "visit": simulation.visit}

    def by_detector(name: str) -> dict[int, object]:
        return {d: butler.get(name, data_id, detector=d) for d in detectors}

    def by_tract(name: str) -> dict[int, object]:
        refs = butler.query_datasets(name, "simulated/inputs")
        return {ref.dataId["tract"]: butler.getDeferred(ref) for ref in refs}

    return task.run(
        simulation.visit,
        simulation.band,
        by_tract("isolated_star_presource_associations"),
        by_tract("isolated_star_presources"),
        by_detector("src"),
        by_detector("calexp"),
    )


@pytest.fixture(scope="module")
def butler(simulated_repo: Path) -> Butler:
    """Return a butler of the simulated visit."""
    return Butler.from_config(str(simulated_repo), collections="simulated/inputs")


@pytest.fixture(scope="module")
def whole(butler: Butler, simulation: VisitSimulation) -> Struct:
    """Fit all detectors at once."""
    return _run(butler, simulation, list(range(simulation.n_detectors)))


def test_all_detectors_get_plain_piff(whole: Struct, butler: Butler, simulation: VisitSimulation) -> None:
    """PSFs are near the truth at reserved stars, and are Piff's own."""
    table: astropy.table.Table = whole.output_table
    assert [r.id for r in whole.psf_ap_corr_cat] == list(range(simulation.n_detectors))
    assert not np.asarray(table["calib_psf_fewStars"]).any()
    errors = []
    for record in whole.psf_ap_corr_cat:
        psf = as_batch_psf(record.psf)
        assert type(psf.piff_psf) is piff.SimplePSF
        truth = butler.get(
            "simulated_truth", instrument="SynthCam", visit=simulation.visit, detector=record.id
        )
        stars = truth[np.isfinite(truth["psf_xx"])]
        shapes = psf.compute_shapes(np.asarray(stars["x"]), np.asarray(stars["y"]))
        true = np.stack([np.asarray(stars[f"psf_{m}"]) for m in ("xx", "yy", "xy")], axis=1)
        errors.append((shapes - true) / true[:, :1])
        used = np.asarray(table["calib_psf_used"])[np.asarray(table["detector"]) == record.id]
        assert used.sum() > 10
    assert np.sqrt((np.concatenate(errors) ** 2).mean()) < 0.015


def test_a_detector_alone_is_fitted_alone(
    butler: Butler, simulation: VisitSimulation, caplog: pytest.LogCaptureFixture
) -> None:
    """A visit of one detector is fitted as the Piff determiner does."""
    with caplog.at_level(logging.INFO):
        alone = _run(butler, simulation, [2])
    assert "fitted on its own" in caplog.text
    assert len(alone.psf_ap_corr_cat) == 1
    assert as_batch_psf(alone.psf_ap_corr_cat[0].psf).piff_psf.niter > 1


def test_a_fit_is_of_its_visit_only(butler: Butler, simulation: VisitSimulation) -> None:
    """A task that is used again has nothing of the visit before."""
    task = _make_task()
    _run(butler, simulation, [0, 1], task)
    data_id = {"instrument": "SynthCam", "visit": simulation.visit, "detector": 0}
    exposure, src = (butler.get(name, data_id) for name in ("calexp", "src"))
    isolated = astropy.table.Table(
        {"isolated_star_id": src["id"], "sourceId": src["id"], "reserved": src["id"] < 0}
    )
    psf, _, _ = task.compute_psf_and_ap_corr_map(simulation.visit + 1, 0, exposure, src, isolated)
    # Piff's own fit.
    assert as_batch_psf(psf).piff_psf.niter > 1


def test_few_stars_are_flagged(butler: Butler, simulation: VisitSimulation) -> None:
    """A detector with less stars than its own model needs is flagged."""
    result = _run(butler, simulation, [0, 1, 2, 3], maxCandidates=12, spatialOrder=5)
    table = result.output_table
    assert np.asarray(table["calib_psf_fewStars"]).all()
    assert all(record.psf is not None for record in result.psf_ap_corr_cat)


def test_largest_orders_can_be_set() -> None:
    """Options reach the limits that the fit and their documentation name."""
    config = FinalizeCharacterizationConfig()
    config.psf_determiner.name = "hierarchical"
    determiner = config.psf_determiner["hierarchical"]
    determiner.update(derivativeOrder=6, focalPlaneOrder=12, detectorOrder=8, minimumUnmaskedFraction=0.2)
    config.measure_ap_corr.update(focalPlaneOrder=12, detectorOrder=8)
    config.validate()
    options = determiner.options()
    assert (options.derivative_order, options.focal_order, options.detector_order) == (6, 12, 8)
    assert options.min_unmasked == 0.2
    for option in ("derivativeOrder", "focalPlaneOrder", "detectorOrder"):
        with pytest.raises(ValueError, match=option):
            setattr(determiner, option, 13)


@pytest.mark.parametrize(
    "name",
    [
        "Lanczos(1)",
        "galsim.Lanczos(5)",
        *map("galsim.{}".format, ("Cubic", "Delta", "Linear", "Nearest", "Quintic", "SincInterpolant")),
    ],
)
def test_interpolants_are_those_that_can_be_drawn(name: str) -> None:
    """Those without a smooth finite kernel are refused before any work."""
    config = FinalizeCharacterizationConfig()
    config.psf_determiner.name = "hierarchical"
    config.psf_determiner["hierarchical"].interpolant = name
    made = eval(name.removeprefix("galsim."), dict(vars(galsim)))
    interpolant = made if isinstance(made, galsim.Interpolant) else made()
    if InterpolantTaps.supports(interpolant):
        config.validate()
    else:
        with pytest.raises(ValueError, match="can't interpolate with"):
            config.validate()


@pytest.mark.parametrize("option", [{"useColor": True}, {"useCoordinates": "sky"}, {"samplingSize": 0.5}])
def test_what_cannot_be_fitted_is_refused(option: dict[str, object]) -> None:
    """Options that the fit of a visit has no meaning for are errors."""
    config = FinalizeCharacterizationConfig()
    config.psf_determiner.name = "hierarchical"
    for name, value in option.items():
        setattr(config.psf_determiner["hierarchical"], name, value)
    config.psf_determiner["hierarchical"].stampSize = 51
    with pytest.raises(ValueError, match=next(iter(option))):
        config.validate()
