# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The stars being measured, and what plugins may ask about them."""

from __future__ import annotations

__all__ = ("MeasureBatch", "mask_bits")

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..catalogs import Footprints, SourceCatalog, StampSet, mask_planes, plane_bits
from ._errors import UnknownMaskPlaneError
from ._psf import BatchPsf
from ._star_psfs import StarPsfs
from .noise import NoiseReplacer
from .pixels import BoxBatch, LazyStamps, Planes, box_batches

if TYPE_CHECKING:
    from lsst.images import VisitImage

type FloatArray = npt.NDArray[np.float64]
type IntArray = npt.NDArray[np.int64]

_MAX_KEPT_PIXELS = 2_000_000
"""Pixels of cut-outs that are kept for the next plugin."""


def mask_bits(exposure: VisitImage, names: Iterable[str], name: str) -> int:
    """Return the OR of the bits of some mask planes of an image.

    Parameters
    ----------
    exposure : `lsst.images.VisitImage`
        The image.
    names : iterable of `str`
        Mask planes; a known one that the image lacks has no bit.
    name : `str`
        Name of the plugin that asks, for the error message.

    Raises
    ------
    UnknownMaskPlaneError
        Raised if there is no such mask plane.
    ValueError
        Raised if the image has more mask planes than there are bits.
    """
    planes = mask_planes(exposure.mask.schema)
    try:
        return plane_bits(planes, names)
    except ValueError as err:
        raise UnknownMaskPlaneError(f"Plugin {name}: {err}") from err


class MeasureBatch(StarPsfs):
    """Stars to be measured together.

    Parameters
    ----------
    catalog : `SourceCatalog`
        Measured rows; plugins write its columns in place.
    exposure : `lsst.images.VisitImage`
        Image the stars are on.  It is never changed.
    psf : `BatchPsf`, optional
        PSF to use.
    footprints : `Footprints`, optional
        Footprint of every row; those of the catalogue by default.
    replacer : `NoiseReplacer`, optional
        Where noise-replaced pixels come from; without it stars are cut out of
        the image as it is.
    color : `numpy.ndarray`, optional
        Colours for the PSF, shape (N,); average colour by default.
    restored : `bool`, optional
        Cut out of the image as it is after all noise has been removed?

    Raises
    ------
    ValueError
        Raised if footprints and rows differ in number.
    """

    def __init__(
        self,
        catalog: SourceCatalog,
        exposure: VisitImage,
        *,
        psf: BatchPsf | None = None,
        footprints: Footprints | None = None,
        replacer: NoiseReplacer | None = None,
        color: FloatArray | None = None,
        restored: bool = False,
    ) -> None:
        super().__init__(catalog, footprints, psf=psf, color=color)
        self.exposure = exposure
        self.planes = mask_planes(exposure.mask.schema)
        self._replacer = replacer
        self._restored = restored
        self._kept: tuple[IntArray, list[tuple[BoxBatch, StampSet]]] | None = None

    @cached_property
    def _planes(self) -> Planes:
        """What stamps are cut out of."""
        return Planes.of(self.exposure)

    @property
    def image_origin(self) -> tuple[int, int]:
        """PARENT column and row of the image's first pixel (XY0)."""
        box = self.exposure.bbox
        return box.x.start, box.y.start

    @property
    def image_box(self) -> tuple[int, int, int, int]:
        """Inclusive PARENT limits x_min, y_min, x_max, y_max of the image."""
        box = self.exposure.bbox
        return box.x.start, box.y.start, box.x.stop - 1, box.y.stop - 1

    def restored(self) -> MeasureBatch:
        """Return these stars on the image after noise has been removed.

        Returns
        -------
        batch : `MeasureBatch`
            Batch that writes to the same catalogue.
        """
        return MeasureBatch(
            self.catalog,
            self.exposure,
            psf=self.psf,
            footprints=self.footprints,
            replacer=self._replacer,
            color=self.color,
            restored=True,
        )

    def cutout(
        self,
        x0: npt.ArrayLike,
        y0: npt.ArrayLike,
        width: int,
        height: int,
        rows: IntArray | None = None,
        *,
        detection_planes: bool = False,
    ) -> StampSet:
        """Cut out stars as they are measured.

        Each star is seen with its own pixels, all others replaced by noise;
        variance and mask are those of the image.

        Parameters
        ----------
        x0, y0 : `numpy.ndarray`
            PARENT column and row of the first pixel of each window.
        width, height : `int`
            Size of the windows.
        rows : `numpy.ndarray`, optional
            Indices of the stars, in the order of ``x0``; default all.
        detection_planes : `bool`, optional
            Add the planes THISDET and OTHERDET, which are there while noise
            replaces sources?  For plugins that report mask bits.

        Returns
        -------
        stamps : `StampSet`
            The cut-outs; ``valid`` tells where they leave the image.
        """
        if rows is None:
            rows = np.arange(len(self))
        stamps = LazyStamps(self._planes, np.asarray(x0), np.asarray(y0), int(width), int(height))
        if self._replacer is None:
            return stamps
        if self._restored:
            self._replacer.restore(stamps)
        else:
            self._replacer.insert(stamps, rows)
            if detection_planes:
                self._replacer.add_detection_planes(stamps, rows)
        return stamps

    def footprint_cutouts(self, rows: IntArray) -> Iterator[tuple[BoxBatch, StampSet]]:
        """Cut out the boxes of stars' footprints.

        Unless there are many they are kept for the next plugin that asks for
        the same stars: nobody may change them.

        Parameters
        ----------
        rows : `numpy.ndarray`
            Indices of the stars, whose boxes aren't empty.

        Yields
        ------
        part : `BoxBatch`
            Stars whose boxes are about equally large.
        stamps : `StampSet`
            Their cut-outs, see `cutout`.
        """
        if self._kept is None or not np.array_equal(self._kept[0], rows):
            self._kept = None
            parts = list(box_batches(self.bboxes, rows))
            cutouts = ((p, self.cutout(p.x0, p.y0, p.width, p.height, p.rows)) for p in parts)
            if sum(len(p.rows) * p.width * p.height for p in parts) > _MAX_KEPT_PIXELS:
                yield from cutouts
                return
            self._kept = rows.copy(), list(cutouts)
        yield from self._kept[1]

    def bits(self, names: Iterable[str], name: str) -> int:
        """Return the OR of the bits of some mask planes.

        Parameters
        ----------
        names : iterable of `str`
            Mask planes; a known one that the image lacks has no bit.
        name : `str`
            Name of the plugin, for the error message.

        Raises
        ------
        UnknownMaskPlaneError
            Raised if there is no such mask plane.
        """
        return mask_bits(self.exposure, names, name)

    def mask_at(self, x: IntArray, y: IntArray) -> npt.NDArray[np.uint32]:
        """Return the mask of pixels that are on the image.

        Parameters
        ----------
        x, y : `numpy.ndarray`
            PARENT columns and rows.
        """
        origin_x, origin_y = self.image_origin
        planes = self.exposure.mask.array[y - origin_y, x - origin_x]
        shifts = 8 * np.arange(planes.shape[1], dtype=np.uint32)
        return np.bitwise_or.reduce(planes.astype(np.uint32) << shifts, axis=1)
