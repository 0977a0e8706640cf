# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Options of single-frame measurement (spec 03 §1.1)."""

from __future__ import annotations

__all__ = ("SingleFrameMeasurementConfig", "SourceSlotConfig")

from typing import Any

from lsst.pex.config import Config, ConfigField, Field, FieldValidationError

from ._plugin import plugin_registry
from .noise import NoiseReplacerConfig

_DEFAULT_PLUGINS = (
    "base_PixelFlags",
    "base_SdssCentroid",
    "base_SdssShape",
    "base_GaussianFlux",
    "base_PsfFlux",
    "base_CircularApertureFlux",
    "base_SkyCoord",
    "base_Variance",
    "base_Blendedness",
    "base_LocalBackground",
    "base_CompensatedTophatFlux",
    "base_ClassificationSizeExtendedness",
)


def _slot_field(doc: str, default: str) -> Any:
    return Field[str](doc=doc, default=default, optional=True)


class SourceSlotConfig(Config):
    """Which measurements the slots stand for.

    A slot that is `None` leaves the schema's alias as it is.
    """

    centroid = _slot_field("Plugin that measures the centroids.", "base_SdssCentroid")
    shape = _slot_field("Plugin that measures the second moments.", "base_SdssShape")
    psfShape = _slot_field("Prefix of the second moments of the PSF.", "base_SdssShape_psf")
    apFlux = _slot_field("Prefix of the aperture flux.", "base_CircularApertureFlux_12_0")
    modelFlux = _slot_field("Prefix of the model flux.", "base_GaussianFlux")
    psfFlux = _slot_field("Prefix of the PSF flux.", "base_PsfFlux")
    gaussianFlux = _slot_field("Prefix of the Gaussian flux.", "base_GaussianFlux")
    calibFlux = _slot_field("Prefix of the flux used in calibration.", "base_CircularApertureFlux_12_0")

    def set_aliases(self, schema: Any) -> None:
        """Point the slot aliases of a schema at the chosen measurements.

        Parameters
        ----------
        schema : `Schema`
            Schema to change.
        """
        for name in self._fields:
            target = getattr(self, name)
            if target is not None:
                schema.set_alias(f"slot_{name[0].upper()}{name[1:]}", target)


class SingleFrameMeasurementConfig(Config):
    """Options of `SingleFrameMeasurementTask`.

    Plugins that aren't in the registry are left out of the default list.
    """

    plugins = plugin_registry.makeField(
        doc="Plugins to run and their configuration.",
        default=[],
        multi=True,
    )
    undeblended = plugin_registry.makeField(
        doc="Plugins to run on the image without noise in place of neighbors.",
        default=[],
        multi=True,
    )
    undeblendedPrefix = Field[str](doc="Prefix of the names of undeblended plugins.", default="undeblended_")
    doReplaceWithNoise = Field[bool](
        doc="Replace other sources than the measured one by noise?", default=True, optional=False
    )
    noiseReplacer = ConfigField[NoiseReplacerConfig](doc="How to replace neighbors by noise.")
    slots = ConfigField[SourceSlotConfig](doc="Which measurements the slots stand for.")

    @property
    def algorithms(self) -> Any:
        """The same as ``plugins``."""
        return self.plugins

    @algorithms.setter
    def algorithms(self, value: Any) -> None:
        self.plugins = value

    def setDefaults(self) -> None:
        super().setDefaults()
        self.plugins.names = [n for n in _DEFAULT_PLUGINS if n in plugin_registry]

    def validate(self) -> None:
        super().validate()
        active = set(self.plugins.names)
        for name in ("centroid", "shape"):
            value = getattr(self.slots, name)
            if value is not None and value not in active:
                raise FieldValidationError(
                    type(self.slots)._fields[name],
                    self.slots,
                    f"The {name} slot {value!r} is not one of the active plugins {sorted(active)}.",
                )
        for name in ("apFlux", "modelFlux", "psfFlux", "gaussianFlux", "calibFlux"):
            value = getattr(self.slots, name)
            if value is not None and not any(value.startswith(p) for p in active):
                raise FieldValidationError(
                    type(self.slots)._fields[name],
                    self.slots,
                    f"The {name} slot {value!r} begins with none of the active plugins {sorted(active)}.",
                )
