# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Components and parameters of ``ExposureF`` datasets."""

from __future__ import annotations

__all__ = ("ExposureDelegate",)

from collections.abc import Mapping
from typing import Any

from lsst.daf.butler import StorageClassDelegate
from lsst.images import Box, VisitImage

_AFW_NAMES = {
    "apCorrMap": "aperture_corrections",
    "summaryStats": "summary_stats",
    "visitInfo": "obs_info",
    "wcs": "sky_projection",
}


class ExposureDelegate(StorageClassDelegate):
    """Delegate of the storage class ``ExposureF`` in a client without afw.

    Notes
    -----
    Components have the names that a ``VisitImage`` dataset has, and, where the
    content is the same, those of an afw exposure as well.
    """

    def get_attribute(self, component: str) -> str:
        """Return what `lsst.images.VisitImage` calls a component.

        Parameters
        ----------
        component
            Name of the component, `lsst.images`' or afw's.

        Returns
        -------
        attribute
            Name of the image's property.

        Raises
        ------
        AttributeError
            Raised if the storage class has no such component.
        """
        if component not in self.storageClass.allComponents():
            raise AttributeError(f"Storage class {self.storageClass.name} has no component {component!r}.")
        return _AFW_NAMES.get(component, component)

    def get_bbox(self, parameters: Mapping[str, Any] | None) -> Box | None:
        """Return the box that read parameters ask for.

        Parameters
        ----------
        parameters
            Parameters of the read; only ``bbox`` is known, a `lsst.images.Box`
            in parent coordinates.

        Returns
        -------
        bbox
            The box; `None` for the whole image.

        Raises
        ------
        TypeError
            Raised if ``bbox`` isn't a `lsst.images.Box`.
        ValueError
            Raised if there is another parameter.
        """
        remaining = dict(parameters or {})
        bbox = remaining.pop("bbox", None)
        if remaining:
            raise ValueError(f"Unknown parameters of {self.storageClass.name}: {sorted(remaining)}.")
        if bbox is not None and not isinstance(bbox, Box):
            raise TypeError(f"Parameter 'bbox' must be a lsst.images.Box, not {type(bbox).__name__}: {bbox}.")
        return bbox

    def getComponent(self, composite: VisitImage, componentName: str) -> Any:
        """Return one component of an image.

        Parameters
        ----------
        composite
            The image.
        componentName
            Name of the component, `lsst.images`' or afw's.

        Returns
        -------
        component
            The component; it shares memory with the image.

        Raises
        ------
        AttributeError
            Raised if the storage class has no such component.
        """
        return getattr(composite, self.get_attribute(componentName))

    def handleParameters(
        self, inMemoryDataset: VisitImage, parameters: Mapping[str, Any] | None = None
    ) -> VisitImage:
        """Apply read parameters to an image.

        Parameters
        ----------
        inMemoryDataset
            The image.
        parameters
            See `get_bbox`.

        Returns
        -------
        image
            The image, or a view of a part of it.

        Raises
        ------
        ValueError
            Raised if the image doesn't contain the box, or as by `get_bbox`.
        """
        bbox = self.get_bbox(parameters)
        if bbox is None:
            return inMemoryDataset
        if not inMemoryDataset.bbox.contains(bbox):
            raise ValueError(f"Parameter 'bbox' {bbox} is not inside the image's {inMemoryDataset.bbox}.")
        return inMemoryDataset[bbox]
