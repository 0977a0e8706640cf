# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What the figures have in common."""

from __future__ import annotations

__all__ = ("SAMPLE_STYLES", "label_detectors", "new_figure", "no_data", "panels", "robust_limit")

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

type Floats = npt.NDArray[np.float64]

SAMPLE_STYLES: dict[str, dict[str, Any]] = {
    "used": {"color": "black", "marker": "o", "fillstyle": "full", "linestyle": "-"},
    "reserved": {"color": "tab:orange", "marker": "s", "fillstyle": "none", "linestyle": "--"},
}
"""How stars of the samples are drawn: they differ by more than color."""


def new_figure(width: float, height: float, title: str) -> Figure:
    """Make a figure with a title.

    Parameters
    ----------
    width, height
        Size in inches.
    title
        Text, in which dollar signs are just that.
    """
    # Without pyplot there is no global state and no display to look for.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100)
    figure.suptitle(title, parse_math=False, fontsize="medium", y=1 - 0.08 / height, va="top")
    return figure


def panels(
    figure: Figure,
    rows: int = 1,
    columns: int = 1,
    *,
    gap: tuple[float, float] = (0.75, 0.8),
    left: float = 0.8,
    right: float = 0.25,
    share_y: bool = False,
) -> npt.NDArray[np.object_]:
    """Make axes at fixed distances.

    Parameters
    ----------
    figure
        Figure with a title.
    rows, columns
        Numbers of axes.
    gap
        Space between axes in inches, horizontally and vertically.
    left, right
        Space beside the axes in inches.
    share_y
        Whether the axes of a row have one scale.

    Returns
    -------
    `numpy.ndarray`
        Axes, shape (rows, columns).

    Notes
    -----
    Layouts that measure all text first take half of the time of a plot.
    """
    width, height = figure.get_size_inches()
    bottom, top = 0.55, 0.62
    inner = (width - left - right - (columns - 1) * gap[0]) / columns
    upper = (height - bottom - top - (rows - 1) * gap[1]) / rows
    return figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharey="row" if share_y else False,
        gridspec_kw={
            "left": left / width,
            "right": 1 - right / width,
            "bottom": bottom / height,
            "top": 1 - top / height,
            "wspace": gap[0] / inner,
            "hspace": gap[1] / upper,
        },
    )


def no_data(ax: Axes, text: str = "no data") -> None:
    """Say that there is nothing to draw.

    Parameters
    ----------
    ax
        Axes.
    text
        What to write.
    """
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.4")
    ax.set_xticks([])
    ax.set_yticks([])


def robust_limit(values: Floats, fraction: float = 95.0) -> float:
    """Return a limit of absolute values that outliers don't set.

    Parameters
    ----------
    values
        Values of any shape.
    fraction
        Percentage of the values within the limit.
    """
    finite = np.abs(values[np.isfinite(values)])
    limit = float(np.percentile(finite, fraction)) if finite.size else 0.0
    return limit if limit > 0 else 1.0


def label_detectors(ax: Axes, detector: npt.NDArray[np.int64], x: Floats, y: Floats) -> None:
    """Write detectors' numbers in the middle of their stars.

    Parameters
    ----------
    ax
        Axes.
    detector, x, y
        Detector number and position of each star, shape (N,).
    """
    finite = np.isfinite(x) & np.isfinite(y)
    numbers, index = np.unique(detector[finite], return_inverse=True)
    count = np.bincount(index, minlength=len(numbers))
    size = "x-large" if len(numbers) <= 12 else "small" if len(numbers) <= 40 else 5
    means = [np.bincount(index, weights=v[finite], minlength=len(numbers)) / count for v in (x, y)]
    for number, x0, y0 in zip(numbers, *means, strict=True):
        ax.text(x0, y0, str(number), size=size, color="0.45", alpha=0.8, ha="center", va="center")
