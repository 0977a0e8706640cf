# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""SDSS centroids and shapes of the reference star of spec 03."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.catalogs import SourceCatalog

from ..conftest import STAR_BOX, KernelPsf, flags_set, reference_star, with_peaks

type Run = Callable[..., SourceCatalog]
type Make = Callable[..., Any]


def _centroid(
    exposure: Any, x: list[float], y: list[float], boxes: np.ndarray, psf: Any = None, **options: Any
) -> SourceCatalog:
    """Run base_SdssCentroid from peaks."""
    from lsst.meas.finalize.catalogs import Schema
    from lsst.meas.finalize.measure import SingleFrameMeasurementConfig, SingleFrameMeasurementTask

    config = SingleFrameMeasurementConfig()
    config.plugins.names = ["base_SdssCentroid"]
    config.plugins["base_SdssCentroid"].update(**options)
    config.doReplaceWithNoise = False
    for slot in config.slots._fields:
        setattr(config.slots, slot, "base_SdssCentroid" if slot == "centroid" else None)
    task = SingleFrameMeasurementTask(Schema.source_minimal(), config=config)
    catalog = SourceCatalog(task.schema, len(x), footprints=with_peaks(boxes, x, y))
    task.run(catalog, exposure, psf=KernelPsf() if psf is None else psf)
    return catalog


def test_sdss_shape(run_plugins: Run, make_exposure: Make) -> None:
    """Compare with the reference values, on a shifted image too."""
    for origin in ((0, 0), (100, 200)):
        catalog = run_plugins(
            ["base_SdssShape"],
            make_exposure(reference_star(), origin=origin),
            [30.25 + origin[0]],
            [29.65 + origin[1]],
            STAR_BOX + np.array([*origin, *origin]),
            psf=KernelPsf(),
        )
        assert catalog["base_SdssShape_x"][0] == pytest.approx(30.2750133428 + origin[0], abs=6e-11)
        assert catalog["base_SdssShape_xx"][0] == pytest.approx(4.0024230589, abs=6e-11)
        assert catalog["base_SdssShape_instFlux"][0] == pytest.approx(9999.8850615, abs=6e-8)
        assert catalog["base_SdssShape_xyErr"][0] == pytest.approx(0.00700036, abs=6e-9)
        assert catalog["base_SdssShape_psf_xx"][0] == pytest.approx(4.622334166, abs=6e-10)
        assert not flags_set(catalog, "base_SdssShape")


def test_sdss_shape_failures(run_plugins: Run, make_exposure: Make) -> None:
    """Flag stars without moments, and leave the others alone."""
    image = reference_star(size=120)
    image[80:, :] = np.nan
    x, y = [30.3, 30.0, np.nan, 500.0], [29.6, 100.0, 30.0, 30.0]
    boxes = np.repeat(STAR_BOX, 4, axis=0)
    catalog = run_plugins(["base_SdssShape"], make_exposure(image), x, y, boxes, psf=KernelPsf())
    assert catalog["base_SdssShape_flag"].tolist() == [False, True, True, True]
    assert catalog["base_SdssShape_flag_unweightedBad"].tolist() == [False, True, False, True]


def test_sdss_centroid_reference(make_exposure: Make) -> None:
    """Compare with the reference values of spec 03 §9."""
    catalog = _centroid(
        make_exposure(reference_star(), origin=(10, 20)), [40.0], [50.0], STAR_BOX + [10, 20, 10, 20]
    )
    # Smoothed pixels are float32.
    assert catalog["base_SdssCentroid_x"][0] == pytest.approx(40.3015628, abs=1e-6)
    assert catalog["base_SdssCentroid_y"][0] == pytest.approx(49.5989166, abs=1e-6)
    # The table's numbers were not summed in float32 along rows.
    assert catalog["base_SdssCentroid_xErr"][0] == pytest.approx(0.00261766, rel=3e-5)
    assert catalog["base_SdssCentroid_yErr"][0] == pytest.approx(0.00297721, rel=3e-5)
    assert not flags_set(catalog, "base_SdssCentroid")


def test_sdss_centroid_flags(make_exposure: Make) -> None:
    """Set each flag where it belongs."""
    image = reference_star(size=200)
    image += reference_star(5.0, 60.0, size=200)  # near the edge
    image += reference_star(100.4, 60.3, size=200)  # centre off the footprint
    image -= reference_star(100.0, 140.0, size=200)  # hole
    image[150:, 150:] = np.nan
    x = [30.0, 5.0, 100.0, 100.0, 180.0, 60.0, 1.0, 300.0]
    y = [30.0, 60.0, 60.0, 140.0, 180.0, 160.0, 1.0, 10.0]
    boxes = np.array([[a - 6, b - 6, a + 6, b + 6] for a, b in zip(x, y, strict=True)], dtype=int)
    boxes[2] = [104, 50, 110, 70]
    catalog = _centroid(make_exposure(image), x, y, boxes)
    name = "base_SdssCentroid"
    assert not flags_set(catalog, name, 0)
    assert flags_set(catalog, name, 1) == {"flag", "flag_near_edge"}
    assert catalog[f"{name}_x"][1] == pytest.approx(5.0, abs=0.1)
    assert flags_set(catalog, name, 2) == {"flag", "flag_resetToPeak"}
    assert catalog[f"{name}_x"][2] == 100.0
    assert flags_set(catalog, name, 3) == {"flag", "flag_notAtMaximum"}
    assert flags_set(catalog, name, 4) == {"flag", "flag_badError", "flag_resetToPeak"}
    assert flags_set(catalog, name, 5) == {"flag", "flag_noSecondDerivative"}
    assert flags_set(catalog, name, 6) == {"flag", "flag_edge"}
    assert flags_set(catalog, name, 7) == {"flag", "flag_edge"}
    assert catalog[f"{name}_x"][7] == 300.0


def test_sdss_centroid_bins_wide_stars(make_exposure: Make) -> None:
    """Find the centre of something wide in noise, by binning."""
    rows, columns = np.mgrid[:200, :200]
    image = 1000 * np.exp(-0.5 * ((columns - 101.3) ** 2 + (rows - 98.8) ** 2) / 64)
    image += np.random.default_rng(2).normal(size=image.shape)
    box = np.array([[80, 80, 120, 120]])
    catalog = _centroid(make_exposure(image), [101.0], [99.0], box)
    assert not flags_set(catalog, "base_SdssCentroid")
    x, err = catalog["base_SdssCentroid_x"][0], catalog["base_SdssCentroid_xErr"][0]
    assert abs(x - 101.3) < 5 * err
    assert err < 0.05
    single = _centroid(make_exposure(image), [101.0], [99.0], box, binmax=1)
    assert single["base_SdssCentroid_x"][0] != x
