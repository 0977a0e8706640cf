# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What Piff's own objects say about a fit before it starts."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._interpolant import grid_weights
from ._stars import NotCoveredError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import piff

    from ._stars import StarArrays

__all__ = ("basis_terms", "check_covered", "count_unknowns", "initial_profile", "make_psf")

_FIRST_SIGMA = 5.0
"""Width, in pixels, that GalSim's adaptive moments start from."""


def _for_piff(logger: logging.Logger) -> logging.Logger | None:
    """Return the logger if it has the level Piff adds to Python's."""
    return logger if hasattr(logger, "verbose") else None


def make_psf(config: Mapping[str, Any], logger: logging.Logger) -> piff.PSF:
    """Build the unfitted Piff PSF.

    Parameters
    ----------
    config
        Piff's configuration of the PSF.
    logger
        Given to Piff.

    Returns
    -------
    psf
        A PSF without a solution.
    """
    from ..._piff import piff

    return piff.PSF.process(copy.deepcopy(dict(config)), logger=_for_piff(logger))


def check_covered(psf: piff.PSF) -> None:
    """Check that the structured fit knows a kind of PSF.

    Parameters
    ----------
    psf
        PSF without a solution.

    Raises
    ------
    NotCoveredError
        Raised if the configuration asks for something else than PixelGrid,
        BasisPolynomial and chi-square outliers.
    """
    import galsim

    from ..._piff import piff

    if type(psf) is not piff.SimplePSF:
        raise NotCoveredError(f"PSF type is {type(psf).__name__}")
    if not hasattr(psf, "set_context"):
        raise NotCoveredError(f"Piff {piff.__version__} is older than 1.7")
    model, interp = psf.model, psf.interp
    if type(model) is not piff.PixelGrid:
        raise NotCoveredError(f"model is {type(model).__name__}")
    if type(interp) is not piff.BasisPolynomial:
        raise NotCoveredError(f"interpolation is {type(interp).__name__}")
    if model._fit_flux or model._init not in (None, "hsm", "delta"):
        raise NotCoveredError("the model fits the flux itself")
    for outliers in psf.outliers or ():
        if type(outliers) is not piff.ChisqOutliers:
            raise NotCoveredError(f"outlier rejection is {type(outliers).__name__}")
        if outliers.max_remove is not None and outliers.max_remove <= 0:
            raise NotCoveredError(f"at most {outliers.max_remove} outliers may be removed")
    if isinstance(model.interp, galsim.Nearest) and model._centered:
        raise NotCoveredError("a nearest-pixel model has no derivative to center with")
    if not (np.isfinite(model.scale) and model.scale > 0.0):
        raise NotCoveredError(f"model scale is {model.scale}")
    if psf.max_iter < 1:
        raise NotCoveredError(f"at most {psf.max_iter} iterations")
    grid_weights(model.interp)


def count_unknowns(psf: piff.PSF) -> int:
    """Return the size of the systems that Piff would solve for a PSF.

    Parameters
    ----------
    psf
        PSF without a solution.

    Returns
    -------
    unknowns
        Largest one of the components; 0 for models that aren't polynomials
        of many parameters solved for all stars at once.
    """
    from ..._piff import piff

    components = getattr(psf, "components", None)
    if components:
        return max(count_unknowns(part) for part in components)
    model, interp = getattr(psf, "model", None), getattr(psf, "interp", None)
    if not (isinstance(model, piff.PixelGrid) and isinstance(interp, piff.BasisPolynomial)):
        return 0
    return int(model.size**2 * np.count_nonzero(interp._mask))


def basis_terms(interp: piff.BasisPolynomial, stars: Sequence[piff.Star]) -> npt.NDArray[np.float64]:
    """Evaluate the polynomial terms at the stars.

    Parameters
    ----------
    interp
        Defines the terms, and the star properties they are made of.
    stars
        The stars.

    Returns
    -------
    terms
        Array [N, K], in Piff's order.

    Raises
    ------
    NotCoveredError
        Raised if a property is missing, or not a finite number.
    """
    try:
        values = np.array([[s.data[key] for key in interp._keys] for s in stars], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise NotCoveredError(f"a star lacks an interpolation property ({error})") from error
    if not np.isfinite(values).all():
        raise NotCoveredError(f"a value of the interpolation properties {interp._keys} isn't finite")
    product = np.ones((len(stars),) + (1,) * values.shape[1])
    # One pass per polynomial variable, not per star.
    for axis, order in enumerate(interp._orders):
        powers = np.cumprod(np.column_stack([np.ones(len(stars)), *[values[:, axis]] * int(order)]), axis=1)
        shape = [len(stars)] + [1] * values.shape[1]
        shape[axis + 1] = int(order) + 1
        product = product * powers.reshape(shape)
    return product[:, interp._mask]


def initial_profile(
    psf: piff.SimplePSF, stars: Sequence[piff.Star], arrays: StarArrays, logger: logging.Logger
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], int]:
    """Average the model's first guesses for the stars.

    Parameters
    ----------
    psf
        The PSF.
    stars
        The stars.
    arrays
        Their pixels.
    logger
        Told of failures.

    Returns
    -------
    profile
        Mean parameters [n*n].
    flagged
        Stars flagged before or now [N].
    removed
        Number of failures.

    Raises
    ------
    RuntimeError
        Raised, with Piff's text, if no star is left.
    """
    flagged = np.array([bool(s.is_flagged) for s in stars])
    sigma = np.zeros(len(stars)) if psf.model._init == "delta" else _widths(arrays)
    removed = 0
    # Piff refuses stars one at a time.
    for i, star in enumerate(stars):
        try:
            _check_size(psf.model, star, logger)
            if np.isnan(sigma[i]):
                sigma[i] = star.hsm[3]
        except Exception as error:
            logger.warning("Failed initializing star at %s. Excluding it.", star.image_pos)
            logger.warning("  -- Caught exception: %s", error)
            removed += 1
            flagged[i] = True
    if flagged.all():
        raise RuntimeError("All stars are flagged.  Cannot initialize BasisPolynomial.")
    axis = (np.arange(psf.model.size) - psf.model.size // 2) * psf.model.scale
    # A delta function is the limit of no width.
    with np.errstate(divide="ignore", invalid="ignore"):
        one_dim = np.where(axis == 0.0, 1.0, np.exp(-0.5 * (axis / sigma[~flagged, np.newaxis]) ** 2))
    one_dim /= one_dim.sum(axis=1, keepdims=True)
    profile = (one_dim.T @ one_dim) / len(one_dim)
    return profile.ravel(), flagged, removed


def _widths(arrays: StarArrays) -> npt.NDArray[np.float64]:
    """Return the stars' widths in (u, v) by adaptive moments, as Piff has
    them of GalSim; NaN for those that can't be measured.
    """
    from ...measure import hsm_moments

    count, height, width = arrays.image.shape
    x, y, first = (np.full(count, v) for v in (0.5 * (width - 1), 0.5 * (height - 1), _FIRST_SIGMA))
    moments = hsm_moments(arrays.image, x, y, first, good=arrays.weight != 0.0)
    sigma = np.where(moments.ok, moments.sigma.astype(np.float64), np.nan)
    return sigma * np.sqrt(arrays.pixel_area)


def _check_size(model: piff.PixelGrid, star: piff.Star, logger: logging.Logger) -> None:
    """Refuse stamps as Piff does."""
    least = model.size * model.scale / star.image.wcs.maxLinearScale(star.image.center)
    height, width = star.image.array.shape
    if max(width, height) < least:
        logger.warning(
            "Image size (%s,%s) is too small to constrain this PixelGrid. "
            "Minimum size required for this grid is %s pixels.",
            width,
            height,
            least,
        )
        raise RuntimeError("Star's image is too small.")
