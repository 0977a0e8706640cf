# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Candidates for PSF stars."""

from __future__ import annotations

__all__ = ("PsfCandidates",)

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ._display import counted
from ._footprints import Footprints
from ._neighbours import mask_blends, mask_neighbours
from ._stamps import StampSet, cut_stamps

if TYPE_CHECKING:
    from lsst.images import VisitImage


@dataclass(repr=False)
class PsfCandidates:
    """Stars a PSF may be fitted to, with the image they are on.

    Parameters
    ----------
    exposure : `lsst.images.VisitImage`
        Image the stamps are cut from.
    id : `numpy.ndarray`
        Source ids, (N,) int64.
    x, y : `numpy.ndarray`
        Centroids, (N,) float64, PARENT pixels, finite.
    color : `numpy.ndarray`
        Colours, (N,) float64; NaN if unknown.
    color_type : `numpy.ndarray`
        Which colour, (N,) str; '' if unknown.
    width : `int`
        Size of the stamps the candidates were accepted with; stamps up to
        this size lie inside the image.
    footprints : `Footprints`, optional
        Footprints of the stars, to mask blends with.
    """

    exposure: VisitImage
    id: npt.NDArray[np.int64]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    color: npt.NDArray[np.float64]
    color_type: npt.NDArray[np.str_]
    width: int
    footprints: Footprints | None = None
    _stamps: StampSet | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.id = np.asarray(self.id, dtype=np.int64)
        self.x = np.asarray(self.x, dtype=np.float64)
        self.y = np.asarray(self.y, dtype=np.float64)
        self.color = np.asarray(self.color, dtype=np.float64)
        self.color_type = np.asarray(self.color_type)
        n = len(self.id)
        lengths = {len(a) for a in (self.x, self.y, self.color, self.color_type)}
        if self.footprints is not None:
            lengths.add(len(self.footprints))
        if lengths != {n}:
            raise ValueError(f"{n} candidates with attributes of lengths {sorted(lengths)}.")

    def __len__(self) -> int:
        return len(self.id)

    def __repr__(self) -> str:
        return f"<PsfCandidates of {counted(len(self), 'star')}, stamps of {self.width} × {self.width}>"

    def stamps(self, size: int) -> StampSet:
        """Cut the stars out and mask what is around them.

        Parameters
        ----------
        size : `int`
            Width and height in pixels.

        Returns
        -------
        stamps : `StampSet`
            Stamps centred on the pixels of the centroids.  Pixels of blends
            and neighbours have INTRP set and DETECTED cleared.  The mask of
            the exposure isn't changed.

        Notes
        -----
        The masking depends on the size, because neighbours are recognised
        within the stamp; each size starts from the exposure's mask.  The
        last size is kept.
        """
        if self._stamps is None or self._stamps.image.shape[1:] != (size, size):
            x0 = np.floor(self.x + 0.5).astype(np.int64) - size // 2
            y0 = np.floor(self.y + 0.5).astype(np.int64) - size // 2
            stamps = cut_stamps(self.exposure, x0, y0, size, size)
            if self.footprints is not None:
                stamps = mask_blends(stamps, self.footprints, self.x, self.y)
            self._stamps = mask_neighbours(stamps)
        return self._stamps

    def take(self, index: npt.NDArray[np.bool_] | npt.NDArray[np.integer] | slice) -> PsfCandidates:
        """Return some of the candidates.

        Parameters
        ----------
        index : `numpy.ndarray` or `slice`
            Mask, positions or slice.

        Returns
        -------
        candidates : `PsfCandidates`
            The chosen ones, in the order of the index.
        """
        taken = PsfCandidates(
            self.exposure,
            self.id[index],
            self.x[index],
            self.y[index],
            self.color[index],
            self.color_type[index],
            self.width,
            None if self.footprints is None else self.footprints.take(index),
        )
        if self._stamps is not None:
            taken._stamps = self._stamps.take(index)
        return taken
