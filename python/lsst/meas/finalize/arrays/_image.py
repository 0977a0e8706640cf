# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Images of plain arrays."""

from __future__ import annotations

__all__ = ("make_image",)

from collections.abc import Mapping

import astropy.units as u
import astropy.wcs
import numpy as np
import numpy.typing as npt
from astro_metadata_translator import ObservationInfo

from lsst.images import (
    Box,
    Image,
    Mask,
    MaskSchema,
    SkyProjection,
    VisitImage,
    get_legacy_visit_image_mask_planes,
)
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import GaussianPointSpreadFunction

from ._camera import flat_detector

_STAMP = 25  # pixels


def make_image(
    image: npt.ArrayLike,
    variance: npt.ArrayLike,
    *,
    fwhm: float,
    masks: Mapping[str, npt.ArrayLike] | None = None,
    wcs: astropy.wcs.WCS | None = None,
    pixel_scale: float = 0.2,
    band: str = "r",
    visit: int = 1,
    detector: int = 0,
) -> VisitImage:
    """Make an image that the tasks of this package understand.

    Parameters
    ----------
    image
        Pixels with the background subtracted, shape (height, width), in
        electrons, each of which counts as a nJy.
    variance
        Their variance, a number or of the same shape; neither 0 nor infinite
        where pixels are to count.
    fwhm
        Full width at half maximum of stars in pixels; the preliminary PSF is
        a Gaussian of that width.
    masks
        Which pixels belong to a mask plane, by the names of
        `lsst.images` (``BAD``, ``SATURATED``, ``COSMIC_RAY``,
        ``NO_DATA``, …).
    wcs
        Pixels (from 0 in numpy's sense) to the sky; if not given, a
        gnomonic projection about (0, 0), north up.
    pixel_scale
        Size of a pixel in arcsec if there is no WCS, and for field angles.
    band
        Band.
    visit, detector
        What the image is to be called.

    Returns
    -------
    `lsst.images.VisitImage`
        The image; its pixels are copies.

    Raises
    ------
    ValueError
        Raised if shapes differ, if there is no mask plane of a name, or if
        width or pixel scale aren't positive.
    """
    pixels = np.array(image, dtype=np.float32)
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(f"An image has two dimensions, not the shape {pixels.shape}.")
    if not (0 < fwhm < np.inf and 0 < pixel_scale < np.inf):
        raise ValueError(f"fwhm={fwhm} and pixel_scale={pixel_scale} must be positive numbers.")
    box = Box.from_shape(pixels.shape)
    camera_detector = flat_detector(detector, pixels.shape, visit=visit, pixel_scale=pixel_scale)
    if wcs is None:
        wcs = _gnomonic(pixels.shape, pixel_scale)
    frame = camera_detector.frame
    return VisitImage(
        Image(pixels, unit=u.electron),
        mask=_make_mask(pixels.shape, masks or {}),
        variance=Image(_like(variance, pixels, "variance", np.float32), unit=u.electron**2),
        sky_projection=SkyProjection.from_fits_wcs(wcs, frame, pixel_bounds=frame.bbox),
        obs_info=_make_obs_info(visit, detector, band),
        photometric_scaling=ChebyshevField(box, np.ones((1, 1)), unit=u.nJy / u.electron),
        psf=GaussianPointSpreadFunction(fwhm / 2.355, bounds=box, stamp_size=_STAMP),
        detector=camera_detector,
        band=band,
    )


def _like(values: npt.ArrayLike, pixels: np.ndarray, name: str, dtype: type) -> np.ndarray:
    """Return a copy of values that has the shape of the image."""
    array: np.ndarray = np.asarray(values, dtype=dtype)
    if array.ndim and array.shape != pixels.shape:
        raise ValueError(f"{name} has the shape {array.shape}, the image {pixels.shape}.")
    return np.array(np.broadcast_to(array, pixels.shape))


def _make_mask(shape: tuple[int, int], masks: Mapping[str, npt.ArrayLike]) -> Mask:
    planes = get_legacy_visit_image_mask_planes().values()
    mask = Mask(0, schema=MaskSchema(planes), bbox=Box.from_shape(shape))
    names = [plane.name for plane in planes]
    for name, pixels in masks.items():
        if name not in names:
            raise ValueError(f"There is no mask plane {name!r}; there are {', '.join(sorted(names))}.")
        mask.set(name, _like(pixels, np.empty(shape), f"The mask {name}", bool))
    return mask


def _gnomonic(shape: tuple[int, int], pixel_scale: float) -> astropy.wcs.WCS:
    scale = (pixel_scale * u.arcsec).to_value(u.deg)
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cd = np.array([[-scale, 0.0], [0.0, scale]])
    wcs.wcs.radesys = "ICRS"
    return wcs


def _make_obs_info(visit: int, detector: int, band: str) -> ObservationInfo:
    return ObservationInfo(
        instrument="Arrays",
        physical_filter=band,
        visit_id=visit,
        exposure_id=visit,
        detector_num=detector,
    )
