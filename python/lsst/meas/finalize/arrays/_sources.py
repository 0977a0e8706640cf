# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Sources of an image, measured as in single-visit calibration."""

from __future__ import annotations

__all__ = ("find_sources", "measure_sources", "sky_positions")

import numpy as np
import numpy.typing as npt

from lsst.images import VisitImage

from ..catalogs import Schema, SourceCatalog
from ..measure import SingleFrameMeasurementConfig, SingleFrameMeasurementTask
from ..psf import as_batch_psf
from ._detect import Detections, detect

_PLUGINS = (
    "base_SdssCentroid",
    "ext_shapeHSM_HsmSourceMoments",
    "ext_shapeHSM_HsmPsfMoments",
    "base_PixelFlags",
    "base_PsfFlux",
    "base_GaussianFlux",
    "base_CircularApertureFlux",
    "base_CompensatedTophatFlux",
)
_CALIB_FLUX = "base_NormalizedCompensatedTophatFlux"
_TOPHAT = "base_CompensatedTophatFlux_12"
_APERTURE = "base_CircularApertureFlux_12_0"


def _make_config() -> SingleFrameMeasurementConfig:
    config = SingleFrameMeasurementConfig()
    config.plugins.names = _PLUGINS
    config.plugins["base_CircularApertureFlux"].radii = [12.0]
    config.plugins["base_CircularApertureFlux"].maxSincRadius = 12.0
    config.slots.shape = "ext_shapeHSM_HsmSourceMoments"
    config.slots.psfShape = "ext_shapeHSM_HsmPsfMoments"
    config.slots.apFlux = _APERTURE
    config.slots.modelFlux = "base_GaussianFlux"
    config.slots.calibFlux = None
    return config


def find_sources(image: VisitImage, *, first_id: int = 0) -> SourceCatalog:
    """Find sources on an image, split blends, and measure them.

    Parameters
    ----------
    image
        The image; its mask plane ``DETECTED`` is set.
    first_id
        Identifiers count from the number after this.

    Returns
    -------
    `SourceCatalog`
        See `measure_sources`.

    Raises
    ------
    ValueError
        Raised if no pixel has a finite value and a positive, finite variance.
    """
    values, variance = image.image.array, image.variance.array
    usable = np.isfinite(values) & (variance > 0) & np.isfinite(variance) & ~image.mask.get("NO_DATA")
    if not usable.any():
        raise ValueError("No pixel of the image has a finite value and a positive, finite variance.")
    box = image.bbox
    center = np.array([(box.x.min + box.x.max) / 2]), np.array([(box.y.min + box.y.max) / 2])
    xx, yy, xy = as_batch_psf(image.psf).compute_shapes(*center)[0]
    found = detect(np.where(usable, values, 0), variance, float((xx * yy - xy**2) ** 0.25), usable)
    image.mask.set("DETECTED", found.detected)
    return measure_sources(image, found, first_id=first_id)


def measure_sources(calexp: VisitImage, found: Detections, *, first_id: int) -> SourceCatalog:
    """Measure detected sources as single-visit calibration does.

    Parameters
    ----------
    calexp
        The image.
    found
        Detected sources.
    first_id
        Identifiers count from the number after this.

    Returns
    -------
    `SourceCatalog`
        Sources with the columns, slots and footprints that final
        characterisation needs (spec 01 §7.1).
    """
    schema = Schema.source_minimal()
    for name in ("candidate", "used", "reserved"):
        schema.add_flag(f"calib_psf_{name}", "set by final characterization")
    schema.add_field("deblend_nChild", "I", doc="Number of children this object has (defaults to 0)")
    task = SingleFrameMeasurementTask(config=_make_config(), schema=schema)
    for suffix, doc in (("instFlux", "normalized flux"), ("instFluxErr", "1-sigma uncertainty")):
        schema.add_field(f"{_CALIB_FLUX}_{suffix}", "D", doc=doc, unit="count")
    schema.add_flag(f"{_CALIB_FLUX}_flag", "General Failure Flag")
    schema.set_alias("slot_CalibFlux", _CALIB_FLUX)

    src = SourceCatalog(schema, len(found.footprints), footprints=found.footprints)
    src["id"] = first_id + 1 + np.arange(len(src))
    src["parent"] = np.where(found.parent >= 0, src["id"][found.parent], 0)
    src["deblend_nChild"] = found.n_children
    task.run(src, calexp, psf=as_batch_psf(calexp.psf))
    _normalise_calib_flux(src)
    src["coord_ra"], src["coord_dec"] = sky_positions(calexp, src["slot_Centroid_x"], src["slot_Centroid_y"])
    return src


def sky_positions(
    image: VisitImage, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return where pixels are in the sky, in radians.

    Parameters
    ----------
    image
        Image with a sky projection.
    x, y
        Pixel positions [N]; N may be 0.
    """
    # AST takes no empty arrays.
    if not len(x):
        return np.zeros(0), np.zeros(0)
    sky = image.sky_projection.pixel_to_sky(x=x, y=y)
    return sky.ra.rad, sky.dec.rad


def _normalise_calib_flux(src: SourceCatalog) -> None:
    """Scale the compensated top-hat flux to the aperture flux."""
    flux, error = src[f"{_TOPHAT}_instFlux"], src[f"{_TOPHAT}_instFluxErr"]
    good = ~src[f"{_TOPHAT}_flag"] & ~src[f"{_APERTURE}_flag"] & (flux > 200 * error)
    scale = np.median(src[f"{_APERTURE}_instFlux"][good] / flux[good]) if good.any() else 1.0
    src[f"{_CALIB_FLUX}_instFlux"] = scale * flux
    src[f"{_CALIB_FLUX}_instFluxErr"] = scale * error
    src[f"{_CALIB_FLUX}_flag"] = src[f"{_TOPHAT}_flag"]
