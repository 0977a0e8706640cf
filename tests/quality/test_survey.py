# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import copy
import tracemalloc

import astropy.table
import numpy as np
import pytest

from lsst.meas.finalize.quality import (
    AnalyzeFinalizedSurveyConfig,
    AnalyzeFinalizedSurveyTask,
    StarColumns,
    SurveyAccumulator,
    measure_residual_maps,
    measure_visit,
    measure_visit_rho,
)
from lsst.pipe.base import NoWorkFound

from .conftest import make_catalog, make_stars

type Tables = tuple[astropy.table.Table, astropy.table.Table, astropy.table.Table]


@pytest.fixture(scope="module")
def visits() -> list[Tables]:
    """Return the tables of six visits; stars of the third are elliptic."""
    result = []
    for visit in range(6):
        stars = make_stars(np.random.default_rng(visit), n_detectors=2)
        if visit == 2:
            stars["slot_Shape_xx"][stars["detector"] == 1] *= 1.1
        columns = StarColumns.from_table(stars, "r")
        result.append(
            (
                measure_visit(columns, make_catalog(2), visit=visit),
                measure_visit_rho(columns, visit=visit),
                measure_residual_maps(columns, visit=visit),
            )
        )
    return result


def test_distributions(visits: list[Tables]) -> None:
    """Have the moments and quantiles of the visits' metrics."""
    accumulator = SurveyAccumulator()
    for tables in visits:
        accumulator.add_visit(*tables)
    table = accumulator.metrics_table()
    stacked = astropy.table.vstack([tables[0] for tables in visits])
    for level in ("visit", "detector"):
        rows = ((stacked["detector"] == -1) == (level == "visit")) & (stacked["sample"] == "reserved")
        for name in ("psfStarDeltaE1Median", "psfStarScaledDeltaSizeScatter", "psfSigma", "nPsfStar"):
            values = np.asarray(stacked[name][rows], dtype=float)
            found = table[
                (table["level"] == level) & (table["sample"] == "reserved") & (table["metric"] == name)
            ]
            assert found["n"][0] == len(values)
            assert found["mean"][0] == pytest.approx(values.mean())
            assert (found["min"][0], found["max"][0]) == (values.min(), values.max())
            ordered = np.sort(values)
            expected = ordered[int(np.ceil(0.5 * len(values))) - 1]
            assert found["median"][0] == pytest.approx(expected, rel=0.04, abs=1e-9)
            assert found["std"][0] == pytest.approx(values.std())
            for column, quantile in (("p05", 0.05), ("p16", 0.16), ("p84", 0.84), ("p95", 0.95)):
                expected = ordered[max(int(np.ceil(quantile * len(values))), 1) - 1]
                assert found[column][0] == pytest.approx(expected, rel=0.04, abs=1e-9), column


def test_worst_and_verdicts(visits: list[Tables]) -> None:
    """List the visit and the detector whose stars don't fit."""
    accumulator = SurveyAccumulator()
    for tables in visits:
        accumulator.add_visit(*tables)
    worst = accumulator.worst_table()
    first = worst[(worst["metric"] == "ellipticityResidual") & (worst["rank"] == 1)]
    assert set(first["visit"]) == {2}
    assert set(first["detector"][first["level"] == "detector"]) == {1}
    verdicts = accumulator.verdict_table()
    used = verdicts[(verdicts["level"] == "detector") & (verdicts["sample"] == "used")]
    assert dict(zip(used["verdict"], used["n"], strict=True)) == {"pass": 11, "fail": 1}


def test_correlations_are_stacked(visits: list[Tables]) -> None:
    """Average over pairs, with errors from the visits' differences."""
    accumulator = SurveyAccumulator()
    for tables in visits:
        accumulator.add_visit(*tables)
    table = accumulator.rho_table()
    pairs = np.stack([tables[1]["n_pairs"] for tables in visits])
    values = np.stack([np.nan_to_num(tables[1]["value"]) for tables in visits])
    known = pairs.sum(axis=0) > 0
    expected = (pairs * values).sum(axis=0)[known] / pairs.sum(axis=0)[known]
    np.testing.assert_allclose(table["value"][known], expected, rtol=1e-12)
    everywhere = (pairs > 0).all(axis=0)
    left_out = np.stack(
        [
            np.average(np.delete(values, i, 0)[:, everywhere], 0, np.delete(pairs, i, 0)[:, everywhere])
            for i in range(6)
        ]
    )
    errors = np.sqrt(5 / 6 * ((left_out - np.asarray(table["value"])[everywhere]) ** 2).sum(axis=0))
    np.testing.assert_allclose(table["error"][everywhere], errors, rtol=1e-9)
    assert set(table["error_method"][everywhere]) == {"jackknife"}
    mean_r = np.stack([np.nan_to_num(tables[1]["mean_r"]) for tables in visits])
    expected = (pairs * mean_r).sum(axis=0)[known] / pairs.sum(axis=0)[known]
    np.testing.assert_allclose(table["mean_r"][known], expected, rtol=1e-12)


def test_correlations_of_few_visits_have_the_visits_errors(visits: list[Tables]) -> None:
    """Combine the errors of two visits by their numbers of pairs."""
    accumulator = SurveyAccumulator()
    for tables in visits[:2]:
        accumulator.add_visit(*tables)
    table = accumulator.rho_table()
    pairs, errors = (np.stack([tables[1][n] for tables in visits[:2]]) for n in ("n_pairs", "error"))
    known = (pairs > 0).all(axis=0) & np.isfinite(errors).all(axis=0)
    expected = np.hypot(*(pairs * errors)[:, known]) / pairs.sum(axis=0)[known]
    np.testing.assert_allclose(table["error"][known], expected, rtol=1e-12)
    assert set(table["error_method"][known]) == {"visits"}


def test_maps_are_stacked(visits: list[Tables]) -> None:
    """Average residuals over visits in each bin."""
    accumulator = SurveyAccumulator()
    for tables in visits:
        accumulator.add_visit(*tables)
    table = accumulator.map_table()
    stacked = astropy.table.vstack([tables[2] for tables in visits])

    def pick(t: astropy.table.Table) -> astropy.table.Table:
        return t[(t["sample"] == "used") & (t["detector"] == 1) & (t["i_x"] == 3) & (t["i_y"] == 1)]

    rows, found = pick(stacked), pick(table)
    assert found["n"][0] == rows["n"].sum()
    assert found["deltaE1"][0] == pytest.approx(np.average(rows["deltaE1"], weights=rows["n"]))
    assert table["n"].sum() == stacked["n"].sum()
    mean = np.average(rows["deltaE1"], weights=rows["n"])
    square = np.average((rows["deltaE1"] - mean) ** 2, weights=rows["n"])
    assert found["deltaE1Std"][0] == pytest.approx(np.sqrt(square))
    for name in ("focal_x", "focal_y"):
        assert found[name][0] == pytest.approx(np.average(rows[name], weights=rows["n"]))


def test_memory_does_not_grow_with_visits(visits: list[Tables]) -> None:
    """Keep less than 250 kB more after 60 visits than after 6."""
    accumulator = SurveyAccumulator()
    for tables in visits:
        accumulator.add_visit(*tables)
    tracemalloc.start()
    for _ in range(9):
        for tables in visits:
            accumulator.add_visit(*tables)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert accumulator.n_visits == 60
    assert grown < 250_000


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (0, "psfStarDeltaE2Median"),
        (0, "nPsfStar"),
        (1, "mean_r"),
        (1, "error"),
        (1, "requirement"),
        (2, "focal_x"),
        (2, "deltaE1"),
    ],
)
@pytest.mark.parametrize("kind", ["missing", "text"])
def test_nothing_of_a_damaged_visit_is_added(visits: list[Tables], table: int, name: str, kind: str) -> None:
    """Name the column, and have nothing of the other tables."""
    damaged = copy.deepcopy(visits[1])
    if kind == "missing":
        damaged[table].remove_column(name)
    else:
        damaged[table][name] = ["text"] * len(damaged[table])
    accumulator = SurveyAccumulator()
    with pytest.raises(ValueError, match=name):
        accumulator.add_visit(*damaged)
    assert accumulator.n_visits == len(accumulator.metrics_table()) == len(accumulator.rho_table()) == 0
    assert len(accumulator.map_table()) == len(accumulator.worst_table()) == 0


def test_metrics_that_only_later_visits_have(visits: list[Tables]) -> None:
    """Count visits without a metric as those where it is unknown."""
    accumulator = SurveyAccumulator()
    for i in range(3):
        metrics = visits[i][0].copy()
        if i > 0:
            metrics["stampReducedChi2"] = 1.0 + i
        accumulator.add_visit(metrics, *visits[i][1:])
    table = accumulator.metrics_table()
    rows = table[(table["metric"] == "stampReducedChi2") & (table["level"] == "detector")]
    assert rows["n"].tolist() == [4] * 3
    assert rows["n_unknown"].tolist() == [2] * 3
    assert (rows["min"][0], rows["max"][0], rows["mean"][0]) == (2, 3, 2.5)


def test_visits_that_cannot_be_used_are_left_out(
    visits: list[Tables], caplog: pytest.LogCaptureFixture
) -> None:
    """Warn of damaged and missing tables, and go on."""
    task = AnalyzeFinalizedSurveyTask(config=AnalyzeFinalizedSurveyConfig())
    damaged = copy.deepcopy(visits[1])
    damaged[0].remove_column("psfApFluxDelta")
    other = (visits[2][0], visits[2][1][:10], visits[2][2])
    tables = [(0, visits[0]), (1, damaged), (2, other), (3, (visits[3][0], None, visits[3][2]))]
    outputs = task.run(tables, label="Cam, r")
    assert outputs.finalized_survey_metrics["n"].max() == 2  # detectors of one visit
    for text in ("Visit 1 is left out: The table of metrics lacks", "Visit 2 is", "Visit 3 is"):
        assert text in caplog.text
    assert outputs.plotMaps.get_suptitle().startswith("Cam, r, 1 visits")
    outputs.plotRho.canvas.draw()
    outputs.plotMaps.canvas.draw()
    with pytest.raises(NoWorkFound):
        task.run([])
