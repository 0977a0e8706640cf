# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Fitting a Piff model to stars, by Piff or by the structured solver."""

from __future__ import annotations

__all__ = ("fit", "fit_piff")

import copy
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from lsst.utils.logging import LsstLoggers

if TYPE_CHECKING:
    import galsim
    import piff


def fit_piff(
    stars: Sequence[piff.Star],
    piff_config: dict[str, Any],
    wcs: galsim.BaseWCS,
    pointing: galsim.CelestialCoord | None,
    logger: LsstLoggers,
) -> piff.PSF:
    """Fit with Piff.

    Parameters
    ----------
    stars
        Stars with images.
    piff_config
        Configuration of the model, not modified.
    wcs
        WCS of the stars' images.
    pointing
        Origin of the tangent plane if the WCS is a celestial one.
    logger
        Logger for Piff.

    Returns
    -------
    `piff.PSF`
        Fitted model.
    """
    from .._piff import piff

    psf = piff.PSF.process(copy.deepcopy(piff_config), logger=logger)
    wcs_map = {0: wcs}
    # Piff 1.7 moved the WCS out of fit().
    if hasattr(psf, "set_context"):
        # Composite models have no default for the bandpass.
        psf.set_context(wcs_map, pointing, None)
        psf.fit(list(stars), logger=logger)
    else:
        psf.fit(list(stars), wcs_map, pointing, logger=logger)
    return psf


def _without_cpp_solver(piff_config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with another solver of the same equations.

    Piff's compiled solver ends the process (SIGFPE) on just those systems that
    are left to Piff for being singular.
    """
    interp = piff_config.get("interp", {})
    if interp.get("solver") != "cpp":
        return piff_config
    return {**piff_config, "interp": {**interp, "solver": "scipy"}}


def fit(
    fitter: str,
    stars: Sequence[piff.Star],
    piff_config: dict[str, Any],
    wcs: galsim.BaseWCS,
    pointing: galsim.CelestialCoord | None,
    logger: LsstLoggers,
) -> piff.PSF:
    """Fit with the solver of choice.

    Parameters
    ----------
    fitter
        "piff" or "structured"; the latter leaves models it doesn't know to
        Piff.
    stars, piff_config, wcs, pointing, logger
        See `fit_piff`.

    Returns
    -------
    `piff.PSF`
        Fitted model.

    Raises
    ------
    ValueError
        Raised for an unknown fitter.
    """
    if fitter == "structured":
        from .structured import fit_structured

        # The adapter has all methods of a logger, but isn't one.
        psf = fit_structured(stars, piff_config, {0: wcs}, pointing, logger=cast(logging.Logger, logger))
        if psf is not None:
            return psf
        piff_config = _without_cpp_solver(piff_config)
    elif fitter != "piff":
        raise ValueError(f"Unknown PSF fitter {fitter!r}.")
    return fit_piff(stars, piff_config, wcs, pointing, logger)
