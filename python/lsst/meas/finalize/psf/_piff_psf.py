# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The PSF model the Piff determiner makes."""

from __future__ import annotations

__all__ = ("PiffPsf",)

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from lsst.images import YX, Bounds, Box, Image
from lsst.images.psfs import PiffSerializationModel, PiffWrapper

from ..catalogs import average_star_color, keep_average_color
from ._draw import Drawer, make_drawer, stamp_origin
from ._positions import defined_positions
from ._shapes import kernel_aperture_fluxes, kernel_shapes

if TYPE_CHECKING:
    import piff

_LOG = logging.getLogger(__name__)

_COLOR = "colorValue"
_STATE = ("_impl", "_bounds", "_stamp_size", "_average_color")
_FARTHEST = 1e9
"""Positions beyond (in pixels) have no meaningful stamp."""


class PiffPsf(PiffWrapper):
    """A Piff model of one detector that draws many positions at once.

    Parameters
    ----------
    impl
        Piff model; never modified.
    bounds
        Region in pixels where the model can be evaluated.
    stamp_size
        Width and height of images in pixels, odd.
    average_color
        Average colour, if the model's stars don't tell their colours.

    Raises
    ------
    ValueError
        Raised if the stamp size isn't a positive odd number or the model
        covers several chips.

    Notes
    -----
    All images sum to 1, also if part of the flux falls off the stamp.
    A NaN position stands for the average position and a NaN colour for the
    average colour (spec 01 §5.4).
    """

    def __init__(
        self, impl: piff.PSF, bounds: Bounds, stamp_size: int, average_color: float | None = None
    ) -> None:
        size = int(stamp_size)
        if size != stamp_size or size <= 0 or size % 2 == 0:
            raise ValueError(f"stamp_size must be a positive odd number, got {stamp_size}.")
        if impl.wcs is None or len(impl.wcs) != 1:
            raise ValueError("A PiffPsf needs a Piff model of exactly one chip.")
        super().__init__(impl, bounds, size)
        self._average_color = average_color

    @classmethod
    def from_wrapper(cls, psf: PiffWrapper) -> PiffPsf:
        """Add batch drawing to a PSF read by lsst.images.

        Parameters
        ----------
        psf
            Any wrapper of a Piff model.

        Returns
        -------
        PiffPsf
            The same object if it is a `PiffPsf` already, else one that
            shares the Piff model.
        """
        if isinstance(psf, cls):
            return psf
        color = getattr(psf, "average_color", None)
        return cls(psf.piff_psf, psf.bounds, psf.kernel_bbox.x.size, color)

    def __repr__(self) -> str:
        interp = type(self._impl.interp).__name__
        keys = ", ".join(getattr(self._impl.interp, "_keys", ()))
        stars = f"{len(self._used_stars())} stars"
        size = f"{self._stamp_size} × {self._stamp_size}"
        return f"<PiffPsf: {type(self._impl.model).__name__}, {interp}({keys}), {stars}, stamps of {size}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self._impl, self._bounds, self._stamp_size, self._average_color)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in _STATE}

    def resized(self, stamp_size: int) -> PiffPsf:
        """Return the same model with other stamps.

        Parameters
        ----------
        stamp_size
            Width and height of images in pixels, odd.

        Returns
        -------
        PiffPsf
            PSF sharing the Piff model.
        """
        return PiffPsf(self._impl, self._bounds, stamp_size, self._average_color)

    @property
    def stamp_size(self) -> int:
        """Width and height of images in pixels."""
        return self._stamp_size

    @property
    def is_chromatic(self) -> bool:
        """Does the model depend on colour?"""
        return _COLOR in self._impl.interp_property_names

    @cached_property
    def average_position(self) -> tuple[float, float]:
        """Mean x and y of the stars used in the fit, in pixels; the centre
        of the bounds for a model without stars.
        """
        used = self._used_stars()
        if not used:
            box = self._bounds.bbox
            return 0.5 * (box.x.min + box.x.max), 0.5 * (box.y.min + box.y.max)
        positions = np.array([(star.image_pos.x, star.image_pos.y) for star in used])
        return float(positions[:, 0].mean()), float(positions[:, 1].mean())

    @cached_property
    def average_color(self) -> float:
        """Mean colour of the stars used in the fit; NaN if the model doesn't
        depend on colour.
        """
        if not self.is_chromatic:
            return float("nan")
        if self._average_color is not None:
            return self._average_color
        return average_star_color(self._impl)

    @cached_property
    def color_type(self) -> str | None:
        """Which colour the model depends on, e.g. "g-i"; `None` if that is
        not known or not unique.
        """
        types = {str(value) for value in self._star_properties("colorType")}
        return (types.pop() or None) if len(types) == 1 else None

    def draw_kernel_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Draw the PSF centred on the central pixel.

        Parameters
        ----------
        x, y
            Positions in pixels to evaluate the model at, shape (N,).
        color
            Colours, scalar or shape (N,).

        Returns
        -------
        `numpy.ndarray`
            Images, float64, shape (N, stamp size, stamp size), each with sum
            1; NaN where a position is infinite.
        """
        x, y = self._positions(x, y)
        return self._draw(x, y, color, centered=True)

    def draw_star_images(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Draw the PSF as stars at their positions.

        Parameters
        ----------
        x, y
            Positions in pixels, shape (N,).
        color
            Colours, scalar or shape (N,).

        Returns
        -------
        images : `numpy.ndarray`
            Images, float64, shape (N, stamp size, stamp size), each with sum
            1; NaN where a position is infinite.
        x0, y0 : `numpy.ndarray`
            Position of each image's first pixel, int64, shape (N,).
        """
        x, y = self._positions(x, y)
        images = self._draw(x, y, color, centered=False)
        ok = _drawable(x, y)
        origin_x = stamp_origin(np.where(ok, x, 0.0), self._stamp_size)
        origin_y = stamp_origin(np.where(ok, y, 0.0), self._stamp_size)
        return images, origin_x, origin_y

    def compute_shapes(
        self, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Measure adaptive moments of the PSF.

        Parameters
        ----------
        x, y
            Positions in pixels, shape (N,).
        color
            Colours, scalar or shape (N,).

        Returns
        -------
        `numpy.ndarray`
            Moments xx, yy, xy in pixel², shape (N, 3); NaN on failure.
        """
        return kernel_shapes(self.draw_kernel_images(x, y, color))

    def compute_aperture_fluxes(
        self, radius: float, x: npt.ArrayLike, y: npt.ArrayLike, color: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Compute the fraction of flux in a circle.

        Parameters
        ----------
        radius
            Radius of the circle in pixels.
        x, y
            Positions in pixels, shape (N,).
        color
            Colours, scalar or shape (N,).

        Returns
        -------
        `numpy.ndarray`
            Enclosed fluxes, shape (N,).
        """
        return kernel_aperture_fluxes(self.draw_kernel_images(x, y, color), radius)

    def check_color_type(self, color_type: str) -> None:
        """Check that colours of some type can be given to this model.

        Parameters
        ----------
        color_type
            Which colour, e.g. "g-i"; "" (unknown) is always accepted.

        Raises
        ------
        ValueError
            Raised if the model depends on another colour.
        """
        if self.is_chromatic and color_type and self.color_type and color_type != self.color_type:
            raise ValueError(f"The PSF depends on the color {self.color_type!r}, not on {color_type!r}.")

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

    def compute_kernel_image(self, *, x: float, y: float, color: float | None = None) -> Image:
        r = self._stamp_size // 2
        return Image(self.draw_kernel_images([x], [y], color)[0], yx0=YX(y=-r, x=-r))

    def compute_stellar_image(self, *, x: float, y: float, color: float | None = None) -> Image:
        images, x0, y0 = self.draw_star_images([x], [y], color)
        return Image(images[0], yx0=YX(y=int(y0[0]), x=int(x0[0])))

    def compute_stellar_bbox(self, *, x: float, y: float) -> Box:
        # Piff's rounding, so that the box is that of the drawn pixels.
        xs, ys = self._positions([x], [y])
        if not _drawable(xs, ys)[0]:
            raise ValueError(f"There is no image of a star at ({x}, {y}).")
        x0, y0 = (int(stamp_origin(value, self._stamp_size)[0]) for value in (xs, ys))
        return Box.factory[y0 : y0 + self._stamp_size, x0 : x0 + self._stamp_size]

    @cached_property
    def _drawer(self) -> Drawer:
        return make_drawer(self._impl)

    def _used_stars(self) -> list[Any]:
        stars = getattr(self._impl, "stars", None) or ()
        return [star for star in stars if not star.is_flagged and not star.is_reserve]

    def _star_properties(self, name: str) -> list[Any]:
        # Stars read by lsst.images have positions only.
        used = [star for star in self._used_stars() if hasattr(star, "data")]
        return [star.data.properties[name] for star in used if name in star.data.properties]

    def _positions(
        self, x: npt.ArrayLike, y: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return defined_positions(x, y, self.average_position)

    def _colors(self, color: npt.ArrayLike | None, number: int) -> Mapping[str, npt.NDArray[np.float64]]:
        if not self.is_chromatic:
            return {}
        given = np.asarray(np.nan if color is None else color, dtype=float)
        colors = np.array(np.broadcast_to(given, (number,)))
        missing = ~np.isfinite(colors)
        if missing.any():
            if not np.isfinite(self.average_color):
                raise ValueError(
                    "The PSF depends on color; no color was given and none of its stars has one."
                )
            colors[missing] = self.average_color
            _LOG.debug("Average color %g used for %d PSF images.", self.average_color, missing.sum())
        return {_COLOR: colors}

    def _draw(
        self,
        x: npt.NDArray[np.float64],
        y: npt.NDArray[np.float64],
        color: npt.ArrayLike | None,
        centered: bool,
    ) -> npt.NDArray[np.float64]:
        properties = self._colors(color, len(x))
        ok = _drawable(x, y)
        if not ok.all():
            images = np.full((len(x), self._stamp_size, self._stamp_size), np.nan)
            chosen = {name: values[ok] for name, values in properties.items()}
            images[ok] = self._normalized(x[ok], y[ok], chosen, centered)
            return images
        return self._normalized(x, y, properties, centered)

    def _normalized(
        self,
        x: npt.NDArray[np.float64],
        y: npt.NDArray[np.float64],
        properties: Mapping[str, npt.NDArray[np.float64]],
        centered: bool,
    ) -> npt.NDArray[np.float64]:
        images = self._drawer.draw(x, y, properties, self._stamp_size, centered)
        sums = images.sum(axis=(1, 2), keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.divide(images, sums, out=images)


def _drawable(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return (np.abs(x) < _FARTHEST) & (np.abs(y) < _FARTHEST)
