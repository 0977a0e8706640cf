# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Accumulators of the metrics of many visits; none grows with their number."""

from __future__ import annotations

__all__ = ("SurveyAccumulator",)

from typing import Any

import astropy.table
import numpy as np
import numpy.typing as npt

from ._residual_maps import MAP_VALUES
from ._visit_metrics import SAMPLES, WHOLE_VISIT

type Floats = npt.NDArray[np.float64]

_GROUPS = 20
"""Of visits, for the jackknife."""
_MIN_GROUPS = 4
_WORST = 20
_PER_DECADE, _SMALLEST, _DECADES = 32, -9, 16
_HALF = _PER_DECADE * _DECADES
_QUANTILES = {"p05": 0.05, "p16": 0.16, "median": 0.5, "p84": 0.84, "p95": 0.95}
_BINS = 16
"""Largest number of bins of residual maps along an axis."""
WORST_METRICS = (
    "ellipticityResidual",
    "psfStarDeltaTOverTMedian",
    "psfStarScaledDeltaSizeScatter",
    "psfTraceRadiusDelta",
    "psfApFluxDelta",
    "psfApCorrSigmaScaledDelta",
    "maxDistToNearestPsf",
)
"""Metrics by which the worst visits and detectors are listed."""

_METRIC_TEXTS = ("sample", "verdict")
_METRIC_NUMBERS = (
    "visit", "detector", "nPsfStar", "psfStarDeltaE1Median", "psfStarDeltaE2Median", *WORST_METRICS[1:],
)  # fmt: skip
_RHO_TEXTS = ("sample", "statistic")
_RHO_NUMBERS = ("r_min", "r_max", "requirement", "mean_r", "n_pairs", "value", "error")
_MAP_TEXTS = ("sample",)
_MAP_NUMBERS = ("detector", "i_x", "i_y", "n", "focal_x", "focal_y", *MAP_VALUES)


def _check_columns(
    table: astropy.table.Table, what: str, texts: tuple[str, ...], numbers: tuple[str, ...]
) -> None:
    """Refuse a table without columns, or with others' kinds of values."""
    if missing := {*texts, *numbers} - set(table.colnames):
        raise ValueError(f"The {what} lacks the columns {', '.join(sorted(missing))}.")
    wrong = [name for name in numbers if table[name].dtype.kind not in "fiu" or table[name].ndim != 1]
    if wrong and len(table):
        raise ValueError(f"The {what} has something else than numbers in {', '.join(wrong)}.")


def _bin_of(values: Floats) -> npt.NDArray[np.int64]:
    """Return bins that are logarithmic on both sides of zero."""
    with np.errstate(divide="ignore"):
        power = (np.log10(np.abs(values)) - _SMALLEST) * _PER_DECADE
    steps = np.clip(np.where(np.isfinite(power), np.floor(power) + 1, 0), 0, _HALF).astype(np.int64)
    return _HALF + np.where(values < 0, -steps, steps)


def _value_of(bins: Floats) -> Floats:
    """Return the middle of (fractional) bins."""
    steps = bins - _HALF
    size = 10 ** ((np.abs(steps) - 0.5) / _PER_DECADE + _SMALLEST)
    return np.where(np.abs(steps) < 0.5, 0.0, np.sign(steps) * size)


class _Distributions:
    """Moments and histograms of many metrics."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.histogram = np.zeros((len(names), 2 * _HALF + 1), dtype=np.int64)
        self.n = np.zeros(len(names), dtype=np.int64)
        self.mean, self.squares = np.zeros((2, len(names)))  # squares of what is left of the mean
        self.low, self.high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
        self.unknown = np.zeros(len(names), dtype=np.int64)

    def extend(self, names: list[str], n_before: int) -> None:
        """Add metrics that ``n_before`` earlier values don't have."""
        n = len(names)
        self.names = self.names + names
        self.histogram = np.pad(self.histogram, ((0, n), (0, 0)))
        self.n = np.pad(self.n, (0, n))
        self.mean, self.squares = np.pad(self.mean, (0, n)), np.pad(self.squares, (0, n))
        self.low = np.pad(self.low, (0, n), constant_values=np.inf)
        self.high = np.pad(self.high, (0, n), constant_values=-np.inf)
        self.unknown = np.pad(self.unknown, (0, n), constant_values=n_before)

    def add(self, values: Floats) -> None:
        """Add values, shape (metrics, N)."""
        finite = np.isfinite(values)
        known = np.where(finite, values, 0.0)
        self.unknown += (~finite).sum(axis=1)
        count = finite.sum(axis=1)
        mean = known.sum(axis=1) / np.maximum(count, 1)
        change, total = mean - self.mean, np.maximum(self.n + count, 1)
        self.squares += (np.where(finite, known - mean[:, None], 0.0) ** 2).sum(axis=1)
        self.squares += change**2 * self.n * count / total
        self.mean += change * count / total
        self.n += count
        self.low = np.fmin(self.low, np.where(finite, values, np.inf).min(axis=1, initial=np.inf))
        self.high = np.fmax(self.high, np.where(finite, values, -np.inf).max(axis=1, initial=-np.inf))
        rows, columns = np.nonzero(finite)
        np.add.at(self.histogram, (rows, _bin_of(values[rows, columns])), 1)

    def to_columns(self) -> dict[str, Any]:
        """Return statistics of each metric; quantiles are good to 4 %."""
        n = self.n.copy()
        mean = np.where(n > 0, self.mean, np.nan)
        std = np.where(n > 0, np.sqrt(self.squares / np.maximum(n, 1)), np.nan)
        result: dict[str, Any] = {"metric": self.names, "n": n, "n_unknown": self.unknown, "mean": mean}
        result |= {"std": std, "min": np.where(n, self.low, np.nan), "max": np.where(n, self.high, np.nan)}
        cumulative = self.histogram.cumsum(axis=1)
        for name, quantile in _QUANTILES.items():
            bins = (cumulative >= np.maximum(quantile * n, 1)[:, None]).argmax(axis=1)
            values = np.clip(_value_of(bins), result["min"], result["max"])
            result[name] = np.where(n > 0, values, np.nan)
        return result

    @property
    def number(self) -> int:
        """How many values of each metric there were, known or not."""
        return int(self.n[0] + self.unknown[0])


class _Worst:
    """The largest absolute values of a metric, and where they are."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, int, int, float]] = []

    def add(self, visit: int, detectors: npt.NDArray[np.int64], values: Floats) -> None:
        finite = np.flatnonzero(np.isfinite(values))
        order = finite[np.argsort(-np.abs(values[finite]), kind="stable")][:_WORST]
        self.rows += [(-abs(values[i]), visit, int(detectors[i]), float(values[i])) for i in order]
        self.rows = sorted(self.rows)[:_WORST]


class SurveyAccumulator:
    """Collect what the visits' tables tell.

    Notes
    -----
    Memory is some 20 MB for distributions and some kB per detector for maps,
    however many visits are added.
    """

    def __init__(self) -> None:
        self.n_visits = 0
        self._distributions: dict[tuple[str, str], _Distributions] = {}
        self._worst: dict[tuple[str, str, str], _Worst] = {}
        self._verdicts: dict[tuple[str, str, str], int] = {}
        self._rho_keys: astropy.table.Table | None = None
        self._rho = np.zeros((0, 0, 0))
        self._detectors: dict[int, int] = {}
        # Sums by sample, detector, row, column: of n, and n times values,
        # focal x and y; then of squares.
        self._maps = np.zeros((2, 0, _BINS, _BINS, 9))

    def add_visit(
        self, metrics: astropy.table.Table, rho: astropy.table.Table, maps: astropy.table.Table
    ) -> None:
        """Add the tables that `AnalyzeFinalizedVisitTask` made of a visit.

        Parameters
        ----------
        metrics, rho, maps
            ``finalized_visit_metrics``, ``finalized_visit_rho`` and
            ``finalized_visit_residual_maps``.

        Raises
        ------
        ValueError
            Raised if the tables aren't such ones; nothing is added then.
        """
        _check_columns(metrics, "table of metrics", _METRIC_TEXTS, _METRIC_NUMBERS)
        _check_columns(rho, "table of correlations", _RHO_TEXTS, _RHO_NUMBERS)
        _check_columns(maps, "table of residual maps", _MAP_TEXTS, _MAP_NUMBERS)
        self._check_rho(rho)
        self._add_metrics(metrics)
        self._add_rho(rho)
        self._add_maps(maps)
        self.n_visits += 1

    def _add_metrics(self, metrics: astropy.table.Table) -> None:
        detector, sample = np.asarray(metrics["detector"]), np.asarray(metrics["sample"]).astype(str)
        names = [n for n in metrics.colnames if metrics[n].dtype.kind == "f"] + ["nPsfStar"]
        values = {n: np.asarray(metrics[n], dtype=float) for n in names}
        values["ellipticityResidual"] = np.hypot(
            values["psfStarDeltaE1Median"], values["psfStarDeltaE2Median"]
        )
        verdict = np.asarray(metrics["verdict"]).astype(str)
        visit = int(metrics["visit"][0]) if len(metrics) else 0
        for level, rows in (("visit", detector == WHOLE_VISIT), ("detector", detector != WHOLE_VISIT)):
            for name in SAMPLES:
                chosen = np.flatnonzero(rows & (sample == name))
                store = self._distributions.setdefault((level, name), _Distributions(list(values)))
                # Those of images, which not every visit looked at.
                if new := [n for n in values if n not in store.names]:
                    store.extend(new, store.number)
                nothing = np.full(len(chosen), np.nan)
                store.add(np.stack([values[n][chosen] if n in values else nothing for n in store.names]))
                for text, count in zip(*np.unique(verdict[chosen], return_counts=True), strict=True):
                    key = (level, name, str(text))
                    self._verdicts[key] = self._verdicts.get(key, 0) + int(count)
                if name != "candidate":
                    for metric in WORST_METRICS:
                        worst = self._worst.setdefault((level, name, metric), _Worst())
                        worst.add(visit, detector[chosen], values[metric][chosen])

    def _check_rho(self, rho: astropy.table.Table) -> None:
        if self._rho_keys is None:
            keep = ["sample", "statistic", "r_min", "r_max", "requirement"]
            self._rho_keys = rho[keep].copy()
            self._rho = np.zeros((_GROUPS, 4, len(rho)))
        same = len(rho) == len(self._rho_keys) and all(
            np.array_equal(np.asarray(rho[n]), np.asarray(self._rho_keys[n])) for n in ("sample", "statistic")
        )
        if not same:
            raise ValueError("The table of correlations has other rows than those of other visits.")

    def _add_rho(self, rho: astropy.table.Table) -> None:
        value, pairs, mean_r, error = (
            np.asarray(rho[n], dtype=float) for n in ("value", "n_pairs", "mean_r", "error")
        )
        weight = np.where(np.isfinite(value), pairs, 0.0)
        group = self._rho[self.n_visits % _GROUPS]
        group[0] += weight
        group[1] += weight * np.nan_to_num(value)
        group[2] += weight * np.nan_to_num(mean_r)
        group[3] += (weight * np.nan_to_num(error)) ** 2

    def _add_maps(self, maps: astropy.table.Table) -> None:
        if not len(maps):
            return
        for detector in np.unique(np.asarray(maps["detector"])).tolist():
            self._detectors.setdefault(detector, len(self._detectors))
        if (new := len(self._detectors) - self._maps.shape[1]) > 0:
            self._maps = np.pad(self._maps, ((0, 0), (0, new), (0, 0), (0, 0), (0, 0)))
        sample = (np.asarray(maps["sample"]).astype(str) == "reserved").astype(int)
        index = np.array([self._detectors[d] for d in np.asarray(maps["detector"]).tolist()])
        i_y, i_x = (np.clip(np.asarray(maps[n]), 0, _BINS - 1) for n in ("i_y", "i_x"))
        n = np.asarray(maps["n"], dtype=float)
        means = np.stack([np.nan_to_num(np.asarray(maps[v], dtype=float)) for v in MAP_VALUES], axis=1)
        focal = np.stack([np.asarray(maps[v], dtype=float) for v in ("focal_x", "focal_y")], axis=1)
        parts = [n[:, None], n[:, None] * means, n[:, None] * np.nan_to_num(focal), n[:, None] * means**2]
        np.add.at(self._maps, (sample, index, i_y, i_x), np.concatenate(parts, axis=1))

    def metrics_table(self) -> astropy.table.Table:
        """Return distributions: a row for each level, sample and metric."""
        tables = []
        for (level, sample), store in self._distributions.items():
            table = astropy.table.Table(store.to_columns())
            table.add_columns([[sample] * len(table), [level] * len(table)], [0, 0], ["sample", "level"])
            tables.append(table)
        return astropy.table.vstack(tables) if tables else astropy.table.Table()

    def verdict_table(self) -> astropy.table.Table:
        """Return how many visits and detectors pass and fail."""
        rows = [(*key, count) for key, count in sorted(self._verdicts.items())]
        return astropy.table.Table(
            rows=rows, names=["level", "sample", "verdict", "n"], dtype=["U8", "U9", "U7", "i8"]
        )

    def worst_table(self) -> astropy.table.Table:
        """Return the worst visits and detectors by each metric."""
        rows = [
            (level, sample, metric, rank, visit, detector, value)
            for (level, sample, metric), worst in self._worst.items()
            for rank, (_, visit, detector, value) in enumerate(worst.rows, 1)
        ]
        names = ["level", "sample", "metric", "rank", "visit", "detector", "value"]
        return astropy.table.Table(rows=rows, names=names, dtype=["U8", "U9", "U40", "i4", "i8", "i4", "f8"])

    def rho_table(self) -> astropy.table.Table:
        """Return stacked correlations.

        Means over all pairs within visits; the errors are of a jackknife over
        twenty groups of visits, or those of the visits if there are fewer
        than four.
        """
        if self._rho_keys is None:
            return astropy.table.Table()
        table = self._rho_keys.copy()
        weight, value, mean_r, variance = self._rho.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            table["mean_r"] = mean_r / weight
            table["n_pairs"] = weight
            table["value"] = value / weight
            filled = (self._rho[:, 0] > 0).sum(axis=0)
            left_out = (value - self._rho[:, 1]) / (weight - self._rho[:, 0])
            change = np.where(self._rho[:, 0] > 0, left_out - table["value"], 0.0)
            jackknife = np.sqrt((filled - 1) / filled * (change**2).sum(axis=0))
            table["error"] = np.where(filled >= _MIN_GROUPS, jackknife, np.sqrt(variance) / weight)
        table["error_method"] = np.where(filled >= _MIN_GROUPS, "jackknife", "visits")
        return table

    def map_table(self) -> astropy.table.Table:
        """Return mean residuals in bins of detector coordinates."""
        s, d, i_y, i_x = np.nonzero(self._maps[..., 0])
        sums = self._maps[s, d, i_y, i_x]
        numbers = np.array(list(self._detectors), dtype=np.int32)
        n = sums[:, 0]
        table = astropy.table.Table(
            {
                "sample": np.array(["used", "reserved"])[s],
                "detector": numbers[d] if len(numbers) else np.zeros(0, dtype=np.int32),
                "i_x": i_x.astype(np.int32),
                "i_y": i_y.astype(np.int32),
                "n": n.astype(np.int64),
            }
        )
        for i, name in enumerate(MAP_VALUES):
            mean = sums[:, 1 + i] / n
            table[name] = mean
            table[f"{name}Std"] = np.sqrt(np.maximum(sums[:, 6 + i] / n - mean**2, 0))
        table["focal_x"], table["focal_y"] = sums[:, 4] / n, sums[:, 5] / n
        return table
