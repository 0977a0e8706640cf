# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The task that merges the detectors of a visit."""

from __future__ import annotations

__all__ = ("ConsolidateFinalizeCharacterizationDetectorTask",)

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import lsst.pipe.base as pipeBase
from lsst.utils.timer import timeMethod

from .. import afw
from .._progress import progress_bar
from ..afw import is_afw
from ..catalogs import ExposureCatalog, ExposureRecord, Schema
from ._characterize import log_origin
from ._config import ConsolidateFinalizeCharacterizationDetectorConfig
from ._handles import sorted_by
from ._merged_table import merge_tables
from ._pending import PENDING_FIELD, Place, correct_table, defers_ap_corr
from ._stack_types import as_ours, as_stored, fetch

if TYPE_CHECKING:
    from ._characterize import TableHandles


class ConsolidateFinalizeCharacterizationDetectorTask(pipeBase.PipelineTask):
    """Merge the finalized detectors of a visit."""

    ConfigClass: ClassVar = ConsolidateFinalizeCharacterizationDetectorConfig
    config: ConsolidateFinalizeCharacterizationDetectorConfig
    _subtasks: tuple[Any, Any]
    _DefaultName: ClassVar[str] = "consolidate_finalize_characterization_detector"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        log_origin(self)

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        inputs = butlerQC.get(inputRefs)
        by_detector = {name: sorted_by(handles, "detector", name) for name, handles in inputs.items()}
        struct = self.run(
            psf_ap_corr_detector_dict=by_detector["finalized_psf_ap_corr_detector_cats"],
            src_detector_table_dict=by_detector["finalized_src_detector_tables"],
        )
        ref = outputRefs.finalized_psf_ap_corr_cat
        butlerQC.put(as_stored(struct.psf_ap_corr_cat, ref), ref)
        butlerQC.put(struct.output_table, outputRefs.finalized_src_table)

    @timeMethod
    def run(
        self, *, psf_ap_corr_detector_dict: TableHandles, src_detector_table_dict: TableHandles
    ) -> pipeBase.Struct:
        """Merge the detectors of a visit.

        Parameters
        ----------
        psf_ap_corr_detector_dict
            One-row exposure catalogues, or handles of them, by detector; ours
            or those of ``lsst.afw``.
        src_detector_table_dict
            Star tables, or handles of them, by detector.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``psf_ap_corr_cat`` (`ExposureCatalog`, one row per detector)
            and ``output_table`` (`astropy.table.Table` of the stars).  The
            catalogue is of the type of the first input.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            Raised if there is no detector.
        ValueError
            Raised if the two inputs are of different detectors, if a
            catalogue has no row for its detector, or if the detector task
            had another ``measure_ap_corr.fitVisit``.
        TypeError
            Raised if the tables differ in columns, their types or units.
        """
        if not psf_ap_corr_detector_dict:
            raise pipeBase.NoWorkFound("There are no finalized detectors to consolidate.")
        if psf_ap_corr_detector_dict.keys() != src_detector_table_dict.keys():
            raise ValueError(
                "Detectors of PSF catalogs and star tables differ: "
                f"{sorted(psf_ap_corr_detector_dict)} and {sorted(src_detector_table_dict)}."
            )
        detectors = sorted(psf_ap_corr_detector_dict)
        with progress_bar("Merging detectors", 2 * len(detectors)) as bar:
            fetched = {}
            for detector in detectors:
                fetched[detector] = fetch(psf_ap_corr_detector_dict[detector])
                bar.update(1)
            from_stack = is_afw(fetched[detectors[0]])
            catalogs, places = self._take_places(fetched)
            catalog = _merge_catalogs(catalogs)
            tables = [src_detector_table_dict[detector] for detector in detectors]
            table = merge_tables(tables, lambda: bar.update(1))
        if places:
            maps = {record.id: record.ap_corr_map for record in catalog}
            correct_table(table, places, maps, self._make_subtasks, self.log)
            catalog.ap_corr_maps = [maps[record.id] for record in catalog]
            catalog = afw.to_afw(catalog) if from_stack else catalog
        return pipeBase.Struct(psf_ap_corr_cat=catalog, output_table=table)

    def _make_subtasks(self, schema: Schema, measured: list[str], applied: list[str]) -> tuple[Any, Any]:
        """Make the subtasks for a table, and keep them for their metadata."""
        config = self.config
        names = [name for name in measured if name != config.measure_ap_corr.refFluxName]
        self._subtasks = (
            config.measure_ap_corr.apply(
                schema=schema, namesToCorrect=names, parentTask=self, name="measure_ap_corr"
            ),
            config.apply_ap_corr.apply(schema=schema, names=applied, parentTask=self, name="apply_ap_corr"),
        )
        return self._subtasks

    def _take_places(self, catalogs: Mapping[int, Any]) -> tuple[Mapping[int, Any], dict[int, Place]]:
        """Read what detectors tell whose aperture corrections are pending.

        Returns the catalogues, ours and without that, and the places; the
        catalogues themselves and nothing if none are pending.
        """
        deferred = defers_ap_corr(self.config)
        pending = [d for d, catalog in catalogs.items() if PENDING_FIELD in _names(catalog)]
        if len(pending) != (len(catalogs) if deferred else 0):
            raise ValueError(
                f"measure_ap_corr.fitVisit={deferred}, but the aperture corrections of "
                f"{len(pending)} of {len(catalogs)} detectors are pending: set this option of the detector "
                "task alike."
            )
        if not deferred:
            return catalogs, {}
        result, places = {}, {}
        for d, catalog in catalogs.items():
            ours = as_ours(catalog, ExposureCatalog, f"PSF catalog of detector {d}")
            record = _find(ours, d)
            places[d] = Place.from_text(record[PENDING_FIELD], f"detector {d}")
            fields = tuple(f for f in ours.schema if f.name != PENDING_FIELD)
            values = {name: value for name, value in record.values.items() if name != PENDING_FIELD}
            result[d] = ExposureCatalog(Schema(fields), metadata=dict(ours.metadata))
            result[d].append(ExposureRecord(values, *record.raw()))
        return result, places


def _names(catalog: Any) -> set[str]:
    """Return the names of fields of a catalogue, ours or the stack's."""
    schema = catalog.schema
    return set(schema.getNames() if hasattr(schema, "getNames") else schema.names)


def _find(catalog: Any, detector: int) -> Any:
    """Return the row of a detector in its catalogue, ours or the stack's."""
    record = catalog.find(detector)
    if record is None:
        raise ValueError(f"The PSF catalog of detector {detector} has no row with that id.")
    return record


def _merge_catalogs(catalogs: Mapping[int, Any]) -> Any:
    """Return a new catalogue with the rows of one-row catalogues.

    It is of the first one's type.  No PSF is rebuilt: rows of ``lsst.afw``
    are passed on as such, and so are ours.
    """
    detector, first = next(iter(catalogs.items()))
    _find(first, detector)
    from_stack = is_afw(first)
    # A handle may give an object that others use, too.
    merged: Any = first.copy(deep=True) if from_stack else _new_like(first)
    for detector, catalog in [*catalogs.items()][1:]:
        if is_afw(catalog) != from_stack:
            catalog = afw.to_afw(catalog) if from_stack else afw.from_afw(catalog)
        if from_stack and catalog.schema != first.schema:
            raise ValueError(f"The PSF catalog of detector {detector} has other fields than the first one.")
        merged.append(_find(catalog, detector))
    # The stack's records are shared with the inputs until now.
    return merged.copy(deep=True) if from_stack else merged


def _new_like(catalog: ExposureCatalog) -> ExposureCatalog:
    """Return a catalogue with the same rows."""
    result = ExposureCatalog(catalog.schema.copy(), metadata=dict(catalog.metadata))
    for record in catalog:
        result.append(record)
    return result
