# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Limits of metrics, and whether a PSF keeps them."""

from __future__ import annotations

__all__ = ("PsfLimits", "Verdict", "judge")

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class PsfLimits:
    """Limits that inputs of coadds must keep, by upstream's option names.

    Parameters
    ----------
    maxEllipResidual
        Of the median residual distortion, hypot(psfStarDeltaE1Median,
        psfStarDeltaE2Median).
    maxSizeScatter
        Of psfStarDeltaSizeScatter in pixels.
    maxScaledSizeScatter
        Of psfStarScaledDeltaSizeScatter.
    maxPsfTraceRadiusDelta
        Of psfTraceRadiusDelta in pixels.
    maxPsfApFluxDelta
        Of psfApFluxDelta.
    maxPsfApCorrSigmaScaledDelta
        Of psfApCorrSigmaScaledDelta in 1/pixels.
    minNPsfStar
        Of the number of stars, nPsfStar.
    maxStarE
        Of starEMedian.
    maxStarUnNormalizedE
        Of starUnNormalizedEMedian in pixels².

    Notes
    -----
    `None` switches a limit off.  The defaults are those of
    ``PsfWcsSelectImagesTask`` (spec 07 §5); the ones that are off aren't
    about the quality of the model.
    """

    maxEllipResidual: float | None = 0.007
    maxSizeScatter: float | None = None
    maxScaledSizeScatter: float | None = 0.019
    maxPsfTraceRadiusDelta: float | None = 0.7
    maxPsfApFluxDelta: float | None = 0.24
    maxPsfApCorrSigmaScaledDelta: float | None = 0.22
    minNPsfStar: int | None = 6
    maxStarE: float | None = None
    maxStarUnNormalizedE: float | None = None


LIMITED = {
    "maxEllipResidual": "ellipticity residual",
    "maxSizeScatter": "psfStarDeltaSizeScatter",
    "maxScaledSizeScatter": "psfStarScaledDeltaSizeScatter",
    "maxPsfTraceRadiusDelta": "psfTraceRadiusDelta",
    "maxPsfApFluxDelta": "psfApFluxDelta",
    "maxPsfApCorrSigmaScaledDelta": "psfApCorrSigmaScaledDelta",
    "minNPsfStar": "nPsfStar",
    "maxStarE": "starEMedian",
    "maxStarUnNormalizedE": "starUnNormalizedEMedian",
}
"""What each limit is of."""


@dataclass(frozen=True)
class Verdict:
    """Whether limits are kept.

    Parameters
    ----------
    name
        ``pass``, ``fail``, or ``unknown`` if no limit is broken but some
        metric is NaN.
    failed
        Bit i is set if limit i, in the order of `PsfLimits`, isn't known to
        be kept; upstream's image selection rejects such a detector.
    text
        The broken limits, in words.
    """

    name: str
    failed: int
    text: str


def judge(metrics: Mapping[str, float], limits: PsfLimits) -> Verdict:
    """Compare metrics with limits.

    Parameters
    ----------
    metrics
        Values by name; missing ones count as NaN.
    limits
        Limits.

    Returns
    -------
    `Verdict`
        Like upstream's selection (spec 07 §5) with a bit for each limit.
    """
    failed, words, unknown = 0, [], False
    for bit, field in enumerate(fields(limits)):
        limit = getattr(limits, field.name)
        if limit is None:
            continue
        name = LIMITED[field.name]
        if field.name == "maxEllipResidual":
            pair = [metrics.get(f"psfStarDelta{c}Median", np.nan) for c in ("E1", "E2")]
            value = math.hypot(*pair)
        else:
            value = float(metrics.get(name, np.nan))
        kept = value >= limit if field.name.startswith("min") else value <= limit
        if kept:
            continue
        failed |= 1 << bit
        if np.isnan(value):
            unknown = True
            words.append(f"{name} is unknown")
        else:
            relation = "<" if field.name.startswith("min") else ">"
            words.append(f"{name} {value:.4g} {relation} {limit:g}")
    broken = any("unknown" not in word for word in words)
    name = "fail" if broken else "unknown" if unknown else "pass"
    return Verdict(name, failed, "; ".join(words))
