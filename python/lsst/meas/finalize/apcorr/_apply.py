# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Applying aperture corrections to catalogues."""

from __future__ import annotations

__all__ = ("ApplyApCorrConfig", "ApplyApCorrTask")

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lsst.pex.config import Config, DictField, Field, ListField
from lsst.pipe.base import Task

from ._columns import get_column
from ._registry import get_ap_corr_names

if TYPE_CHECKING:
    from lsst.images.fields import BaseField

    from ..catalogs import Schema, SourceCatalog


class ApplyApCorrConfig(Config):
    """Configuration of `ApplyApCorrTask`."""

    ignoreList: ListField[str] = ListField(
        "flux measurement algorithms in getApCorrNameSet() to ignore; if a name is listed that does not "
        "appear in getApCorrNameSet() then a warning is logged",
        dtype=str,
        default=[],
    )
    doFlagApCorrFailures: Field[bool] = Field(
        "set the general failure flag for a flux when it cannot be aperture-corrected?",
        dtype=bool,
        default=True,
    )
    proxies: DictField[str, str] = DictField(
        "flux measurement algorithms to be aperture-corrected by reference to another algorithm; this is a "
        "mapping alg1:alg2, where 'alg1' is the algorithm being corrected, and 'alg2' is the algorithm "
        "supplying the corrections",
        keytype=str,
        itemtype=str,
        default={},
    )
    xColumn: Field[str] = Field(
        "name of the x coordinate column in the catalog", dtype=str, default="slot_Centroid_x"
    )
    yColumn: Field[str] = Field(
        "name of the y coordinate column in the catalog", dtype=str, default="slot_Centroid_y"
    )
    doWriteApCorr: Field[bool] = Field(
        "write the applied correction to <name>_apCorr and 0 to <name>_apCorrErr? If False both stay NaN "
        "for all rows, as upstream leaves them since July 2025 (a switch that is never set).",
        dtype=bool,
        default=True,
    )


@dataclasses.dataclass(frozen=True)
class _Target:
    """One flux to correct."""

    name: str
    model: str
    """Name whose entries in the map are used; `name` unless proxied."""

    @property
    def ap_corr(self) -> str:
        """Prefix of the fields telling the correction (`str`)."""
        return f"{self.name}_apCorr"


class ApplyApCorrTask(Task):
    """Apply aperture corrections to the fluxes of a catalogue.

    Parameters
    ----------
    config : `ApplyApCorrConfig`, optional
        Configuration.
    schema : `~lsst.meas.finalize.catalogs.Schema`
        Schema of the catalogues to come; per corrected flux
        ``<name>_apCorr``, ``<name>_apCorrErr`` and ``<name>_flag_apCorr``
        are added.
    names : iterable of `str`, optional
        Fluxes to correct instead of all registered ones.
    **kwargs
        Passed to `lsst.pipe.base.Task`.

    Raises
    ------
    KeyError
        Raised if a proxied flux has no ``_instFlux`` field.
    """

    ConfigClass: ClassVar[type[Config]] = ApplyApCorrConfig
    _DefaultName: ClassVar[str] = "applyApCorr"
    config: ApplyApCorrConfig

    def __init__(
        self,
        config: ApplyApCorrConfig | None = None,
        *,
        schema: Schema,
        names: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config=config, **kwargs)
        registered = get_ap_corr_names() if names is None else {*names, *self.config.ignoreList}
        unknown = sorted(set(self.config.ignoreList) - registered)
        if unknown:
            self.log.warning("Fluxes in ignoreList that aren't aperture-corrected anyway: %s", unknown)
        self._targets: list[_Target] = []
        for name in sorted(registered - set(self.config.ignoreList)):
            if name + "_instFlux" in schema:
                self._add_fields(schema, _Target(name, self.config.proxies.get(name, name)))
        for name, model in self.config.proxies.items():
            if name in registered:
                continue
            if name + "_instFlux" not in schema:
                raise KeyError(f"proxies[{name!r}]: the catalog has no field {name + '_instFlux'!r}.")
            self._add_fields(schema, _Target(name, model))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the corrected fluxes in order (`tuple` [ `str` ])."""
        return tuple(target.name for target in self._targets)

    def _add_fields(self, schema: Schema, target: _Target) -> None:
        """Add the fields or aliases of one flux to the schema."""
        name, model = target.name, target.model
        if model != name and f"{model}_apCorr" in schema:
            if f"{name}_apCorr" not in schema:
                schema.set_alias(f"{name}_apCorr", f"{model}_apCorr")
                schema.set_alias(f"{name}_apCorrErr", f"{model}_apCorrErr")
        elif f"{name}_apCorr" not in schema:
            schema.add_field(f"{name}_apCorr", "D", doc=f"aperture correction applied to {name}")
            schema.add_field(
                f"{name}_apCorrErr", "D", doc=f"standard deviation of aperture correction applied to {name}"
            )
        if f"{name}_flag_apCorr" not in schema:
            schema.add_flag(f"{name}_flag_apCorr", f"set if unable to aperture correct {name}")
        self._targets.append(target)

    def fail(self, catalog: SourceCatalog) -> None:
        """Flag all fluxes as not corrected.

        Parameters
        ----------
        catalog : `~lsst.meas.finalize.catalogs.SourceCatalog`
            Catalogue with the schema given to the constructor.
        """
        for target in self._targets:
            catalog[f"{target.name}_flag_apCorr"] = np.ones(len(catalog), dtype=bool)

    def run(self, catalog: SourceCatalog, apCorrMap: Mapping[str, BaseField]) -> None:
        """Correct the fluxes in place.

        Parameters
        ----------
        catalog : `~lsst.meas.finalize.catalogs.SourceCatalog`
            Catalogue with the schema given to the constructor.
        apCorrMap : `~collections.abc.Mapping` [ `str`, \
                `lsst.images.fields.BaseField` ]
            Fields ``<name>_instFlux``; a flux is corrected only if
            ``<name>_instFluxErr`` exists, too.

        Raises
        ------
        KeyError
            Raised if there is no column of positions.

        Notes
        -----
        Flux and error are scaled by the same factor; the uncertainty of the
        correction isn't propagated (spec 01 §6.5).
        """
        self.log.info("Applying aperture corrections to %d flux fields", len(self._targets))
        x, y = (
            get_column(catalog, getattr(self.config, option), option).astype(np.float64)
            for option in ("xColumn", "yColumn")
        )
        for target in self._targets:
            self._apply(catalog, target, apCorrMap, x, y)

    def _apply(
        self,
        catalog: SourceCatalog,
        target: _Target,
        ap_corr_map: Mapping[str, BaseField],
        x: np.ndarray,
        y: np.ndarray,
    ) -> None:
        """Correct one flux."""
        name = target.name
        field = ap_corr_map.get(f"{target.model}_instFlux")
        if field is None or f"{target.model}_instFluxErr" not in ap_corr_map:
            self.log.warning("Cannot aperture correct %s: no aperture correction for %s", name, target.model)
            catalog[f"{name}_flag_apCorr"] = np.ones(len(catalog), dtype=bool)
            return
        factor = np.asarray(field(x=x, y=y), dtype=np.float64)
        with np.errstate(invalid="ignore"):
            good = np.isfinite(factor) & (factor > 0)
        if self.config.doWriteApCorr:
            catalog[target.ap_corr] = factor
            catalog[f"{target.ap_corr}Err"] = np.zeros(len(catalog))
        scale = np.where(good, factor, 1.0)
        for suffix in ("_instFlux", "_instFluxErr"):
            if name + suffix in catalog.schema:
                catalog[name + suffix] = catalog[name + suffix] * scale
        catalog[f"{name}_flag_apCorr"] = ~good
        if self.config.doFlagApCorrFailures and f"{name}_flag" in catalog.schema:
            catalog[f"{name}_flag"] = catalog[f"{name}_flag"] | ~good
