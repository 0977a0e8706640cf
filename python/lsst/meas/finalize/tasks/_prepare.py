# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The task that collects the isolated stars of a visit."""

from __future__ import annotations

__all__ = ("PrepareIsolatedStarsTask",)

from typing import TYPE_CHECKING, Any, ClassVar

import lsst.pipe.base as pipeBase

from ..stars import prepare_isolated_stars
from ._characterize import no_isolated_sources, quantum_data_id
from ._config import PrepareIsolatedStarsConfig
from ._handles import input_names, sorted_by_tract

if TYPE_CHECKING:
    from ._characterize import TableHandles


class PrepareIsolatedStarsTask(pipeBase.PipelineTask):
    """Collect the isolated sources of a visit from the tables of all tracts.

    Parameters
    ----------
    **kwargs
        Passed to `lsst.pipe.base.PipelineTask`.
    """

    ConfigClass: ClassVar = PrepareIsolatedStarsConfig
    _DefaultName: ClassVar[str] = "prepare_isolated_stars"

    config: PrepareIsolatedStarsConfig
    reserve_selection: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.makeSubtask("reserve_selection")

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        tracts = sorted_by_tract(butlerQC.get(inputRefs))
        data_id = quantum_data_id(butlerQC)
        struct = self.run(
            visit=data_id["visit"],
            band=data_id["band"],
            isolated_star_cat_dict=tracts["isolated_star_cats"],
            isolated_star_source_dict=tracts["isolated_star_sources"],
            fgcm_standard_star_dict=tracts["fgcm_standard_star"],
        )
        butlerQC.put(struct.prepared_isolated_stars, outputRefs.prepared_isolated_stars)

    def run(
        self,
        visit: int,
        band: str,
        isolated_star_cat_dict: TableHandles,
        isolated_star_source_dict: TableHandles,
        fgcm_standard_star_dict: TableHandles | None = None,
    ) -> pipeBase.Struct:
        """Collect the isolated sources of a visit.

        Parameters
        ----------
        visit
            Visit number.
        band
            Band of the visit.
        isolated_star_cat_dict, isolated_star_source_dict
            Handles of the isolated stars and their sources by tract.
        fgcm_standard_star_dict
            Handles of the FGCM standard stars by tract, if they are to be
            matched.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``prepared_isolated_stars`` (`astropy.table.Table`), see
            `~lsst.meas.finalize.stars.prepare_isolated_stars`.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            Raised if there is no isolated source.
        """
        table = prepare_isolated_stars(
            band,
            isolated_star_cat_dict,
            isolated_star_source_dict,
            id_column=self.config.id_column,
            reserve=self.reserve_selection,
            visit=visit,
            fgcm_standard_star_dict=fgcm_standard_star_dict,
            names=input_names(self.config),
        )
        if table is None:
            raise no_isolated_sources(visit)
        self.log.info("Prepared %d isolated sources of visit %d.", len(table), visit)
        return pipeBase.Struct(prepared_isolated_stars=table)
