# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Units and descriptions of the metrics."""

from __future__ import annotations

__all__ = ("METRICS", "describe_columns")

import astropy.table

from ._trends import COVARIATES, RESIDUALS

_MODEL = {
    "psfSigma": ("pix", "Determinant radius of the PSF model in the middle of the detector."),
    "psfIxx": ("pix2", "Second moment xx of the model there."),
    "psfIyy": ("pix2", "Second moment yy of the model there."),
    "psfIxy": ("pix2", "Second moment xy of the model there."),
    "psfArea": ("pix2", "Effective area of the model there."),
    "psfTraceRadiusDelta": ("pix", "Range of the model's trace radius over the detector."),
    "psfApFluxDelta": ("", "Range of the model's flux within 3 psfSigma over the detector."),
    "psfApCorrSigmaScaledDelta": (
        "1 / pix",
        "Range of the aperture correction of base_PsfFlux over the detector, over psfSigma.",
    ),
    "psfReducedChi2": ("", "Chi2 per degree of freedom of the stamps that the PSF fit used."),
}
_COMMON = {
    "instrument": ("", "Instrument."),
    "visit": ("", "Visit number."),
    "band": ("", "Band."),
    "detector": ("", "Detector number; -1 for the whole visit."),
    "sample": ("", "Stars: used by the PSF fit, reserved from it, or all candidates."),
    "nPsfStar": ("", "Number of stars of the sample."),
    "nSelectedStar": (
        "",
        "Unflagged stars with finite moments and signal-to-noise ratios between 50 and 1000.",
    ),
    "psfStarScaledDeltaSizeScatter": ("", "psfStarDeltaSizeScatter over the median trace radius."),
    "starEMedian": ("", "Median distortion of the stars."),
    "starUnNormalizedEMedian": ("pix2", "Median of the stars' hypot(xx - yy, 2 xy)."),
    "maxDistToNearestPsf": ("pix", "Largest distance of a point of the detector from a selected star."),
    "stampReducedChi2": ("", "Median chi2 per degree of freedom of the images of the selected stars."),
    "apCorrResidualMedian": ("", "Median of corrected PSF flux over calibration flux, minus 1."),
    "apCorrResidualMedianErr": ("", "Bootstrap error of that median."),
    "apCorrResidualScatter": ("", "Scatter of that ratio."),
    "verdict": ("", "pass, fail, or unknown if no limit is broken but a metric is NaN."),
    "failedLimits": ("", "Bit i is set if limit i of PsfLimits isn't known to be kept."),
    "verdictText": ("", "Limits that aren't known to be kept."),
    "reasons": ("", "Why metrics are NaN."),
}
_RESIDUALS = {
    "psfStarDeltaE1": ("", "distortion e1 of star minus model"),
    "psfStarDeltaE2": ("", "distortion e2 of star minus model"),
    "psfStarDeltaSize": ("pix", "trace radius of star minus model"),
    "psfStarDeltaTOverT": ("", "(trace radius of star minus model)/(that of the star)"),
}
_TREND_RESIDUALS = dict(zip(RESIDUALS, (_RESIDUALS[f"psfStar{name}"][1] for name in RESIDUALS), strict=True))
_HIGHER = ("Coma1", "Coma2", "Trefoil1", "Trefoil2", "Kurtosis", "E41", "E42")


def _all_metrics() -> dict[str, tuple[str, str]]:
    result = {**_COMMON, **_MODEL}
    for name, (unit, what) in _RESIDUALS.items():
        for kind, word in (("Median", "Median"), ("Scatter", "Scatter")):
            result[f"{name}{kind}"] = (unit, f"{word} of {what}.")
            result[f"{name}{kind}Err"] = (unit, f"Bootstrap error of the {word.lower()} of {what}.")
    for name in _HIGHER:
        result[f"star{name}Median"] = ("", f"Median {name} of the stars' standardized moments.")
        result[f"psf{name}Median"] = ("", f"Median {name} of the model's standardized moments there.")
        result[f"psfStarDelta{name}Median"] = ("", f"Median difference in {name}, star minus model.")
        result[f"psfStarDelta{name}MedianErr"] = ("", "Bootstrap error of that difference.")
    for covariate, (unit, what) in COVARIATES.items():
        for residual, description in _TREND_RESIDUALS.items():
            text = f"Slope of {description} with {what}"
            result[f"slope{residual}{covariate}"] = (unit, f"{text}.")
            result[f"slope{residual}{covariate}Err"] = (unit, f"{text}: jackknife error.")
    return result


METRICS = _all_metrics()
"""Unit and description of each column of the metrics, by name."""


def describe_columns(table: astropy.table.Table) -> astropy.table.Table:
    """Give the columns of a table of metrics their units and descriptions.

    Parameters
    ----------
    table
        Table of metrics; changed.

    Returns
    -------
    `astropy.table.Table`
        The same table.
    """
    for name in table.colnames:
        unit, description = METRICS[name]
        table[name].description = description
        if unit:
            table[name].unit = unit
    return table
