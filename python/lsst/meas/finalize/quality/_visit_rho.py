# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The table of correlations of a visit."""

from __future__ import annotations

__all__ = ("measure_visit_rho",)

from typing import Any

import astropy.table
import numpy as np
import numpy.typing as npt

from ._columns import StarColumns
from ._correlations import RHO_NAMES, make_patches, rho_statistics
from ._sky_frame import SkyFrame, project_stars
from ._star_statistics import select_stars
from ._te import TE_RANGES, TE_REQUIREMENTS, te_statistics_in_plane

type Integers = npt.NDArray[np.int64]

_SAMPLES = ("used", "reserved")
_MANY = 3000
"""With more stars bins may overlap a little more, which is much faster."""
_SLOP_FOR_MANY = 0.5
_DESCRIPTIONS = {
    "instrument": ("", "Instrument."),
    "visit": ("", "Visit number."),
    "band": ("", "Band."),
    "sample": ("", "Stars: used by the PSF fit or reserved from it."),
    "statistic": ("", "rho1 to rho5, rho3alt, or TE1 to TE4 of components e1, e2 and across them."),
    "r_min": ("arcmin", "Smallest separation."),
    "r_max": ("arcmin", "Largest separation."),
    "mean_r": ("arcmin", "Mean separation of the pairs."),
    "n_pairs": ("", "Number of pairs."),
    "value": ("", "The correlation."),
    "error": ("", "Its error."),
    "error_method": ("", "jackknife over patches of the sky, shot noise, or scatter over detectors."),
    "requirement": ("", "Design value of the Science Requirements for the absolute value of TE."),
    "reasons": ("", "Why values are NaN."),
}


def measure_visit_rho(
    columns: StarColumns,
    *,
    visit: int,
    instrument: str = "",
    band: str = "",
    frame: SkyFrame | None = None,
    n_patches: int = 16,
    bin_slop: float | None = None,
) -> astropy.table.Table:
    """Correlate the PSF residuals of a visit.

    Parameters
    ----------
    columns
        Stars.
    visit, instrument, band
        What the visit is, for the table.
    frame
        The stars on the sky, if they have been projected already.
    n_patches
        Number of patches for the jackknife, a power of two; 0 for shot noise.
    bin_slop
        TreeCorr's tolerance at the edges of bins; by default its own for up
        to 3000 stars, 0.5 for more.

    Returns
    -------
    `astropy.table.Table`
        For the samples ``used`` and ``reserved`` a row for each bin of each
        rho statistic (`rho_statistics`) and for each TE
        (`te_statistics_in_plane`), along the axes of the sky.  What can't be
        measured is NaN, and ``reasons`` tells why.
    """
    frame = frame or project_stars(columns)
    selected = select_stars(columns)
    rows: list[dict[str, Any]] = []
    for sample in _SAMPLES:
        chosen = np.flatnonzero(columns.samples[sample] & selected)
        reasons = _reasons(columns, frame, sample, chosen)
        slop = _SLOP_FOR_MANY if bin_slop is None and len(chosen) > _MANY else bin_slop
        found = _rho_rows(frame, chosen, slop, n_patches) + _te_rows(columns, frame, chosen)
        for row in found:
            missing = "" if np.isfinite(row["value"]) else reasons or "no pairs of stars at these separations"
            rows.append({"sample": sample, **row, "reasons": missing})
    table = astropy.table.Table(rows)
    table.add_columns(
        [[instrument] * len(rows), np.full(len(rows), visit, dtype=np.int64), [band] * len(rows)],
        indexes=[0, 0, 0],
        names=["instrument", "visit", "band"],
    )
    for name, (unit, description) in _DESCRIPTIONS.items():
        table[name].description = description
        if unit:
            table[name].unit = unit
    return table


def _reasons(columns: StarColumns, frame: SkyFrame, sample: str, chosen: Integers) -> str:
    """Tell why there may be no pairs."""
    texts = []
    if len(chosen) < 2:
        number = int(columns.samples[sample].sum())
        texts.append(f"{len(chosen)} of {number} {sample} stars can be used")
    gone = [name for key in ("ra", "dec", "x", "y", "star", "psf") for name in columns.missing.get(key, ())]
    if gone:
        texts.append("the star table lacks " + ", ".join(gone[:6]))
    return "; ".join(texts + frame.reasons)


def _rho_rows(frame: SkyFrame, chosen: Integers, slop: float | None, n_patches: int) -> list[dict[str, Any]]:
    x, y, star, psf = (values[chosen] for values in (frame.x, frame.y, frame.star, frame.psf))
    rho = rho_statistics(x, y, star, psf, bin_slop=slop, n_patches=n_patches)
    return [
        {
            "statistic": name,
            "r_min": rho.r_min[i],
            "r_max": rho.r_max[i],
            "mean_r": rho.mean_r[i],
            "n_pairs": rho.n_pairs[i],
            "value": rho.values[name][i],
            "error": rho.errors[name][i],
            "error_method": rho.error_method,
            "requirement": np.nan,
        }
        for name in RHO_NAMES
        for i in range(len(rho.r_min))
    ]


def _te_rows(columns: StarColumns, frame: SkyFrame, chosen: Integers) -> list[dict[str, Any]]:
    x, y, star, psf = (values[chosen] for values in (frame.x, frame.y, frame.star, frame.psf))
    found = te_statistics_in_plane(x, y, star, psf, columns.detector[chosen])
    sky_error = "shot" if make_patches(x, y) is None else "jackknife"
    rows = []
    for name, (value, error, pairs) in found.items():
        low, high = TE_RANGES[name[:3]]
        rows.append(
            {
                "statistic": name,
                "r_min": low,
                "r_max": high,
                "mean_r": np.nan,
                "n_pairs": pairs,
                "value": value,
                "error": error,
                "error_method": sky_error if name[:3] in ("TE1", "TE2") else "detectors",
                "requirement": TE_REQUIREMENTS[name[:3]],
            }
        )
    return rows
