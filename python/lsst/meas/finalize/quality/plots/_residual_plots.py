# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Histograms of residuals, and their trends."""

from __future__ import annotations

__all__ = ("plot_histograms", "plot_trends")

from typing import TYPE_CHECKING

import astropy.table
import numpy as np
import numpy.typing as npt

from .._columns import StarColumns
from .._groups import Groups
from .._moments import distortion
from .._star_statistics import select_stars, size_residuals
from ._style import SAMPLE_STYLES, new_figure, panels, robust_limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

type Floats = npt.NDArray[np.float64]

_RESIDUALS = {
    "DeltaTOverT": "δT/T of the trace radius",
    "DeltaE1": "δe₁ (distortion)",
    "DeltaE2": "δe₂ (distortion)",
}
_BINS = 8


def _residuals(columns: StarColumns) -> dict[str, Floats]:
    de = distortion(columns.star) - distortion(columns.psf)
    return {
        "DeltaTOverT": size_residuals(columns.star, columns.psf),
        "DeltaE1": de[:, 0],
        "DeltaE2": de[:, 1],
    }


def plot_histograms(columns: StarColumns, label: str) -> Figure:
    """Draw distributions of the residuals.

    Parameters
    ----------
    columns
        Stars of a visit.
    label
        What the visit is.

    Returns
    -------
    `matplotlib.figure.Figure`
        Star minus model in size and both components of the distortion, used
        stars filled, reserved ones dashed.
    """
    figure = new_figure(14, 4.4, f"{label}: residuals, star − model")
    selected = select_stars(columns)
    for ax, (name, values) in zip(panels(figure, 1, 3)[0], _residuals(columns).items(), strict=True):
        good = selected & np.isfinite(values)
        limit = 1.6 * robust_limit(values[good])
        edges = np.linspace(-limit, limit, 41)
        for sample in ("used", "reserved"):
            chosen = values[good & columns.samples[sample]]
            groups = Groups(np.zeros(len(chosen), dtype=int), 1)
            median, error = groups.median_and_error(chosen)
            ax.hist(
                np.clip(chosen, edges[0], edges[-1]),  # what is beyond is in the outermost bins
                edges.tolist(),
                weights=np.full(len(chosen), 1 / max(len(chosen), 1)),
                histtype="stepfilled" if sample == "used" else "step",
                color="0.75" if sample == "used" else "black",
                linestyle="-" if sample == "used" else "--",
                label=f"{len(chosen)} {sample}: {1000 * median[0]:.2f} ± {1000 * error[0]:.2f}, "
                f"scatter {1000 * groups.scatter(chosen)[0]:.1f}",
            )
        ax.axvline(0, color="0.4", lw=0.8)
        ax.set_xlabel(_RESIDUALS[name])
        ax.set_ylabel("fraction of stars per bin")
        ax.margins(y=0.3)  # for the legend
        ax.legend(fontsize="small", loc="upper left", title="median and scatter in 0.001")
    return figure


def plot_trends(columns: StarColumns, density: Floats, metrics: astropy.table.Table, label: str) -> Figure:
    """Draw residuals against properties of the stars.

    Parameters
    ----------
    columns
        Stars of a visit.
    density
        Result of `local_density`.
    metrics
        Metrics of the visit, for the slopes.
    label
        What the visit is.

    Returns
    -------
    `matplotlib.figure.Figure`
        Medians in bins with bootstrap errors.
    """
    figure = new_figure(17, 9, f"{label}: trends of residuals, star − model; medians in bins")
    selected = select_stars(columns)
    covariates = {
        "Magnitude": (columns.magnitude, columns.magnitude_name or "magnitude"),
        "Color": (columns.color, f"color ({columns.color_name or 'unknown'})"),
        "X": (columns.x, "x in the detector (pixel)"),
        "Y": (columns.y, "y in the detector (pixel)"),
        "Density": (density, "candidates per arcmin²"),
    }
    whole = {row["sample"]: row for row in metrics[np.asarray(metrics["detector"]) == -1]}
    grid = panels(figure, 3, 5, gap=(0.2, 0.45), share_y=True)
    for line, (residual, values) in zip(grid, _residuals(columns).items(), strict=True):
        for ax, (name, (covariate, text)) in zip(line, covariates.items(), strict=True):
            slopes = []
            for sample, style in SAMPLE_STYLES.items():
                rows = selected & columns.samples[sample] & np.isfinite(values) & np.isfinite(covariate)
                _plot_bins(ax, covariate[rows], 1000 * values[rows], sample, style)
                row = whole[sample]
                slope, error = (1000 * row[f"slope{residual}{name}{end}"] for end in ("", "Err"))
                if np.isfinite(slope):
                    slopes.append(f"{sample} {slope:+.2f} ± {error:.2f}")
            ax.axhline(0, color="0.6", lw=0.8)
            ax.set_title("slope/0.001: " + ", ".join(slopes or ["unknown"]), fontsize=7)
            if residual == "DeltaE2":
                ax.set_xlabel(text)
        line[0].set_ylabel(f"{_RESIDUALS[residual]} / 0.001")
    if grid[0, 0].get_legend_handles_labels()[0]:
        grid[0, 0].legend(fontsize="small")
    return figure


def _plot_bins(ax: Axes, x: Floats, y: Floats, sample: str, style: dict) -> None:
    if len(x) < 3:
        return
    edges = np.quantile(x, np.linspace(0, 1, min(_BINS, len(x) // 3) + 1))
    index = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    groups = Groups(index, len(edges) - 1)
    median, error = groups.median_and_error(y)
    ax.errorbar(groups.median(x), median, error, label=f"{sample} stars", capsize=2, ms=5, lw=1, **style)
