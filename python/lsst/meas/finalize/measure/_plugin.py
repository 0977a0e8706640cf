# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Base classes and registry of the single-frame measurement plugins."""

from __future__ import annotations

__all__ = (
    "APCORR_ORDER",
    "CENTROID_ORDER",
    "DEFAULT_CATALOGCALCULATION",
    "FLUX_ORDER",
    "SHAPE_ORDER",
    "CatalogCalculationPlugin",
    "FluxFields",
    "SingleFramePlugin",
    "SingleFramePluginConfig",
    "add_flux_fields",
    "alias_centroid_flag",
    "alias_shape_flag",
    "catalog_calculation_registry",
    "plugin_registry",
    "register",
    "register_catalog_calculation",
)

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from lsst.pex.config import Config, Field, Registry

from .._open_registry import OpenRegistry
from ..apcorr import add_ap_corr_name
from ..catalogs import Schema
from ._batch import MeasureBatch
from ._errors import MeasurementFatalError
from ._rows import StarRows

if TYPE_CHECKING:
    from lsst.images import VisitImage

CENTROID_ORDER = 0.0
SHAPE_ORDER = 1.0
FLUX_ORDER = 2.0
APCORR_ORDER = 3.0
DEFAULT_CATALOGCALCULATION = 4.0


class SingleFramePluginConfig(Config):
    """Options every measurement plugin has."""

    doMeasure = Field[bool](
        doc="Run the plugin? If not, its fields are made but never filled.",
        default=True,
    )


class SingleFramePlugin(ABC):
    """One measurement algorithm, applied to all stars of a batch at once.

    Parameters
    ----------
    config : `SingleFramePluginConfig`
        Configuration, an instance of ``ConfigClass``.
    name : `str`
        Name the plugin is registered under (with the prefix of undeblended
        plugins, if it is one of them): prefix of all its fields.
    schema : `Schema`
        Schema to which the constructor adds the plugin's fields and aliases.
    metadata : mapping
        Metadata of the measurement (aperture radii and the like).
    """

    ConfigClass: ClassVar[type[SingleFramePluginConfig]] = SingleFramePluginConfig
    """Configuration class."""

    execution_order: ClassVar[float] = FLUX_ORDER
    """Plugins run, and their fields stand, in this order, then by name."""

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        self.config: Any = config
        self.name = name

    @abstractmethod
    def measure(self, batch: MeasureBatch) -> None:
        """Fill the plugin's columns for all stars.

        Parameters
        ----------
        batch : `MeasureBatch`
            Stars to measure; the columns of ``batch.catalog`` are written.

        Raises
        ------
        MeasurementFatalError
            Raised if no star can be measured.

        Notes
        -----
        What goes wrong with single stars is a flag, see
        `MeasureBatch.fail`.
        """
        raise NotImplementedError()

    @property
    def mask_planes(self) -> Iterable[str]:
        """Mask planes that options name (iterable of `str`)."""
        return getattr(self.config, "badMaskPlanes", ())

    def check(self, exposure: VisitImage) -> None:  # noqa: B027, most need nothing
        """Raise if no star of an image can be measured.

        This is called before the PSF is fitted, for what is known by then
        besides `mask_planes`.

        Parameters
        ----------
        exposure : `lsst.images.VisitImage`
            Image to be measured on.

        Raises
        ------
        MeasurementFatalError
            Raised if the plugin needs what the image lacks.
        """

    def fail(self, batch: StarRows, rows: Any) -> None:
        """Mark stars as failed if the plugin didn't run or broke down.

        Parameters
        ----------
        batch : `StarRows`
            Stars to be measured.
        rows : array-like
            Indices or mask of the failed stars.

        Notes
        -----
        Sets the general flags of the plugin and of all its results: fields
        ``<name>_flag`` and ``<name>_<result>_flag``.
        """
        for field in batch.catalog.schema.names:
            if field.startswith(f"{self.name}_") and field.endswith("_flag"):
                batch.set_flag(rows, field)


class CatalogCalculationPlugin(SingleFramePlugin):
    """Plugin that computes columns from other columns, without pixels.

    `SingleFrameMeasurementTask` doesn't run these; they have a registry of
    their own.  Only ``batch.catalog`` and ``batch.footprints`` may be used.
    """

    execution_order: ClassVar[float] = DEFAULT_CATALOGCALCULATION


plugin_registry = OpenRegistry(SingleFramePluginConfig, "Measurement plugins")
"""Measurement plugins by name (`OpenRegistry`)."""

catalog_calculation_registry = Registry(SingleFramePluginConfig)
"""Catalog calculation plugins by name (`lsst.pex.config.Registry`)."""


def register[T: type[SingleFramePlugin]](name: str, *, apcorr: bool = False) -> Callable[[T], T]:
    """Return a class decorator that registers a measurement plugin.

    Parameters
    ----------
    name : `str`
        Name of the plugin.
    apcorr : `bool`, optional
        Is ``<name>_instFlux`` to be aperture-corrected?  Plugins with several
        fluxes call `lsst.meas.finalize.apcorr.add_ap_corr_name` themselves.

    Returns
    -------
    decorator : `~collections.abc.Callable`
        The decorator; it returns the class unchanged.
    """

    def decorate(cls: T) -> T:
        plugin_registry.register(name, cls)
        if apcorr:
            add_ap_corr_name(name)
        return cls

    return decorate


def register_catalog_calculation[T: type[CatalogCalculationPlugin]](name: str) -> Callable[[T], T]:
    """Return a class decorator that registers a catalog calculation plugin.

    Parameters
    ----------
    name : `str`
        Name of the plugin.

    Returns
    -------
    decorator : `~collections.abc.Callable`
        The decorator; it returns the class unchanged.
    """

    def decorate(cls: T) -> T:
        catalog_calculation_registry.register(name, cls)
        return cls

    return decorate


class FluxFields(NamedTuple):
    """Names of a flux measurement's two value fields."""

    instFlux: str
    instFluxErr: str


def add_flux_fields(schema: Schema, name: str, doc: str) -> FluxFields:
    """Add ``<name>_instFlux`` and ``<name>_instFluxErr`` to a schema.

    Parameters
    ----------
    schema : `Schema`
        Schema to extend.
    name : `str`
        Prefix of the fields.
    doc : `str`
        Description of the flux.

    Returns
    -------
    fields : `FluxFields`
        Names of the fields.
    """
    fields = FluxFields(f"{name}_instFlux", f"{name}_instFluxErr")
    schema.add_field(fields.instFlux, "D", doc=doc, unit="count")
    schema.add_field(fields.instFluxErr, "D", doc="1-sigma instFlux uncertainty", unit="count")
    return fields


def _alias_slot_flag(schema: Schema, slot: str, alias: str, name: str) -> None:
    """Point an alias at the flag of a slot that must be defined."""
    if slot not in schema.aliases:
        raise MeasurementFatalError(f"Plugin {name} needs the slot {slot!r}, which is not defined.")
    # The target is the expanded name whether or not there is such a field:
    # only the x, y columns of the centroid slot may be present.
    schema.set_alias(alias, schema.apply_aliases(f"{slot}_flag"))


def alias_centroid_flag(schema: Schema, name: str, suffix: str = "flag_badCentroid") -> None:
    """Declare that a plugin reads the centroid slot.

    Sets the alias ``<name>_flag_badCentroid`` to the slot's flag (spec 03
    §1.5); all plugins that use `MeasureBatch.x` do this, after their fields.

    Parameters
    ----------
    schema : `Schema`
        Schema being built.
    name : `str`
        Name of the plugin.
    suffix : `str`, optional
        Name of the alias after ``<name>_``.

    Raises
    ------
    MeasurementFatalError
        Raised if the centroid slot is not defined.
    """
    _alias_slot_flag(schema, "slot_Centroid", f"{name}_{suffix}", name)


def alias_shape_flag(schema: Schema, name: str, suffix: str = "flag_badShape") -> None:
    """Declare that a plugin reads the shape slot.

    Parameters
    ----------
    schema : `Schema`
        Schema being built.
    name : `str`
        Name of the plugin.
    suffix : `str`, optional
        Name of the alias after ``<name>_``.

    Raises
    ------
    MeasurementFatalError
        Raised if the shape slot is not defined.
    """
    _alias_slot_flag(schema, "slot_Shape", f"{name}_{suffix}", name)
