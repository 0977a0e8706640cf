# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Maps of ellipticities and of residuals in size."""

from __future__ import annotations

__all__ = ("plot_size_map", "plot_survey_maps", "plot_whiskers_focal_plane", "plot_whiskers_sky")

from typing import TYPE_CHECKING

import astropy.table
import numpy as np
import numpy.typing as npt

from .._columns import StarColumns
from .._moments import distortion
from .._sky_frame import SkyFrame, moments_on_focal_plane
from .._star_statistics import select_stars, size_residuals
from ._style import label_detectors, new_figure, no_data, panels, robust_limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

type Floats = npt.NDArray[np.float64]

_MOST_WHISKERS = 1500
_CELLS = 36


def plot_whiskers_focal_plane(columns: StarColumns, label: str) -> Figure:
    """Draw the ellipticity of models, stars and their difference.

    Parameters
    ----------
    columns
        Stars of a visit.
    label
        What the visit is.

    Returns
    -------
    `matplotlib.figure.Figure`
        Whiskers along the axes of the focal plane, whatever the detectors'
        orientation is; means of cells if there are many stars.
    """
    star, psf = moments_on_focal_plane(columns)
    return _plot_whiskers(
        columns,
        columns.focal_x,
        columns.focal_y,
        distortion(star),
        distortion(psf),
        ("focal plane x (mm)", "focal plane y (mm)"),
        f"{label}: ellipticity on the focal plane",
        east_left=False,
    )


def plot_whiskers_sky(columns: StarColumns, frame: SkyFrame, label: str) -> Figure:
    """Draw the ellipticity of models, stars and their difference on the sky.

    Parameters
    ----------
    columns
        Stars of a visit.
    frame
        The same on the sky.
    label
        What the visit is.

    Returns
    -------
    `matplotlib.figure.Figure`
        Whiskers along the axes of the sky, north up and east to the left.
    """
    ra, dec = np.rad2deg(frame.center)
    where = f"about RA {ra:.3f}°, Dec {dec:.3f}°" if np.isfinite(ra) else "position unknown"
    return _plot_whiskers(
        columns,
        frame.x,
        frame.y,
        distortion(frame.star),
        distortion(frame.psf),
        ("east (arcmin)", "north (arcmin)"),
        f"{label}: ellipticity on the sky {where}",
        east_left=True,
    )


def _plot_whiskers(
    columns: StarColumns,
    x: Floats,
    y: Floats,
    star: Floats,
    psf: Floats,
    axes_labels: tuple[str, str],
    title: str,
    *,
    east_left: bool,
) -> Figure:
    figure = new_figure(15, 5.6, title)
    selected = select_stars(columns)
    shown = {
        "PSF model": (psf, selected),
        "stars": (star, selected),
        "residual, reserved stars": (star - psf, selected & columns.samples["reserved"]),
    }
    for ax, (name, (e, chosen)) in zip(panels(figure, 1, 3)[0], shown.items(), strict=True):
        good = chosen & np.isfinite(x) & np.isfinite(y) & np.isfinite(e).all(axis=1)
        if not good.any():
            ax.set_title(name)
            no_data(ax)
            continue
        px, py, pe, n = _average(x[good], y[good], e[good])
        _draw_whiskers(ax, px, py, pe)
        cells = f", means of {len(px)} cells" if len(px) < n else ""
        ax.set_title(f"{name} ({n} stars{cells})", loc="left", fontsize="medium")
        ax.set_aspect("equal")
        ax.margins(0.08)
        ax.set_xlabel(axes_labels[0])
        ax.set_ylabel(axes_labels[1])
        if east_left:
            ax.invert_xaxis()
        label_detectors(ax, columns.detector[good], x[good], y[good])
    return figure


def _average(x: Floats, y: Floats, e: Floats) -> tuple[Floats, Floats, Floats, int]:
    """Average whiskers in cells, if there are too many to see."""
    if len(x) <= _MOST_WHISKERS:
        return x, y, e, len(x)
    size = max(np.ptp(x), np.ptp(y)) / _CELLS or 1.0
    cell = np.floor((x - x.min()) / size) + 1000 * np.floor((y - y.min()) / size)
    index = np.unique(cell, return_inverse=True)[1]
    count = np.bincount(index)
    px, py, e1, e2 = (np.bincount(index, weights=v) / count for v in (x, y, e[:, 0], e[:, 1]))
    return px, py, np.stack([e1, e2], axis=1), len(x)


def _draw_whiskers(ax: Axes, x: Floats, y: Floats, e: Floats) -> None:
    size, angle = np.hypot(*e.T), np.arctan2(e[:, 1], e[:, 0]) / 2
    typical = max(float(np.percentile(size, 85)), 1e-12)
    extent = max(np.ptp(x), np.ptp(y), 1e-3)
    spacing = extent / max(np.sqrt(len(x)), 4)
    sticks = ax.quiver(
        x,
        y,
        size * np.cos(angle),
        size * np.sin(angle),
        scale=typical / min(1.2 * spacing, 0.08 * extent),
        scale_units="xy",
        angles="xy",
        pivot="middle",
        headwidth=0,
        headlength=0,
        headaxislength=0,
        width=0.003,
    )
    length = float(f"{typical:.0e}")
    # In the margin at the top, where no whiskers are.
    ax.quiverkey(sticks, 0.78, 0.968, length, f"|e| = {length:g}", labelpos="E", coordinates="axes")


def plot_size_map(columns: StarColumns, label: str) -> Figure:
    """Draw residuals in size over the focal plane.

    Parameters
    ----------
    columns
        Stars of a visit.
    label
        What the visit is.

    Returns
    -------
    `matplotlib.figure.Figure`
        (T_star - T_model)/T_star of trace radii, for used and for reserved
        stars; up- and downward triangles are stars larger and smaller than
        the model.
    """
    figure = new_figure(13, 6, f"{label}: residual size (T_star − T_model)/T_star, T trace radius")
    delta = size_residuals(columns.star, columns.psf)
    x, y = columns.focal_x, columns.focal_y
    selected = select_stars(columns) & np.isfinite(x) & np.isfinite(y) & np.isfinite(delta)
    limit = robust_limit(delta[selected], 90.0)
    for ax, sample in zip(
        panels(figure, 1, 2, gap=(1.2, 0), right=0.7)[0], ("used", "reserved"), strict=True
    ):
        rows = selected & columns.samples[sample]
        ax.set_title(f"{int(rows.sum())} {sample} stars")
        if not rows.any():
            no_data(ax)
            continue
        size = float(np.clip(20000 / rows.sum(), 2, 40))
        for marker, side in (("^", delta >= 0), ("v", delta < 0)):
            chosen = rows & side
            points = ax.scatter(
                x[chosen], y[chosen], c=delta[chosen], s=size, marker=marker, cmap="cividis",
                vmin=-limit, vmax=limit, linewidths=0, rasterized=True,
            )  # fmt: skip
        figure.colorbar(points, ax=ax, extend="both", label="δT/T (▲ positive, ▼ negative)", shrink=0.85)
        ax.set_aspect("equal")
        ax.set_xlabel("focal plane x (mm)")
        ax.set_ylabel("focal plane y (mm)")
        label_detectors(ax, columns.detector[rows], x[rows], y[rows])
    return figure


def plot_survey_maps(maps: astropy.table.Table, label: str) -> Figure:
    """Draw mean residuals of many visits on the focal plane.

    Parameters
    ----------
    maps
        Result of `SurveyAccumulator.map_table`.
    label
        What it is of.

    Returns
    -------
    `matplotlib.figure.Figure`
        Means in bins of detector coordinates, used and reserved stars.
    """
    figure = new_figure(15, 9, f"{label}: mean residuals, star − model, in bins of detectors")
    names = {"deltaTOverT": "δT/T", "deltaE1": "δe₁ (pixel axes)", "deltaE2": "δe₂ (pixel axes)"}
    x, y = (np.asarray(maps[name], dtype=float) for name in ("focal_x", "focal_y"))
    for line, sample in zip(
        panels(figure, 2, 3, gap=(1.1, 0.8), right=0.6), ("used", "reserved"), strict=True
    ):
        rows = (np.asarray(maps["sample"]) == sample) & np.isfinite(x) & np.isfinite(y)
        for ax, (name, text) in zip(line, names.items(), strict=True):
            ax.set_title(f"{text}, {sample} stars")
            if not rows.any():
                no_data(ax)
                continue
            values = np.asarray(maps[name], dtype=float)[rows]
            limit = robust_limit(values)
            size = float(np.clip(30000 / rows.sum(), 3, 200))
            points = ax.scatter(
                x[rows], y[rows], c=values, s=size, marker="s", cmap="cividis", vmin=-limit, vmax=limit
            )
            figure.colorbar(points, ax=ax, extend="both", shrink=0.85)
            ax.set_aspect("equal")
            ax.set_xlabel("focal plane x (mm)")
            ax.set_ylabel("focal plane y (mm)")
            label_detectors(ax, np.asarray(maps["detector"])[rows].astype(np.int64), x[rows], y[rows])
    return figure
