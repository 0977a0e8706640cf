# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Figures of one PSF model, and of aperture corrections."""

from __future__ import annotations

__all__ = ("plot_ap_corr", "plot_psf")

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...apcorr import ap_corr_image
from ...psf import as_batch_psf
from ._style import new_figure, no_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lsst.images import Box
    from lsst.images.fields import BaseField
    from lsst.images.psfs import PointSpreadFunction

_MOST = 9
_POINTS = 60


def plot_psf(
    psf: PointSpreadFunction | None, x: npt.ArrayLike, y: npt.ArrayLike, *, title: str = "PSF"
) -> Figure:
    """Draw a PSF model at positions.

    Parameters
    ----------
    psf
        The model, for instance that of a record.
    x, y
        Positions in pixels, numbers or shape (N,); the first 9 are drawn.
    title
        What the figure is of.

    Returns
    -------
    `matplotlib.figure.Figure`
        Logarithmic images, scaled to the maximum of each.

    Raises
    ------
    ValueError
        Raised if there is no PSF.
    """
    if psf is None:
        raise ValueError("There is no PSF (psf is None).")
    x, y = (np.atleast_1d(np.asarray(values, dtype=np.float64))[:_MOST] for values in (x, y))
    images = as_batch_psf(psf).draw_kernel_images(x, y)
    figure = new_figure(2.6 * len(x) + 1, 3.2, f"{title}: log scale over 4 decades, pixels from the center")
    axes = np.atleast_1d(figure.subplots(1, len(x), sharex=True, sharey=True))
    half = images.shape[1] / 2, images.shape[2] / 2
    extent = (-half[1], half[1], -half[0], half[0])
    for ax, image, x0, y0 in zip(axes, images, x, y, strict=True):
        ax.set_title(f"({x0:.0f}, {y0:.0f})", fontsize="medium")
        scaled = np.log10(np.clip(image / np.nanmax(image), 1e-4, 1))
        drawn = ax.imshow(scaled, origin="lower", cmap="gray", vmin=-4, vmax=0, extent=extent)
    figure.colorbar(drawn, ax=list(axes), label="log₁₀(PSF / maximum)")
    return figure


def plot_ap_corr(
    ap_corr_map: Mapping[str, BaseField] | None, bbox: Box, *, names: Iterable[str] = ()
) -> Figure:
    """Draw aperture corrections over a detector.

    Parameters
    ----------
    ap_corr_map
        Aperture corrections by name, for instance those of a record.
    bbox
        Which pixels.
    names
        Which corrections; the first 9 fluxes if not given.

    Returns
    -------
    `matplotlib.figure.Figure`
        A map of the factor for each of them.

    Raises
    ------
    KeyError
        Raised if there is no correction of a name.
    ValueError
        Raised if there are no aperture corrections.
    """
    if ap_corr_map is None:
        raise ValueError("There are no aperture corrections (ap_corr_map is None).")
    chosen = list(names) or [name for name in sorted(ap_corr_map) if name.endswith("_instFlux")]
    if unknown := [name for name in chosen if name not in ap_corr_map]:
        raise KeyError(f"There are no aperture corrections {unknown}; there are {sorted(ap_corr_map)}.")
    chosen = chosen[:_MOST]
    width = int(np.ceil(np.sqrt(max(len(chosen), 1))))
    height = -(-max(len(chosen), 1) // width)
    figure = new_figure(4.2 * width, 3.4 * height + 0.5, "Aperture corrections: factor of the flux")
    panels = figure.subplots(height, width, squeeze=False).ravel()
    step = max(1, max(bbox.x.size, bbox.y.size) // _POINTS)
    extent = (bbox.x.start - 0.5, bbox.x.stop - 0.5, bbox.y.start - 0.5, bbox.y.stop - 0.5)
    for ax, name in zip(panels, chosen, strict=False):
        image = ap_corr_image(ap_corr_map[name], bbox, step=step)
        drawn = ax.imshow(image, origin="lower", cmap="cividis", extent=extent)
        ax.set_title(name.removesuffix("_instFlux"), fontsize="small", parse_math=False)
        figure.colorbar(drawn, ax=ax)
    for ax in panels[len(chosen) :]:
        ax.set_axis_off()
    if not chosen:
        no_data(panels[0], "no corrections")
    return figure
