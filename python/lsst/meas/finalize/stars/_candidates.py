# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Making of PSF candidates from selected stars."""

from __future__ import annotations

__all__ = ("MakePsfCandidatesConfig", "MakePsfCandidatesTask")

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Config, Field, RangeField
from lsst.pipe.base import Struct, Task

from ..catalogs import PsfCandidates

if TYPE_CHECKING:
    from lsst.images import VisitImage

    from ..catalogs import SourceCatalog


class MakePsfCandidatesConfig(Config):
    """Configuration of `MakePsfCandidatesTask`."""

    kernelSize: Field[int] = RangeField(
        "Size of the postage stamp in pixels (excluding the border) around each star that is extracted for "
        "fitting. Should be odd and preferably at least 25.",
        dtype=int,
        default=27,
        min=1,
    )
    borderWidth: Field[int] = RangeField(
        "Number of pixels to ignore around the edge of PSF candidate postage stamps",
        dtype=int,
        default=0,
        min=0,
    )


class MakePsfCandidatesTask(Task):
    """Turn selected stars into PSF candidates with masked neighbours."""

    ConfigClass: ClassVar[type[Config]] = MakePsfCandidatesConfig
    _DefaultName: ClassVar[str] = "makePsfCandidates"
    config: MakePsfCandidatesConfig

    def run(
        self, catalog: SourceCatalog, exposure: VisitImage, psfCandidateField: str | None = None
    ) -> Struct:
        """Make candidates of all stars whose stamp is usable.

        Parameters
        ----------
        catalog : `~lsst.meas.finalize.catalogs.SourceCatalog`
            Stars; ``psf_max_value``, if there is such a field, is set in
            place (NaN for stars that are dropped).
        exposure : `lsst.images.VisitImage`
            Image the stars are on.
        psfCandidateField : `str`, optional
            Flag to set for the accepted stars.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``psfCandidates``:
            `~lsst.meas.finalize.catalogs.PsfCandidates` of the accepted
            stars in catalogue order; ``good``: (N,) bool, which were
            accepted.

        Notes
        -----
        Stars are dropped if their stamp leaves the image, if they have no
        finite centroid, or if their stamp has no finite pixel (spec 01 §4).
        """
        x = np.asarray(catalog["slot_Centroid_x"], dtype=np.float64)
        y = np.asarray(catalog["slot_Centroid_y"], dtype=np.float64)
        width = self.config.kernelSize + 2 * self.config.borderWidth
        good = self._inside(x, y, width, exposure)
        if not good.all():
            self.log.warning("%d of %d stars are too near to the edge", np.sum(~good), len(good))
        candidates = self._make(catalog, exposure, np.flatnonzero(good), x, y, width)
        image = candidates.stamps(width).image
        maximum = np.where(np.isfinite(image), image, -np.inf).max(axis=(1, 2), initial=-np.inf)
        finite = np.isfinite(maximum)
        good[good] = finite
        if not finite.all():
            candidates = candidates.take(finite)
        if "psf_max_value" in catalog.schema:
            value = np.full(len(catalog), np.nan, dtype=np.float32)
            value[good] = maximum[finite]
            catalog["psf_max_value"] = value
        if psfCandidateField is not None:
            catalog[psfCandidateField] = catalog[psfCandidateField] | good
        self.log.info("Made %d PSF candidates of %d stars", len(candidates), len(good))
        return Struct(psfCandidates=candidates, good=good)

    @staticmethod
    def _inside(
        x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], width: int, exposure: VisitImage
    ) -> npt.NDArray[np.bool_]:
        """Return which stamps lie completely inside the image."""
        good = np.isfinite(x) & np.isfinite(y)
        for value, interval in ((x, exposure.bbox.x), (y, exposure.bbox.y)):
            with np.errstate(invalid="ignore"):
                first = np.floor(value + 0.5) - width // 2
                good &= (first >= interval.start) & (first + width <= interval.stop)
        return good

    @staticmethod
    def _make(
        catalog: SourceCatalog,
        exposure: VisitImage,
        rows: npt.NDArray[np.intp],
        x: npt.NDArray[np.float64],
        y: npt.NDArray[np.float64],
        width: int,
    ) -> PsfCandidates:
        """Collect what the candidates need of the catalogue."""
        color = np.full(len(rows), np.nan)
        color_type = np.full(len(rows), "", dtype="U10")
        if "psf_color_value" in catalog.schema:
            color = catalog["psf_color_value"][rows].astype(np.float64)
        if "psf_color_type" in catalog.schema:
            color_type = catalog["psf_color_type"][rows]
        footprints = None if catalog.footprints is None else catalog.footprints.take(rows)
        return PsfCandidates(
            exposure, catalog["id"][rows], x[rows], y[rows], color, color_type, width, footprints
        )
