# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from lsst.meas.finalize.quality import AnalyzeFinalizedVisitConfig, PsfLimits, judge

# The published limits for inputs of coadds (spec 07 §5).
PUBLISHED = {
    "maxEllipResidual": 0.007,
    "maxScaledSizeScatter": 0.019,
    "maxPsfTraceRadiusDelta": 0.7,
    "maxPsfApFluxDelta": 0.24,
    "maxPsfApCorrSigmaScaledDelta": 0.22,
    "minNPsfStar": 6,
}
GOOD = {
    "psfStarDeltaE1Median": 0.0,
    "psfStarDeltaE2Median": -0.007,
    "psfStarDeltaSizeScatter": 0.03,
    "psfStarScaledDeltaSizeScatter": 0.019,
    "psfTraceRadiusDelta": 0.7,
    "psfApFluxDelta": 0.24,
    "psfApCorrSigmaScaledDelta": 0.22,
    "nPsfStar": 6,
    "starEMedian": 0.1,
    "starUnNormalizedEMedian": 0.5,
}
OPTIONS = [field.name for field in fields(PsfLimits)]
# One metric for each limit, as bad as it takes.
BROKEN = {
    "maxEllipResidual": ("psfStarDeltaE1Median", 1e-4),
    "maxSizeScatter": ("psfStarDeltaSizeScatter", 0.0301),
    "maxScaledSizeScatter": ("psfStarScaledDeltaSizeScatter", 0.0191),
    "maxPsfTraceRadiusDelta": ("psfTraceRadiusDelta", 0.71),
    "maxPsfApFluxDelta": ("psfApFluxDelta", 0.241),
    "maxPsfApCorrSigmaScaledDelta": ("psfApCorrSigmaScaledDelta", 0.221),
    "minNPsfStar": ("nPsfStar", 5),
    "maxStarE": ("starEMedian", 0.11),
    "maxStarUnNormalizedE": ("starUnNormalizedEMedian", 0.51),
}
ALL = PsfLimits(maxSizeScatter=0.03, maxStarE=0.1, maxStarUnNormalizedE=0.5)


def test_defaults_are_the_published_ones() -> None:
    """Have these limits and no others, in the configuration too."""
    found = {name: getattr(PsfLimits(), name) for name in OPTIONS}
    assert {name: limit for name, limit in found.items() if limit is not None} == PUBLISHED
    assert AnalyzeFinalizedVisitConfig().limits.to_limits() == PsfLimits()


def test_metrics_at_the_limits_pass() -> None:
    """Count what is just at a limit as kept, whatever the direction."""
    verdict = judge(GOOD, ALL)
    assert (verdict.name, verdict.failed, verdict.text) == ("pass", 0, "")


@pytest.mark.parametrize("option", OPTIONS)
def test_each_limit_fails_alone(option: str) -> None:
    """Fail by one bit and name the metric; pass with that limit off."""
    name, value = BROKEN[option]
    metrics = {**GOOD, name: value}
    verdict = judge(metrics, ALL)
    assert (verdict.name, verdict.failed) == ("fail", 1 << OPTIONS.index(option))
    assert ("ellipticity residual" if option == "maxEllipResidual" else name) in verdict.text
    off = PsfLimits(**{n: None if n == option else getattr(ALL, n) for n in OPTIONS})
    assert judge(metrics, off).name == "pass"


@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_unknown_is_not_kept(option: str) -> None:
    """Tell of metrics that are NaN or missing; a broken limit still fails."""
    name, _ = BROKEN[option]
    for metrics in ({**GOOD, name: np.nan}, {n: v for n, v in GOOD.items() if n != name}):
        verdict = judge(metrics, ALL)
        assert (verdict.name, verdict.failed) == ("unknown", 1 << OPTIONS.index(option))
        assert "is unknown" in verdict.text
        other = "nPsfStar" if name != "nPsfStar" else "starEMedian"
        broken = judge({**metrics, other: 5 if other == "nPsfStar" else 1.0}, ALL)
        assert broken.name == "fail"
        assert bin(broken.failed).count("1") == 2
