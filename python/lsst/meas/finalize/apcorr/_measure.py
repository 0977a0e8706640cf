# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Measuring aperture corrections."""

from __future__ import annotations

__all__ = ("MeasureApCorrConfig", "MeasureApCorrError", "MeasureApCorrTask")

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Config, ConfigField, Field, ListField, RangeField
from lsst.pipe.base import AlgorithmError, Struct, Task

from .._robust import robust_scatter
from ..focal_plane import FieldBasis, StarPlaces
from ._chebyshev import ChebyshevBoundedFieldConfig, constant_field
from ._clipping import ClippedFits, fit_clipped
from ._registry import correctable_names
from ._selectors import BaseSourceSelectorTask, sourceSelectorRegistry
from ._visit import DetectorFluxes, TooFewRatiosError, chebyshev_projections, fit_visit_ratio

if TYPE_CHECKING:
    from lsst.images import Box, VisitImage
    from lsst.images.fields import BaseField

    from ..catalogs import Schema, SourceCatalog


class MeasureApCorrError(AlgorithmError):
    """Raised when an aperture correction that must not fail can't be fitted.

    Parameters
    ----------
    name : `str`
        Prefix of the flux.
    nSources : `int`
        Number of usable stars.
    ndof : `int`
        Number of stars that are needed for the lowest order.
    iteration : `int`, optional
        Clipping iteration (from 1) in which the fit failed; `None` if there
        were too few stars from the beginning.
    """

    def __init__(self, *, name: str, nSources: int, ndof: int, iteration: int | None = None) -> None:
        where = "" if iteration is None else f" on iteration {iteration}"
        super().__init__(
            f"Unable to measure aperture correction for '{name}'{where}: "
            f"{nSources} usable source(s), at least {ndof} needed."
        )
        self.name = name
        self.nSources = nSources
        self.ndof = ndof
        self.iteration = iteration

    @property
    def metadata(self) -> dict[str, Any]:
        """What failed, for the task metadata (`dict`)."""
        result = {"name": self.name, "nSources": self.nSources, "ndof": self.ndof}
        if self.iteration is not None:
            result["iteration"] = self.iteration
        return result


class MeasureApCorrConfig(Config):
    """Configuration of `MeasureApCorrTask`."""

    refFluxName: Field[str] = Field(
        "Field name prefix for the flux other measurements should be aperture corrected to match",
        dtype=str,
        default="slot_CalibFlux",
    )
    sourceSelector = sourceSelectorRegistry.makeField(
        "Selector that sets the stars that aperture corrections will be measured from.",
        default="science",
    )
    minDegreesOfFreedom: Field[int] = RangeField(
        "Minimum number of degrees of freedom (# of valid data points - # of parameters); if this is "
        "exceeded, the order of the fit is decreased (in both dimensions), and if we can't decrease it "
        "enough, we'll raise ValueError.",
        dtype=int,
        default=1,
        min=1,
    )
    fitConfig: ConfigField[ChebyshevBoundedFieldConfig] = ConfigField(
        "Configuration used in fitting the aperture correction fields.",
        dtype=ChebyshevBoundedFieldConfig,
    )
    numIter: Field[int] = RangeField(
        "Number of iterations for robust MAD sigma clipping.", dtype=int, default=4, min=1
    )
    numSigmaClip: Field[float] = Field(
        "Number of robust MAD sigma to do clipping.",
        dtype=float,
        default=4.0,
        check=lambda n: n > 0,
    )
    doFinalMedianShift: Field[bool] = Field(
        "Do final shift to ensure medians match.", dtype=bool, default=True
    )
    allowFailure: ListField[str] = ListField(
        "Allow these measurement algorithms to fail without an exception.", dtype=str, default=[]
    )
    fitVisit: Field[bool] = Field(
        "Fit the corrections of all detectors of a visit together: fields over the focal plane and "
        "deviations of each detector, as strong as they are in the visit?  fitConfig, minDegreesOfFreedom "
        "and doFinalMedianShift then hold only for visits with stars on a single detector.",
        dtype=bool,
        default=False,
    )
    focalPlaneOrder: Field[int] = RangeField(
        "With fitVisit, degree of the polynomials over the focal plane.",
        dtype=int,
        default=6,
        min=0,
        max=12,
        inclusiveMax=True,
    )
    detectorOrder: Field[int] = RangeField(
        "With fitVisit, degree of the polynomials over each detector.",
        dtype=int,
        default=4,
        min=0,
        max=8,
        inclusiveMax=True,
    )

    def setDefaults(self) -> None:
        """Select bright unflagged stars."""
        selector = self.sourceSelector["science"]
        selector.doFlags = True
        selector.doUnresolved = True
        selector.doSignalToNoise = True
        selector.doIsolated = False
        selector.flags.good = []
        selector.flags.bad = [
            f"base_PixelFlags_flag_{name}"
            for name in (
                "edge",
                "nodata",
                "interpolatedCenter",
                "saturatedCenter",
                "crCenter",
                "bad",
                "interpolated",
                "saturated",
            )
        ]
        selector.signalToNoise.minimum = 200.0
        selector.signalToNoise.maximum = None
        selector.signalToNoise.fluxField = "base_PsfFlux_instFlux"
        selector.signalToNoise.errField = "base_PsfFlux_instFluxErr"

    def validate(self) -> None:
        """Refuse selectors that would need matches to a reference catalogue.

        Raises
        ------
        ValueError
            Raised if the selector uses matches.
        """
        super().validate()
        if self.sourceSelector.target.usesMatches:
            raise ValueError(
                f"sourceSelector={self.sourceSelector.name!r} needs matches, which MeasureApCorrTask "
                "doesn't have."
            )


class MeasureApCorrTask(Task):
    """Fit aperture corrections as functions of position.

    Parameters
    ----------
    config : `MeasureApCorrConfig`, optional
        Configuration.
    schema : `~lsst.meas.finalize.catalogs.Schema`
        Schema of the catalogues to come; gets ``apcorr_<refFluxName>_used``
        and one ``apcorr_<name>_used`` flag per corrected flux.
    namesToCorrect : iterable of `str`, optional
        Fluxes to correct instead of all registered ones.
    **kwargs
        Passed to `lsst.pipe.base.Task`.

    Raises
    ------
    KeyError
        Raised if the fields of the reference flux are missing.
    """

    ConfigClass: ClassVar[type[Config]] = MeasureApCorrConfig
    _DefaultName: ClassVar[str] = "measureApCorr"
    config: MeasureApCorrConfig
    sourceSelector: BaseSourceSelectorTask

    def __init__(
        self,
        config: MeasureApCorrConfig | None = None,
        *,
        schema: Schema,
        namesToCorrect: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config=config, **kwargs)
        reference = self.config.refFluxName
        for suffix in ("_instFlux", "_instFluxErr", "_flag"):
            if reference + suffix not in schema:
                raise KeyError(f"refFluxName={reference!r}: the catalog has no field {reference + suffix!r}.")
        doc = "Set if source was used in measuring aperture correction."
        self.names = correctable_names(schema, namesToCorrect)
        for name in (reference, *self.names):
            # Stars of a visit's table have them already.
            if f"apcorr_{name}_used" not in schema:
                schema.add_flag(f"apcorr_{name}_used", doc)
        self.makeSubtask("sourceSelector")

    def run(self, exposure: VisitImage | DetectorFluxes, catalog: SourceCatalog) -> Struct:
        """Measure the aperture corrections.

        Parameters
        ----------
        exposure : `lsst.images.VisitImage` or `DetectorFluxes`
            Image the catalogue was measured on; only its box is used.
        catalog : `~lsst.meas.finalize.catalogs.SourceCatalog`
            Measured stars with uncorrected fluxes; the
            ``apcorr_<name>_used`` flags are set in place.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``apCorrMap`` : `dict` [ `str`, `~lsst.images.fields.BaseField` ]
            with, per flux, the factor ``<name>_instFlux`` and its constant
            scatter ``<name>_instFluxErr``.

        Raises
        ------
        MeasureApCorrError
            Raised if a flux not listed in ``allowFailure`` can't be fitted.
        """
        bbox = exposure.bbox
        self.log.info("Measuring aperture corrections for %d flux fields", len(self.names))
        from lsst.images.fields import ChebyshevField

        selected = self._select(catalog)
        fits = self._fit(bbox, catalog, selected)
        center, scatter, rms = fits.statistics()
        ap_corr_map: dict[str, BaseField] = {}
        for k, name in enumerate(self.names):
            if k in fits.failures:
                n_stars, iteration = fits.failures[k]
                needed = self.config.minDegreesOfFreedom + 1
                self._fail(name, nSources=n_stars, ndof=needed, iteration=iteration)
                continue
            self._report(name, int(np.count_nonzero(fits.used[k])), center[k], scatter[k], rms[k])
            used = np.zeros(len(catalog), dtype=bool)
            used[selected] = fits.used[k]
            catalog[f"apcorr_{name}_used"] = used
            ap_corr_map[name + "_instFlux"] = ChebyshevField(bbox, fits.coefficients[k])
            ap_corr_map[name + "_instFluxErr"] = constant_field(bbox, float(fits.sigma[k]))
        return Struct(apCorrMap=ap_corr_map)

    def run_visit(self, detectors: Mapping[int, DetectorFluxes]) -> dict[int, dict[str, BaseField] | None]:
        """Measure the aperture corrections of all detectors of a visit.

        Parameters
        ----------
        detectors
            Detectors with their stars, maybe none, by number; the
            ``apcorr_<name>_used`` flags are set in place.

        Returns
        -------
        ap_corr_maps
            Per detector what `run` returns.  `None` where that fails, for a
            reason that is logged, which is for all detectors or none unless
            only one has stars.
        """
        numbers = sorted(detectors)
        chosen = [detectors[n] for n in numbers]
        selected = [self._select(d.catalog) for d in chosen]
        counts = np.array([np.count_nonzero(s) for s in selected])
        if np.count_nonzero(counts) < 2:
            self.log.info(
                "Stars for aperture corrections on %d detectors only: each is fitted on its own.",
                np.count_nonzero(counts),
            )
            return {n: self._run_alone(n, detectors[n]) for n in numbers}
        few = [
            n for n, count in zip(numbers, counts, strict=True) if count <= self.config.minDegreesOfFreedom
        ]
        if few:
            self.log.info("Detectors with too few stars for aperture corrections of their own: %s.", few)
        try:
            maps = self._fit_visit(chosen, selected)
        except MeasureApCorrError as error:
            self.log.warning("Aperture corrections could not be measured for this visit: %s", error)
            return dict.fromkeys(numbers)
        return dict(zip(numbers, maps, strict=True))

    def _run_alone(self, number: int, detector: DetectorFluxes) -> dict[str, BaseField] | None:
        try:
            return dict(self.run(detector, detector.catalog).apCorrMap)
        except MeasureApCorrError as error:
            self.log.warning("Aperture corrections could not be measured for detector %d: %s", number, error)
            return None

    def _fit_visit(
        self, detectors: list[DetectorFluxes], selected: list[npt.NDArray[np.bool_]]
    ) -> list[dict[str, BaseField]]:
        """Fit all fluxes; return the corrections of each detector."""
        from lsst.images.fields import ChebyshevField

        config = self.config
        basis = FieldBasis(tuple(d.frame for d in detectors), config.focalPlaneOrder, config.detectorOrder)
        projections = chebyshev_projections(basis, [d.bbox for d in detectors])
        maps: list[dict[str, BaseField]] = [{} for _ in detectors]
        for name in self.names:
            places, ratio, error, rows = self._ratios(detectors, selected, name)
            needed = config.minDegreesOfFreedom + 1
            try:
                fit = fit_visit_ratio(
                    places,
                    ratio,
                    error,
                    basis,
                    n_iter=config.numIter,
                    n_sigma=config.numSigmaClip,
                    least=needed,
                )
            except TooFewRatiosError as few:
                self._fail(name, nSources=few.number, ndof=needed)
                continue
            residuals = fit.residuals[fit.used]
            center, scatter = float(np.median(residuals)), robust_scatter(residuals)
            self._report(name, len(residuals), center, scatter, math.sqrt(float(np.mean(residuals**2))))
            for d, detector in enumerate(detectors):
                used = np.zeros(len(detector.catalog), dtype=bool)
                used[rows[d][fit.used[places.detector == d]]] = True
                detector.catalog[f"apcorr_{name}_used"] = used
                coefficients = fit.coefficients(d, projections[d])
                maps[d][name + "_instFlux"] = ChebyshevField(detector.bbox, coefficients)
                maps[d][name + "_instFluxErr"] = constant_field(detector.bbox, fit.sigma)
        return maps

    def _ratios(
        self, detectors: list[DetectorFluxes], selected: list[npt.NDArray[np.bool_]], name: str
    ) -> tuple[StarPlaces, npt.NDArray[np.float64], npt.NDArray[np.float64], list[npt.NDArray[np.intp]]]:
        """Return the stars of all detectors, their ratios of fluxes with the
        errors that the reference flux causes, and their rows by detector.
        """
        reference_name = self.config.refFluxName
        names = [f"{reference_name}_instFlux", f"{reference_name}_instFluxErr"]
        names += ["slot_Centroid_x", "slot_Centroid_y"]
        parts, rows = [], []
        for detector, select in zip(detectors, selected, strict=True):
            mine, flux = self._usable(detector.catalog, select, name)
            columns = (np.asarray(detector.catalog[n], dtype=np.float64)[mine] for n in names)
            parts.append((flux, *columns))
            rows.append(mine)
        flux, reference, error, x, y = (np.concatenate(p) for p in zip(*parts, strict=True))
        index = np.repeat(np.arange(len(detectors)), [len(r) for r in rows])
        places = StarPlaces([d.frame for d in detectors], index, x, y)
        return places, reference / flux, error / flux, rows

    def _usable(
        self, catalog: SourceCatalog, selected: npt.NDArray[np.bool_], name: str
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Return the rows in which a flux can be used, and their fluxes."""
        flux = np.asarray(catalog[name + "_instFlux"], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            good = selected & ~np.asarray(catalog[name + "_flag"]) & np.isfinite(flux) & (flux > 0)
            # Without a variance there is no error of 0; NaN is allowed as
            # upstream allows it.
            good &= ~(np.asarray(catalog[name + "_instFluxErr"]) <= 0)
        rows = np.flatnonzero(good)
        return rows, flux[rows]

    def _select(self, catalog: SourceCatalog) -> npt.NDArray[np.bool_]:
        """Return the rows with a good reference flux and position."""
        reference = self.config.refFluxName
        selected = self.sourceSelector.selectSources(catalog).selected
        # Upstream lets a NaN position spoil the fit of all stars.
        return (
            selected
            & ~np.asarray(catalog[reference + "_flag"])
            & np.isfinite(catalog[reference + "_instFlux"])
            & ~(np.asarray(catalog[reference + "_instFluxErr"]) <= 0)
            & np.isfinite(catalog["slot_Centroid_x"])
            & np.isfinite(catalog["slot_Centroid_y"])
        )

    def _fit(self, bbox: Box, catalog: SourceCatalog, selected: npt.NDArray[np.bool_]) -> ClippedFits:
        """Fit all fluxes to the selected stars."""
        config = self.config
        columns = (config.refFluxName + "_instFlux", "slot_Centroid_x", "slot_Centroid_y")
        reference, x, y = (np.asarray(catalog[column], dtype=np.float64)[selected] for column in columns)
        used = np.zeros((len(self.names), len(catalog)), dtype=bool)
        fluxes = np.ones(used.shape)
        for k, name in enumerate(self.names):
            rows, flux = self._usable(catalog, selected, name)
            used[k, rows], fluxes[k, rows] = True, flux
        used, ratios = used[:, selected], reference / fluxes[:, selected]
        return fit_clipped(
            bbox,
            x,
            y,
            ratios,
            used,
            config.fitConfig,
            least=config.minDegreesOfFreedom,
            n_iter=config.numIter,
            n_sigma=config.numSigmaClip,
            shifts=config.doFinalMedianShift,
        )

    def _fail(self, name: str, **reason: Any) -> None:
        """Raise the error of a flux, or log it if it may fail."""
        error = MeasureApCorrError(name=name, **reason)
        if name not in self.config.allowFailure:
            raise error
        self.log.warning("%s Failure is allowed for this flux, continuing without it.", error)

    def _report(self, name: str, n_stars: int, center: float, scatter: float, rms: float) -> None:
        """Log the quality of a fit."""
        self.log.info(
            "Aperture correction for %s from %d stars: median %f, MAD %f, RMS %f",
            name,
            n_stars,
            center,
            scatter,
            rms,
        )
