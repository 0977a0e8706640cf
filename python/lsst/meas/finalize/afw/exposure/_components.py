# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Components of an exposure file other than its pixels (spec 02 §2, §10)."""

from __future__ import annotations

__all__ = ("ExposureComponents",)

import logging
from collections import ChainMap
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, cast

import astropy.units as u
import numpy as np
from astro_metadata_translator import ObservationInfo
from astropy.io import fits

from lsst.images import (
    Bounds,
    Box,
    DetectorFrame,
    NoOverlapError,
    ObservationSummaryStats,
    Polygon,
    SkyProjection,
)
from lsst.images.cameras import Detector
from lsst.images.fields import BaseField
from lsst.images.psfs import PointSpreadFunction

from .._errors import ComponentError, FitsFormatError, UnsupportedPersistableError
from ..archive import ArchiveReader
from ..components import DetectorRecord, FilterLabel, PhotoCalib, read_visit_info_cards
from ..fits import FitsFile, hdu_label
from ..psfs import PIFF_NAME, piff_bytes, set_psf_bounds
from ..wcs import SkyWcs
from ._clean_header import read_clean_header
from ._component import component, unsupported
from ._deferred_psf import DeferredPiff
from ._header import filter_from_header, make_obs_info, photo_calib_from_header, read_unit
from ._header_wcs import header_projection
from ._kinds import check_kind
from ._plane import Plane

_LOG = logging.getLogger(__name__)

_MAX_VERSION = 2
_NAMES_BY_ID = frozenset(
    (
        "SKYWCS",
        "PSF",
        "PHOTOCALIB",
        "DETECTOR",
        "VALID_POLYGON",
        "COADD_INPUTS",
        "AP_CORR_MAP",
        "TRANSMISSION_CURVE",
        "FILTER",
        "SUMMARY_STATS",
    )
)
"""Components that may be given by a card ``NAME_ID`` only (spec 02 §2.2)."""


def _lookup(data_id: Any, key: str) -> Any:
    """Return a value of a data id, which may be any kind of mapping."""
    try:
        return None if data_id is None else data_id[key]
    except KeyError:
        return None


class ExposureComponents:
    """Components of an exposure file, read when asked for.

    Parameters
    ----------
    file
        Open file, by astropy or by this package; must stay open while
        components are read.
    data_id
        Mapping that may have ``instrument``, ``visit``, ``detector``,
        ``band`` and ``physical_filter``, for what the file doesn't tell.

    Raises
    ------
    FitsFormatError
        If the file isn't an exposure, or of an unsupported version.
    """

    def __init__(self, file: fits.HDUList | FitsFile, data_id: Any = None) -> None:
        self._file = file
        self._data_id = data_id
        self.where = hdu_label(file, 0)
        self._primary = read_clean_header(file, 0)
        if self._primary.get("NAXIS", 0) != 0:
            raise FitsFormatError(
                f"{self.where}: has pixels in the primary HDU; exposures written before 2013 aren't supported"
            )
        version = self._primary.get("EXPINFO_V", 0)
        if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= _MAX_VERSION:
            raise FitsFormatError(
                f"{self.where}: EXPINFO_V = {version!r} isn't a supported version (0 to {_MAX_VERSION})"
            )
        self._version = version
        try:
            image: fits.Header | None = self._image_header
        except FitsFormatError:
            image = None
        check_kind(self.where, self._primary, image)

    @cached_property
    def _planes(self) -> dict[int, Plane]:
        return {number: Plane(self._file, number) for number in (1, 2, 3)}

    @property
    def _image_header(self) -> fits.Header:
        return self._planes[1].header

    @cached_property
    def _cards(self) -> Mapping[str, Any]:
        return ChainMap(self._primary, self._image_header)

    @cached_property
    def _archive(self) -> ArchiveReader | None:
        number = self._primary.get("AR_HDU")
        if number is None:
            return None
        if isinstance(number, bool) or not isinstance(number, int) or number < 2:
            raise FitsFormatError(f"{self.where}: AR_HDU = {number!r} isn't the number of an HDU")
        return ArchiveReader(self._file, number - 1)

    def _component_id(self, name: str) -> int:
        keys = [f"ARCHIVE_ID_{name}"]
        if name in _NAMES_BY_ID:
            keys.append(f"{name}_ID")
        for key in keys:
            value = self._primary.get(key)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        return 0

    def _component(self, name: str, cls: type | tuple[type, ...]) -> Any:
        """Read a component from the archive; None if there is none."""
        archive_id = self._component_id(name)
        if archive_id == 0 or self._archive is None:
            return None
        try:
            result = self._archive.get(archive_id)
        except UnsupportedPersistableError as error:
            raise unsupported(self._archive.name(archive_id), error) from error
        if not isinstance(result, cls):
            raise FitsFormatError(f"{self.where}: component {name} is a {type(result).__name__}")
        return result

    @partial(component, name="detector")
    def _stored_detector(self) -> DetectorRecord | None:
        return cast(DetectorRecord | None, self._component("DETECTOR", DetectorRecord))

    @cached_property
    def _detector_record(self) -> DetectorRecord | None:
        """The detector, or None if it can't be read: what other components
        need of it is known from elsewhere as well.
        """
        return self._optional("_stored_detector")

    def _optional(self, name: str) -> Any:
        """Return a component, or None if it can't be read."""
        try:
            return getattr(self, name)
        except ComponentError:
            return None

    @partial(component, name="band")
    def _filter_label(self) -> FilterLabel | None:
        if self._version >= 2:
            return cast(FilterLabel | None, self._component("FILTER", FilterLabel))
        return filter_from_header(self._cards)

    @cached_property
    def _filter(self) -> FilterLabel:
        label = self._optional("_filter_label")
        band = label.band if label else None
        physical = label.physical if label else None
        band = band or _lookup(self._data_id, "band")
        physical = physical or _lookup(self._data_id, "physical_filter")
        missing = [name for name, value in (("band", band), ("physical filter", physical)) if not value]
        if missing:
            _LOG.warning("%s: no %s.", self.where, " and no ".join(missing))
        return FilterLabel(str(band or ""), str(physical or "unknown"))

    @partial(component, name="photometric_scaling")
    def _photo_calib(self) -> PhotoCalib | None:
        if self._version == 0:
            calib = self._component("PHOTOCALIB", PhotoCalib)
            return calib or photo_calib_from_header(self._cards)
        return cast(PhotoCalib | None, self._component("PHOTOCALIB", PhotoCalib))

    @cached_property
    def _exposure_id(self) -> int | None:
        value = self._cards.get("EXPID")
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @cached_property
    def _instrument(self) -> str:
        label = self._visit_cards.get("INSTRUMENT")
        return str(_lookup(self._data_id, "instrument") or label or self._observed_instrument or "unknown")

    @property
    def _observed_instrument(self) -> str | None:
        obs_info = self._optional("obs_info")
        return None if obs_info is None else cast(str | None, obs_info.instrument)

    @cached_property
    def _visit(self) -> int | None:
        for value in (_lookup(self._data_id, "visit"), self._visit_cards.get("IDNUM")):
            if isinstance(value, int | np.integer) and not isinstance(value, bool):
                return int(value)
        return None

    @cached_property
    def _visit_cards(self) -> dict[str, Any]:
        return read_visit_info_cards(self._cards)

    @cached_property
    def _instrumental_unit(self) -> u.UnitBase | None:
        text = self._primary.get("LSST ISR UNITS")
        if not isinstance(text, str):
            return None
        try:
            return u.Unit(text.strip())
        except ValueError:
            return None

    @component
    def bbox(self) -> Box:
        """Box of the image, parent coordinates."""
        return self._planes[1].box

    @component
    def bounds(self) -> Bounds:
        """Where the pixels are valid: a polygon, or the box."""
        return self._clip_bounds(self.bbox)

    def _clip_bounds(self, box: Box) -> Bounds:
        polygon = self._component("VALID_POLYGON", Polygon)
        if polygon is None:
            return box
        if not polygon.to_shapely().is_valid:
            raise FitsFormatError("the valid polygon crosses itself")
        try:
            return polygon if box.contains(polygon.bbox) else polygon.intersection(box)
        except NoOverlapError:
            _LOG.warning("%s: the valid polygon is outside of %s; ignored.", self.where, box)
            return box

    @component
    def unit(self) -> u.UnitBase:
        """Unit of the pixels."""
        unit = read_unit(self._image_header, self._instrumental_unit, self._planes[1].where)
        if unit is not None:
            return unit
        calib = self._optional("_photo_calib")
        if calib is not None and calib.field is None and calib.mean == 1.0:
            return u.nJy
        unit = self._instrumental_unit or u.adu
        _LOG.warning("%s: no BUNIT; assuming %s.", self.where, unit)
        return unit

    @component
    def detector(self) -> Detector | None:
        """The detector, or None if the file has none."""
        record = self._stored_detector
        return None if record is None else record.to_detector(self._instrument, self._visit)

    @cached_property
    def _detector_box(self) -> Box:
        record = self._detector_record
        return self.bbox if record is None else record.attributes.bbox

    @component
    def band(self) -> str:
        """Name of the passband; empty if unknown."""
        result = self._filter.band or ""
        if not result:
            # Says why it isn't known, if the label can't be read.
            _ = self._filter_label
        return result

    @component
    def obs_info(self) -> ObservationInfo:
        """Description of the visit in standardised form."""
        record = self._detector_record
        attributes = None if record is None else record.attributes
        number = attributes.id if attributes else _lookup(self._data_id, "detector")
        overrides = {
            "instrument": _lookup(self._data_id, "instrument"),
            "detector_exposure_id": self._exposure_id,
            "detector_num": None if number is None else int(number),
            "detector_unique_name": attributes.name if attributes else None,
            "detector_serial": attributes.serial if attributes else None,
            "physical_filter": self._filter.physical,
        }
        return make_obs_info(self._primary, overrides, self.where)

    @component
    def metadata(self) -> dict[str, Any]:
        """Exposure id and the cards about the visit."""
        result: dict[str, Any] = dict(self._visit_cards)
        if self._exposure_id is not None:
            result["id"] = self._exposure_id
        return result

    @component
    def summary_stats(self) -> ObservationSummaryStats:
        """Summary statistics; defaults if the file has none."""
        stats = self._component("SUMMARY_STATS", ObservationSummaryStats)
        return stats or ObservationSummaryStats.model_validate({})

    @component
    def aperture_corrections(self) -> dict[str, BaseField]:
        """Aperture corrections by name; empty if the file has none."""
        return self._component("AP_CORR_MAP", dict) or {}

    @component
    def photometric_scaling(self) -> BaseField | None:
        """Calibration to nJy; None if applied already or unknown."""
        calib = self._photo_calib
        if calib is None:
            return None
        return calib.to_field(self._detector_box, self._instrumental_unit or u.electron)

    @component
    def psf(self) -> PointSpreadFunction:
        """The PSF."""
        psf = self._component("PSF", PointSpreadFunction)
        if psf is None:
            raise FitsFormatError("there is no PSF")
        box = self._optional("_detector_box")
        if box is not None:
            set_psf_bounds(psf, box)
        return cast(PointSpreadFunction, psf)

    def _deferred_psf(self) -> DeferredPiff | None:
        """Return the PSF to be made later.

        `None` if it is none of Piff's, or can't be found, which the property
        tells.
        """
        archive_id = self._component_id("PSF")
        try:
            archive = self._archive
            if archive is None or archive_id not in archive or archive.name(archive_id) != PIFF_NAME:
                return None
            data = piff_bytes(archive, archive.tables(archive_id), PIFF_NAME)
        except Exception as error:  # damage raises various things
            _LOG.debug("%s: PSF: %s", self.where, error)
            return None
        return DeferredPiff(self.where, data, self._optional("_detector_box"))

    @property
    def _frame(self) -> DetectorFrame:
        """Frame of the pixels."""
        number = _lookup(self._data_id, "detector")
        record = self._detector_record
        if record is not None:
            number = record.attributes.id
        return DetectorFrame(
            instrument=self._instrument,
            visit=self._visit,
            detector=-1 if number is None else int(number),
            bbox=self._detector_box,
        )

    @component
    def sky_projection(self) -> SkyProjection[DetectorFrame]:
        """Pixels to ICRS."""
        wcs = self._component("SKYWCS", SkyWcs)
        if wcs is not None:
            return wcs.to_sky_projection(self._frame)
        projection = header_projection(self._planes[1].where, self._image_header, self._frame, self.bbox)
        if projection is None:
            raise ComponentError(
                f"{self.where}: component 'wcs' is missing, in the archive and in the header"
            )
        return projection
