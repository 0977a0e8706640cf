# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

"""Fitting a Piff model to stars, by Piff or by the structured solver."""

__all__ = ("fit", "fit_piff")

import copy
from collections.abc import Callable, Sequence
from typing import Any

import galsim
import piff
from piff.config import PiffLogger

type Fitter = Callable[
    [Sequence[piff.Star], dict[str, Any], galsim.BaseWCS, galsim.CelestialCoord | None, PiffLogger], piff.PSF
]


def fit_piff(
    stars: Sequence[piff.Star],
    piff_config: dict[str, Any],
    wcs: galsim.BaseWCS,
    pointing: galsim.CelestialCoord | None,
    logger: PiffLogger,
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
    psf = piff.PSF.process(copy.deepcopy(piff_config), logger=logger)
    wcs_map = {0: wcs}
    # Piff 1.7 moved the WCS out of fit().
    if hasattr(psf, "set_context"):
        psf.set_context(wcs_map, pointing)
        psf.fit(list(stars), logger=logger)
    else:
        psf.fit(list(stars), wcs_map, pointing, logger=logger)
    return psf


def fit(
    fitter: str,
    stars: Sequence[piff.Star],
    piff_config: dict[str, Any],
    wcs: galsim.BaseWCS,
    pointing: galsim.CelestialCoord | None,
    logger: PiffLogger,
) -> piff.PSF:
    """Fit with the solver of choice.

    Parameters
    ----------
    fitter
        "piff" or "structured".
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
    if fitter == "piff":
        function: Fitter = fit_piff
    elif fitter == "structured":
        from .structured import fit_structured

        function = fit_structured
    else:
        raise ValueError(f"Unknown PSF fitter {fitter!r}.")
    return function(stars, piff_config, wcs, pointing, logger)
