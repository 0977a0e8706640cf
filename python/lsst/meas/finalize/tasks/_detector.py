# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The task that finalises one detector."""

from __future__ import annotations

__all__ = ("FinalizeCharacterizationDetectorTask",)

from typing import TYPE_CHECKING, Any, ClassVar

import astropy.table
import numpy as np

import lsst.pipe.base as pipeBase
from lsst.utils.timer import timeMethod

from .. import afw
from .._collection import paused_and_kept
from ..afw import is_afw
from ..butler import stream
from ..catalogs import SourceCatalog
from ..stars import PreparedStandardStars, read_fgcm_standard_stars, read_prepared_stars
from ._characterize import (
    FinalizeCharacterizationTaskBase,
    damaged_input_is_no_work,
    no_isolated_sources,
    quantum_data_id,
)
from ._config import FinalizeCharacterizationDetectorConfig
from ._fit_visit import read_visit_fit
from ._handles import input_names, sorted_by_tract
from ._output import to_output_table
from ._pending import defers_ap_corr, take_pending
from ._stack_types import Unconverted, as_ours, as_stored, fetch

if TYPE_CHECKING:
    from ._characterize import TableHandles


class FinalizeCharacterizationDetectorTask(FinalizeCharacterizationTaskBase):
    """Run final characterization on one detector of a visit."""

    ConfigClass: ClassVar = FinalizeCharacterizationDetectorConfig
    _DefaultName: ClassVar[str] = "finalize_characterization_detector"

    config: FinalizeCharacterizationDetectorConfig

    # Reading loads as many libraries as what follows.
    @paused_and_kept()
    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        data_id = quantum_data_id(butlerQC)
        where = f"visit {data_id['visit']}, detector {data_id['detector']}"
        with damaged_input_is_no_work(self.log, where):
            inputs = butlerQC.get(inputRefs)
        tracts = sorted_by_tract(inputs)
        struct = self.run(
            visit=data_id["visit"],
            band=data_id["band"],
            detector=data_id["detector"],
            isolated_star_cat_dict=tracts["isolated_star_cats"],
            isolated_star_source_dict=tracts["isolated_star_sources"],
            src=inputs["src"],
            exposure=inputs["calexp"],
            fgcm_standard_star_dict=tracts["fgcm_standard_star"],
            prepared_isolated_stars=stream(inputs.get("prepared_isolated_stars")),
            visit_psf_catalog=inputs.get("visit_psf_catalog"),
            visit_psf_stars=inputs.get("visit_psf_stars"),
        )
        ref = outputRefs.finalized_psf_ap_corr_detector_cat
        butlerQC.put(as_stored(struct.psf_ap_corr_cat, ref), ref)
        butlerQC.put(struct.output_table, outputRefs.finalized_src_detector_table)

    @timeMethod
    def run(
        self,
        visit: int,
        band: str,
        detector: int,
        isolated_star_cat_dict: TableHandles | None,
        isolated_star_source_dict: TableHandles | None,
        src: Any,
        exposure: Any,
        fgcm_standard_star_dict: TableHandles | None = None,
        prepared_isolated_stars: Any = None,
        visit_psf_catalog: Any = None,
        visit_psf_stars: Any = None,
    ) -> pipeBase.Struct:
        """Run the task on data in memory.

        Parameters
        ----------
        visit
            Visit number.
        band
            Band of the visit.
        detector
            Detector number.
        isolated_star_cat_dict, isolated_star_source_dict
            Handles of the isolated stars and their sources by tract; unused
            with ``prepared_isolated_stars``.
        src : `SourceCatalog` or `lsst.afw.table.SourceCatalog`
            Sources of the detector, with footprints, or a handle of them.
        exposure : `lsst.images.VisitImage` or `lsst.afw.image.ExposureF`
            Image of the detector, or a handle of it; it is not modified.
        fgcm_standard_star_dict
            Handles of the FGCM standard stars by tract.
        prepared_isolated_stars
            Handle of the table that `PrepareIsolatedStarsTask` made.
        visit_psf_catalog, visit_psf_stars
            Handles of what `FitVisitPsfTask` made, if it is to be used.  A
            detector that it gave no PSF is fitted on its own.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``psf_ap_corr_cat`` (`ExposureCatalog` of one row) and
            ``output_table`` (`astropy.table.Table` of the stars).

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            Raised if there is no good isolated star.
        """
        # That of a visit before is none of this one.
        self._visit_fits = {}
        if visit_psf_catalog is not None:
            fit = read_visit_fit(visit_psf_catalog, visit_psf_stars, visit, detector)
            if fit is not None:
                self._visit_fits = {detector: fit}
        standard_stars: Any = None
        if prepared_isolated_stars is not None:
            isolated_sources, standard_stars = self._get_prepared_stars(
                prepared_isolated_stars, visit, band, detector
            )
        else:
            isolated_sources = self._get_isolated_sources(
                band, isolated_star_cat_dict or {}, isolated_star_source_dict or {}, visit, detector
            )
        if standard_stars is None:
            standard_stars = read_fgcm_standard_stars(fgcm_standard_star_dict or {}, self.config.fgcm_bands())
        catalog = self._make_exposure_catalog("Only one detector with data has an entry.")
        with damaged_input_is_no_work(self.log, f"visit {visit}, detector {detector}"):
            exposure = fetch(exposure)
        from_stack = is_afw(exposure)
        self.log.info("Starting finalization for visit %d, detector %d.", visit, detector)
        psf, ap_corr_map, measured = self.compute_psf_and_ap_corr_map(
            visit,
            detector,
            Unconverted(exposure, {"band": band}) if from_stack else exposure,
            src,
            isolated_sources,
            standard_stars,
        )
        if measured is None and detector in self._visit_fits:
            psf, measured = self._visit_fits[detector].psf, self._no_stars(src, visit, detector)
        if measured is None:
            raise pipeBase.NoWorkFound(f"No good sources found for visit {visit} / detector {detector}")
        pending = take_pending(catalog, measured) if defers_ap_corr(self.config) else {}
        table = to_output_table(
            self._append_detector(catalog, visit, detector, psf, ap_corr_map, measured, **pending)
        )
        return pipeBase.Struct(
            psf_ap_corr_cat=afw.to_afw(catalog) if from_stack else catalog, output_table=table
        )

    def _no_stars(self, src: Any, visit: int, detector: int) -> SourceCatalog:
        """Return the catalogue of a detector whose PSF is a prediction."""
        src = as_ours(fetch(src), SourceCatalog, f"src of visit {visit}, detector {detector}")
        return self._bind(src.schema).output.make_catalog(src[np.zeros(0, dtype=np.int64)])

    def _get_prepared_stars(
        self, prepared: Any, visit: int, band: str, detector: int
    ) -> tuple[astropy.table.Table, PreparedStandardStars | None]:
        """Return the detector's isolated sources, and what its standard
        stars are if they are to come from the same table.
        """
        config = self.config
        stars = read_prepared_stars(
            prepared,
            band,
            id_column=config.id_column,
            reserve=self.reserve_selection,
            visit=visit,
            detector=detector,
            standard_stars=config.use_prepared_photometry and config.needs_fgcm_standard_stars(),
            names=input_names(config),
        )
        if stars is None and detector in self._visit_fits:
            # What the visit predicts needs no star of the detector.
            names = (config.id_column, "reserved")
            return astropy.table.Table([np.zeros(0, np.int64), np.zeros(0, bool)], names=names), None
        if stars is None:
            raise no_isolated_sources(visit)
        return stars.sources, stars.standard_stars
