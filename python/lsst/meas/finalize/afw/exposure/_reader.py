# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exposure files of the stack as `lsst.images.VisitImage`."""

from __future__ import annotations

__all__ = ("ExposureReader",)

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
from astro_metadata_translator import ObservationInfo

from lsst.images import Box, Image, Mask, VisitImage
from lsst.images.fits import FitsOpaqueMetadata

from ...catalogs import resolve
from .._errors import ComponentError, FitsFormatError
from ._component import attempt
from ._components import ExposureComponents
from ._deferred_psf import DeferredPsfImage
from ._mask import make_mask, read_mask_planes
from ._partial import PartialVisitImage

_LOG = logging.getLogger(__name__)

_COMPONENTS_OF_IMAGE = (
    "aperture_corrections",
    "band",
    "bounds",
    "detector",
    "metadata",
    "obs_info",
    "photometric_scaling",
    "sky_projection",
    "summary_stats",
    "unit",
)
_ALIASES = {
    "wcs": "sky_projection",
    "apCorrMap": "aperture_corrections",
    "validPolygon": "bounds",
    "summaryStats": "summary_stats",
    "visitInfo": "obs_info",
}
"""Component names of the stack's storage class."""


class ExposureReader(ExposureComponents):
    """Pixels and components of an exposure file, read when asked for.

    Parameters
    ----------
    file
        Open file, by astropy or by this package; must stay open while
        components are read.
    data_id
        Mapping that may have ``instrument``, ``visit``, ``detector``,
        ``band`` and ``physical_filter``, for what the file doesn't tell.

    Raises
    ------
    FitsFormatError
        If the file isn't an exposure, or of an unsupported version.
    """

    COMPONENTS = (
        "aperture_corrections",
        "band",
        "bbox",
        "bounds",
        "detector",
        "image",
        "mask",
        "metadata",
        "obs_info",
        "photometric_scaling",
        "psf",
        "sky_projection",
        "summary_stats",
        "unit",
        "variance",
    )
    """Names `read_component` knows, besides aliases of the stack."""

    def read_image(self, bbox: Box | None = None) -> Image:
        """Read the image plane.

        Parameters
        ----------
        bbox
            Part to read, parent coordinates; all by default.

        Returns
        -------
        image : `lsst.images.Image`
            Float32 image with unit and projection.
        """
        array = self._planes[1].read(np.float32, bbox)
        return self._to_image(array, self.bbox if bbox is None else bbox)

    def read_variance(self, bbox: Box | None = None) -> Image:
        """Read the variance plane; zeros if it is unreadable.

        Parameters
        ----------
        bbox
            Part to read, parent coordinates; all by default.

        Returns
        -------
        variance : `lsst.images.Image`
            Float32 image with unit and projection.
        """
        box = self.bbox if bbox is None else bbox
        try:
            self._check_box(3)
            array = self._planes[3].read(np.float32, bbox)
        except FitsFormatError as error:
            _LOG.warning("The variance is replaced by zeros: %s", error)
            array = np.zeros(box.shape, dtype=np.float32)
        return self._to_image(array, box, power=2)

    def read_mask(self, bbox: Box | None = None) -> Mask:
        """Read the mask plane; zeros if it is unreadable.

        Parameters
        ----------
        bbox
            Part to read, parent coordinates; all by default.

        Returns
        -------
        mask : `lsst.images.Mask`
            Mask by plane names of lsst.images, with further planes of the
            file under their own names.
        """
        box = self.bbox if bbox is None else bbox
        plane = self._planes[2]
        try:
            self._check_box(2)
            planes = read_mask_planes(plane.header, plane.where)
            result = make_mask(plane.blocks(bbox), planes, box)
        except FitsFormatError as error:
            _LOG.warning("The mask is replaced by zeros: %s", error)
            result = make_mask((), {}, box)
        return result.view(sky_projection=self._optional("sky_projection"))

    def _to_image(self, array: npt.NDArray[np.float32], box: Box, power: int = 1) -> Image:
        """Add unit and projection to pixels, those that can be read."""
        unit = self._optional("unit")
        return Image(
            array,
            bbox=box,
            unit=None if unit is None else unit**power,
            sky_projection=self._optional("sky_projection"),
        )

    def _check_box(self, number: int) -> None:
        plane = self._planes[number]
        if plane.box != self.bbox:
            raise FitsFormatError(f"{plane.where}: the box {plane.box} differs from {self.bbox} of the image")

    def read_component(self, name: str, bbox: Box | None = None) -> Any:
        """Read one component.

        Parameters
        ----------
        name
            One of `COMPONENTS`, or the stack's name of one.
        bbox
            Part of the pixels to read, for image, mask and variance.

        Returns
        -------
        component : `object`
            The component, as `lsst.images.VisitImage` has it.

        Raises
        ------
        ValueError
            If there is no component of this name.
        """
        name = _ALIASES.get(name, name)
        if name not in self.COMPONENTS:
            known = ", ".join(sorted(self.COMPONENTS))
            raise ValueError(f"{self.where}: an exposure has no component {name!r}, but {known}")
        if name in ("image", "mask", "variance"):
            return getattr(self, f"read_{name}")(bbox)
        return getattr(self, name)

    def read(self, bbox: Box | None = None) -> VisitImage:
        """Read everything.

        Parameters
        ----------
        bbox
            Part of the pixels to read, parent coordinates; all by default.

        Returns
        -------
        exposure : `lsst.images.VisitImage`
            The image with all its components.  Those that are missing or
            damaged raise `ComponentError` when they are asked for.

        Raises
        ------
        FitsFormatError
            If the pixels can't be read.
        """
        planes: dict[str, Any] = {"mask": self.read_mask(bbox), "variance": self.read_variance(bbox)}
        image = self.read_image(bbox)
        found: dict[str, Any] = {}
        problems: dict[str, ComponentError] = {}
        for name in _COMPONENTS_OF_IMAGE:
            try:
                found[name] = getattr(self, name)
            except ComponentError as error:
                problems[name] = error
        found["psf"] = self._deferred_psf() or attempt(self, "psf")
        if "bounds" in found:
            found["bounds"] = self._clip_bounds(image.bbox)
        for name in ("unit", "sky_projection"):
            found.pop(name, None)
        result = self._assemble(image, planes, found, problems)
        result._opaque_metadata = self._make_opaque_metadata()
        return result

    def _assemble(
        self, image: Image, planes: dict[str, Any], found: dict[str, Any], problems: dict[str, ComponentError]
    ) -> VisitImage:
        fillers = {
            "detector": None,
            "band": "",
            "obs_info": ObservationInfo(physical_filter=self._filter.physical),
        }
        # lsst.images stores a missing detector without looking at it.
        components: dict[str, Any] = fillers | found
        if not problems:
            return DeferredPsfImage(image, **planes, **components)
        components["psf"] = resolve(components["psf"])
        texts = [str(error).removeprefix(f"{self.where}: ") for error in problems.values()]
        _LOG.warning("%s: %s", self.where, "; ".join(texts))
        return PartialVisitImage(image, **planes, problems=problems, frame=self._frame, **components)

    def _make_opaque_metadata(self) -> FitsOpaqueMetadata:
        """Keep the primary header, as lsst.images does."""
        header = self._primary.copy()
        for key in list(header):
            if key.startswith("ARCHIVE_ID_") or key in ("EXPINFO_V", "SUMMARY_STATS_ID"):
                header.remove(key, ignore_missing=True, remove_all=True)
        result = FitsOpaqueMetadata()
        try:
            result.extract_legacy_primary_header(header)
        except Exception as error:
            # Raises what astropy does for damaged cards; nobody needs them.
            _LOG.warning("%s: can't keep the primary header: %s", self.where, str(error)[:200])
        return result
