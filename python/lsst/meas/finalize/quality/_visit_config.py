# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Connections and configuration of the task that judges a visit."""

from __future__ import annotations

__all__ = (
    "VISIT_PLOTS",
    "AnalyzeFinalizedVisitConfig",
    "AnalyzeFinalizedVisitConnections",
    "PsfLimitsConfig",
)

from dataclasses import fields

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT

from ._limits import LIMITED, PsfLimits

VISIT_PLOTS = (
    "plotWhiskersFocalPlane",
    "plotWhiskersSky",
    "plotSizeMap",
    "plotHistograms",
    "plotTrends",
    "plotRho",
    "plotPsfImages",
    "plotResidualStacks",
)
"""Connections of plots, in the order of reports; the last one is only there
if images are stacked.
"""


def _plot(name: str, doc: str) -> cT.Output:
    return cT.Output(
        doc=doc,
        name=f"finalized_visit_plot_{name}",
        storageClass="Plot",
        dimensions=("instrument", "visit"),
    )


class AnalyzeFinalizedVisitConnections(
    pipeBase.PipelineTaskConnections,
    dimensions=("instrument", "visit"),
    defaultTemplates={},
):
    """Connections of `AnalyzeFinalizedVisitTask`."""

    finalized_src_table = cT.Input(
        doc="Per-visit catalog of measurements of the PSF candidate stars.",
        name="finalized_src_table",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        deferLoad=True,
    )
    finalized_psf_ap_corr_cat = cT.Input(
        doc="Per-visit catalog with one row per detector: PSF models and aperture corrections.",
        name="finalized_psf_ap_corr_catalog",
        storageClass="ExposureCatalog",
        dimensions=("instrument", "visit"),
    )
    calexps = cT.Input(
        doc="Calibrated images, whose stars are stacked after the PSF model is subtracted.",
        name="calexp",
        storageClass="ExposureF",
        dimensions=("instrument", "visit", "detector"),
        deferLoad=True,
        multiple=True,
        minimum=0,
        deferGraphConstraint=True,
    )
    finalized_visit_metrics = cT.Output(
        doc="Metrics of the PSF models: a row per detector and sample of stars, and for the whole visit.",
        name="finalized_visit_metrics",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )
    finalized_visit_rho = cT.Output(
        doc="Correlations of the residuals of used and of reserved stars: rho statistics and TE.",
        name="finalized_visit_rho",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )
    finalized_visit_residual_maps = cT.Output(
        doc="Mean residuals of stars in bins of detector coordinates.",
        name="finalized_visit_residual_maps",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )
    plotWhiskersFocalPlane = _plot("whiskers_focal_plane", "Ellipticities on the focal plane.")
    plotWhiskersSky = _plot("whiskers_sky", "Ellipticities on the sky.")
    plotSizeMap = _plot("size_map", "Residuals in size on the focal plane.")
    plotHistograms = _plot("histograms", "Distributions of residuals.")
    plotTrends = _plot("trends", "Residuals against magnitude, color, position and density.")
    plotRho = _plot("rho", "Rho statistics.")
    plotPsfImages = _plot("psf_images", "PSF models of all detectors.")
    plotResidualStacks = _plot("residual_stacks", "Mean images of stars minus model, by detector.")

    def __init__(self, *, config: AnalyzeFinalizedVisitConfig | None = None) -> None:
        super().__init__(config=config)
        if config is None:
            return
        unwanted = set() if config.doPlots else set(VISIT_PLOTS)
        if not config.doResidualStacks:
            unwanted |= {"calexps", "plotResidualStacks"}
        for name in sorted(unwanted):
            delattr(self, name)


def _limit_field(name: str, default: float | None) -> pexConfig.Field:
    kind = int if isinstance(default, int) else float
    bound = "Smallest" if name.startswith("min") else "Largest"
    return pexConfig.Field(
        doc=f"{bound} {LIMITED[name]} of a good detector; None for no limit.",
        dtype=kind,
        default=default,
        optional=True,
    )


class PsfLimitsConfig(pexConfig.Config):
    """Limits of metrics; see `PsfLimits`."""

    maxEllipResidual = _limit_field("maxEllipResidual", PsfLimits.maxEllipResidual)
    maxSizeScatter = _limit_field("maxSizeScatter", PsfLimits.maxSizeScatter)
    maxScaledSizeScatter = _limit_field("maxScaledSizeScatter", PsfLimits.maxScaledSizeScatter)
    maxPsfTraceRadiusDelta = _limit_field("maxPsfTraceRadiusDelta", PsfLimits.maxPsfTraceRadiusDelta)
    maxPsfApFluxDelta = _limit_field("maxPsfApFluxDelta", PsfLimits.maxPsfApFluxDelta)
    maxPsfApCorrSigmaScaledDelta = _limit_field(
        "maxPsfApCorrSigmaScaledDelta", PsfLimits.maxPsfApCorrSigmaScaledDelta
    )
    minNPsfStar = _limit_field("minNPsfStar", PsfLimits.minNPsfStar)
    maxStarE = _limit_field("maxStarE", PsfLimits.maxStarE)
    maxStarUnNormalizedE = _limit_field("maxStarUnNormalizedE", PsfLimits.maxStarUnNormalizedE)

    def to_limits(self) -> PsfLimits:
        """Return the limits as the functions of this room take them."""
        return PsfLimits(**{field.name: getattr(self, field.name) for field in fields(PsfLimits)})


class AnalyzeFinalizedVisitConfig(
    pipeBase.PipelineTaskConfig, pipelineConnections=AnalyzeFinalizedVisitConnections
):
    """Configuration of `AnalyzeFinalizedVisitTask`."""

    doPlots: pexConfig.Field = pexConfig.Field(doc="Draw plots?", dtype=bool, default=True)
    doResidualStacks: pexConfig.Field = pexConfig.Field(
        doc="Read the calibrated images, one after the other, to fit the PSF models to their stars, for the "
        "metric stampReducedChi2, and to average what is left, for a plot?",
        dtype=bool,
        default=False,
    )
    limits: pexConfig.ConfigField = pexConfig.ConfigField(
        doc="Limits for the verdict.", dtype=PsfLimitsConfig
    )
    psfGridSampling = pexConfig.RangeField(
        doc="Spacing in pixels of the grid on which the range of model properties is measured.",
        dtype=int,
        default=96,
        min=1,
    )
    psfSampling = pexConfig.RangeField(
        doc="Spacing in pixels of the grid on which the distance to the nearest star is measured.",
        dtype=int,
        default=8,
        min=1,
    )
    rhoPatches: pexConfig.ChoiceField = pexConfig.ChoiceField(
        doc="Largest number of patches of the sky for the jackknife errors of rho statistics.",
        dtype=int,
        default=16,
        allowed={0: "Shot noise instead.", 4: "4", 8: "8", 16: "16", 32: "32", 64: "64"},
    )
    rhoBinSlop = pexConfig.RangeField(
        doc="TreeCorr's tolerance at the edges of the bins of rho statistics: 0 for exact sums over pairs; "
        "None for its default, or 0.5 for more than 3000 stars.",
        dtype=float,
        default=None,
        optional=True,
        min=0.0,
        max=1.0,
        inclusiveMax=True,
    )
