# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The task that merges the detectors of a visit."""

from __future__ import annotations

__all__ = ("ConsolidateFinalizeCharacterizationDetectorTask",)

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import astropy.table

import lsst.pipe.base as pipeBase

from ..catalogs import ExposureCatalog
from ._config import ConsolidateFinalizeCharacterizationDetectorConfig
from ._handles import sorted_by

if TYPE_CHECKING:
    from ._characterize import TableHandles


class ConsolidateFinalizeCharacterizationDetectorTask(pipeBase.PipelineTask):
    """Merge the finalized detectors of a visit."""

    ConfigClass: ClassVar = ConsolidateFinalizeCharacterizationDetectorConfig
    _DefaultName: ClassVar[str] = "consolidate_finalize_characterization_detector"

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
        butlerQC.put(struct.psf_ap_corr_cat, outputRefs.finalized_psf_ap_corr_cat)
        butlerQC.put(struct.output_table, outputRefs.finalized_src_table)

    def run(
        self, *, psf_ap_corr_detector_dict: TableHandles, src_detector_table_dict: TableHandles
    ) -> pipeBase.Struct:
        """Merge the detectors of a visit.

        Parameters
        ----------
        psf_ap_corr_detector_dict
            Handles of the one-row exposure catalogues by detector.
        src_detector_table_dict
            Handles of the star tables by detector.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``psf_ap_corr_cat`` (`ExposureCatalog`, one row per detector)
            and ``output_table`` (`astropy.table.Table` of the stars).

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            Raised if there is no detector.
        ValueError
            Raised if the two inputs are of different detectors, or if a
            catalogue has no row for its detector.
        TypeError
            Raised if the tables differ in columns or their types.
        """
        if not psf_ap_corr_detector_dict:
            raise pipeBase.NoWorkFound("There are no finalized detectors to consolidate.")
        if psf_ap_corr_detector_dict.keys() != src_detector_table_dict.keys():
            raise ValueError(
                "Detectors of PSF catalogues and star tables differ: "
                f"{sorted(psf_ap_corr_detector_dict)} and {sorted(src_detector_table_dict)}."
            )
        detectors = sorted(psf_ap_corr_detector_dict)
        first: ExposureCatalog = psf_ap_corr_detector_dict[detectors[0]].get()
        # A handle may give an object that others use, too.
        catalog = ExposureCatalog(first.schema.copy(), metadata=dict(first.metadata))
        for record in first:
            catalog.append(record)
        for detector in detectors[1:]:
            record = psf_ap_corr_detector_dict[detector].get().find(detector)
            if record is None:
                raise ValueError(f"The PSF catalogue of detector {detector} has no row with that id.")
            catalog.append(record)
        table = _stack_tables([src_detector_table_dict[detector].get() for detector in detectors])
        return pipeBase.Struct(psf_ap_corr_cat=catalog, output_table=table)


def _stack_tables(tables: Sequence[astropy.table.Table]) -> astropy.table.Table:
    """Concatenate tables of identical columns, leaving out empty ones."""
    filled = [table for table in tables if len(table)] or list(tables[:1])
    first = filled[0]
    for table in filled[1:]:
        if table.dtype != first.dtype:
            differing = set(first.dtype.descr) ^ set(table.dtype.descr)
            raise TypeError(f"Star tables differ in columns {sorted({name for name, *_ in differing})}.")
    stacked = astropy.table.vstack(filled, join_type="exact", metadata_conflicts="silent")
    stacked.meta = {
        key: value
        for key, value in first.meta.items()
        if not key.startswith("LSST.BUTLER") and all(key in t.meta and t.meta[key] == value for t in filled)
    }
    return stacked
