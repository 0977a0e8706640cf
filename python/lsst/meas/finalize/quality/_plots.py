# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Plots that judge a finished visit."""

from __future__ import annotations

__all__ = ("plot_focal_plane", "plot_residuals")

from pathlib import Path
from typing import TYPE_CHECKING

import astropy.table
import numpy as np

from ._metrics import median, pixel_scale, psf_moments, scatter, star_moments, true_moments
from ._moments import determinant_radius, distortion, trace_radius
from .plots import new_figure, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.quiver import Quiver

_FWHM = np.sqrt(8 * np.log(2))
_QUANTITIES = ("size (trace radius)", "distortion $e_1$", "distortion $e_2$")
_SAMPLES = {"used": "tab:blue", "reserved": "tab:orange"}


def plot_focal_plane(stars: astropy.table.Table, path: Path, *, title: str = "") -> None:
    """Plot FWHM and ellipticity of the PSF models over the focal plane.

    Parameters
    ----------
    stars
        Star table of a visit.
    path
        File to write, PNG by its suffix.
    title
        Title of the figure.
    """
    moments = psf_moments(stars)
    scale = np.full(len(stars), np.nan)
    for detector in np.unique(stars["detector"]):  # each has its own scale
        rows = np.asarray(stars["detector"] == detector)
        scale[rows] = pixel_scale(stars[rows])
    fwhm = determinant_radius(moments) * scale * _FWHM
    e1, e2 = distortion(moments).T
    size, angle = np.hypot(e1, e2), np.arctan2(e2, e1) / 2
    x, y = np.asarray(stars["base_FPPosition_x"]), np.asarray(stars["base_FPPosition_y"])

    figure = new_figure(12, 5.4, title)
    axes = panels(figure, 1, 2, gap=(1.3, 0), right=0.8)[0]
    points = axes[0].scatter(x, y, c=fwhm, s=25)
    figure.colorbar(points, ax=axes[0], label="FWHM (arcsec)", shrink=0.8)
    axes[0].set_title("FWHM of the PSF model")
    finite = np.isfinite(size) & np.isfinite(x) & np.isfinite(y)
    if finite.any():  # quiver scales by a mean, which nothing has none of
        dx, dy = size * np.cos(angle), size * np.sin(angle)
        sticks = axes[1].quiver(
            *(values[finite] for values in (x, y, dx, dy, size)),
            headwidth=0,
            headlength=0,
            headaxislength=0,
            pivot="middle",
        )
        figure.colorbar(sticks, ax=axes[1], label="distortion |e|", shrink=0.8)
        _add_key(axes[1], float(np.median(size[finite])), sticks)
    axes[1].set_title("Distortion of the PSF model", loc="left")
    for ax in axes:
        _label_focal_plane(ax, stars)
    figure.savefig(path)


def _add_key(ax: Axes, typical: float, sticks: Quiver) -> None:
    """Draw a stick of a round length, near the typical one."""
    length = float(f"{typical:.0e}")
    ax.quiverkey(sticks, 0.88, 1.04, length, f"{length:g}", labelpos="E")


def _label_focal_plane(ax: Axes, stars: astropy.table.Table) -> None:
    """Label axes and detectors of a map of the focal plane."""
    ax.set_aspect("equal")
    ax.set_xlabel("focal plane x (mm)")
    ax.set_ylabel("focal plane y (mm)")
    x, y = np.asarray(stars["base_FPPosition_x"]), np.asarray(stars["base_FPPosition_y"])
    for detector in np.unique(stars["detector"]):
        rows = np.asarray(stars["detector"] == detector) & np.isfinite(x) & np.isfinite(y)
        if rows.any():
            # The stars' extent stands for the detector's, which isn't known.
            x0, y0 = ((v[rows].min() + v[rows].max()) / 2 for v in (x, y))
            ax.text(x0, y0, str(detector), size=16, color="0.4", alpha=0.7, ha="center", va="center")


def plot_residuals(
    stars: astropy.table.Table, path: Path, *, truth: astropy.table.Table | None = None, title: str = ""
) -> None:
    """Plot differences of PSF models and stars, for used and reserved stars.

    Parameters
    ----------
    stars
        Star table of a visit.
    path
        File to write, PNG by its suffix.
    truth
        True objects; without it the stars' own moments are the reference.
    title
        Title of the figure.
    """
    model = psf_moments(stars)
    reference = star_moments(stars) if truth is None else true_moments(stars, truth)
    de1, de2 = (distortion(model) - distortion(reference)).T
    residuals = {
        r"$10^3\,(T_\mathrm{model} / T - 1)$": 1000 * (trace_radius(model) / trace_radius(reference) - 1),
        r"$10^3\,(e_{1,\mathrm{model}} - e_1)$": 1000 * de1,
        r"$10^3\,(e_{2,\mathrm{model}} - e_2)$": 1000 * de2,
    }
    reference_name = "the stars' own moments" if truth is None else "the true PSF"
    figure = new_figure(14, 8.5, f"{title} — PSF model against {reference_name}".lstrip(" —"))
    histograms, maps = panels(figure, 2, 3, gap=(1.2, 0.8), right=0.7)
    for ax, map_ax, name, (label, values) in zip(
        histograms, maps, _QUANTITIES, residuals.items(), strict=True
    ):
        finite = np.abs(values[np.isfinite(values)])
        limit = float(np.percentile(finite, 98)) * 1.2 if len(finite) else 1.0
        _plot_histograms(ax, stars, values, limit, label)
        ax.set_title(name)
        points = map_ax.scatter(
            stars["base_FPPosition_x"],
            stars["base_FPPosition_y"],
            c=values,
            s=20,
            cmap="coolwarm",
            vmin=-limit,
            vmax=limit,
        )
        figure.colorbar(points, ax=map_ax, label=label, shrink=0.8)
        _label_focal_plane(map_ax, stars)
    histograms[0].set_ylabel("fraction of stars per bin")
    figure.savefig(path)


def _plot_histograms(
    ax: Axes, stars: astropy.table.Table, values: np.ndarray, limit: float, label: str
) -> None:
    bins = np.linspace(-limit, limit, 31).tolist()
    for sample, color in _SAMPLES.items():
        chosen = values[np.asarray(stars[f"calib_psf_{sample}"])]
        chosen = chosen[np.isfinite(chosen)]
        ax.hist(
            # What is beyond the axis counts in the outermost bins.
            np.clip(chosen, bins[0], bins[-1]),
            bins,
            histtype="step",
            color=color,
            weights=np.full(len(chosen), 1 / max(len(chosen), 1)),
            label=f"{len(chosen)} {sample}: {median(chosen):.2f} ± {scatter(chosen):.2f}",
        )
    ax.axvline(0, color="0.7", lw=1)
    ax.set_xlabel(label)
    ax.locator_params(axis="x", nbins=5)
    ax.margins(y=0.3)  # for the legend
    ax.legend(fontsize="small", loc="upper left", title="median ± scatter", title_fontsize="small")
