# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Images and shapes of the PSF at stars, drawn once for all plugins."""

from __future__ import annotations

__all__ = ("StarPsfs",)

from typing import Literal

import numpy as np
import numpy.typing as npt

from ..catalogs import Footprints, SourceCatalog
from ._errors import MeasurementFatalError
from ._positions import StarPositions
from ._psf import BatchPsf

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]
type IntArray = npt.NDArray[np.int64]


class StarPsfs(StarPositions):
    """Rows of stars with the PSF at their centroids.

    Parameters
    ----------
    catalog : `SourceCatalog`
        Measured rows.
    footprints : `Footprints`, optional
        Footprint of every row; those of the catalogue by default.
    psf : `BatchPsf`, optional
        PSF to use.
    color : `numpy.ndarray`, optional
        Colours for the PSF, shape (N,); average colour by default.
    """

    def __init__(
        self,
        catalog: SourceCatalog,
        footprints: Footprints | None = None,
        *,
        psf: BatchPsf | None = None,
        color: FloatArray | None = None,
    ) -> None:
        super().__init__(catalog, footprints)
        self.psf = psf
        self.color = color
        self._psf_images: dict[str, tuple[FloatArray, IntArray, IntArray]] = {}
        self._psf_shapes: FloatArray | None = None

    def invalidate(self) -> None:
        """Forget centroids and the PSF there after a centroider has run."""
        super().invalidate()
        self._psf_images = {}
        self._psf_shapes = None

    def fail_psf(self, rows: npt.ArrayLike, name: str) -> None:
        """Mark stars whose PSF is invalid: ``base_InvalidPsf_flag`` and the
        plugin's general flag.
        """
        self.set_flag(rows, "base_InvalidPsf_flag", missing_ok=True)
        self.fail(rows, name)

    def require_psf(self, name: str) -> BatchPsf:
        """Return the PSF.

        Parameters
        ----------
        name : `str`
            Name of the plugin that needs it.

        Raises
        ------
        MeasurementFatalError
            Raised if there is none.
        """
        if self.psf is None:
            raise MeasurementFatalError(f"Plugin {name} needs a PSF, but the exposure has none.")
        return self.psf

    def psf_images(self, kind: Literal["kernel", "star"]) -> tuple[FloatArray, IntArray, IntArray]:
        """Draw the PSF of all stars at their centroids.

        Parameters
        ----------
        kind : `str`
            "kernel": centred on a pixel, at (0, 0).  "star": at the centroid.

        Returns
        -------
        images : `numpy.ndarray`
            float64 of shape (N, h, w), each with sum 1 (nearly, if shifted
            by interpolation).  Shared between plugins: don't change.
        x0, y0 : `numpy.ndarray`
            Column and row of the first pixel of each.

        Notes
        -----
        Stars without a centroid get the PSF at its average position.
        """
        if kind not in self._psf_images:
            psf = self.require_psf("(PSF images)")
            if kind == "star":
                images, x0, y0 = psf.draw_star_images(self.x, self.y, color=self.color)
            else:
                images = psf.draw_kernel_images(self.x, self.y, color=self.color)
                height, width = images.shape[1:]
                x0 = np.full(len(self), -(width // 2), dtype=np.int64)
                y0 = np.full(len(self), -(height // 2), dtype=np.int64)
            self._psf_images[kind] = images, x0, y0
        return self._psf_images[kind]

    def psf_shapes(self) -> FloatArray:
        """Return moments xx, yy, xy of the PSF at the centroids, (N, 3); NaN
        where they could not be measured.
        """
        if self._psf_shapes is None:
            psf = self.require_psf("(PSF shapes)")
            self._psf_shapes = psf.compute_shapes(self.x, self.y, color=self.color)
        return self._psf_shapes

    def drop_undrawable(
        self, rows: IntArray, shapes: FloatArray, x: FloatArray, y: FloatArray, name: str
    ) -> IntArray:
        """Mark stars whose PSF cannot be drawn; not if only its moments
        cannot be measured.

        Parameters
        ----------
        rows : `numpy.ndarray`
            Indices of the stars in question, int64.
        shapes : `numpy.ndarray`
            Moments of the PSF at the positions of all stars, (N, 3).
        x, y : `numpy.ndarray`
            These positions, (N,).
        name : `str`
            Name of the plugin.

        Returns
        -------
        rows : `numpy.ndarray`
            Indices of the other stars.
        """
        invalid = rows[self.undrawable(rows, shapes[rows], x[rows], y[rows])]
        self.fail_psf(invalid, name)
        return np.setdiff1d(rows, invalid)

    def undrawable(self, rows: IntArray, shapes: FloatArray, x: FloatArray, y: FloatArray) -> BoolArray:
        """Tell at which stars the PSF cannot be drawn.

        Parameters
        ----------
        rows : `numpy.ndarray`
            Indices of the stars in question, int64 (n,).
        shapes : `numpy.ndarray`
            Moments of the PSF at their positions, (n, 3): where these are
            finite, it can be drawn.
        x, y : `numpy.ndarray`
            These positions, (n,).

        Returns
        -------
        undrawable : `numpy.ndarray`
            bool (n,).
        """
        undrawable = ~np.isfinite(shapes).all(axis=1)
        failed = np.flatnonzero(undrawable)
        if len(failed):
            color = None if self.color is None else self.color[rows[failed]]
            images = self.require_psf("(PSF images)").draw_kernel_images(x[failed], y[failed], color=color)
            undrawable[failed] = ~np.isfinite(images).all(axis=(1, 2))
        return undrawable
