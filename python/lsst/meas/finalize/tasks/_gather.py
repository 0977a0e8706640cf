# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The stars of each detector that the fit of a whole visit needs."""

from __future__ import annotations

__all__ = ("GatherPsfStarsTask",)

from typing import TYPE_CHECKING, Any, ClassVar

import astropy.table
import numpy as np

import lsst.pipe.base as pipeBase

from .. import afw
from .. import psf as psf_room
from ..butler import stream
from ..catalogs import SourceCatalog
from ..stars import read_prepared_stars
from ._characterize import FinalizeCharacterizationTaskBase, damaged_input_is_no_work, quantum_data_id
from ._config import GatherPsfStarsConfig
from ._stack_types import Unconverted, as_ours, fetch

if TYPE_CHECKING:
    from ..psf import DetectorStars


def gather_stars(
    task: FinalizeCharacterizationTaskBase,
    visit: int,
    band: str,
    detector: int,
    exposure: Any,
    src: Any,
    isolated_sources: astropy.table.Table | None,
) -> DetectorStars | None:
    """Select a detector's stars for the fit of the visit.

    Parameters
    ----------
    task
        The task whose subtasks select, and whose PSF determiner gathers.
    visit, band, detector
        What is gathered.
    exposure, src
        Image and source catalogue, ours or of ``lsst.afw``.
    isolated_sources
        Isolated sources, if there are any.

    Returns
    -------
    stars
        The stars, maybe none; `None` if making candidates or gathering them
        failed, for a reason that is logged.

    Raises
    ------
    DamagedInputError
        Raised if an input is damaged.
    ValueError
        Raised if an option of the PSF determiner doesn't fit the image.
    """
    from lsst.images import VisitImage

    where = f"visit {visit}, detector {detector}"
    with damaged_input_is_no_work(task.log, where):
        src = as_ours(src, SourceCatalog, f"src of {where}")
        if afw.is_afw(exposure):
            exposure = Unconverted(exposure, {"band": band})
        data_id = {"visit": visit, "detector": detector}
        exposure = as_ours(exposure, VisitImage, f"calexp of {where}", data_id)
    measured = None if isolated_sources is None else task._select_stars(src, isolated_sources, where)
    if measured is None:
        measured = task._bind(src.schema).output.make_catalog(src[np.zeros(0, dtype=np.int64)])
    candidates = task._psf_candidates(exposure, measured, where)
    if candidates is None:
        return None
    task.psf_determiner.check(exposure)
    try:
        stars: DetectorStars = task.psf_determiner.gather(exposure, candidates, band)
    except afw.ComponentError:
        raise
    except Exception:
        # The others can be fitted together, and this one perhaps alone.
        task.log.exception("The fit of the visit does without %s.", where)
        return None
    return stars


class GatherPsfStarsTask(FinalizeCharacterizationTaskBase):
    """Write the stars of one detector for the fit of a visit's PSF."""

    ConfigClass: ClassVar = GatherPsfStarsConfig
    _DefaultName: ClassVar[str] = "gather_psf_stars"

    config: GatherPsfStarsConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        data_id = quantum_data_id(butlerQC)
        with damaged_input_is_no_work(self.log, f"visit {data_id['visit']}, detector {data_id['detector']}"):
            inputs = butlerQC.get(inputRefs)
        struct = self.run(
            visit=data_id["visit"],
            band=data_id["band"],
            detector=data_id["detector"],
            src=inputs["src"],
            exposure=inputs["calexp"],
            prepared_isolated_stars=stream(inputs["prepared_isolated_stars"]),
        )
        butlerQC.put(struct.psf_stars, outputRefs.psf_stars)

    def run(
        self, visit: int, band: str, detector: int, src: Any, exposure: Any, prepared_isolated_stars: Any
    ) -> pipeBase.Struct:
        """Gather the stars of a detector.

        Parameters
        ----------
        visit, band, detector
            What is gathered.
        src : `SourceCatalog` or `lsst.afw.table.SourceCatalog`
            Sources of the detector, with footprints, or a handle of them.
        exposure : `lsst.images.VisitImage` or `lsst.afw.image.ExposureF`
            Image of the detector, or a handle of it; it is not modified.
        prepared_isolated_stars
            Handle of the table that `PrepareIsolatedStarsTask` made.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``psf_stars`` (`astropy.table.Table`), without rows if there
            are no usable stars.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            Raised if the fit of the visit has to do without the detector.
        """
        prepared = read_prepared_stars(
            prepared_isolated_stars,
            band,
            id_column=self.config.id_column,
            reserve=self.reserve_selection,
            visit=visit,
            detector=detector,
        )
        isolated = None if prepared is None else prepared.sources
        where = f"visit {visit}, detector {detector}"
        with damaged_input_is_no_work(self.log, where):
            exposure, src = fetch(exposure), fetch(src)
        stars = gather_stars(self, visit, band, detector, exposure, src, isolated)
        if stars is None:
            raise pipeBase.NoWorkFound(f"No PSF stars could be gathered from {where}.")
        self.log.info("Gathered %d stars of %s.", len(stars.id), where)
        return pipeBase.Struct(psf_stars=psf_room.stars_to_table(stars))
