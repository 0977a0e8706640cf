# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import astropy.table
import numpy as np
import pytest

from lsst.meas.finalize.quality import (
    COVARIATES,
    StarColumns,
    local_density,
    measure_slopes,
    measure_visit,
    star_table_columns,
)

from .conftest import make_catalog, make_stars

SEEDS = range(20)
SLOPES = [f"slope{r}{c}" for r in ("DeltaTOverT", "DeltaE1", "DeltaE2") for c in COVARIATES]


def measure(seed: int, **injected: float) -> astropy.table.Table:
    """Measure a visit with trends injected; return its metrics."""
    stars = make_stars(np.random.default_rng(seed), n_detectors=3, n_stars=150)
    bigger = (
        1
        + injected.get("magnitude", 0) * (stars["fgcm_mag_r"] - 17)
        + injected.get("color", 0) * stars["psf_color_value"]
        + injected.get("offset", 0) * (stars["detector"] == 1)
    )
    for name in ("xx", "yy", "xy"):
        stars[f"slot_Shape_{name}"] *= np.asarray(bigger) ** 2
    return measure_visit(stars, make_catalog(3), visit=1, band="r")


def pulls(rows: list, name: str, expected: float) -> np.ndarray:
    """Return deviations in units of the errors."""
    return np.array([(row[name] - expected) / row[f"{name}Err"] for row in rows])


@pytest.fixture(scope="module")
def injected() -> list[astropy.table.Table]:
    """Return metrics of 20 visits with trends and an offset."""
    return [measure(seed, magnitude=-0.004, color=0.006, offset=0.01) for seed in SEEDS]


@pytest.fixture(scope="module")
def nothing() -> list[astropy.table.Table]:
    """Return metrics of 20 visits without trends."""
    return [measure(seed) for seed in SEEDS]


def test_injected_trends_are_recovered(injected: list[astropy.table.Table]) -> None:
    """Find a brighter-fatter and a chromatic slope, within errors."""
    rows = [table[0] for table in injected]
    assert rows[0]["sample"] == "used"
    for name, slope in (("Magnitude", -0.004), ("Color", 0.006)):
        found = pulls(rows, f"slopeDeltaTOverT{name}", slope)
        assert abs(found.mean()) < 4 / np.sqrt(20)
        assert 0.5 < found.std() < 1.7
        # And they are seen.
        assert np.all(np.abs(pulls(rows, f"slopeDeltaTOverT{name}", 0)) > 3)


def test_injected_offset_is_recovered(injected: list[astropy.table.Table]) -> None:
    """Find the detector whose stars are larger, within errors."""
    name = "psfStarDeltaTOverTMedian"
    differences = []
    for table in injected:
        row, other = (table[(table["detector"] == d) & (table["sample"] == "used")][0] for d in (1, 0))
        error = np.hypot(row[f"{name}Err"], other[f"{name}Err"])
        differences.append((row[name] - other[name] - 0.01) / error)
    assert abs(np.mean(differences)) < 4 / np.sqrt(20)
    assert np.abs(differences).max() < 5


@pytest.mark.parametrize("name", SLOPES)
def test_no_slope_where_none_is(nothing: list[astropy.table.Table], name: str) -> None:
    """Have slopes of 0 within errors, of used and of reserved stars."""
    for row in (0, 1):
        found = pulls([table[row] for table in nothing], name, 0)
        assert abs(found.mean()) < 4 / np.sqrt(20)
        assert 0.5 < found.std() < 1.7


def test_slopes_with_position_are_per_1000_pixels() -> None:
    """Find residuals that grow with x and fall with y."""
    stars = make_stars(np.random.default_rng(2), n_detectors=3)
    bigger = 1 + 8e-6 * stars["slot_Centroid_x"] - 5e-6 * stars["slot_Centroid_y"]
    for name in ("xx", "yy", "xy"):
        stars[f"slot_Shape_{name}"] *= np.asarray(bigger) ** 2
    row = measure_visit(stars, make_catalog(3), visit=1, band="r")[0]
    for name, slope in (("X", 0.008), ("Y", -0.005)):
        assert abs(pulls([row], f"slopeDeltaTOverT{name}", slope)[0]) < 4
        assert abs(pulls([row], f"slopeDeltaTOverT{name}", 0)[0]) > 5


def test_errors_are_those_of_the_jackknife() -> None:
    """Compare with fits that leave out one row after the other."""
    rng = np.random.default_rng(1)
    z, values = rng.normal(size=(12, 2)), rng.normal(size=(12, 1))
    weights = rng.uniform(0.5, 2, 12)
    slopes, errors = measure_slopes(values, z, weights, np.zeros(12), 1, pooled=False)
    design = np.column_stack([np.ones(12), z])

    def fit(rows: np.ndarray) -> np.ndarray:
        root = np.sqrt(weights[rows])[:, None]
        return np.linalg.lstsq(design[rows] * root, values[rows] * root, rcond=None)[0][1:, 0]

    np.testing.assert_allclose(slopes[0, :, 0], fit(np.arange(12)), rtol=1e-10)
    left_out = np.array([fit(np.delete(np.arange(12), i)) for i in range(12)])
    expected = np.sqrt(11 / 12 * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(errors[0, :, 0], expected, rtol=1e-10)


def test_constant_covariates_have_no_slope() -> None:
    """Leave out what doesn't vary, and groups of few rows."""
    rng = np.random.default_rng(1)
    z = np.column_stack([rng.normal(size=40), np.full(40, 3.3)])
    group = np.repeat([0, 1], [36, 4])
    values = (2 * z[:, :1]) + 1e-9 * rng.normal(size=(40, 1))
    slopes, errors = measure_slopes(values, z, np.ones(40), group, 3, pooled=False)
    assert slopes[0, 0, 0] == pytest.approx(2)
    assert np.isnan(slopes[0, 1, 0])
    assert np.isnan(slopes[1:]).all()
    assert np.isnan(errors[1:]).all()


def test_colors_of_few_stars_do_not_spoil_other_trends() -> None:
    """Measure other trends with all stars if few have a color."""
    stars = make_stars(np.random.default_rng(1))
    stars["psf_color_value"][::3] = np.nan
    few = measure_visit(stars, make_catalog(), visit=1, band="r")[0]
    stars["psf_color_value"] = np.nan
    none = measure_visit(stars, make_catalog(), visit=1, band="r")[0]
    assert few["slopeDeltaTOverTMagnitude"] == none["slopeDeltaTOverTMagnitude"]
    assert np.isfinite(few["slopeDeltaTOverTColor"])
    assert "no trend with color" in none["reasons"]


def test_density() -> None:
    """Count neighbors within two arcmin."""
    density = local_density(np.array([0.0, 1.0, 2.9, np.nan]), np.zeros(4))
    np.testing.assert_allclose(density * 4 * np.pi, [1, 2, 1, np.nan])


def test_magnitudes_of_other_bands() -> None:
    """Take those of the visit's band, whatever its name is."""
    stars = make_stars(np.random.default_rng(1))
    stars.rename_column("fgcm_mag_r", "fgcm_mag_N921")
    stars = stars[star_table_columns(stars.colnames)]
    columns = StarColumns.from_table(stars, "N921")
    assert columns.magnitude_name == "fgcm_mag_N921"
    np.testing.assert_array_equal(columns.magnitude, stars["fgcm_mag_N921"])


def test_magnitudes_of_older_tables() -> None:
    """Take instrumental magnitudes where there are no others."""
    stars = make_stars(np.random.default_rng(1))
    stars.remove_column("fgcm_mag_r")
    columns = StarColumns.from_table(stars, "r")
    assert columns.magnitude_name == "instrumental magnitude of slot_CalibFlux"
    assert np.isfinite(columns.magnitude).all()
