# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The task that finalises a visit."""

from __future__ import annotations

__all__ = ("FinalizeCharacterizationTask",)

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import astropy.table

import lsst.pipe.base as pipeBase
from lsst.daf.butler import FileIntegrityError
from lsst.utils.timer import timeMethod

from .. import afw
from .._collection import keep_what_is_loaded
from ..afw import is_afw
from ..catalogs import ExposureRecord, SourceCatalog
from ..stars import read_fgcm_standard_stars
from ._characterize import (
    DamagedInputError,
    FinalizeCharacterizationTaskBase,
    damaged_input_is_no_work,
    quantum_data_id,
)
from ._config import FinalizeCharacterizationConfig
from ._gather import gather_stars
from ._handles import sorted_by, sorted_by_tract
from ._output import to_output_table
from ._pending import PENDING_FIELD, Place, apply_together, defers_ap_corr
from ._stack_types import Unconverted, as_stored, fetch
from ._threads import map_in_order, own_metadata
from ._whole_visit import fits_visits

if TYPE_CHECKING:
    from ..catalogs import ExposureCatalog
    from ..psf import VisitPsfFit
    from ._characterize import TableHandles


# Having no work is no Exception.
_ERRORS = (Exception, pipeBase.NoWorkFound)


@dataclass
class _Detector:
    """A detector's inputs, while they are needed, and its results."""

    number: int
    exposure: Any = None
    src: Any = None
    from_stack: bool = False
    results: tuple[Any, Any, Any] = (None, None, None)
    metadata: pipeBase.TaskMetadata = field(default_factory=pipeBase.TaskMetadata)
    error: BaseException | None = None


class FinalizeCharacterizationTask(FinalizeCharacterizationTaskBase):
    """Run final characterization on all detectors of a visit."""

    ConfigClass: ClassVar = FinalizeCharacterizationConfig
    _DefaultName: ClassVar[str] = "finalize_characterization"
    config: FinalizeCharacterizationConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        inputs = butlerQC.get(inputRefs)
        data_id = quantum_data_id(butlerQC)
        tracts = sorted_by_tract(inputs)
        struct = self.run(
            visit=data_id["visit"],
            band=data_id["band"],
            isolated_star_cat_dict=tracts["isolated_star_cats"],
            isolated_star_source_dict=tracts["isolated_star_sources"],
            src_dict=sorted_by(inputs["srcs"], "detector", "srcs"),
            calexp_dict=sorted_by(inputs["calexps"], "detector", "calexps"),
            fgcm_standard_star_dict=tracts["fgcm_standard_star"],
        )
        ref = outputRefs.finalized_psf_ap_corr_cat
        butlerQC.put(as_stored(struct.psf_ap_corr_cat, ref), ref)
        butlerQC.put(struct.output_table, outputRefs.finalized_src_table)
        keep_what_is_loaded()

    @timeMethod
    def run(
        self,
        visit: int,
        band: str,
        isolated_star_cat_dict: TableHandles,
        isolated_star_source_dict: TableHandles,
        src_dict: TableHandles,
        calexp_dict: TableHandles,
        fgcm_standard_star_dict: TableHandles | None = None,
    ) -> pipeBase.Struct:
        """Run the task on a visit.

        Parameters
        ----------
        visit
            Visit number.
        band
            Band of the visit.
        isolated_star_cat_dict, isolated_star_source_dict
            Handles of the isolated stars and their sources by tract.
        src_dict
            Source catalogues, or handles of them, by detector; ours or those
            of ``lsst.afw``.
        calexp_dict
            Images, or handles of them, by detector; likewise.
        fgcm_standard_star_dict
            Handles of the FGCM standard stars by tract.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``psf_ap_corr_cat`` (`ExposureCatalog`, one row per detector)
            and ``output_table`` (`astropy.table.Table` of the stars).  The
            catalogue is a `lsst.afw.table.ExposureCatalog` if an image is of
            ``lsst.afw``.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            Raised if no detector has good isolated stars.
        """
        detectors = sorted(src_dict.keys() & calexp_dict.keys())
        if src_dict.keys() != calexp_dict.keys():
            self.log.warning(
                "Detectors of the sources and of the images differ for visit %d; using the %d common ones.",
                visit,
                len(detectors),
            )
        isolated_sources = self._get_isolated_sources(
            band, isolated_star_cat_dict, isolated_star_source_dict, visit
        )
        catalog = self._make_exposure_catalog("Only detectors with data have entries.")
        standard_stars = read_fgcm_standard_stars(fgcm_standard_star_dict or {}, self.config.fgcm_bands())
        self.log.info("Running finalizeCharacterization on %d detectors.", len(detectors))
        if fits_visits(self.psf_determiner):
            handles = {d: (calexp_dict[d], src_dict[d]) for d in detectors}
            self._visit_fits = self._fit_visit(visit, band, handles, isolated_sources)
        measured: list[SourceCatalog] = []
        from_stack = False
        inputs = self._read_detectors(visit, band, detectors, calexp_dict, src_dict)
        finalize = partial(self._finalize_detector, visit, isolated_sources, standard_stars)
        try:
            with closing(map_in_order(finalize, inputs, self.config.n_threads)) as finalized:
                for detector in finalized:
                    from_stack |= detector.from_stack
                    stars = self._collect_detector(catalog, visit, detector)
                    if stars is not None:
                        measured.append(stars)
        finally:
            # They are of no other visit.
            self._visit_fits = {}
        if not measured:
            raise pipeBase.NoWorkFound(f"No good sources found for any detectors in visit {visit}")
        if defers_ap_corr(self.config):
            self._correct_together(catalog, measured)
        return pipeBase.Struct(
            psf_ap_corr_cat=afw.to_afw(catalog) if from_stack else catalog,
            output_table=to_output_table(*measured),
        )

    def _read_detectors(
        self,
        visit: int,
        band: str,
        detectors: Iterable[int],
        calexp_dict: TableHandles,
        src_dict: TableHandles,
    ) -> Iterator[_Detector]:
        """Yield each detector's inputs, up to one that can't be read."""
        for number in detectors:
            self.log.info("Starting finalization for visit %d, detector %d.", visit, number)
            detector = _Detector(number)
            try:
                with damaged_input_is_no_work(self.log, f"visit {visit}, detector {number}"):
                    detector.exposure, detector.src = fetch(calexp_dict[number]), fetch(src_dict[number])
            except _ERRORS as error:
                detector.error = error
            if is_afw(detector.exposure):
                detector.from_stack = True
                detector.exposure = Unconverted(detector.exposure, {"band": band})
            yield detector
            if detector.error is not None and not isinstance(detector.error, DamagedInputError):
                return

    def _finalize_detector(
        self,
        visit: int,
        isolated_sources: astropy.table.Table,
        standard_stars: Any,
        detector: _Detector,
    ) -> _Detector:
        """Fit and measure one detector, whose inputs are then let go; runs
        in a thread, so that nothing of the task may change.
        """
        exposure, src = detector.exposure, detector.src
        detector.exposure = detector.src = None
        if detector.error is not None:
            return detector
        with own_metadata() as detector.metadata:
            try:
                detector.results = self.compute_psf_and_ap_corr_map(
                    visit, detector.number, exposure, src, isolated_sources, standard_stars
                )
            except _ERRORS as error:
                detector.error = error
        return detector

    def _collect_detector(
        self, catalog: ExposureCatalog, visit: int, detector: _Detector
    ) -> SourceCatalog | None:
        """Add a detector's row and metadata; return its stars."""
        for name, value in detector.metadata.to_dict().items():
            self.metadata[name] = value
        number = detector.number
        if isinstance(detector.error, DamagedInputError):
            self.log.error("Leaving out detector %d: %s", number, detector.error)
            return None
        if detector.error is not None:
            raise detector.error
        psf, ap_corr_map, measured = detector.results
        if measured is not None:
            return self._append_detector(catalog, visit, number, psf, ap_corr_map, measured)
        if number in self._visit_fits:
            catalog.append(ExposureRecord({"id": number, "visit": visit}, self._visit_fits[number].psf))
        return None

    def _correct_together(self, catalog: ExposureCatalog, measured: list[SourceCatalog]) -> None:
        """Fit the aperture corrections of all detectors, and apply them."""
        bound = self._bound
        if bound is None:
            return
        rows = {int(number): row for row, number in enumerate(catalog["id"])}
        stars, maps = {}, {}
        for sources in measured:
            text = sources.metadata.pop(PENDING_FIELD, None)
            if text is not None:
                detector = int(sources["detector"][0])
                stars[detector] = Place.from_text(text, f"detector {detector}"), sources
                maps[detector] = catalog.ap_corr_maps[rows[detector]]
        apply_together(bound.measure_ap_corr, bound.apply_ap_corr, stars, maps, self.log)
        for detector, ap_corr_map in maps.items():
            catalog.ap_corr_maps[rows[detector]] = ap_corr_map

    def _fit_visit(
        self,
        visit: int,
        band: str,
        handles: Mapping[int, tuple[Any, Any]],
        isolated_sources: astropy.table.Table,
    ) -> dict[int, VisitPsfFit]:
        """Fit the PSFs of all detectors at once.

        Each image is read here and again for the measurement, so that there
        is never more than one in memory.
        """
        gathered = {}
        for detector, (calexp, src) in handles.items():
            where = f"visit {visit}, detector {detector}"
            try:
                stars = gather_stars(self, visit, band, detector, fetch(calexp), fetch(src), isolated_sources)
            except (DamagedInputError, FileIntegrityError):
                # The second reading logs it.
                continue
            except Exception:
                self.log.exception("The fit of the visit does without %s.", where)
                continue
            if stars is not None:
                gathered[detector] = stars
        return self.psf_determiner.fit_visit(gathered)
