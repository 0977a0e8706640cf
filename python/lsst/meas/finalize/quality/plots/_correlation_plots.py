# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Rho statistics as functions of separation."""

from __future__ import annotations

__all__ = ("plot_rho",)

from typing import TYPE_CHECKING

import astropy.table
import numpy as np

from .._correlations import RHO_NAMES
from .._te import TE_REQUIREMENTS
from ._style import SAMPLE_STYLES, new_figure, no_data, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {
    "rho1": "ρ₁ = ⟨δe* δe⟩",
    "rho2": "ρ₂ = ⟨e* δe⟩",
    "rho3": "ρ₃ = ⟨(e t)* (e t)⟩",
    "rho4": "ρ₄ = ⟨δe* (e t)⟩",
    "rho5": "ρ₅ = ⟨e* (e t)⟩",
    "rho3alt": "ρ₃′ = ⟨t t⟩",
}


def plot_rho(rho: astropy.table.Table, label: str) -> Figure:
    """Draw rho statistics of used and of reserved stars.

    Parameters
    ----------
    rho
        Result of `measure_visit_rho`, or of a survey.
    label
        What it is of.

    Returns
    -------
    `matplotlib.figure.Figure`
        Absolute values, pale where negative.  In the first panel are the
        requirements: half of those of TE1 and TE2, as rho1 is of two
        components of ellipticities that are half of distortions.
    """
    figure = new_figure(15, 8, f"{label}: rho statistics; pale where negative")
    for ax, name in zip(panels(figure, 2, 3).ravel(), RHO_NAMES, strict=True):
        ax.set_title(_LABELS[name])
        drawn = [_plot_curve(ax, rho, name, sample) for sample in SAMPLE_STYLES]
        if not any(drawn):
            no_data(ax)
            continue
        if name == "rho1":
            for te, ends in (("TE1", (0.01, 1.0)), ("TE2", (5.0, 100.0))):
                limit = TE_REQUIREMENTS[te] / 2
                ax.plot(ends, [limit, limit], color="0.3", ls=":", lw=2, label=f"{te} design / 2")
        ax.set_xscale("log")
        ax.set_yscale("log")
        _thin_minor_ticks(ax)
        ax.set_xlabel("separation (arcmin)")
        ax.set_ylabel("|correlation|")
        ax.legend(fontsize="small")
    return figure


def _thin_minor_ticks(ax: Axes) -> None:
    """Have ticks at 2 and 5 only where there are two decades or more; all
    the others take most of the time of the plot.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        if low > 0 and high / low > 100:
            axis.set_minor_formatter(NullFormatter())
            axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))


def _plot_curve(ax: Axes, rho: astropy.table.Table, name: str, sample: str) -> bool:
    rows = rho[(rho["statistic"] == name) & (rho["sample"] == sample)]
    r, value, error = (np.asarray(rows[column], dtype=float) for column in ("mean_r", "value", "error"))
    shift = 1.03 if sample == "reserved" else 1.0
    found = False
    for positive in (True, False):
        chosen = np.isfinite(r) & np.isfinite(value) & ((value > 0) if positive else (value < 0))
        if not chosen.any():
            continue
        found = True
        size = np.abs(value[chosen])
        bars = np.nan_to_num(error[chosen])
        ax.errorbar(
            r[chosen] * shift,
            size,
            [np.minimum(bars, 0.98 * size), bars],  # to the edge of a logarithmic axis
            label=f"{sample} stars" if positive else None,
            capsize=2,
            ms=5,
            lw=1,
            alpha=1.0 if positive else 0.4,
            **{**SAMPLE_STYLES[sample], "linestyle": "none"},
        )
    return found
