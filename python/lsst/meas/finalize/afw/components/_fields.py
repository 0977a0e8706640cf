# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Fields of the stack that lsst.images has no class for."""

from __future__ import annotations

__all__ = ("PixelAreaField", "TransformField", "UnreadableField")

from abc import abstractmethod
from typing import Any, NoReturn, Self

import astropy.units as u
import numpy as np
import numpy.typing as npt

from lsst.images import Box, Image
from lsst.images.fields import BaseField

from ..._sphere import unit_vectors
from .._errors import ArchiveError
from ..wcs import AfwTransform, SkyWcs

type _Factor = float | u.Quantity | u.UnitBase


class _StackField(BaseField):
    """A field with a box, a constant factor and a unit.

    Parameters
    ----------
    box
        Where it is defined.
    factor
        What all values are multiplied with.
    unit
        Unit of the values.
    """

    def __init__(self, box: Box, factor: float = 1.0, unit: u.UnitBase | None = None) -> None:
        self._box = box
        self._factor = float(factor)
        self._unit = unit

    @property
    def bounds(self) -> Box:
        """Where the field is defined."""
        return self._box

    @property
    def unit(self) -> u.UnitBase | None:
        """Unit of the values."""
        return self._unit

    @property
    def factor(self) -> float:
        """What all values are multiplied with."""
        return self._factor

    @property
    def is_constant(self) -> bool:
        """Whether all values are known to be equal."""
        return False

    @abstractmethod
    def _values(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Evaluate without the factor."""
        raise NotImplementedError()

    @abstractmethod
    def _copy(self, factor: float, unit: u.UnitBase | None) -> Self:
        raise NotImplementedError()

    def _evaluate(self, *, x: npt.NDArray[Any], y: npt.NDArray[Any], quantity: bool = False) -> Any:
        xb, yb = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        result = self._values(xb, yb) * self._factor
        return result * (self._unit or u.dimensionless_unscaled) if quantity else result

    def render(self, bbox: Box | None = None, *, dtype: npt.DTypeLike | None = None) -> Image:
        """Make an image of the field.

        Parameters
        ----------
        bbox
            Box of the image; that of the field by default.
        dtype
            Type of the pixels.

        Returns
        -------
        image : `lsst.images.Image`
            Values at the centres of the pixels.
        """
        box = self._box if bbox is None else bbox
        y, x = np.meshgrid(box.y.arange, box.x.arange, indexing="ij")
        return Image(self._evaluate(x=x, y=y), bbox=box, unit=self._unit, dtype=dtype)

    def _multiply_constant(self, factor: _Factor) -> Self:
        number, unit = self._handle_factor_units(factor)
        return self._copy(self._factor * number, unit)

    def serialize(self, archive: Any) -> NoReturn:
        """Refuse to be stored by lsst.images, which has no such class.

        Parameters
        ----------
        archive
            Archive to write to.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(f"lsst.images can't store a {type(self).__name__}")


class TransformField(_StackField):
    """A field given by a mapping of coordinates (``TransformBoundedField``).

    Parameters
    ----------
    box
        Where it is defined.
    transform
        Mapping from pixels to one or more numbers, of which the first counts.
    factor, unit
        What all values are multiplied with.
    """

    def __init__(
        self, box: Box, transform: AfwTransform, factor: float = 1.0, unit: u.UnitBase | None = None
    ) -> None:
        super().__init__(box, factor, unit)
        self.transform = transform

    def __eq__(self, other: object) -> bool:
        if type(other) is not TransformField:
            return NotImplemented
        return (self._box, self.transform.text.split(), self._factor, self._unit) == (
            other._box,
            other.transform.text.split(),
            other._factor,
            other._unit,
        )

    __hash__ = None  # type: ignore[assignment]

    def _values(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self.transform.apply(x, y)[0]

    def _copy(self, factor: float, unit: u.UnitBase | None) -> TransformField:
        return TransformField(self._box, self.transform, factor, unit)


class PixelAreaField(_StackField):
    """The area of pixels on the sky (``PixelAreaBoundedField``).

    Parameters
    ----------
    box
        Where it is defined.
    wcs
        World coordinates of the pixels.
    factor, unit
        What the areas in rad² are multiplied with.
    """

    def __init__(self, box: Box, wcs: SkyWcs, factor: float = 1.0, unit: u.UnitBase | None = None) -> None:
        super().__init__(box, factor, unit)
        self.wcs = wcs

    def __eq__(self, other: object) -> bool:
        if type(other) is not PixelAreaField:
            return NotImplemented
        return (self._box, self.wcs.text.split(), self._factor, self._unit) == (
            other._box,
            other.wcs.text.split(),
            other._factor,
            other._unit,
        )

    __hash__ = None  # type: ignore[assignment]

    def _values(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Measure triangles with the neighbours (spec 02 §5.1)."""
        origin, right, up = (
            unit_vectors(*self.wcs.pixel_to_sky(x + dx, y + dy)) for dx, dy in ((0, 0), (1, 0), (0, 1))
        )
        cross = np.cross(right - origin, up - origin)
        return np.asarray(np.sqrt(np.sum(cross**2, axis=-1)), dtype=np.float64)

    def _copy(self, factor: float, unit: u.UnitBase | None) -> PixelAreaField:
        return PixelAreaField(self._box, self.wcs, factor, unit)


class UnreadableField(BaseField):
    """Stands for a field that can't be read, until it is asked for values.

    Parameters
    ----------
    error
        Why it can't be read.
    stored
        What is to be written in its place, if that can be.
    """

    def __init__(self, error: ArchiveError, stored: Any = None) -> None:
        self.error = error
        self.stored = stored

    def fail(self) -> NoReturn:
        """Raise the error."""
        raise self.error

    @property
    def bounds(self) -> NoReturn:
        """Unknown: raises the error."""
        self.fail()

    @property
    def unit(self) -> None:
        """No unit."""
        return None

    @property
    def is_constant(self) -> bool:
        """Whether all values are known to be equal."""
        return False

    def _evaluate(self, *, x: Any, y: Any, quantity: bool = False) -> NoReturn:
        self.fail()

    def render(self, bbox: Box | None = None, *, dtype: npt.DTypeLike | None = None) -> NoReturn:
        """Raise the error.

        Parameters
        ----------
        bbox, dtype
            Unused.
        """
        self.fail()

    def _multiply_constant(self, factor: _Factor) -> NoReturn:
        self.fail()

    def serialize(self, archive: Any) -> NoReturn:
        """Raise the error.

        Parameters
        ----------
        archive
            Unused.
        """
        self.fail()

    def _describe(self, options: Any = None, /) -> Any:
        from lsst.images.describe import Report

        return Report(type_name="UnreadableField", summary=f"unreadable ({self.error})", inline=True)
