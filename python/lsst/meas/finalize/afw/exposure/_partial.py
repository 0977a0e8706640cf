# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Visit images some of whose components can't be read."""

from __future__ import annotations

__all__ = ("PartialVisitImage",)

from collections.abc import Mapping
from types import EllipsisType
from typing import Any

import astropy.units as u

from lsst.images import Box, DetectorFrame, SkyFrame, SkyProjection, Transform, VisitImage
from lsst.images._transforms import _ast

from .._errors import ComponentError

_GUARDED = (
    "aperture_corrections",
    "astropy_wcs",
    "band",
    "bounds",
    "detector",
    "obs_info",
    "photometric_scaling",
    "physical_filter",
    "sky_projection",
    "summary_stats",
    "unit",
)
_SOURCES = {"astropy_wcs": "sky_projection", "physical_filter": "obs_info"}
"""Properties that are made from others."""

_OWN = ("_problems", "_fillers")


class PartialVisitImage(VisitImage):
    """A visit image that raises an exception for some components.

    Parameters
    ----------
    image, mask, variance
        The planes, without unit and projection if those can't be read.
    problems
        By names of components, what to raise when they are asked for.
    frame
        Pixel frame.
    **components
        The components that can be read.
    """

    def __init__(
        self,
        image: Any,
        *,
        mask: Any,
        variance: Any,
        problems: Mapping[str, ComponentError],
        frame: DetectorFrame,
        **components: Any,
    ) -> None:
        # The constructor of the base class insists on having these.
        self._fillers: dict[str, Any] = {}
        if image.unit is None:
            self._fillers["unit"] = u.adu
        if image.sky_projection is None:
            filler = Transform(frame, SkyFrame.ICRS, _ast.UnitMap(2))
            self._fillers["sky_projection"] = SkyProjection(filler)
        super().__init__(image.view(**self._fillers), mask=mask, variance=variance, **components)
        self._problems = dict(problems)
        self._strip()

    def _set_planes(self, unit: Any, projection: Any) -> None:
        """Replace unit and projection of the planes."""
        squared = unit if unit in (None, ...) else unit**2
        self._image = self._image.view(unit=unit, sky_projection=projection)
        self._mask = self._mask.view(sky_projection=projection)
        self._variance = self._variance.view(unit=squared, sky_projection=projection)

    def _strip(self) -> None:
        """Take what only fills a gap out of the planes."""
        unit, projection = (None if name in self._fillers else ... for name in ("unit", "sky_projection"))
        self._set_planes(unit, projection)

    def _filled(self) -> VisitImage:
        """Return a plain image whose gaps are filled."""
        result = object.__new__(VisitImage)
        result.__dict__.update({key: value for key, value in self.__dict__.items() if key not in _OWN})
        PartialVisitImage._set_planes(
            result,  # type: ignore[arg-type]
            self._fillers.get("unit", ...),
            self._fillers.get("sky_projection", ...),
        )
        return result

    def _like(self, filled: VisitImage) -> PartialVisitImage:
        result = object.__new__(PartialVisitImage)
        result.__dict__.update(filled.__dict__)
        result._problems, result._fillers = dict(self._problems), self._fillers
        result._strip()
        return result

    def __getitem__(self, bbox: Box | EllipsisType) -> PartialVisitImage:
        return self._like(self._filled()[bbox])

    def copy(self, *, copy_detector: bool = False) -> PartialVisitImage:
        """Copy the image.

        Parameters
        ----------
        copy_detector
            Whether to copy the detector as well.
        """
        return self._like(self._filled().copy(copy_detector=copy_detector and self._detector is not None))

    def convert_unit(self, unit: u.UnitBase = u.nJy, *args: Any, **kwargs: Any) -> PartialVisitImage:
        """Convert the pixels to another unit.

        Parameters
        ----------
        unit
            The unit.
        *args, **kwargs
            Further arguments, as of `lsst.images.VisitImage.convert_unit`.

        Raises
        ------
        ComponentError
            If it takes a component that can't be read.
        """
        if "unit" in self._problems:
            raise self._problems["unit"]
        try:
            return self._like(self._filled().convert_unit(unit, *args, **kwargs))
        except u.UnitConversionError:
            if "photometric_scaling" in self._problems:
                raise self._problems["photometric_scaling"] from None
            raise

    def serialize(self, archive: Any) -> Any:
        """Refuse to be stored, since lsst.images needs all the components.

        Parameters
        ----------
        archive
            Archive to write to.

        Raises
        ------
        ComponentError
            If a component can't be read, still.
        """
        for problem in self._problems.values():
            raise problem
        _ = self.psf
        return super().serialize(archive)

    def _describe(self, options: Any = None, /) -> Any:
        filled = self._filled()
        return filled._describe() if options is None else filled._describe(options)


def _guard(name: str) -> property:
    base = getattr(VisitImage, name)
    source = _SOURCES.get(name, name)

    def get(self: PartialVisitImage) -> Any:
        if source in self._problems:
            raise self._problems[source].with_traceback(None)
        return base.fget(self)

    def set_(self: PartialVisitImage, value: Any) -> None:
        base.fset(self, value)
        self._problems.pop(source, None)

    return property(get, set_ if base.fset else None, doc=base.__doc__)


for _name in _GUARDED:
    setattr(PartialVisitImage, _name, _guard(_name))
