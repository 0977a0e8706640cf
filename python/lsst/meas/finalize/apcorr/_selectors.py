# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Selectors of sources by flags and limits."""

from __future__ import annotations

__all__ = (
    "BaseSourceSelectorConfig",
    "BaseSourceSelectorTask",
    "FlaggedSourceSelectorConfig",
    "FlaggedSourceSelectorTask",
    "NullSourceSelectorTask",
    "ReferenceSourceSelectorConfig",
    "ReferenceSourceSelectorTask",
    "ScienceSourceSelectorConfig",
    "ScienceSourceSelectorTask",
    "sourceSelectorRegistry",
)

import abc
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lsst.pex.config import Config, ConfigDictField, ConfigField, Field, registerConfigurable
from lsst.pipe.base import Struct, Task

from .._open_registry import OpenRegistry
from ._columns import get_column, n_rows
from ._limits import (
    CentroidErrorLimit,
    ColorLimit,
    CullFromMaskedRegion,
    FluxLimit,
    MagnitudeErrorLimit,
    MagnitudeLimit,
    RequireFiniteRaDec,
    RequireFlags,
    RequireIsolated,
    RequirePrimary,
    SignalToNoiseLimit,
    StarGalaxyLimit,
)

if TYPE_CHECKING:
    from lsst.images import VisitImage


class BaseSourceSelectorConfig(Config):
    """Configuration of source selectors; nothing is common to all."""


class BaseSourceSelectorTask(Task, abc.ABC):
    """Select sources by their columns.

    Parameters
    ----------
    **kwargs
        Passed to `lsst.pipe.base.Task`.
    """

    ConfigClass: ClassVar[type[Config]] = BaseSourceSelectorConfig
    _DefaultName: ClassVar[str] = "sourceSelector"
    usesMatches: ClassVar[bool] = False
    """Whether a selector needs matches to a reference catalogue (`bool`)."""

    def run(
        self,
        sourceCat: Any,
        sourceSelectedField: str | None = None,
        matches: Any = None,
        exposure: VisitImage | None = None,
    ) -> Struct:
        """Select sources and return them.

        Parameters
        ----------
        sourceCat : any
            `~lsst.meas.finalize.catalogs.SourceCatalog`, astropy table, data
            frame, structured array or mapping.
        sourceSelectedField : `str`, optional
            Column to set to the selection.
        matches : any, optional
            Matches to a reference catalogue, for selectors that use them.
        exposure : `lsst.images.VisitImage`, optional
            Image, for selectors that use it.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``sourceCat``: the selected rows; ``selected``: (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        RuntimeError
            Raised if the catalogue isn't contiguous.
        """
        if not getattr(sourceCat, "is_contiguous", True):
            raise RuntimeError("Input catalog for source selection must be contiguous.")
        selected = self.selectSources(sourceCat, matches=matches, exposure=exposure).selected
        if sourceSelectedField is not None:
            sourceCat[sourceSelectedField] = selected
        if isinstance(sourceCat, dict):
            subset: Any = {name: np.asarray(column)[selected] for name, column in sourceCat.items()}
        else:
            subset = sourceCat[selected]
        return Struct(sourceCat=subset, selected=selected)

    def _option(self, name: str) -> str:
        """Return the path of an option, for error messages: there may be
        several selectors in a task.
        """
        return f"{self.config._name or type(self.config).__name__}.{name}"

    @abc.abstractmethod
    def selectSources(
        self, sourceCat: Any, matches: Any = None, exposure: VisitImage | None = None
    ) -> Struct:
        """Select sources.

        Parameters
        ----------
        sourceCat, matches, exposure
            See `run`.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``selected``: (N,) bool.
        """
        raise NotImplementedError


sourceSelectorRegistry = OpenRegistry(
    Config, "A registry of source selectors (subclasses of BaseSourceSelectorTask)"
)


class ScienceSourceSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `ScienceSourceSelectorTask`."""

    doFluxLimit: Field[bool] = Field("Apply flux limit?", dtype=bool, default=False)
    doFlags: Field[bool] = Field("Apply flag limitation?", dtype=bool, default=False)
    doUnresolved: Field[bool] = Field("Apply unresolved limitation?", dtype=bool, default=False)
    doSignalToNoise: Field[bool] = Field("Apply signal-to-noise limit?", dtype=bool, default=False)
    doIsolated: Field[bool] = Field("Apply isolated limitation?", dtype=bool, default=False)
    doRequireFiniteRaDec: Field[bool] = Field("Apply finite sky coordinate check?", dtype=bool, default=False)
    doRequirePrimary: Field[bool] = Field("Apply source is primary check?", dtype=bool, default=False)
    doSkySources: Field[bool] = Field(
        "Include sky sources, unioned with all other criteria?", dtype=bool, default=False
    )
    doCentroidErrorLimit: Field[bool] = Field("Apply limit on centroid errors?", dtype=bool, default=False)
    fluxLimit: ConfigField[FluxLimit] = ConfigField("Flux limit to apply", dtype=FluxLimit)
    flags: ConfigField[RequireFlags] = ConfigField("Flags to require", dtype=RequireFlags)
    unresolved: ConfigField[StarGalaxyLimit] = ConfigField(
        "Star/galaxy separation to apply", dtype=StarGalaxyLimit
    )
    signalToNoise: ConfigField[SignalToNoiseLimit] = ConfigField(
        "Signal-to-noise limit to apply", dtype=SignalToNoiseLimit
    )
    isolated: ConfigField[RequireIsolated] = ConfigField("Isolated criteria to apply", dtype=RequireIsolated)
    requireFiniteRaDec: ConfigField[RequireFiniteRaDec] = ConfigField(
        "Finite sky coordinate criteria to apply", dtype=RequireFiniteRaDec
    )
    requirePrimary: ConfigField[RequirePrimary] = ConfigField(
        "Primary source criteria to apply", dtype=RequirePrimary
    )
    skyFlag: ConfigField[RequireFlags] = ConfigField("Sky source flag to include", dtype=RequireFlags)
    centroidErrorLimit: ConfigField[CentroidErrorLimit] = ConfigField(
        "Limit to place on centroid errors", dtype=CentroidErrorLimit
    )

    def setDefaults(self) -> None:
        """Name the columns of a source catalogue."""
        super().setDefaults()
        self.flags.bad = [
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_nodata",
            "base_PixelFlags_flag_saturated",
            "base_PsfFlux_flag",
        ]
        self.signalToNoise.fluxField = "base_PsfFlux_instFlux"
        self.signalToNoise.errField = "base_PsfFlux_instFluxErr"
        self.skyFlag.good = ["sky_source"]


@registerConfigurable("science", sourceSelectorRegistry)
class ScienceSourceSelectorTask(BaseSourceSelectorTask):
    """Select sources of a science image by flags, flux, class and more.

    All criteria are AND-ed, except that sky sources are added at the end
    (but still have to pass the centroid error limit).
    """

    ConfigClass = ScienceSourceSelectorConfig
    config: ScienceSourceSelectorConfig

    def selectSources(
        self, sourceCat: Any, matches: Any = None, exposure: VisitImage | None = None
    ) -> Struct:
        config = self.config
        selected = np.ones(n_rows(sourceCat), dtype=bool)
        for switch, name in (
            ("doFluxLimit", "fluxLimit"),
            ("doFlags", "flags"),
            ("doUnresolved", "unresolved"),
            ("doSignalToNoise", "signalToNoise"),
            ("doIsolated", "isolated"),
            ("doRequireFiniteRaDec", "requireFiniteRaDec"),
            ("doRequirePrimary", "requirePrimary"),
        ):
            if getattr(config, switch):
                selected &= getattr(config, name).apply(sourceCat, self._option(name))
        if config.doSkySources:
            selected |= config.skyFlag.apply(sourceCat, self._option("skyFlag"))
        if config.doCentroidErrorLimit:
            selected &= config.centroidErrorLimit.apply(sourceCat, self._option("centroidErrorLimit"))
        self.log.info("Selected %d/%d sources", selected.sum(), len(selected))
        return Struct(selected=selected)


class ReferenceSourceSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `ReferenceSourceSelectorTask`."""

    doMagLimit: Field[bool] = Field("Apply magnitude limit?", dtype=bool, default=False)
    doFlags: Field[bool] = Field("Apply flag limitation?", dtype=bool, default=False)
    doUnresolved: Field[bool] = Field("Apply unresolved limitation?", dtype=bool, default=False)
    doSignalToNoise: Field[bool] = Field("Apply signal-to-noise limit?", dtype=bool, default=False)
    doMagError: Field[bool] = Field("Apply magnitude error limit?", dtype=bool, default=False)
    doRequireFiniteRaDec: Field[bool] = Field("Apply finite sky coordinate check?", dtype=bool, default=True)
    doCullFromMaskedRegion: Field[bool] = Field(
        "Apply image masked region culling?", dtype=bool, default=False
    )
    magLimit: ConfigField[MagnitudeLimit] = ConfigField("Magnitude limit to apply", dtype=MagnitudeLimit)
    flags: ConfigField[RequireFlags] = ConfigField("Flags to require", dtype=RequireFlags)
    unresolved: ConfigField[StarGalaxyLimit] = ConfigField(
        "Star/galaxy separation to apply", dtype=StarGalaxyLimit
    )
    requireFiniteRaDec: ConfigField[RequireFiniteRaDec] = ConfigField(
        "Finite sky coordinate criteria to apply", dtype=RequireFiniteRaDec
    )
    signalToNoise: ConfigField[SignalToNoiseLimit] = ConfigField(
        "Signal-to-noise limit to apply", dtype=SignalToNoiseLimit
    )
    magError: ConfigField[MagnitudeErrorLimit] = ConfigField(
        "Magnitude error limit to apply", dtype=MagnitudeErrorLimit
    )
    colorLimits = ConfigDictField(
        "Color limits to apply; key is used as a label only", keytype=str, itemtype=ColorLimit, default={}
    )
    cullFromMaskedRegion: ConfigField[CullFromMaskedRegion] = ConfigField(
        "Image mask plane criteria to apply", dtype=CullFromMaskedRegion
    )


@registerConfigurable("references", sourceSelectorRegistry)
class ReferenceSourceSelectorTask(BaseSourceSelectorTask):
    """Select objects of a reference catalogue."""

    ConfigClass = ReferenceSourceSelectorConfig
    config: ReferenceSourceSelectorConfig

    def selectSources(
        self, sourceCat: Any, matches: Any = None, exposure: VisitImage | None = None
    ) -> Struct:
        config = self.config
        selected = np.ones(n_rows(sourceCat), dtype=bool)
        for switch, name in (
            ("doMagLimit", "magLimit"),
            ("doFlags", "flags"),
            ("doUnresolved", "unresolved"),
            ("doSignalToNoise", "signalToNoise"),
            ("doMagError", "magError"),
            ("doRequireFiniteRaDec", "requireFiniteRaDec"),
        ):
            if getattr(config, switch):
                selected &= getattr(config, name).apply(sourceCat, self._option(name))
        for label in config.colorLimits:
            selected &= config.colorLimits[label].apply(sourceCat, self._option(f"colorLimits[{label!r}]"))
        if config.doCullFromMaskedRegion:
            selected &= config.cullFromMaskedRegion.apply(
                sourceCat, self._option("cullFromMaskedRegion"), exposure
            )
        self.log.info("Selected %d/%d references", selected.sum(), len(selected))
        return Struct(selected=selected)


@registerConfigurable("null", sourceSelectorRegistry)
class NullSourceSelectorTask(BaseSourceSelectorTask):
    """Select everything."""

    def selectSources(
        self, sourceCat: Any, matches: Any = None, exposure: VisitImage | None = None
    ) -> Struct:
        return Struct(selected=np.ones(n_rows(sourceCat), dtype=bool))


class FlaggedSourceSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `FlaggedSourceSelectorTask`."""

    field: Field[str] = Field(
        "Name of a flag field that is True for Sources that should be used.",
        dtype=str,
        default="calib_psf_used",
    )


@registerConfigurable("flagged", sourceSelectorRegistry)
class FlaggedSourceSelectorTask(BaseSourceSelectorTask):
    """Select what an earlier step has flagged."""

    ConfigClass = FlaggedSourceSelectorConfig
    config: FlaggedSourceSelectorConfig

    def selectSources(
        self, sourceCat: Any, matches: Any = None, exposure: VisitImage | None = None
    ) -> Struct:
        flag = get_column(sourceCat, self.config.field, self._option("field"))
        return Struct(selected=flag.astype(bool))
