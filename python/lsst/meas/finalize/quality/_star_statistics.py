# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Statistics of stars and of how far the PSF model is from them."""

from __future__ import annotations

__all__ = (
    "aperture_correction_statistics",
    "higher_moment_statistics",
    "select_stars",
    "size_residuals",
    "star_statistics",
)

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .._robust import MAD_TO_SIGMA
from ._columns import HIGHER_MOMENTS, StarColumns
from ._groups import Groups
from ._moments import distortion, trace_radius

type Floats = npt.NDArray[np.float64]
type Booleans = npt.NDArray[np.bool_]

_AP_CORR_SIGNAL_TO_NOISE = 200.0  # as for measuring aperture corrections


def select_stars(
    columns: StarColumns, min_signal_to_noise: float = 50.0, max_signal_to_noise: float = 1000.0
) -> Booleans:
    """Choose the stars that count, in whatever sample they are.

    Parameters
    ----------
    columns
        Stars.
    min_signal_to_noise, max_signal_to_noise
        Exclusive limits of the signal-to-noise ratio of the PSF flux.

    Returns
    -------
    `numpy.ndarray`
        Unflagged stars with finite moments between the limits, shape (N,).

    Notes
    -----
    Upstream's selection (spec 07 §1) doesn't ask for finite moments; one
    star without them would make its medians NaN.
    """
    ratio = columns.signal_to_noise
    with np.errstate(invalid="ignore"):
        good = (ratio > min_signal_to_noise) & (ratio < max_signal_to_noise)
    good &= ~columns.shape_flag & ~columns.flux_flag
    with np.errstate(invalid="ignore", divide="ignore"):
        for moments in (columns.star, columns.psf):
            good &= np.isfinite(trace_radius(moments)) & np.isfinite(distortion(moments)).all(axis=1)
    return good


def size_residuals(star: Floats, psf: Floats) -> Floats:
    """Return (T_star - T_psf)/T_star of trace radii (spec 07 §7).

    Parameters
    ----------
    star, psf
        Moments xx, yy, xy; shape (N, 3).

    Returns
    -------
    `numpy.ndarray`
        Shape (N,).  For small residuals it is half of the relative
        difference of xx + yy.
    """
    size = trace_radius(star)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (size - trace_radius(psf)) / size


def star_statistics(star: Floats, psf: Floats, groups: Groups) -> dict[str, Floats]:
    """Return the star statistics of exposure summaries, with errors.

    Parameters
    ----------
    star, psf
        Moments xx, yy, xy of stars and of the model there in pixel²,
        shape (N, 3).
    groups
        Groups of the N stars, such as detectors.

    Returns
    -------
    `dict` [`str`, `numpy.ndarray`]
        Per group, by the names of ``ExposureSummaryStats`` (spec 07 §2).
        Those ending in ``Err`` are bootstrap errors
        (`Groups.median_and_error`), ``psfStarDeltaTOverT`` is of
        `size_residuals`.
    """
    e, size = distortion(star), trace_radius(star)
    delta_e, delta_size = e - distortion(psf), size - trace_radius(psf)
    residuals = {
        "psfStarDeltaE1": delta_e[:, 0],
        "psfStarDeltaE2": delta_e[:, 1],
        "psfStarDeltaSize": delta_size,
        "psfStarDeltaTOverT": size_residuals(star, psf),
    }
    result = {}
    for name, values in residuals.items():
        median, error = groups.median_and_error(values)
        deviations, deviation_error = groups.median_and_error(np.abs(values - median[groups.group]))
        result[f"{name}Median"], result[f"{name}MedianErr"] = median, error
        # That of the deviations from the median itself.
        result[f"{name}Scatter"] = deviations * MAD_TO_SIGMA
        result[f"{name}ScatterErr"] = deviation_error * MAD_TO_SIGMA
    with np.errstate(invalid="ignore", divide="ignore"):
        result["psfStarScaledDeltaSizeScatter"] = result["psfStarDeltaSizeScatter"] / groups.median(size)
    result["starEMedian"] = groups.median(np.hypot(*e.T))
    result["starUnNormalizedEMedian"] = groups.median(np.hypot(star[:, 0] - star[:, 1], 2 * star[:, 2]))
    return result


def _combinations(moments: Floats) -> dict[str, Floats]:
    m = {order: moments[:, i] for i, order in enumerate(HIGHER_MOMENTS)}
    return {
        "Coma1": m["30"] + m["12"],
        "Coma2": m["21"] + m["03"],
        "Trefoil1": m["30"] - 3 * m["12"],
        "Trefoil2": 3 * m["21"] - m["03"],
        "Kurtosis": m["40"] + 2 * m["22"] + m["04"],
        "E41": m["40"] - m["04"],
        "E42": 2 * (m["31"] + m["13"]),
    }


def higher_moment_statistics(star: Floats, psf: Floats, groups: Groups) -> dict[str, Floats]:
    """Return medians of third and fourth moments of stars and model.

    Parameters
    ----------
    star, psf
        Standardized moments in the order of ``HIGHER_MOMENTS``, shape (N, 9).
    groups
        Groups of the N stars.

    Returns
    -------
    `dict` [`str`, `numpy.ndarray`]
        Per group: ``starComa1Median`` and so on with upstream's definitions
        (spec 07 §2), ``psfComa1Median`` for the model, and the median of the
        differences of both, ``psfStarDeltaComa1Median``, with its error.
    """
    result = {}
    ours, theirs = _combinations(star), _combinations(psf)
    for name in ours:
        result[f"star{name}Median"] = groups.median(ours[name])
    for name in ours:
        result[f"psf{name}Median"] = groups.median(theirs[name])
        median, error = groups.median_and_error(ours[name] - theirs[name])
        result[f"psfStarDelta{name}Median"], result[f"psfStarDelta{name}MedianErr"] = median, error
    return result


def aperture_correction_statistics(
    columns: StarColumns, rows: npt.NDArray[np.int64], groups: Groups
) -> Mapping[str, Floats]:
    """Compare corrected PSF fluxes with calibration fluxes (spec 07 §8).

    Parameters
    ----------
    columns
        Stars; their PSF fluxes have been corrected.
    rows
        Rows of the stars of the sample, shape (N,).
    groups
        Groups of the N stars.

    Returns
    -------
    `dict` [`str`, `numpy.ndarray`]
        Per group: median minus 1, its error, and scatter of the ratio, for
        unflagged stars with a signal-to-noise ratio above 200.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = columns.flux[rows] / columns.calib_flux[rows] - 1
        good = (columns.signal_to_noise[rows] > _AP_CORR_SIGNAL_TO_NOISE) & ~columns.flux_flag[rows]
    ratio = np.where(good, ratio, np.nan)
    median, error = groups.median_and_error(ratio)
    return {
        "apCorrResidualMedian": median,
        "apCorrResidualMedianErr": error,
        "apCorrResidualScatter": groups.scatter(ratio),
    }
