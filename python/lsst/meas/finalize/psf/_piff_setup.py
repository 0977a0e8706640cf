# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What Piff is given: coordinates, stars and its configuration."""

from __future__ import annotations

__all__ = (
    "Coordinates",
    "count_distinct",
    "make_coordinates",
    "make_piff_config",
    "make_piff_stars",
    "minimum_stars",
    "model_scale",
    "pixel_scale",
)

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml

from .._sphere import unit_vectors

if TYPE_CHECKING:
    import galsim
    import piff

    from lsst.images import VisitImage

    from ..catalogs import StampSet
    from ._config import PiffPsfDeterminerConfig


@dataclass(frozen=True)
class Coordinates:
    """The coordinates a PSF model lives in.

    Parameters
    ----------
    wcs
        GalSim WCS from PARENT pixels to the model's field coordinates or to
        the sky.
    pointing
        Origin of the tangent plane if the WCS is a celestial one.
    keys
        Names of the coordinates the model is a polynomial of.
    scale
        Pixel scale at the centre of the image in arcsec.
    """

    wcs: galsim.BaseWCS
    pointing: galsim.CelestialCoord | None
    keys: tuple[str, str]
    scale: float


def pixel_scale(exposure: VisitImage) -> float:
    """Return the pixel scale at the centre of an image.

    Parameters
    ----------
    exposure
        Image with a sky projection.

    Returns
    -------
    float
        Square root of the area of the parallelogram spanned by one step in x
        and one in y, in arcsec (spec 01 §5.3).

    Raises
    ------
    ValueError
        Raised if the image has no sky projection, or no scale at its centre.
    """
    projection = exposure.sky_projection
    if projection is None:
        raise ValueError("The exposure has no WCS; the PSF model needs a pixel scale.")
    box = exposure.bbox
    x0, y0 = 0.5 * (box.x.min + box.x.max), 0.5 * (box.y.min + box.y.max)
    sky = projection.pixel_to_sky_transform.apply_forward(
        x=np.array([x0, x0 + 1.0, x0]), y=np.array([y0, y0, y0 + 1.0])
    )
    ra, dec = np.asarray(sky.x), np.asarray(sky.y)
    v0, v1, v2 = unit_vectors(ra, dec)
    area = np.linalg.norm(np.cross(v1 - v0, v2 - v0))
    scale = math.degrees(math.sqrt(area)) * 3600.0
    if not (math.isfinite(scale) and scale > 0.0):
        raise ValueError(f"The WCS gives a pixel scale of {scale} arcsec at ({x0}, {y0}).")
    return scale


def make_coordinates(exposure: VisitImage, mode: str) -> Coordinates:
    """Set up the coordinates of a PSF model.

    Parameters
    ----------
    exposure
        Image with a sky projection; with a detector for field angles.
    mode
        One of "pixel", "field" and "sky".

    Returns
    -------
    Coordinates
        What Piff needs to know.

    Raises
    ------
    ValueError
        Raised for an unknown mode, or if the image lacks what the mode needs.
    """
    import galsim

    scale = pixel_scale(exposure)
    if mode == "pixel":
        return Coordinates(galsim.PixelScale(scale), None, ("x", "y"), scale)
    from ..afw.piff import celestial_wrapper, sky_origin, uv_wrapper

    if mode == "field":
        return Coordinates(uv_wrapper(exposure), None, ("u", "v"), scale)
    if mode == "sky":
        return Coordinates(celestial_wrapper(exposure), sky_origin(exposure), ("u", "v"), scale)
    raise ValueError(f"Unknown PSF coordinates {mode!r}.")


def make_piff_stars(
    stamps: StampSet,
    weights: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    ids: npt.NDArray[np.int64],
    colors: npt.NDArray[np.float64],
    color_types: npt.NDArray[np.str_],
    coordinates: Coordinates,
) -> list[piff.Star]:
    """Make Piff's star objects.

    Parameters
    ----------
    stamps
        Images of N stars.
    weights
        Pixel weights, shape (N, h, w).
    x, y
        Centroids in PARENT pixels, shape (N,).
    ids
        Identifiers, kept as property ``starId``.
    colors, color_types
        Properties ``colorValue`` and ``colorType``.
    coordinates
        Coordinates of the model.

    Returns
    -------
    `list` [`piff.Star`]
        Stars without a fit.
    """
    import galsim

    from .._piff import piff

    height, width = stamps.image.shape[1:]
    images, weights = (np.array(values, dtype=np.float64) for values in (stamps.image, weights))
    stars = []
    # Piff takes a list of objects.
    for i in range(len(stamps)):
        x0, y0 = int(stamps.x0[i]), int(stamps.y0[i])
        bounds = galsim.BoundsI(x0, x0 + width - 1, y0, y0 + height - 1)
        # Without the checks of galsim.Image, for which these arrays are made.
        data = piff.StarData(
            galsim._Image(images[i], bounds, coordinates.wcs),
            galsim.PositionD(float(x[i]), float(y[i])),
            weight=galsim._Image(weights[i], bounds, coordinates.wcs),
            pointing=coordinates.pointing,
        )
        data.properties["starId"] = int(ids[i])
        data.properties["colorValue"] = float(colors[i])
        data.properties["colorType"] = str(color_types[i])
        stars.append(piff.Star(data, None))
    return stars


def model_scale(scale: float, sampling_size: float, model_size: int, stamp_size: int) -> float:
    """Return the scale of the PixelGrid, safe against Piff's size check.

    Parameters
    ----------
    scale
        Pixel scale in arcsec.
    sampling_size
        Model pixel in image pixels.
    model_size, stamp_size
        Size of the model in model pixels, of stamps in image pixels.

    Returns
    -------
    float
        Scale of a model pixel in arcsec.

    Notes
    -----
    Piff (≥ 1.6) refuses stamps smaller than ``size * model_scale /
    image_scale`` pixels.  For equal sizes this quotient exceeds the stamp by
    rounding for some 8 % of scales; one ulp less avoids that (spec 01 §5.3).
    """
    result = scale * sampling_size
    if model_size * sampling_size > stamp_size:
        return result
    while model_size * result / scale > stamp_size:
        result = float(np.nextafter(result, 0.0))
    return result


def make_piff_config(
    config: PiffPsfDeterminerConfig, coordinates: Coordinates, band: str | None, stamp_size: int
) -> dict[str, Any]:
    """Make the configuration of the Piff model.

    Parameters
    ----------
    config
        Configuration of the determiner.
    coordinates
        Coordinates of the model.
    band
        Band of the exposure.
    stamp_size
        Size of stars' stamps in pixels.

    Returns
    -------
    dict
        What `piff.PSF.process` takes.

    Raises
    ------
    ValueError
        Raised if ``piffPsfConfigYaml`` isn't a YAML mapping, or if its
        ``interp`` isn't one or has an order that is no number.
    """
    text: str | None = config.piffPsfConfigYaml
    if text is not None:
        try:
            parsed = yaml.safe_load(text)
        except yaml.YAMLError as err:
            raise ValueError(f"piffPsfConfigYaml is not valid YAML: {err}") from err
        if not isinstance(parsed, dict):
            raise ValueError(f"piffPsfConfigYaml must be a YAML mapping, not {type(parsed).__name__}.")
        _check_interp(parsed.get("interp", {}))
        return parsed
    order = config.spatialOrder if band is None else config.spatialOrderPerBand.get(band, config.spatialOrder)
    orders, keys = [order, order], list(coordinates.keys)
    if config.useColor:
        orders.append(config.colorOrder)
        keys.append("colorValue")
    return {
        "type": "Simple",
        "model": {
            "type": "PixelGrid",
            "scale": model_scale(coordinates.scale, config.samplingSize, config.modelSize, stamp_size),
            "size": config.modelSize,
            "interp": _interpolant_expression(config.interpolant),
            "centered": config.piffPixelGridFitCenter,
        },
        "interp": {
            "type": "BasisPolynomial",
            "order": orders,
            "keys": keys,
            "solver": config.piffBasisPolynomialSolver,
        },
        "outliers": {
            "type": "Chisq",
            "nsigma": config.outlierNSigma,
            "max_remove": _max_remove(config.outlierMaxRemove),
        },
        "max_iter": config.piffMaxIter,
    }


def _interpolant_expression(name: str) -> str:
    """Return what Piff evaluates to an interpolant; a bare name would be a
    class.
    """
    return name if name.endswith(")") else f"{name}()"


def _max_remove(value: float) -> float | int:
    """Return a number of stars as the integer that Piff needs."""
    return int(value) if value >= 1.0 else value


def _check_interp(interp: Any) -> None:
    """Check what `minimum_stars` has to know of a user's configuration."""
    if not isinstance(interp, dict):
        raise ValueError(f"interp in piffPsfConfigYaml must be a mapping, not {type(interp).__name__}.")
    order = interp.get("order", 0)
    orders = order if isinstance(order, list) else [order]
    if not orders or any(isinstance(o, bool) or not isinstance(o, int) or o < 0 for o in orders):
        raise ValueError(
            f"interp.order in piffPsfConfigYaml must be one or several non-negative integers, not {order!r}."
        )


def minimum_stars(piff_config: dict[str, Any]) -> tuple[int, int]:
    """Return how many stars a model needs.

    Parameters
    ----------
    piff_config
        Configuration of the Piff model.

    Returns
    -------
    minimum : `int`
        Number of stars needed; 0 if the interpolation isn't a polynomial.
    dimensions : `int`
        Number of coordinates of the polynomial.

    Notes
    -----
    Terms of a triangular polynomial of two coordinates, plus the order of
    the third one (spec 01 §5.3; for colour this is a lower limit).
    """
    interp = piff_config.get("interp", {})
    if interp.get("type") not in ("BasisPolynomial", "Polynomial"):
        return 0, 0
    keys = interp.get("keys", ("u", "v"))
    order = interp.get("order", 0)
    orders = list(order) if isinstance(order, list | tuple) else [order] * len(keys)
    minimum = (orders[0] + 1) * (orders[0] + 2) // 2
    if len(orders) == 3:
        minimum += orders[2]
    return minimum, len(orders)


def count_distinct(values: npt.NDArray[np.float64], tolerance: float) -> int:
    """Count values that differ.

    Parameters
    ----------
    values
        Finite numbers, shape (N,).
    tolerance
        Values closer to the next smaller one than this don't count.

    Returns
    -------
    int
        Number of groups of values.
    """
    if len(values) == 0:
        return 0
    return 1 + int(np.count_nonzero(np.diff(np.sort(values)) > tolerance))
