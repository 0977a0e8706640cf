# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Images of PSF models."""

from __future__ import annotations

__all__ = ("plot_psf_images", "plot_residual_stacks")

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...catalogs import ExposureCatalog
from ...psf import as_batch_psf
from .._columns import StarColumns
from .._detector_models import detector_box
from .._residual_stacks import DetectorStacks
from ._style import new_figure, no_data, panels, robust_limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

type Floats = npt.NDArray[np.float64]

_MOST = 400


def plot_psf_images(catalog: ExposureCatalog, columns: StarColumns, label: str) -> Figure:
    """Draw the PSF model in the middle of each detector.

    Parameters
    ----------
    catalog
        PSF models.
    columns
        Stars, for detectors whose size isn't known otherwise.
    label
        What the visit is.

    Returns
    -------
    `matplotlib.figure.Figure`
        Logarithmic images, scaled to their maxima, in order of detectors.
    """
    images = {}
    for record in list(catalog)[:_MOST]:  # models are separate objects
        try:
            box = detector_box(record, columns)[0]
            if record.psf is None or box is None:
                continue
            centre = [(box.x.min + box.x.max) / 2], [(box.y.min + box.y.max) / 2]
            image = as_batch_psf(record.psf).draw_kernel_images(*centre)[0]
        except Exception:  # whatever a damaged model raises; metrics tell it
            continue
        if np.isfinite(image).all() and image.max() > 0:
            images[record.id] = np.log10(np.clip(image / image.max(), 1e-4, 1))
    width = int(np.ceil(np.sqrt(max(len(images), 1) * 1.4)))
    inches, height = _figure_size(len(images), width)
    title = f"{label}: PSF models, log scale over 4 decades, pixel axes"
    figure = new_figure(inches, height, title)
    ax = panels(figure, left=0.2, right=0.7)[0, 0]
    if not images:
        no_data(ax, "no PSF models")
        return figure
    drawn = _draw_mosaic(ax, images, width, (-4.0, 0.0), "white")
    figure.colorbar(drawn, ax=ax, label="log₁₀(PSF / maximum)", fraction=0.03, pad=0.01)
    return figure


def _figure_size(number: int, width: int) -> tuple[float, float]:
    """Return the width and height in inches that so many images need."""
    inches = min(max(1.3 * width, 8), 18)
    rows = -(-max(number, 1) // width)
    return inches, inches * rows / width + 0.6


def _draw_mosaic(
    ax: Axes, images: dict[int, Floats], width: int, limits: tuple[float, float], color: str
) -> AxesImage:
    """Draw images in rows, with the detectors' numbers."""
    size = max(max(image.shape) for image in images.values()) + 3
    height = -(-len(images) // width)
    mosaic = np.full((height * size, width * size), np.nan)
    for i, (detector, image) in enumerate(images.items()):
        row, column = divmod(i, width)
        y0, x0 = (height - 1 - row) * size, column * size
        mosaic[y0 : y0 + image.shape[0], x0 : x0 + image.shape[1]] = image
        text_size = min(max(4.0, 60.0 / width), 14.0)
        ax.text(x0 + 1, y0 + image.shape[0] - 2, str(detector), color=color, size=text_size, va="top")
    ax.set_axis_off()
    low, high = limits
    return ax.imshow(mosaic, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest")


def plot_residual_stacks(stacks: Sequence[DetectorStacks], label: str) -> Figure:
    """Draw mean images of stars minus model of each detector.

    Parameters
    ----------
    stacks
        Results of `stack_detector`.
    label
        What the visit is.

    Returns
    -------
    `matplotlib.figure.Figure`
        Used stars to the left, reserved ones to the right, in order of
        detectors; medium gray is 0, and both have the same scale.
    """
    shown: dict[str, dict[int, Floats]] = {"used": {}, "reserved": {}}
    for stack in stacks[:_MOST]:
        for sample, images in shown.items():
            if sample in stack.stacks and stack.stacks[sample].n_stars:
                images[stack.detector] = 1000 * stack.stacks[sample].mean
    number = max(map(len, shown.values()))
    width = max(int(np.ceil(np.sqrt(max(number, 1)))), 1)
    title = f"{label}: mean images of stars, star − model, in 0.001 of the star's flux, pixel axes"
    inches, height = _figure_size(number, width)
    figure = new_figure(min(2 * inches, 20), min(height, 10.5), title)
    values = [image.ravel() for images in shown.values() for image in images.values()]
    limit = robust_limit(np.concatenate(values) if values else np.zeros(0), 99.5)
    axes = panels(figure, 1, 2, left=0.2, right=0.9, gap=(0.3, 0))[0]
    for ax, (sample, images) in zip(axes, shown.items(), strict=True):
        counts = sum(s.stacks[sample].n_stars for s in stacks if sample in s.stacks)
        ax.set_title(f"{counts} {sample} stars")
        if not images:
            no_data(ax, "no images of stars")
            continue
        drawn = _draw_mosaic(ax, images, width, (-limit, limit), "black")
        if sample == "reserved" or not shown["reserved"]:
            figure.colorbar(
                drawn, ax=list(axes), label="(star − model) / flux / 0.001", fraction=0.03, pad=0.01
            )
    return figure
