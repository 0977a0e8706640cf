# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Inputs and outputs of the tasks."""

from __future__ import annotations

__all__ = (
    "ConsolidateFinalizeCharacterizationDetectorConnections",
    "FinalizeCharacterizationConnections",
    "FinalizeCharacterizationConnectionsBase",
    "FinalizeCharacterizationDetectorConnections",
    "FitVisitPsfConnections",
    "GatherPsfStarsConnections",
    "PrepareIsolatedStarsConnections",
)

from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT


class IsolatedStarConnections(
    pipeBase.PipelineTaskConnections,
    dimensions=("instrument", "visit"),
    defaultTemplates={},
):
    """Inputs of which there is a table per tract."""

    isolated_star_cats = cT.Input(
        doc="Catalog of isolated stars with average positions, number of associated sources, and indexes "
        "to the isolated_star_sources catalogs.",
        name="isolated_star_presource_associations",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "tract", "skymap"),
        deferLoad=True,
        multiple=True,
    )
    isolated_star_sources = cT.Input(
        doc="Catalog of isolated star sources with sourceIds, and indexes to the isolated_star_cats "
        "catalogs.",
        name="isolated_star_presources",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "tract", "skymap"),
        deferLoad=True,
        multiple=True,
    )
    fgcm_standard_star = cT.Input(
        doc="Catalog of FGCM standard magnitudes, for colors and photometry of the stars.",
        name="fgcm_standard_star",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "tract", "skymap"),
        deferLoad=True,
        multiple=True,
    )


class FinalizeCharacterizationConnectionsBase(
    IsolatedStarConnections,
    dimensions=("instrument", "visit"),
    defaultTemplates={},
):
    """Inputs that the visit and the detector task share (spec 01 §1.1)."""

    src_schema = cT.InitInput(
        doc="Obsolete and never read; published pipelines which override its name still load.",
        name="src_schema",
        storageClass="SourceCatalog",
    )

    def __init__(self, *, config: Any = None) -> None:
        super().__init__(config=config)
        del self.src_schema
        if config is not None and not config.needs_fgcm_standard_stars():
            del self.fgcm_standard_star


class PrepareIsolatedStarsConnections(
    IsolatedStarConnections,
    dimensions=("instrument", "visit"),
    defaultTemplates={},
):
    """Connections of `PrepareIsolatedStarsTask`."""

    prepared_isolated_stars = cT.Output(
        doc="Isolated sources of the visit, sorted by detector.",
        name="finalize_isolated_stars",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )

    def __init__(self, *, config: Any = None) -> None:
        super().__init__(config=config)
        if config is not None and not config.match_fgcm_standard_stars:
            del self.fgcm_standard_star


class FinalizeCharacterizationConnections(
    FinalizeCharacterizationConnectionsBase,
    dimensions=("instrument", "visit"),
    defaultTemplates={},
):
    """Connections of `FinalizeCharacterizationTask`."""

    srcs = cT.Input(
        doc="Source catalogs for the visit.",
        name="src",
        storageClass="SourceCatalog",
        dimensions=("instrument", "visit", "detector"),
        deferLoad=True,
        multiple=True,
        deferGraphConstraint=True,
    )
    calexps = cT.Input(
        doc="Calexps for the visit.",
        name="calexp",
        storageClass="ExposureF",
        dimensions=("instrument", "visit", "detector"),
        deferLoad=True,
        multiple=True,
    )
    finalized_psf_ap_corr_cat = cT.Output(
        doc="Per-visit catalog with one row per detector: PSF models and aperture corrections.",
        name="finalized_psf_ap_corr_catalog",
        storageClass="ExposureCatalog",
        dimensions=("instrument", "visit"),
    )
    finalized_src_table = cT.Output(
        doc="Per-visit catalog of measurements of the PSF candidate stars.",
        name="finalized_src_table",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )


class DetectorInputConnections(
    pipeBase.PipelineTaskConnections,
    dimensions=("instrument", "visit", "detector"),
    defaultTemplates={},
):
    """What tasks of one detector read."""

    prepared_isolated_stars = cT.Input(
        doc="Isolated sources of the visit, sorted by detector.",
        name="finalize_isolated_stars",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        deferLoad=True,
    )
    src = cT.Input(
        doc="Source catalog for the visit and detector.",
        name="src",
        storageClass="SourceCatalog",
        dimensions=("instrument", "visit", "detector"),
    )
    calexp = cT.Input(
        doc="Calexp for the visit and detector.",
        name="calexp",
        storageClass="ExposureF",
        dimensions=("instrument", "visit", "detector"),
    )


class FinalizeCharacterizationDetectorConnections(
    FinalizeCharacterizationConnectionsBase,
    DetectorInputConnections,
    dimensions=("instrument", "visit", "detector"),
    defaultTemplates={},
):
    """Connections of `FinalizeCharacterizationDetectorTask`."""

    visit_psf_catalog = cT.Input(
        doc="Catalog with one row per detector: PSFs that were fitted to all detectors at once.",
        name="finalize_visit_psf_catalog",
        storageClass="ExposureCatalog",
        dimensions=("instrument", "visit"),
        deferLoad=True,
    )
    visit_psf_stars = cT.Input(
        doc="Detectors and ids of the stars that these PSFs were fitted to.",
        name="finalize_visit_psf_stars",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        deferLoad=True,
    )
    finalized_psf_ap_corr_detector_cat = cT.Output(
        doc="Catalog with one row: PSF model and aperture corrections of the detector.",
        name="finalized_psf_ap_corr_detector_catalog",
        storageClass="ExposureCatalog",
        dimensions=("instrument", "visit", "detector"),
    )
    finalized_src_detector_table = cT.Output(
        doc="Per-detector catalog of measurements of the PSF candidate stars.",
        name="finalized_src_detector_table",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
    )

    def __init__(self, *, config: Any = None) -> None:
        super().__init__(config=config)
        if config is None:
            return
        if not config.use_visit_psf:
            del self.visit_psf_catalog
            del self.visit_psf_stars
        if not config.use_prepared_stars:
            del self.prepared_isolated_stars
            return
        del self.isolated_star_cats
        del self.isolated_star_sources
        if config.use_prepared_photometry and config.needs_fgcm_standard_stars():
            del self.fgcm_standard_star


class GatherPsfStarsConnections(
    DetectorInputConnections,
    dimensions=("instrument", "visit", "detector"),
    defaultTemplates={},
):
    """Connections of `GatherPsfStarsTask`."""

    psf_stars = cT.Output(
        doc="Stamps of the PSF candidates of the detector that aren't reserved.",
        name="finalize_psf_stars_detector",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
    )


class FitVisitPsfConnections(
    pipeBase.PipelineTaskConnections,
    dimensions=("instrument", "visit"),
    defaultTemplates={},
):
    """Connections of `FitVisitPsfTask`."""

    psf_stars = cT.Input(
        doc="Stamps of the PSF candidates of each detector that aren't reserved.",
        name="finalize_psf_stars_detector",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
        deferLoad=True,
        multiple=True,
    )
    visit_psf_catalog = cT.Output(
        doc="Catalog with one row per detector: PSFs that were fitted to all detectors at once.",
        name="finalize_visit_psf_catalog",
        storageClass="ExposureCatalog",
        dimensions=("instrument", "visit"),
    )
    visit_psf_stars = cT.Output(
        doc="Detectors and ids of the stars that these PSFs were fitted to.",
        name="finalize_visit_psf_stars",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )


class ConsolidateFinalizeCharacterizationDetectorConnections(
    pipeBase.PipelineTaskConnections,
    dimensions=("instrument", "visit"),
    defaultTemplates={},
):
    """Connections of `ConsolidateFinalizeCharacterizationDetectorTask`."""

    finalized_psf_ap_corr_detector_cats = cT.Input(
        doc="Per-detector catalogs of PSF models and aperture corrections.",
        name="finalized_psf_ap_corr_detector_catalog",
        storageClass="ExposureCatalog",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
    )
    finalized_src_detector_tables = cT.Input(
        doc="Per-detector catalogs of measurements of the PSF candidate stars.",
        name="finalized_src_detector_table",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
    )
    finalized_psf_ap_corr_cat = cT.Output(
        doc="Per-visit catalog with one row per detector: PSF models and aperture corrections.",
        name="finalized_psf_ap_corr_catalog",
        storageClass="ExposureCatalog",
        dimensions=("instrument", "visit"),
    )
    finalized_src_table = cT.Output(
        doc="Per-visit catalog of measurements of the PSF candidate stars.",
        name="finalized_src_table",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )
