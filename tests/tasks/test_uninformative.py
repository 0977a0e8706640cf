# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of pixels without information, and of images nobody can measure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.tasks import DamagedInputError
from lsst.pipe.tasks.finalizeCharacterization import (
    FinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationDetectorTask,
)


def _left_half(inputs: Any, value: float) -> Any:
    changed = inputs.copy()
    array = changed.exposure.variance.array
    array[:, : array.shape[1] // 2] = value
    return changed


def _columns(table: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(table[name]) for name in table.colnames}


@pytest.fixture(scope="module")
def nan_result(tiny_inputs: Any) -> Any:
    """Finalize a detector half of which has NaN for a variance."""
    config = FinalizeCharacterizationDetectorConfig()
    config.psf_determiner["piff"].spatialOrder = 1
    config.measurement.plugins.names = ["base_GaussianFlux", "base_PsfFlux", "ext_shapeHSM_HsmSourceMoments"]
    config.measurement.plugins.names |= {"ext_shapeHSM_HsmPsfMoments"}
    config.measurement.slots.modelFlux = None
    task = FinalizeCharacterizationDetectorTask(config=config)
    return task, _left_half(tiny_inputs, np.nan).run(task)


@pytest.mark.parametrize("value", [0.0, -0.0, -3.0, np.inf, -np.inf])
def test_useless_variance_is_as_nan(
    tiny_inputs: Any, nan_result: Any, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Treat a variance that isn't positive and finite as none at all."""
    task, expected = nan_result
    inputs = _left_half(tiny_inputs, value)
    with caplog.at_level(logging.WARNING):
        result = inputs.run(task)
    counted = [r for r in caplog.records if "positive, finite variance" in r.getMessage()]
    assert len(counted) == 1
    width = inputs.exposure.bbox.x.size
    has_data = ~inputs.exposure.mask.get("NO_DATA")[:, : width // 2]
    assert f"{np.count_nonzero(has_data)} pixels" in counted[0].getMessage()
    table, reference = _columns(result.output_table), _columns(expected.output_table)
    for name, column in reference.items():
        found = table[name]
        if name.endswith("Err") and np.isinf(value):
            # An infinite error says the same.
            found, column = (np.where(np.isinf(c), np.nan, c) for c in (found, column))
        np.testing.assert_array_equal(found, column, err_msg=name)
    x = table["slot_Centroid_x"]
    right = x > inputs.exposure.bbox.x.start + width // 2 + 15
    ratio = table["base_PsfFlux_instFlux"] / table["base_CircularApertureFlux_12_0_instFlux"]
    assert abs(np.nanmedian(ratio[right]) - 1) < 0.01
    left = x < inputs.exposure.bbox.x.start + width // 2 - 15
    assert table["base_PsfFlux_flag"][left].all()
    assert not table["calib_psf_used"][left].any()


def test_every_plugin_leaves_out_scattered_pixels(tiny_inputs: Any) -> None:
    """Let no plugin see more than no variance, masked or not, alone or
    mixed.
    """
    config = FinalizeCharacterizationDetectorConfig()
    config.psf_determiner["piff"].spatialOrder = 1
    # The source catalogue has the results already.
    copied = {"base_SdssCentroid"}
    config.measurement.plugins.names = sorted(set(config.measurement.plugins.registry) - copied)
    config.measurement.plugins["base_CircularApertureFlux"].radii = [4.25]
    task = FinalizeCharacterizationDetectorTask(config=config)
    bad = np.random.default_rng(5).uniform(size=tiny_inputs.exposure.variance.array.shape) < 3e-4
    bad[100:104] = True
    kinds = np.resize([0.0, -1.0, np.nan, np.inf, -np.inf, -0.0], np.count_nonzero(bad))
    results = []
    for values in (np.nan, kinds):
        inputs = tiny_inputs.copy()
        inputs.exposure.variance.array[bad] = values
        for plane, every in (("BAD", 3), ("NO_DATA", 5)):
            masked = bad.copy()
            masked[bad] = np.arange(len(kinds)) % every == 0
            inputs.exposure.mask.set(plane, inputs.exposure.mask.get(plane) | masked)
        results.append(inputs.run(task))
    expected, found = results
    corrections = [result.psf_ap_corr_cat[0].ap_corr_map for result in results]
    assert corrections[0] == corrections[1]
    columns = _columns(found.output_table)
    assert columns["calib_psf_used"].any()
    for name, column in _columns(expected.output_table).items():
        if name.endswith("_time"):
            continue
        pair = columns[name], column
        if name.endswith("Err"):
            pair = tuple(np.where(np.isinf(c), np.nan, c) for c in pair)
        np.testing.assert_array_equal(*pair, err_msg=name)


def test_good_variance_is_not_mentioned(
    tiny_inputs: Any, make_task: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Say nothing of an ordinary image, nor of pixels without data."""
    inputs = tiny_inputs.copy()
    mask = inputs.exposure.mask
    inputs.exposure.variance.array[:5] = 0.0
    mask.set("NO_DATA", np.arange(mask.array.shape[0])[:, None] + np.zeros(mask.array.shape[1]) < 5)
    with caplog.at_level(logging.WARNING):
        inputs.run(make_task())
    assert "finite variance" not in caplog.text


def _without_calibration(inputs: Any) -> None:
    inputs.exposure._photometric_scaling = None


def _without_footprints(inputs: Any) -> None:
    inputs.src.footprints = None


def _cropped(inputs: Any) -> None:
    box = inputs.exposure.bbox
    inputs.exposure = inputs.exposure[box.absolute[: box.y.stop - 100, :]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_calibration, "modelfit_CModel needs a photometric calibration"),
        (_without_footprints, "has no footprints"),
        (_cropped, "reach outside the image"),
    ],
)
def test_unmeasurable_is_refused_before_the_fit(
    tiny_inputs: Any, spoil: Callable[[Any], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name what is missing, and fit no PSF."""
    inputs = tiny_inputs.copy()
    spoil(inputs)
    task = FinalizeCharacterizationDetectorTask(config=FinalizeCharacterizationDetectorConfig())
    monkeypatch.setattr(task, "_determine_psf", lambda *args: pytest.fail("a PSF was fitted"))
    with pytest.raises(DamagedInputError, match=f"detector 1 can be measured.*{message}"):
        inputs.run(task)


def test_flags_without_a_psf(
    tiny_inputs: Any, make_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flag every result where there is no PSF to measure with."""
    task = make_task()
    monkeypatch.setattr(task, "_determine_psf", lambda *args: None)
    table = tiny_inputs.run(task).output_table
    for flag in (
        "base_PsfFlux_flag",
        "base_GaussianFlux_flag",
        "ext_shapeHSM_HsmPsfMoments_flag",
        "base_PsfFlux_flag_apCorr",
    ):
        assert table[flag].all(), flag
    assert not table["calib_psf_used"].any()


def test_flags_of_plugins_that_did_not_run(
    tiny_inputs: Any, make_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep what plugins measured before one that stops everything."""
    from lsst.meas.finalize.measure import GaussianFluxPlugin, MeasurementFatalError

    def stop(*args: Any) -> None:
        raise MeasurementFatalError("A slot is gone.")

    monkeypatch.setattr(GaussianFluxPlugin, "measure", stop)
    table = tiny_inputs.run(make_task()).output_table
    assert not table["ext_shapeHSM_HsmSourceMoments_flag"].all()
    assert table["base_GaussianFlux_flag"].all()
    assert table["base_PsfFlux_flag"].all()
    assert table["base_PsfFlux_flag_apCorr"].all()
