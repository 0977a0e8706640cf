# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

__all__ = ("plot_focal_plane", "plot_residuals")

from pathlib import Path
from typing import TYPE_CHECKING

import astropy.table
import numpy as np

from ._metrics import distortion, pixel_scale, psf_moments, star_moments, trace_radius, true_moments

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FWHM = np.sqrt(8 * np.log(2))
_SAMPLES = {"used": "tab:blue", "reserved": "tab:orange"}


def _new_figure(width: float, height: float) -> Figure:
    # Without pyplot there is no global state and no display to look for.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


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
        scale[rows] = pixel_scale(stars[rows]) if rows.sum() > 2 else np.nan
    fwhm = trace_radius(moments) * scale * _FWHM
    e1, e2 = distortion(moments).T
    size, angle = np.hypot(e1, e2), np.arctan2(e2, e1) / 2
    x, y = np.asarray(stars["base_FPPosition_x"]), np.asarray(stars["base_FPPosition_y"])

    figure = _new_figure(11, 5)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    points = axes[0].scatter(x, y, c=fwhm, s=25)
    figure.colorbar(points, ax=axes[0], label="PSF FWHM (arcsec)")
    if len(stars):  # quiver scales by a mean, which nothing has none of
        sticks = axes[1].quiver(
            x,
            y,
            size * np.cos(angle),
            size * np.sin(angle),
            size,
            headwidth=0,
            headlength=0,
            headaxislength=0,
            pivot="middle",
        )
        figure.colorbar(sticks, ax=axes[1], label="PSF ellipticity |e|")
    for ax in axes:
        ax.set_aspect("equal")
        ax.set_xlabel("focal plane x (mm)")
    axes[0].set_ylabel("focal plane y (mm)")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


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
        "size: 1000 (T_model/T - 1)": 1000 * (trace_radius(model) / trace_radius(reference) - 1),
        "1000 (e1_model - e1)": 1000 * de1,
        "1000 (e2_model - e2)": 1000 * de2,
    }
    figure = _new_figure(12, 8)
    histograms, maps = figure.subplots(2, 3)
    for ax, map_ax, (label, values) in zip(histograms, maps, residuals.items(), strict=True):
        finite = np.abs(values[np.isfinite(values)])
        limit = float(np.percentile(finite, 98)) * 1.2 if len(finite) else 1.0
        _plot_histograms(ax, stars, values, limit, label)
        points = map_ax.scatter(
            stars["base_FPPosition_x"],
            stars["base_FPPosition_y"],
            c=values,
            s=20,
            cmap="coolwarm",
            vmin=-limit,
            vmax=limit,
        )
        figure.colorbar(points, ax=map_ax, label=label, shrink=0.7)
        map_ax.set_aspect("equal")
        map_ax.set_xlabel("focal plane x (mm)")
    histograms[0].set_ylabel("density")
    maps[0].set_ylabel("focal plane y (mm)")
    figure.suptitle(f"{title} — reference: {'the stars' if truth is None else 'truth'}")
    figure.savefig(path, dpi=120)


def _plot_histograms(
    ax: Axes, stars: astropy.table.Table, values: np.ndarray, limit: float, label: str
) -> None:
    bins = np.linspace(-limit, limit, 31).tolist()
    for sample, color in _SAMPLES.items():
        chosen = values[np.asarray(stars[f"calib_psf_{sample}"])]
        chosen = chosen[np.abs(chosen) < limit]
        ax.hist(
            chosen,
            bins,
            histtype="step",
            color=color,
            density=len(chosen) > 0,
            label=f"{sample} ({len(chosen)})",
        )
    ax.axvline(0, color="0.7", lw=1)
    ax.set_xlabel(label)
    ax.locator_params(axis="x", nbins=5)
    ax.legend(fontsize="small", loc="upper left")
