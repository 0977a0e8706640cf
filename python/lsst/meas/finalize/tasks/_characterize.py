# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What the visit task and the detector task have in common."""

from __future__ import annotations

__all__ = ("DamagedInputError", "FinalizeCharacterizationTaskBase")

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import astropy.table
import numpy as np

import lsst.pipe.base as pipeBase
from lsst.daf.butler import FileIntegrityError
from lsst.utils.logging import LsstLogAdapter

from .. import afw
from .._collection import collection_paused
from .._exclusive import exclusive_pixels
from ..afw import is_afw
from ..catalogs import (
    ExposureCatalog,
    ExposureRecord,
    PsfCandidates,
    Schema,
    SourceCatalog,
    count_uninformative,
)
from ..measure import MeasurementFatalError, UnknownMaskPlaneError
from ..stars import (
    OutsideTable,
    PreparedStandardStars,
    add_colors,
    add_fgcm_photometry,
    add_sky_moments,
    concat_isolated_star_cats,
)
from ..version import __version__
from ._config import FinalizeCharacterizationConfigBase
from ._output import OutputSchema
from ._pending import PENDING_FIELD, carried_over, defers_ap_corr, place_of
from ._stack_types import Unconverted, as_ours, fetch, results_as_afw, results_as_ours
from ._threads import metadata_or
from ._whole_visit import FEW_STARS_FLAG, add_few_stars_field, fits_visits

if TYPE_CHECKING:
    from lsst.images import VisitImage
    from lsst.images.psfs import PointSpreadFunction

    from ..psf import VisitPsfFit

    type TableHandles = Mapping[int, Any]
    type ApCorrMap = dict[str, Any]


@dataclass
class _BoundTasks:
    """Tasks that depend on the input schema, and the schema they made."""

    input_schema: Schema
    output: OutputSchema
    measurement: Any
    measure_ap_corr: Any
    apply_ap_corr: Any


class FinalizeCharacterizationTaskBase(pipeBase.PipelineTask):
    """Base of the tasks that finalise the PSF and the aperture corrections.

    Parameters
    ----------
    **kwargs
        Passed to `lsst.pipe.base.PipelineTask`.
    """

    ConfigClass: ClassVar = FinalizeCharacterizationConfigBase
    _DefaultName: ClassVar[str] = "finalize_characterization_base"

    config: FinalizeCharacterizationConfigBase
    reserve_selection: Any
    source_selector: Any
    make_psf_candidates: Any
    psf_determiner: Any
    # On the class for subclasses whose __init__ makes other subtasks.
    _bound: _BoundTasks | None = None
    _binding: ClassVar[threading.RLock] = threading.RLock()
    _visit_fits: Mapping[int, VisitPsfFit] = MappingProxyType({})

    def __init__(self, **kwargs: Any) -> None:
        # Published pipelines may still hand over a schema (see connections).
        kwargs.pop("initInputs", None)
        super().__init__(**kwargs)
        self.makeSubtask("reserve_selection")
        self.makeSubtask("source_selector")
        self.source_selector.log.setLevel(self.source_selector.log.WARNING)
        self.makeSubtask("make_psf_candidates")
        self.makeSubtask("psf_determiner")
        log_origin(self)

    @property
    def isPsfDeterminerPiff(self) -> bool:
        """Whether the active PSF determiner is Piff."""
        return self.config.psf_determiner.name == "piff"

    def _bind(self, input_schema: Schema) -> _BoundTasks:
        """Make the tasks that add fields to the output schema, once."""
        # Detectors in several threads share what the first of them makes.
        with self._binding:
            if self._bound is None or self._bound.input_schema != input_schema:
                self._bound = self._make_bound(input_schema)
            return self._bound

    def _make_bound(self, input_schema: Schema) -> _BoundTasks:
        config = self.config
        selector = config.source_selector.active
        signal_to_noise = getattr(selector, "signalToNoise", None)
        output = OutputSchema(
            input_schema,
            selection_fields=None
            if signal_to_noise is None
            else (signal_to_noise.fluxField, signal_to_noise.errField),
            sky_moments=config.do_add_sky_moments,
            fgcm_bands=config.fgcmPhotometryBands if config.do_add_fgcm_photometry else (),
        )
        if fits_visits(self.psf_determiner):
            add_few_stars_field(output.schema)
        # Each of these adds its fields; the order is that of the columns.
        subtasks = {
            name: getattr(config, name).apply(schema=output.schema, parentTask=self, name=name)
            for name in ("measurement", "measure_ap_corr", "apply_ap_corr")
        }
        return _BoundTasks(input_schema.copy(), output, **subtasks)

    def concat_isolated_star_cats(
        self,
        band: str,
        isolated_star_cat_dict: TableHandles,
        isolated_star_source_dict: TableHandles,
        visit: int | None = None,
        detector: int | None = None,
    ) -> tuple[astropy.table.Table | None, astropy.table.Table | None]:
        """Concatenate the isolated stars of all tracts and reserve some.

        Parameters
        ----------
        band
            Band of the visit.
        isolated_star_cat_dict, isolated_star_source_dict
            Handles of the tables of stars and of their sources by tract.
        visit
            Visit to keep sources of; all are kept if not given.
        detector
            Detector to keep sources of; ignored without ``visit``.

        Returns
        -------
        isolated_table, isolated_source_table : `astropy.table.Table`
            Stars and sources with a column ``reserved``; `None` if there
            are none.
        """
        return concat_isolated_star_cats(
            band,
            isolated_star_cat_dict,
            isolated_star_source_dict,
            id_column=self.config.id_column,
            reserve=self.reserve_selection,
            visit=visit,
            detector=detector,
        )

    def _get_isolated_sources(
        self,
        band: str,
        isolated_star_cat_dict: TableHandles,
        isolated_star_source_dict: TableHandles,
        visit: int,
        detector: int | None = None,
    ) -> astropy.table.Table:
        """Return the isolated sources, without reading what isn't needed."""
        _, sources = concat_isolated_star_cats(
            band,
            isolated_star_cat_dict,
            isolated_star_source_dict,
            id_column=self.config.id_column,
            reserve=self.reserve_selection,
            visit=visit,
            detector=detector,
            star_columns=(),
        )
        if sources is None:
            raise no_isolated_sources(visit)
        return sources

    def compute_psf_and_ap_corr_map(
        self,
        visit: int,
        detector: int,
        exposure: Any,
        src: Any,
        isolated_source_table: astropy.table.Table,
        fgcm_standard_star_cat: Any = None,
    ) -> tuple[Any, Any, Any]:
        """Compute PSF model and aperture corrections of one detector.

        Parameters
        ----------
        visit
            Visit number.
        detector
            Detector number.
        exposure : `lsst.images.VisitImage` or `lsst.afw.image.ExposureF`
            Image of the detector, or a handle of it; it is not modified.
        src : `SourceCatalog` or `lsst.afw.table.SourceCatalog`
            All sources of the detector, with footprints, or a handle.
        isolated_source_table
            Isolated sources with columns ``id_column`` and ``reserved``.
        fgcm_standard_star_cat
            FGCM standard stars, if colours or photometry are wanted, as a
            table, structured array or
            `~lsst.meas.finalize.stars.PreparedStandardStars`.

        Returns
        -------
        psf : `lsst.images.psfs.PointSpreadFunction` or `None`
            Final PSF; `None` if it could not be determined.
        ap_corr_map : `dict` or `None`
            Aperture corrections by flux name; `None` if not determined.
        measured : `SourceCatalog` or `None`
            Measured candidates; `None` if there is no candidate.

        Raises
        ------
        TypeError
            Raised if image or sources are of other types.
        DamagedInputError
            Raised if ids of sources are not unique, if image or footprints
            are such that no star can be measured, or if an object of
            ``lsst.afw`` lacks what the file of it would have to have.

        UnknownMaskPlaneError, ValueError
            Raised if an option of the measurement or of the PSF determiner
            names a mask plane that doesn't exist.

        Notes
        -----
        For an exposure of ``lsst.afw`` the results are of ``lsst.afw``, too.
        With ``measure_ap_corr.fitVisit`` the fluxes are uncorrected, and the
        map has those corrections only that the image brings along.
        """
        others = src, isolated_source_table, fgcm_standard_star_cat
        # Libraries and kernels are loaded in here.
        with collection_paused():
            exposure = fetch(exposure)
            if not is_afw(exposure):
                return self._compute(visit, detector, exposure, *others)
            exposure = Unconverted(exposure, {})
            return results_as_afw(*self._compute(visit, detector, exposure, *others))

    def _compute(
        self,
        visit: int,
        detector: int,
        exposure: Any,
        src: Any,
        isolated_source_table: astropy.table.Table,
        fgcm_standard_star_cat: np.ndarray | None,
    ) -> tuple[PointSpreadFunction | None, ApCorrMap | None, SourceCatalog | None]:
        """Do so, with results that are ours."""
        from lsst.images import VisitImage

        where = f"visit {visit}, detector {detector}"
        if not isinstance(exposure, Unconverted):
            as_ours(exposure, VisitImage, f"calexp of {where}")
        with damaged_input_is_no_work(self.log, where):
            src = as_ours(fetch(src), SourceCatalog, f"src of {where}")
        measured = self._select_stars(src, isolated_source_table, where)
        if measured is None:
            return None, None, None
        with damaged_input_is_no_work(self.log, where):
            data_id = {"visit": visit, "detector": detector}
            exposure = as_ours(exposure, VisitImage, f"calexp of {where}", data_id)
            with exclusive_pixels(exposure.image.array):
                return self._characterize(detector, exposure, src, measured, fgcm_standard_star_cat, where)

    def _characterize(
        self,
        detector: int,
        exposure: VisitImage,
        src: SourceCatalog,
        measured: SourceCatalog,
        fgcm_standard_star_cat: np.ndarray | None,
        where: str,
    ) -> tuple[PointSpreadFunction | None, ApCorrMap | None, SourceCatalog | None]:
        """Fit and measure; raises `ComponentError` for damage that matters."""
        self._add_colors(exposure, measured, fgcm_standard_star_cat)
        bound = self._bind(src.schema)
        self._check_measurable(bound, exposure, src, measured, where)
        psf = self._determine_psf(exposure, measured, where, self._visit_fits.get(detector))
        if psf is None:
            bound.measurement.fail(measured)
            bound.apply_ap_corr.fail(measured)
            return None, None, measured
        return psf, self._measure(exposure, src, measured, psf, where), measured

    def _measure(
        self,
        exposure: VisitImage,
        src: SourceCatalog,
        measured: SourceCatalog,
        psf: PointSpreadFunction,
        where: str,
    ) -> ApCorrMap | None:
        """Measure the stars; return the aperture corrections applied."""
        bound = self._bind(src.schema)
        try:
            bound.measurement.run(
                measured, exposure, footprints=src, psf=psf, color=measured["psf_color_value"].astype(float)
            )
        except afw.ComponentError:
            raise
        except Exception:
            self.log.warning("Measurement failed for %s.", where, exc_info=True)
            bound.apply_ap_corr.fail(measured)
            return None
        if self.config.do_add_sky_moments:
            add_sky_moments(measured, exposure)
        if defers_ap_corr(self.config):
            return self._defer_ap_corr(bound, exposure, measured, where)

        try:
            ap_corr_map = dict(bound.measure_ap_corr.run(exposure=exposure, catalog=measured).apCorrMap)
        except Exception:
            self.log.warning("Aperture corrections could not be measured for %s.", where, exc_info=True)
            bound.apply_ap_corr.fail(measured)
            return None
        for name, correction in carried_over(exposure).items():
            ap_corr_map.setdefault(name, correction)
        bound.apply_ap_corr.run(catalog=measured, apCorrMap=ap_corr_map)
        return ap_corr_map

    def _defer_ap_corr(
        self, bound: _BoundTasks, exposure: VisitImage, measured: SourceCatalog, where: str
    ) -> ApCorrMap | None:
        """Leave the corrections to who has the other detectors, too."""
        bound.apply_ap_corr.fail(measured)
        try:
            place = place_of(exposure, measured.schema)
        except ValueError as error:
            self.log.warning("There are no aperture corrections for %s: %s", where, error)
            return None
        measured.metadata[PENDING_FIELD] = place.to_text()
        return carried_over(exposure)

    def _check_measurable(
        self,
        bound: _BoundTasks,
        exposure: VisitImage,
        src: SourceCatalog,
        measured: SourceCatalog,
        where: str,
    ) -> None:
        """Refuse what cannot be measured before time is spent on a fit."""
        try:
            bound.measurement.check(measured, exposure, src)
        except UnknownMaskPlaneError:
            # The option is wrong, not the image.
            raise
        except (MeasurementFatalError, ValueError) as error:
            raise DamagedInputError(f"No star of {where} can be measured: {error}") from error
        self.psf_determiner.check(exposure)
        uninformative = count_uninformative(exposure)
        if uninformative:
            self.log.warning(
                "%d pixels of the calexp of %s have no positive, finite variance; they are not used.",
                uninformative,
                where,
            )

    def _select_stars(
        self, src: SourceCatalog, isolated_source_table: astropy.table.Table, where: str
    ) -> SourceCatalog | None:
        """Return the isolated ones of the good sources, in output schema."""
        selected = np.flatnonzero(self.source_selector.selectSources(src).selected)
        if not len(selected):
            self.log.warning("No good sources remain after cuts for %s.", where)
            return None
        isolated = OutsideTable(isolated_source_table, f"The table of isolated sources of {where}")
        # An id in two tracts counts as in the later one: hence the reversal.
        isolated_ids, last = np.unique(isolated.keys(self.config.id_column)[::-1], return_index=True)
        is_reserved = isolated.flags("reserved")[::-1][last]
        ids = src["id"][selected]
        if len(np.unique(ids)) != len(ids):
            raise DamagedInputError(f"Ids of the source catalog of {where} are not unique.")
        is_isolated = np.isin(ids, isolated_ids)
        if not is_isolated.any():
            self.log.warning("No selected source is isolated for %s.", where)
            return None
        rows = selected[is_isolated]
        measured = self._bind(src.schema).output.make_catalog(src[rows])
        measured["calib_psf_candidate"] = True
        measured["calib_psf_reserved"] = np.isin(src["id"][rows], isolated_ids[is_reserved])
        return measured

    def _add_colors(self, exposure: VisitImage, measured: SourceCatalog, fgcm_standard_star_cat: Any) -> None:
        if isinstance(fgcm_standard_star_cat, PreparedStandardStars):
            fgcm_standard_star_cat = fgcm_standard_star_cat.near(measured)
        if self.isPsfDeterminerPiff and fgcm_standard_star_cat is not None:
            piff = self.config.psf_determiner["piff"]
            if piff.useColor:
                add_colors(measured, fgcm_standard_star_cat, band=exposure.band, color=piff.color)
        if self.config.do_add_fgcm_photometry:
            add_fgcm_photometry(measured, fgcm_standard_star_cat, bands=self.config.fgcmPhotometryBands)

    def _psf_candidates(
        self, exposure: VisitImage, measured: SourceCatalog, where: str
    ) -> PsfCandidates | None:
        """Make the candidates that aren't reserved; `None` if that fails."""
        try:
            candidates: PsfCandidates = self.make_psf_candidates.run(measured, exposure).psfCandidates
        except afw.ComponentError:
            raise
        except Exception:
            self.log.exception("Failed to make PSF candidates for %s.", where)
            return None
        reserved_ids = measured["id"][measured["calib_psf_reserved"]]
        return candidates.take(~np.isin(candidates.id, reserved_ids))

    def _determine_psf(
        self, exposure: VisitImage, measured: SourceCatalog, where: str, fit: VisitPsfFit | None
    ) -> PointSpreadFunction | None:
        """Fit the PSF, unless the visit's fit gave one, and set
        ``calib_psf_used``; `None` if that fails.
        """
        fitted = self._psf_candidates(exposure, measured, where)
        if fitted is None:
            return None
        try:
            if fit is None:
                alone = self.psf_determiner.determine_psf(
                    exposure, fitted, metadata=metadata_or(self.metadata), band=exposure.band or None
                )
                psf, used = alone.psf, fitted.id[alone.used]
            else:
                psf, used = fit.psf, fit.used_ids
                if fit.few_stars:
                    measured[FEW_STARS_FLAG] = True
        except afw.ComponentError:
            raise
        except Exception:
            self.log.exception("Failed to determine PSF for %s.", where)
            return None
        x, y = psf.average_position
        xx, yy, xy = psf.compute_shapes(np.array([x]), np.array([y]))[0]
        # Its fourth root is the size.
        if not 0 <= xx * yy - xy**2 < np.inf:
            self.log.warning("The PSF has no finite size at its average position for %s.", where)
            return None
        measured["calib_psf_used"] = np.isin(measured["id"], used)
        return psf

    @staticmethod
    def _make_exposure_catalog(which_detectors: str) -> ExposureCatalog:
        schema = Schema.exposure_minimal()
        schema.add_field("visit", "L", doc="Visit number")
        comments = ["Catalog id is detector id, sorted.", which_detectors]
        return ExposureCatalog(schema, 0, metadata={"COMMENT": comments})

    @staticmethod
    def _append_detector(
        catalog: ExposureCatalog,
        visit: int,
        detector: int,
        psf: PointSpreadFunction | None,
        ap_corr_map: ApCorrMap | None,
        measured: SourceCatalog,
        **values: Any,
    ) -> SourceCatalog:
        """Add a detector's row to the catalogue; return what `to_output_table`
        takes.
        """
        psf, ap_corr_map, measured = results_as_ours(psf, ap_corr_map, measured)
        catalog.append(ExposureRecord({"id": detector, "visit": visit, **values}, psf, ap_corr_map))
        measured["visit"] = visit
        measured["detector"] = detector
        return measured


def no_isolated_sources(visit: int) -> pipeBase.NoWorkFound:
    """Return what to raise for a visit without isolated sources."""
    return pipeBase.NoWorkFound(f"No good isolated sources found for any detectors in visit {visit}")


class DamagedInputError(pipeBase.UnprocessableDataError):
    """What was stored for this detector is damaged.

    The quantum ends without outputs rather than in failure, so that the
    other detectors of the visit are consolidated.
    """


@contextmanager
def damaged_input_is_no_work(log: LsstLogAdapter, where: str) -> Iterator[None]:
    """Turn errors about the contents of a file into `DamagedInputError`.

    Files that cannot be reached or read at all are errors as ever: trying
    again may help there.

    Parameters
    ----------
    log
        Where the error is logged.
    where
        Which visit and detector this is.
    """
    try:
        yield
    except Exception as error:
        from ..afw import ArchiveError, FitsFormatError

        damages = (FitsFormatError, ArchiveError, FileIntegrityError)
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, damages):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        log.error("An input of %s is damaged: %s", where, cause)
        raise DamagedInputError(f"An input of {where} is damaged: {cause}") from error


def log_origin(task: pipeBase.Task) -> None:
    """Log that a task is the one of this package.

    Parameters
    ----------
    task
        The task, which has a namesake in the stack.
    """
    where = inspect.getsourcefile(type(task))
    task.log.debug("%s is that of lsst.meas.finalize %s, %s.", type(task).__name__, __version__, where)


def quantum_data_id(butlerQC: pipeBase.QuantumContext) -> Any:
    """Return the data ID of a quantum, which every quantum of these has."""
    return butlerQC.quantum.dataId
