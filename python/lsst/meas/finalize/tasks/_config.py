# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Options of the tasks."""

from __future__ import annotations

__all__ = (
    "ConsolidateFinalizeCharacterizationDetectorConfig",
    "FinalizeCharacterizationConfig",
    "FinalizeCharacterizationConfigBase",
    "FinalizeCharacterizationDetectorConfig",
    "FitVisitPsfConfig",
    "GatherPsfStarsConfig",
    "PrepareIsolatedStarsConfig",
)

from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase

from ..apcorr import ApplyApCorrTask, MeasureApCorrTask
from ..measure import SingleFrameMeasurementTask, plugin_registry
from ..psf import psfDeterminerRegistry
from ..stars import MakePsfCandidatesTask, ReserveIsolatedStarsTask, sourceSelectorRegistry
from ._connections import (
    ConsolidateFinalizeCharacterizationDetectorConnections,
    FinalizeCharacterizationConnections,
    FinalizeCharacterizationDetectorConnections,
    FitVisitPsfConnections,
    GatherPsfStarsConnections,
    PrepareIsolatedStarsConnections,
)
from ._whole_visit import fits_visits

_BAD_PIXEL_FLAGS = (
    "edge",
    "nodata",
    "interpolatedCenter",
    "saturatedCenter",
    "crCenter",
    "bad",
    "interpolated",
    "saturated",
)

# Upstream's list (spec 01 §1.2); the default is what of it exists here.
_MEASUREMENT_PLUGINS = (
    "base_FPPosition",
    "base_PsfFlux",
    "base_GaussianFlux",
    "modelfit_DoubleShapeletPsfApprox",
    "modelfit_CModel",
    "ext_photometryKron_KronFlux",
    "ext_convolved_ConvolvedFlux",
    "ext_gaap_GaapFlux",
    "ext_shapeHSM_HsmShapeRegauss",
    "ext_shapeHSM_HsmSourceMoments",
    "ext_shapeHSM_HsmPsfMoments",
    "ext_shapeHSM_HsmSourceMomentsRound",
    "ext_shapeHSM_HigherOrderMomentsSource",
    "ext_shapeHSM_HigherOrderMomentsPSF",
)


def _is_of_stack(target: Any) -> bool:
    module = f"{getattr(target, '__module__', '')}."
    return module.startswith("lsst.") and not module.startswith("lsst.meas.finalize.")


def _subtasks(config: pexConfig.Config) -> dict[str, tuple[type, Any]]:
    """Return the subtasks that may be retargeted: their class and field."""
    fields = {name: field for name, field in config._fields.items() if hasattr(field, "target")}
    return {name: (field.target, field) for name, field in fields.items()}


def _set_measurement_defaults(measurement: Any) -> None:
    """Choose plugins and slots."""
    available = [name for name in _MEASUREMENT_PLUGINS if name in plugin_registry]
    measurement.plugins.names = available
    slots = measurement.slots
    slots.modelFlux = "modelfit_CModel" if "modelfit_CModel" in available else None
    slots.shape = "ext_shapeHSM_HsmSourceMoments"
    slots.psfShape = "ext_shapeHSM_HsmPsfMoments"
    slots.centroid = None
    slots.apFlux = None
    slots.calibFlux = None
    measurement.plugins["ext_shapeHSM_HsmShapeRegauss"].deblendNChild = ""
    if "ext_convolved_ConvolvedFlux" in available:
        measurement.plugins["ext_convolved_ConvolvedFlux"].seeing.append(8.0)
    if "ext_gaap_GaapFlux" in available:
        gaap = measurement.plugins["ext_gaap_GaapFlux"]
        gaap.sigmas = [0.5, 0.7, 1.0, 1.5, 2.5, 3.0]
        gaap.doPsfPhotometry = True
    # Upstream sets these although base_PixelFlags is not in its list.
    measurement.plugins["base_PixelFlags"].masksFpAnywhere = ["STREAK"]
    measurement.plugins["base_PixelFlags"].masksFpCenter = ["STREAK"]


def _set_ap_corr_defaults(config: Any) -> None:
    """Choose the stars of aperture corrections, and what may fail."""
    config.measure_ap_corr.sourceSelector = "science"
    config.measure_ap_corr.sourceSelector["science"].doFlags = False
    config.measure_ap_corr.sourceSelector["science"].doUnresolved = False
    measurement = getattr(config, "measurement", None)
    if measurement is None:
        measurement = SingleFrameMeasurementTask.ConfigClass()
        _set_measurement_defaults(measurement)
    config.measure_ap_corr.allowFailure = _names_that_may_fail(measurement.plugins)


def _names_that_may_fail(plugins: Any) -> list[str]:
    """Return the fluxes without which aperture correction goes on.

    They are those of the default seeings and apertures, also if these are
    overridden later (as upstream).
    """
    names: list[str] = []
    if "ext_convolved_ConvolvedFlux" in plugin_registry:
        names += plugins["ext_convolved_ConvolvedFlux"].getAllResultNames()
    if "ext_gaap_GaapFlux" in plugin_registry:
        names += plugins["ext_gaap_GaapFlux"].getAllGaapResultNames()
    return names


class FinalizeCharacterizationConfigBase(
    pipeBase.PipelineTaskConfig,
    pipelineConnections=pipeBase.PipelineTaskConnections,
):
    """Options that the visit and the detector task share."""

    source_selector = sourceSelectorRegistry.makeField(
        doc="How to select sources.",
        default="science",
    )
    id_column = pexConfig.Field[str](
        doc="Name of column in isolated_star_sources with source id.",
        default="sourceId",
    )
    reserve_selection: Any = pexConfig.ConfigurableField(
        target=ReserveIsolatedStarsTask,
        doc="Task to select reserved stars.",
    )
    make_psf_candidates: Any = pexConfig.ConfigurableField(
        target=MakePsfCandidatesTask,
        doc="Task to make psf candidates from selected stars.",
    )
    psf_determiner = psfDeterminerRegistry.makeField(
        doc="PSF Determination algorithm.",
        default="piff",
    )
    measurement: Any = pexConfig.ConfigurableField(
        target=SingleFrameMeasurementTask,
        doc="Measure sources for aperture corrections.",
    )
    measure_ap_corr: Any = pexConfig.ConfigurableField(
        target=MeasureApCorrTask,
        doc="Subtask to measure aperture corrections.",
    )
    apply_ap_corr: Any = pexConfig.ConfigurableField(
        target=ApplyApCorrTask,
        doc="Subtask to apply aperture corrections.",
    )
    do_add_sky_moments = pexConfig.Field[bool](
        doc="Add second moments of stars and PSF models in sky and in alt/az coordinates (arcsec^2) to the "
        "output table?",
        default=False,
    )
    do_add_fgcm_photometry = pexConfig.Field[bool](
        doc="Add FGCM photometry for all bands to the output table.",
        default=False,
    )
    fgcmPhotometryBands = pexConfig.ListField[str](
        doc="List of bands to include for FGCM photometry (telescope-dependent).",
        default=["g", "r", "i", "z", "y"],
        listCheck=lambda bands: len(set(bands)) == len(bands),
    )

    def needs_fgcm_standard_stars(self) -> bool:
        """Whether the task reads ``fgcm_standard_star``.

        The options of ``piff`` count even if another determiner is active,
        as upstream.
        """
        return self.psf_determiner["piff"].useColor or self.do_add_fgcm_photometry

    def fgcm_bands(self) -> set[str]:
        """Return the bands of ``fgcm_standard_star`` that the task uses."""
        piff = self.psf_determiner["piff"]
        # Of a colour, such as "g-i", these two characters count.
        bands = {band for color in piff.color.values() for band in color[0:3:2]} if piff.useColor else set()
        return bands.union(self.fgcmPhotometryBands if self.do_add_fgcm_photometry else ())

    def validate(self) -> None:
        super().validate()
        for name, (task, field) in _subtasks(self).items():
            target = getattr(self, name).target
            if not (isinstance(target, type) and issubclass(target, task)) and _is_of_stack(target):
                raise pexConfig.FieldValidationError(
                    field,
                    self,
                    f"{target.__module__}.{target.__qualname__} can't run here: {name} must be a "
                    f"{task.__module__}.{task.__qualname__}. Don't retarget it, or run the stack's own task.",
                )

        self._check_sky_moments()
        self._check_candidates()

    def _check_candidates(self) -> None:
        """Refuse candidates that Piff would flag all, as upstream doesn't."""
        piff = self.psf_determiner["piff"]
        options = self.make_psf_candidates.value
        width = getattr(options, "kernelSize", None)
        # The fit of a visit has models that are as large as the candidates.
        if self.psf_determiner.name != "piff" or piff.piffPsfConfigYaml is not None or width is None:
            return
        width += 2 * options.borderWidth
        model = int(piff.modelSize / piff.samplingSize)
        if width < model:
            raise pexConfig.FieldValidationError(
                type(self).make_psf_candidates,
                self,
                f"Candidates of {width} pixels (kernelSize and twice borderWidth) don't hold a model of "
                f"{model} (psf_determiner['piff'].modelSize over samplingSize).",
            )

    def _check_sky_moments(self) -> None:
        slots = getattr(self.measurement, "slots", None)
        for name in ("shape", "psfShape"):
            # Those of the source catalog aren't taken over.
            if self.do_add_sky_moments and getattr(slots, name, "unknown") is None:
                raise pexConfig.FieldValidationError(
                    type(self).do_add_sky_moments,
                    self,
                    f"There are no moments to convert without measurement.slots.{name}.",
                )

    def setDefaults(self) -> None:
        super().setDefaults()
        self._set_selector_defaults()
        _set_measurement_defaults(self.measurement)
        _set_ap_corr_defaults(self)

    def _set_selector_defaults(self) -> None:
        selector = self.source_selector["science"]
        selector.setDefaults()
        selector.doFlags = True
        selector.doSignalToNoise = True
        selector.doFluxLimit = False
        selector.doUnresolved = False
        selector.doIsolated = False
        selector.signalToNoise.minimum = 50.0
        selector.signalToNoise.maximum = 1000.0
        selector.signalToNoise.fluxField = "base_GaussianFlux_instFlux"
        selector.signalToNoise.errField = "base_GaussianFlux_instFluxErr"
        selector.flags.bad = [f"base_PixelFlags_flag_{name}" for name in _BAD_PIXEL_FLAGS] + [
            "slot_Centroid_flag",
            "base_GaussianFlux_flag",
        ]


class FinalizeCharacterizationConfig(
    FinalizeCharacterizationConfigBase,
    pipelineConnections=FinalizeCharacterizationConnections,
):
    """Options of `FinalizeCharacterizationTask`."""

    n_threads: Any = pexConfig.RangeField(
        doc="Number of detectors to work on at once, in threads of the process; results are the same for any "
        "number.  While that many are worked on, the image of one more is in memory.",
        dtype=int,
        default=1,
        min=1,
    )


class FinalizeCharacterizationDetectorConfig(
    FinalizeCharacterizationConfigBase,
    pipelineConnections=FinalizeCharacterizationDetectorConnections,
):
    """Options of `FinalizeCharacterizationDetectorTask`."""

    use_prepared_stars = pexConfig.Field[bool](
        doc="Read the isolated stars from the table that PrepareIsolatedStarsTask has made for the visit, "
        "instead of the tables of all tracts?",
        default=False,
    )
    use_prepared_photometry = pexConfig.Field[bool](
        doc="With use_prepared_stars, take colors and FGCM magnitudes from that table, too, instead of "
        "fgcm_standard_star?  PrepareIsolatedStarsTask needs match_fgcm_standard_stars then.",
        default=False,
    )
    use_visit_psf = pexConfig.Field[bool](
        doc="Take the PSF from what FitVisitPsfTask has fitted to all detectors of the visit?  A detector "
        "that got none is fitted on its own.",
        default=False,
    )

    def validate(self) -> None:
        super().validate()
        if self.use_visit_psf:
            _check_fits_visits(self)


class GatherPsfStarsConfig(
    FinalizeCharacterizationConfigBase,
    pipelineConnections=GatherPsfStarsConnections,
):
    """Options of `GatherPsfStarsTask`.

    Those that select stars have to be the detector task's; those that
    measure have no effect.
    """

    def setDefaults(self) -> None:
        super().setDefaults()
        self.psf_determiner.name = "hierarchical"

    def validate(self) -> None:
        super().validate()
        _check_fits_visits(self)


class FitVisitPsfConfig(
    pipeBase.PipelineTaskConfig,
    pipelineConnections=FitVisitPsfConnections,
):
    """Options of `FitVisitPsfTask`."""

    psf_determiner = psfDeterminerRegistry.makeField(
        doc="PSF determination algorithm; one that can fit all detectors of a visit.",
        default="hierarchical",
    )

    def validate(self) -> None:
        super().validate()
        _check_fits_visits(self)


def _check_fits_visits(config: Any) -> None:
    """Refuse PSF determiners that fit single detectors."""
    cls = type(config)
    name = config.psf_determiner.name
    if not fits_visits(psfDeterminerRegistry[name]):
        raise pexConfig.FieldValidationError(
            cls.psf_determiner, config, f"The PSF determiner {name!r} can't fit all detectors of a visit."
        )


class PrepareIsolatedStarsConfig(
    pipeBase.PipelineTaskConfig,
    pipelineConnections=PrepareIsolatedStarsConnections,
):
    """Options of `PrepareIsolatedStarsTask`."""

    id_column = pexConfig.Field[str](
        doc="Name of column in isolated_star_sources with source id.",
        default="sourceId",
    )
    reserve_selection: Any = pexConfig.ConfigurableField(
        target=ReserveIsolatedStarsTask,
        doc="Task to select reserved stars.  A detector task whose own is configured differently selects "
        "them anew.",
    )
    match_fgcm_standard_stars = pexConfig.Field[bool](
        doc="Add the FGCM standard stars near each star, for colors and photometry "
        "(use_prepared_photometry of the detector task)?",
        default=False,
    )


class ConsolidateFinalizeCharacterizationDetectorConfig(
    pipeBase.PipelineTaskConfig,
    pipelineConnections=ConsolidateFinalizeCharacterizationDetectorConnections,
):
    """Options of `ConsolidateFinalizeCharacterizationDetectorTask`."""

    measure_ap_corr: Any = pexConfig.ConfigurableField(
        target=MeasureApCorrTask,
        doc="Subtask to measure aperture corrections, used only with its option fitVisit; to be configured "
        "as that of the detector task.",
    )
    apply_ap_corr: Any = pexConfig.ConfigurableField(
        target=ApplyApCorrTask,
        doc="Subtask to apply aperture corrections, likewise.",
    )

    def setDefaults(self) -> None:
        super().setDefaults()
        _set_ap_corr_defaults(self)
