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

__all__ = ("plot_psf_images",)

from typing import TYPE_CHECKING

import numpy as np

from ...catalogs import ExposureCatalog
from ...psf import as_batch_psf
from .._columns import StarColumns
from .._detector_models import detector_box
from ._style import new_figure, no_data, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    height = -(-max(len(images), 1) // width)
    inches = min(max(1.3 * width, 8), 18)
    title = f"{label}: PSF models, log scale over 4 decades, pixel axes"
    figure = new_figure(inches, inches * height / width + 0.6, title)
    ax = panels(figure, left=0.2, right=0.7)[0, 0]
    if not images:
        no_data(ax, "no PSF models")
        return figure
    size = max(max(image.shape) for image in images.values()) + 3
    mosaic = np.full((height * size, width * size), np.nan)
    for i, (detector, image) in enumerate(images.items()):
        row, column = divmod(i, width)
        y0, x0 = (height - 1 - row) * size, column * size
        mosaic[y0 : y0 + image.shape[0], x0 : x0 + image.shape[1]] = image
        text_size = max(4.0, 60.0 / width)
        ax.text(x0 + 1, y0 + image.shape[0] - 2, str(detector), color="white", size=text_size, va="top")
    drawn = ax.imshow(mosaic, origin="lower", cmap="gray", vmin=-4, vmax=0, interpolation="nearest")
    figure.colorbar(drawn, ax=ax, label="log₁₀(PSF / maximum)", fraction=0.03, pad=0.01)
    ax.set_axis_off()
    return figure
