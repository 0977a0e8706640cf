# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""One quantum per visit that fits the PSFs of all its detectors."""

from __future__ import annotations

__all__ = ("FitVisitPsfTask",)

from collections.abc import Mapping
from typing import Any, ClassVar

import astropy.table
import numpy as np

import lsst.pipe.base as pipeBase
from lsst.utils.timer import timeMethod

from .. import psf as psf_room
from ..catalogs import ExposureCatalog, ExposureRecord, Schema
from ..psf import VisitPsfFit
from ._characterize import quantum_data_id
from ._config import FitVisitPsfConfig
from ._handles import sorted_by
from ._stack_types import as_ours, as_stored, fetch

_FEW_STARS = "fewStars"


class FitVisitPsfTask(pipeBase.PipelineTask):
    """Fit the PSFs of all detectors of a visit to stars gathered before.

    Parameters
    ----------
    **kwargs
        Passed to `lsst.pipe.base.PipelineTask`.
    """

    ConfigClass: ClassVar = FitVisitPsfConfig
    _DefaultName: ClassVar[str] = "fit_visit_psf"

    config: FitVisitPsfConfig
    psf_determiner: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.makeSubtask("psf_determiner")

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        tables = sorted_by(butlerQC.get(inputRefs)["psf_stars"], "detector", "psf_stars")
        struct = self.run(quantum_data_id(butlerQC)["visit"], tables)
        ref = outputRefs.visit_psf_catalog
        butlerQC.put(as_stored(struct.visit_psf_catalog, ref), ref)
        butlerQC.put(struct.visit_psf_stars, outputRefs.visit_psf_stars)

    @timeMethod
    def run(self, visit: int, psf_stars: Mapping[int, Any]) -> pipeBase.Struct:
        """Fit the PSFs.

        Parameters
        ----------
        visit
            Visit number.
        psf_stars
            Tables that `GatherPsfStarsTask` made, or handles of them, by
            detector.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``visit_psf_catalog`` (`ExposureCatalog`, one row per detector
            that got a PSF, with the flag ``fewStars``) and
            ``visit_psf_stars`` (`astropy.table.Table`: ``detector`` and
            ``id`` of the stars that were used).
        """
        gathered = {
            d: psf_room.stars_from_table(
                _with_meta(table), f"The table of PSF stars of visit {visit}, detector {d}"
            )
            for d, table in psf_stars.items()
        }
        fits = self.psf_determiner.fit_visit(gathered)
        schema = Schema.exposure_minimal()
        schema.add_field("visit", "L", doc="Visit number")
        schema.add_field(_FEW_STARS, "Flag", doc="set if the detector has too few stars for a PSF of its own")
        catalog = ExposureCatalog(schema, 0, metadata={"COMMENT": ["Catalog id is detector id, sorted."]})
        ids = [np.zeros(0, dtype=np.int64)]
        for detector in sorted(fits):
            fit = fits[detector]
            values = {"id": detector, "visit": visit, _FEW_STARS: fit.few_stars}
            catalog.append(ExposureRecord(values, fit.psf))
            ids.append(fit.used_ids)
        numbers = np.repeat(np.array(sorted(fits), dtype=np.int64), [len(i) for i in ids[1:]])
        used = astropy.table.Table({"detector": numbers, "id": np.concatenate(ids)})
        return pipeBase.Struct(visit_psf_catalog=catalog, visit_psf_stars=used)


def _with_meta(table: Any) -> Any:
    """Fetch a table with its ``meta``, which a butler leaves out."""
    if isinstance(table, astropy.table.Table):
        return table
    return table.get(parameters={"strip_astropy_meta_yaml": False})


def read_visit_fit(catalog: Any, stars: Any, visit: int, detector: int) -> VisitPsfFit | None:
    """Read a detector's PSF from what `FitVisitPsfTask` wrote.

    Parameters
    ----------
    catalog, stars
        The catalogue and the table, or handles of them.
    visit, detector
        Which PSF.

    Returns
    -------
    fit
        The PSF; `None` if the detector got none.

    Raises
    ------
    TypeError
        Raised if the dataset is another one.
    """
    where = f"visit_psf_catalog of visit {visit}"
    catalog = as_ours(fetch(catalog), ExposureCatalog, where)
    record = catalog.find(detector)
    if record is None or record.psf is None:
        return None
    psf = psf_room.as_batch_psf(record.psf)
    if not isinstance(psf, psf_room.PiffPsf):
        raise TypeError(f"The PSF of detector {detector} in {where} is no Piff model.")
    table = fetch(stars)
    ids = np.asarray(table["id"])[np.asarray(table["detector"]) == detector]
    used = np.ones(len(ids), dtype=bool)
    return VisitPsfFit(psf, used, ids, bool(record[_FEW_STARS]))
