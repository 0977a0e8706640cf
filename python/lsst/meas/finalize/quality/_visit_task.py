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

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import astropy.table
import numpy as np
import numpy.typing as npt

import lsst.pipe.base as pipeBase
from lsst.images import VisitImage

from ..afw import as_ours, from_afw, is_afw
from ..catalogs import ExposureCatalog, ExposureRecord
from ..psf import as_batch_psf
from ._columns import StarColumns, star_table_columns
from ._detector_models import first_line
from ._residual_maps import measure_residual_maps
from ._residual_stacks import DetectorStacks, stack_detector
from ._sky_frame import SkyFrame, project_stars
from ._star_statistics import select_stars
from ._trends import local_density
from ._visit_config import AnalyzeFinalizedVisitConfig
from ._visit_metrics import WHOLE_VISIT, measure_visit
from ._visit_rho import measure_visit_rho

if TYPE_CHECKING:
    from matplotlib.figure import Figure

type Integers = npt.NDArray[np.int64]


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
            band=str(data_id["band"] or ""),  # some filters are of no band
            collection=str(outputRefs.finalized_visit_metrics.run),
            calexps={int(handle.dataId["detector"]): handle for handle in inputs.get("calexps", ())},
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
        calexps: Mapping[int, Any] | None = None,
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
        calexps
            Calibrated images by detector, or handles of them, for
            ``doResidualStacks``; read one after the other.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``finalized_visit_metrics`` (`astropy.table.Table`), see
            `measure_visit`; ``finalized_visit_rho``, see
            `measure_visit_rho`; ``finalized_visit_residual_maps``, see
            `measure_residual_maps`; and with ``doPlots`` a
            `matplotlib.figure.Figure` for each of ``VISIT_PLOTS``
            (``plotResidualStacks`` only with ``doResidualStacks``).

        Raises
        ------
        MissingColumnsError
            Raised if the star table doesn't tell detectors and samples.
        """
        columns = StarColumns.from_table(_read(finalized_src_table), band or None)
        catalog: ExposureCatalog = as_ours(finalized_psf_ap_corr_cat)
        frame = project_stars(columns)
        stacks = self._stack(columns, catalog, calexps or {}) if self.config.doResidualStacks else None
        what: dict[str, Any] = {"visit": visit, "instrument": instrument, "band": band}
        metrics = measure_visit(
            columns,
            catalog,
            **what,
            limits=self.config.limits.to_limits(),
            grid_sampling=self.config.psfGridSampling,
            star_sampling=self.config.psfSampling,
            frame=frame,
            stacks=stacks,
        )
        rho = measure_visit_rho(
            columns,
            **what,
            frame=frame,
            n_patches=self.config.rhoPatches,
            bin_slop=self.config.rhoBinSlop,
        )
        self._log(metrics)
        outputs = pipeBase.Struct(
            finalized_visit_metrics=metrics,
            finalized_visit_rho=rho,
            finalized_visit_residual_maps=measure_residual_maps(columns, **what),
        )
        if self.config.doPlots:
            label = f"{instrument} visit {visit}, {band} ({collection})"
            plots = _draw(columns, frame, catalog, outputs, stacks, label)
            outputs = pipeBase.Struct(**outputs.getDict(), **plots)
        return outputs

    def _stack(
        self, columns: StarColumns, catalog: ExposureCatalog, calexps: Mapping[int, Any]
    ) -> list[DetectorStacks]:
        """Look at the images of all detectors with a model, one by one."""
        selected = select_stars(columns)
        stacks = []
        for record in catalog:
            rows = np.flatnonzero(selected & (columns.detector == record.id))
            try:
                stack = _stack_one(record, columns, rows, calexps.get(record.id))
            except Exception as error:  # whatever a damaged image or model raises
                stack = DetectorStacks(record.id, reason=f"{type(error).__name__}: {first_line(error)}")
            if stack.reason:
                self.log.warning("Detector %d has no stacks of images: %s.", record.id, stack.reason)
            stacks.append(stack)
        return stacks

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
    stacks: Sequence[DetectorStacks] | None,
    label: str,
) -> dict[str, Figure]:
    """Draw all plots."""
    from . import plots

    density = local_density(frame.x, frame.y)
    drawn = {
        "plotWhiskersFocalPlane": plots.plot_whiskers_focal_plane(columns, label),
        "plotWhiskersSky": plots.plot_whiskers_sky(columns, frame, label),
        "plotSizeMap": plots.plot_size_map(columns, label),
        "plotHistograms": plots.plot_histograms(columns, label),
        "plotTrends": plots.plot_trends(columns, density, outputs.finalized_visit_metrics, label),
        "plotRho": plots.plot_rho(outputs.finalized_visit_rho, label),
        "plotPsfImages": plots.plot_psf_images(catalog, columns, label),
    }
    if stacks is not None:
        drawn["plotResidualStacks"] = plots.plot_residual_stacks(stacks, label)
    return drawn


def _stack_one(record: ExposureRecord, columns: StarColumns, rows: Integers, calexp: Any) -> DetectorStacks:
    """Read an image and stack its stars."""
    if record.psf is None:
        return DetectorStacks(record.id, reason="no PSF model")
    if calexp is None:
        return DetectorStacks(record.id, reason="no calibrated image")
    # A VisitImage has no method of that name.
    exposure = calexp.get() if hasattr(calexp, "get") else calexp
    if is_afw(exposure):
        exposure = from_afw(exposure)
    if not isinstance(exposure, VisitImage):
        raise TypeError(f"the calibrated image is a {type(exposure).__name__}")
    return stack_detector(exposure, as_batch_psf(record.psf), columns, rows, record.id)


def _read(table: Any) -> astropy.table.Table:
    """Return a table, of a handle's one the columns that are of use."""
    if isinstance(table, astropy.table.Table):
        return table
    columns = star_table_columns(table.get(component="columns"))
    return table.get(parameters={"columns": columns}) if columns else table.get()
