# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Piff PSFs that depend on colour, by the interface of lsst.images."""

from __future__ import annotations

__all__ = ("ChromaticPiffWrapper", "average_star_color", "keep_average_color", "restore_average_color")

import math
from functools import cached_property
from typing import Any

import numpy as np

from lsst.images import YX, Bounds, Box, Image
from lsst.images.psfs import PiffSerializationModel, PiffWrapper

_COLOR = "colorValue"
_STRUCT = "meas_finalize_average_color"


def keep_average_color(model: PiffSerializationModel, color: float) -> PiffSerializationModel:
    """Add the average colour to what lsst.images stores of a Piff PSF.

    Parameters
    ----------
    model : `lsst.images.psfs.PiffSerializationModel`
        What is to be stored; modified in place.  Its stars have no colours.
    color : `float`
        Average colour; NaN if there is none, or the PSF is achromatic.

    Returns
    -------
    model : `lsst.images.psfs.PiffSerializationModel`
        The same.
    """
    if np.isfinite(color):
        # Piff asks for the structures that it knows, by name.
        model.piff.structs[_STRUCT] = {"value": float(color)}
    return model


def restore_average_color(model: PiffSerializationModel, psf: PiffWrapper) -> PiffWrapper:
    """Return a PSF that was read as one that can be drawn.

    Parameters
    ----------
    model : `lsst.images.psfs.PiffSerializationModel`
        What was stored.
    psf : `lsst.images.psfs.PiffWrapper`
        What lsst.images made of it.

    Returns
    -------
    psf : `lsst.images.psfs.PiffWrapper`
        A `ChromaticPiffWrapper` if it depends on colour, else the same.
    """
    if type(psf) is not PiffWrapper or _COLOR not in psf.piff_psf.interp_property_names:
        return psf
    color = model.piff.structs.get(_STRUCT, {}).get("value")
    known = color if isinstance(color, float) else None
    return ChromaticPiffWrapper(psf.piff_psf, psf.bounds, psf.kernel_bbox.x.size, known)


def average_star_color(psf: Any) -> float:
    """Return the mean colour of the stars that a PSF was fitted to.

    Parameters
    ----------
    psf : `piff.PSF`
        Piff model.

    Returns
    -------
    color : `float`
        Mean of the finite colours; NaN if no star tells one, as those read
        by lsst.images, which have positions only.
    """
    stars = getattr(psf, "stars", None) or ()
    used = [star for star in stars if not star.is_flagged and not star.is_reserve]
    data = [getattr(star, "data", None) for star in used]
    colors = np.array([getattr(item, "properties", {}).get(_COLOR, np.nan) for item in data], dtype=float)
    finite = colors[np.isfinite(colors)]
    return float(finite.mean()) if len(finite) else float("nan")


class ChromaticPiffWrapper(PiffWrapper):
    """Piff PSF of one detector that depends on the colour of the star.

    The base class refuses to draw those.  Here they are drawn at the average
    colour of the stars that the PSF was fitted to, unless another is given.

    Parameters
    ----------
    impl : `piff.PSF`
        Piff model; never modified.
    bounds : `lsst.images.Bounds`
        Region in pixels where the model can be evaluated.
    stamp_size : `int`
        Width and height of images in pixels.
    average_color : `float`, optional
        Average colour, if the model's stars don't tell their colours.
    """

    def __init__(
        self, impl: Any, bounds: Bounds, stamp_size: int, average_color: float | None = None
    ) -> None:
        super().__init__(impl, bounds, stamp_size)
        self._average_color = average_color

    @cached_property
    def average_color(self) -> float:
        """Mean colour of the stars used in the fit; NaN if none has one."""
        if self._average_color is not None:
            return self._average_color
        return average_star_color(self._impl)

    def serialize(self, archive: Any) -> PiffSerializationModel:
        """Serialize the PSF with its average colour.

        Parameters
        ----------
        archive
            Archive to write to.

        Returns
        -------
        model : `lsst.images.psfs.PiffSerializationModel`
            What is stored.
        """
        return keep_average_color(super().serialize(archive), self.average_color)

    def _draw(self, x: float, y: float, color: float | None, center: bool | None) -> Any:
        value = self.average_color if color is None or np.isnan(color) else float(color)
        if not np.isfinite(value):
            raise ValueError("The PSF depends on color, and no star tells an average one: give a color.")
        array = self._impl.draw(x, y, stamp_size=self._stamp_size, center=center, **{_COLOR: value}).array
        return array / np.sum(array)

    def compute_kernel_image(self, *, x: float, y: float, color: float | None = None) -> Image:
        """Draw the PSF centred on the central pixel.

        Parameters
        ----------
        x, y : `float`
            Position in pixels to evaluate the model at.
        color : `float`, optional
            Colour of the star; the average one by default, or if NaN.

        Returns
        -------
        image : `lsst.images.Image`
            Image with sum 1.

        Raises
        ------
        ValueError
            Raised if no colour is given and there is no average one.
        """
        box = self.kernel_bbox
        return Image(self._draw(x, y, color, True), yx0=YX(y=box.y.min, x=box.x.min))

    def compute_stellar_image(self, *, x: float, y: float, color: float | None = None) -> Image:
        """Draw the PSF as a star at its position.

        Parameters
        ----------
        x, y : `float`
            Position in pixels.
        color : `float`, optional
            Colour of the star; the average one by default, or if NaN.

        Returns
        -------
        image : `lsst.images.Image`
            Image with sum 1.

        Raises
        ------
        ValueError
            Raised if no colour is given and there is no average one.
        """
        box = self.compute_stellar_bbox(x=x, y=y)
        return Image(self._draw(x, y, color, None), yx0=YX(y=box.y.min, x=box.x.min))

    def compute_stellar_bbox(self, *, x: float, y: float) -> Box:
        """Return the box of the image of a star.

        Parameters
        ----------
        x, y : `float`
            Position in pixels.

        Returns
        -------
        box : `lsst.images.Box`
            Box of the pixels that Piff draws, also where a coordinate is
            half-integer, which Piff rounds down.
        """
        radius = self._stamp_size // 2
        x0, y0 = (math.ceil(value - 0.5) - radius for value in (x, y))
        return Box.factory[y0 : y0 + self._stamp_size, x0 : x0 + self._stamp_size]
