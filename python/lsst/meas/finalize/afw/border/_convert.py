# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The two functions that convert objects of ``lsst.afw``."""

from __future__ import annotations

__all__ = ("as_ours", "from_afw", "psf_from_afw", "psf_to_afw", "to_afw")

import io
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from astropy.io import fits

from ...catalogs import ExposureCatalog, ExposureRecord, Schema, SourceCatalog
from ..catalogs import (
    read_exposure_catalog,
    read_source_catalog,
    write_exposure_catalog,
    write_source_catalog,
)
from ..exposure import ExposurePixels, PixelsInMemory
from ..fits import check_structure
from ._kinds import is_afw, kind_of
from ._memory import object_from_fits, object_to_fits

if TYPE_CHECKING:
    from lsst.images import VisitImage


def from_afw(obj: Any, *, data_id: Any = None) -> Any:
    """Convert an object of ``lsst.afw`` to ours.

    Parameters
    ----------
    obj : `lsst.afw.image.Exposure`, `lsst.afw.table.SourceCatalog` or \
            `lsst.afw.table.ExposureCatalog`
        The object; it is not modified.
    data_id
        Mapping that may have ``instrument``, ``visit``, ``detector``,
        ``band`` and ``physical_filter``, for what an exposure doesn't tell.

    Returns
    -------
    converted : `lsst.images.VisitImage`, \
            `~lsst.meas.finalize.catalogs.SourceCatalog` or \
            `~lsst.meas.finalize.catalogs.ExposureCatalog`
        The same as the file that ``writeFits`` makes would give.  Image and
        variance are read-only views of the pixels of ``obj``, unless they
        aren't float32, and the mask is a copy.

    Raises
    ------
    TypeError
        Raised if there is no conversion for the class of the object.
    FitsFormatError
        Raised if an exposure has no WCS, or if what was written isn't
        understood.

    See Also
    --------
    to_afw : The other direction.
    """
    if not is_afw(obj):
        found = type(obj)
        raise TypeError(f"A {found.__module__}.{found.__qualname__} isn't an object of lsst.afw.")
    kind = kind_of(obj)
    if kind == "exposure":
        return _exposure_from_afw(obj, data_id)
    if kind == "sources":
        return read_source_catalog(object_to_fits(obj))
    return read_exposure_catalog(object_to_fits(obj))


def as_ours[T](obj: T) -> T:
    """Convert an object if it is one of ``lsst.afw``.

    Parameters
    ----------
    obj
        Any object, as a butler of a stack or of this package returns it.

    Returns
    -------
    obj
        The object itself, or what `from_afw` makes of it.
    """
    return from_afw(obj) if is_afw(obj) else obj


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _exposure_from_afw(exposure: Any, data_id: Any) -> VisitImage:
    from lsst.afw.image import PARENT
    from lsst.geom import Box2I, Extent2I

    corner = exposure.getXY0()
    pixels = ExposurePixels(
        image=_read_only(exposure.image.array),
        mask=_read_only(exposure.mask.array),
        variance=_read_only(exposure.variance.array),
        # Numbers of planes are those of this process, not those of the file.
        mask_planes=dict(exposure.mask.getMaskPlaneDict()),
        x0=int(corner.getX()),
        y0=int(corner.getY()),
    )
    if not pixels.image.size:
        raise ValueError(f"The {type(exposure).__name__} has no pixels.")
    # All the components, and hardly any pixels to write.
    pixel = type(exposure)(exposure, Box2I(corner, Extent2I(1, 1)), PARENT, True)
    stream = object_to_fits(pixel)
    with fits.open(check_structure(stream, stream.name), lazy_load_hdus=True) as hdulist:
        return PixelsInMemory(hdulist, pixels, data_id).read()


def to_afw(obj: Any) -> Any:
    """Convert an image or a catalogue to that of ``lsst.afw``.

    Parameters
    ----------
    obj : `lsst.images.VisitImage`, \
            `~lsst.meas.finalize.catalogs.SourceCatalog` or \
            `~lsst.meas.finalize.catalogs.ExposureCatalog`
        The object; it is not modified.

    Returns
    -------
    converted : `lsst.afw.image.Exposure`, `lsst.afw.table.SourceCatalog` or \
            `lsst.afw.table.ExposureCatalog`
        For a catalogue the same as reading the file that it would be written
        to.  For an image, what `lsst.images.VisitImage.to_legacy` makes of
        it, pixels copied, with its PSF and aperture corrections as rows of a
        catalogue have them.

    Raises
    ------
    TypeError
        Raised if it is of another class.
    ValueError
        Raised if a catalogue, or the PSF or aperture corrections of an
        image, can't be stored.
    ImportError
        Raised if there is no ``lsst.afw``.

    See Also
    --------
    from_afw : The other direction.
    """
    stream = io.BytesIO()
    if isinstance(obj, SourceCatalog):
        from lsst.afw.table import SourceCatalog as AfwCatalog

        write_source_catalog(obj, stream)
    elif isinstance(obj, ExposureCatalog):
        from lsst.afw.table import ExposureCatalog as AfwCatalog

        write_exposure_catalog(obj, stream)
    else:
        return _exposure_to_afw(obj)
    return object_from_fits(AfwCatalog, stream.getvalue())


def _exposure_to_afw(image: Any) -> Any:
    from lsst.images import VisitImage
    from lsst.images.serialization import ArchiveReadError

    if not isinstance(image, VisitImage):
        found = type(image)
        raise TypeError(
            f"A {found.__module__}.{found.__qualname__} can't be converted to lsst.afw; a VisitImage, "
            "a SourceCatalog or an ExposureCatalog can."
        )
    try:
        psf = image.psf
    except ArchiveReadError:
        psf = None
    # First, since what can't be stored is told before pixels are copied.
    afw_psf, ap_corr_map = psf_to_afw(psf, image.aperture_corrections or None)
    exposure = image.to_legacy(copy=True)
    # Its own conversion leaves out the kinds of PSF that only files have.
    if afw_psf is not None:
        exposure.info.setPsf(afw_psf)
    if ap_corr_map is not None:
        exposure.info.setApCorrMap(ap_corr_map)
    return exposure


def psf_to_afw(psf: Any, ap_corr_map: Any) -> tuple[Any, Any]:
    """Convert a PSF and aperture corrections to those of ``lsst.afw``.

    Parameters
    ----------
    psf : `lsst.images.psfs.PointSpreadFunction` or `None`
        The PSF.
    ap_corr_map : `dict` or `None`
        Aperture corrections by name.

    Returns
    -------
    psf : `lsst.afw.detection.Psf` or `None`
        The PSF.
    ap_corr_map : `lsst.afw.image.ApCorrMap` or `None`
        Aperture corrections.
    """
    if psf is None and ap_corr_map is None:
        return None, None
    # The rows of these catalogues are what has a stored form.
    catalog = ExposureCatalog(Schema.exposure_minimal())
    catalog.append(ExposureRecord({"id": 0}, psf, ap_corr_map))
    row = to_afw(catalog)[0]
    return row.getPsf(), row.getApCorrMap()


def psf_from_afw(psf: Any, ap_corr_map: Any) -> tuple[Any, Any]:
    """Convert a PSF and aperture corrections of ``lsst.afw`` to ours.

    Parameters
    ----------
    psf : `lsst.afw.detection.Psf` or `None`
        The PSF.
    ap_corr_map : `lsst.afw.image.ApCorrMap` or `None`
        Aperture corrections.

    Returns
    -------
    psf : `lsst.images.psfs.PointSpreadFunction` or `None`
        The PSF.
    ap_corr_map : `dict` or `None`
        Aperture corrections by name.
    """
    from lsst.afw.table import ExposureCatalog as AfwCatalog
    from lsst.afw.table import ExposureTable

    catalog = AfwCatalog(ExposureTable.makeMinimalSchema())
    row = catalog.addNew()
    if psf is not None:
        row.setPsf(psf)
    if ap_corr_map is not None:
        row.setApCorrMap(ap_corr_map)
    converted = from_afw(catalog)[0]
    return converted.psf, converted.ap_corr_map
