# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The task that judges the PSF models of a visit."""

from __future__ import annotations

__all__ = ("AnalyzeFinalizedVisitTask",)

from typing import TYPE_CHECKING, Any, ClassVar

import astropy.table

import lsst.pipe.base as pipeBase

from ..afw import as_ours
from ..catalogs import ExposureCatalog
from ._columns import StarColumns, star_table_columns
from ._residual_maps import measure_residual_maps
from ._sky_frame import SkyFrame, project_stars
from ._trends import local_density
from ._visit_config import AnalyzeFinalizedVisitConfig
from ._visit_metrics import WHOLE_VISIT, measure_visit
from ._visit_rho import measure_visit_rho

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class AnalyzeFinalizedVisitTask(pipeBase.PipelineTask):
    """Judge the PSF models of a visit by stars that the fit has seen, and by
    the reserved ones, which it hasn't.
    """

    ConfigClass: ClassVar = AnalyzeFinalizedVisitConfig
    _DefaultName: ClassVar[str] = "analyzeFinalizedVisit"
    config: AnalyzeFinalizedVisitConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        inputs = butlerQC.get(inputRefs)
        data_id = butlerQC.quantum.dataId
        assert data_id is not None  # a quantum of a visit has one
        outputs = self.run(
            finalized_src_table=inputs["finalized_src_table"],
            finalized_psf_ap_corr_cat=inputs["finalized_psf_ap_corr_cat"],
            visit=int(data_id["visit"]),
            instrument=str(data_id["instrument"]),
            band=str(data_id["band"]),
            collection=str(outputRefs.finalized_visit_metrics.run),
        )
        butlerQC.put(outputs, outputRefs)

    def run(
        self,
        finalized_src_table: Any,
        finalized_psf_ap_corr_cat: ExposureCatalog,
        *,
        visit: int,
        instrument: str = "",
        band: str = "",
        collection: str = "",
    ) -> pipeBase.Struct:
        """Judge a visit.

        Parameters
        ----------
        finalized_src_table
            Star table of the visit, or a handle of it; of that only the
            columns that are needed are read.
        finalized_psf_ap_corr_cat
            PSF models and aperture corrections, a row per detector; ours or
            of ``lsst.afw``.
        visit, instrument, band
            What the visit is.
        collection
            Collection to name in plots.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``finalized_visit_metrics`` (`astropy.table.Table`), see
            `measure_visit`; ``finalized_visit_rho``, see
            `measure_visit_rho`; ``finalized_visit_residual_maps``, see
            `measure_residual_maps`; and with ``doPlots`` a
            `matplotlib.figure.Figure` for each of ``VISIT_PLOTS``.

        Raises
        ------
        MissingColumnsError
            Raised if the star table doesn't tell detectors and samples.
        """
        columns = StarColumns.from_table(_read(finalized_src_table), band or None)
        catalog: ExposureCatalog = as_ours(finalized_psf_ap_corr_cat)
        frame = project_stars(columns)
        metrics = measure_visit(
            columns,
            catalog,
            visit=visit,
            instrument=instrument,
            band=band,
            limits=self.config.limits.to_limits(),
            grid_sampling=self.config.psfGridSampling,
            star_sampling=self.config.psfSampling,
            frame=frame,
        )
        rho = measure_visit_rho(
            columns,
            visit=visit,
            instrument=instrument,
            band=band,
            frame=frame,
            n_patches=self.config.rhoPatches,
            bin_slop=self.config.rhoBinSlop,
        )
        self._log(metrics)
        outputs = pipeBase.Struct(
            finalized_visit_metrics=metrics,
            finalized_visit_rho=rho,
            finalized_visit_residual_maps=measure_residual_maps(
                columns, visit=visit, instrument=instrument, band=band
            ),
        )
        if self.config.doPlots:
            label = f"{instrument} visit {visit}, {band} ({collection})"
            plots = _draw(columns, frame, catalog, outputs, label)
            outputs = pipeBase.Struct(**outputs.getDict(), **plots)
        return outputs

    def _log(self, metrics: astropy.table.Table) -> None:
        whole = metrics[metrics["detector"] == WHOLE_VISIT]
        for row in whole:
            self.log.info(
                "%d %s stars, %s: residual e1 %.5f, e2 %.5f, T %.5f.",
                row["nPsfStar"],
                row["sample"],
                row["verdict"],
                row["psfStarDeltaE1Median"],
                row["psfStarDeltaE2Median"],
                row["psfStarDeltaTOverTMedian"],
            )


def _draw(
    columns: StarColumns,
    frame: SkyFrame,
    catalog: ExposureCatalog,
    outputs: pipeBase.Struct,
    label: str,
) -> dict[str, Figure]:
    """Draw all plots."""
    from . import plots

    density = local_density(frame.x, frame.y)
    return {
        "plotWhiskersFocalPlane": plots.plot_whiskers_focal_plane(columns, label),
        "plotWhiskersSky": plots.plot_whiskers_sky(columns, frame, label),
        "plotSizeMap": plots.plot_size_map(columns, label),
        "plotHistograms": plots.plot_histograms(columns, label),
        "plotTrends": plots.plot_trends(columns, density, outputs.finalized_visit_metrics, label),
        "plotRho": plots.plot_rho(outputs.finalized_visit_rho, label),
        "plotPsfImages": plots.plot_psf_images(catalog, columns, label),
    }


def _read(table: Any) -> astropy.table.Table:
    """Return a table, of a handle's one the columns that are of use."""
    if isinstance(table, astropy.table.Table):
        return table
    columns = star_table_columns(table.get(component="columns"))
    return table.get(parameters={"columns": columns}) if columns else table.get()
