# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Priors on ellipticity and size of galaxies (spec 05 §6.9)."""

from __future__ import annotations

__all__ = ("EMPIRICAL", "LINEAR", "NO_PRIOR", "pack_prior")

import math

import numpy as np
import numpy.typing as npt

from ._config import CModelStageConfig, SemiEmpiricalPriorConfig, SoftenedLinearPriorConfig

NO_PRIOR = 0
EMPIRICAL = 1
LINEAR = 2

# Upstream integrates the ramp from monomials of order 1e11: what is left of
# the digits for the default limits.
_NOISY_RAMP = {(-6.001, -6.0): 1.398e-4}


def pack_prior(config: CModelStageConfig) -> tuple[int, npt.NDArray[np.float64]]:
    """Return a stage's prior as the compiled code wants it.

    Parameters
    ----------
    config : `CModelStageConfig`
        Options of the stage.

    Returns
    -------
    kind : `int`
        Which prior.
    values : `numpy.ndarray`
        Its parameters and norm, float64.

    Raises
    ------
    ValueError
        Raised if limits are not in order.
    """
    if config.priorSource == "EMPIRICAL":
        return EMPIRICAL, _pack_empirical(config.empiricalPriorConfig)
    if config.priorSource == "LINEAR":
        return LINEAR, _pack_linear(config.linearPriorConfig)
    return NO_PRIOR, np.zeros(1)


def _check_order(**limits: float) -> None:
    values = list(limits.values())
    if not all(low < high for low, high in zip(values[:-1], values[1:], strict=True)):
        raise ValueError(f"Limits of a CModel prior must increase: {limits}.")


def _pack_empirical(c: SemiEmpiricalPriorConfig) -> npt.NDArray[np.float64]:
    """Parameters and norms of the semi-empirical prior."""
    _check_order(
        logRadiusMinOuter=c.logRadiusMinOuter,
        logRadiusMinInner=c.logRadiusMinInner,
        logRadiusMu=c.logRadiusMu,
    )
    sigma, core, nu = c.ellipticitySigma, c.ellipticityCore, c.logRadiusNu
    _check_order(zero=0.0, ellipticityCore=core)
    _check_order(zero=0.0, ellipticitySigma=sigma)
    _check_order(zero=0.0, logRadiusSigma=c.logRadiusSigma)
    _check_order(zero=0.0, logRadiusNu=nu)
    gammas = math.exp(math.lgamma(nu / 2) - math.lgamma((nu + 1) / 2))
    integral = (
        0.5 * (c.logRadiusMinInner - c.logRadiusMinOuter)
        + (c.logRadiusMu - c.logRadiusMinInner)
        + 0.5 * math.sqrt(math.pi * nu) * gammas * c.logRadiusSigma
        + _NOISY_RAMP.get((c.logRadiusMinOuter, c.logRadiusMinInner), 0.0)
    )
    norm = math.exp(core / sigma) / ((sigma + core) * sigma) / (2 * math.pi) / integral
    return np.array(
        [
            norm,
            sigma,
            core,
            c.logRadiusMinOuter,
            c.logRadiusMinInner,
            c.logRadiusMu,
            c.logRadiusSigma,
            nu,
        ]
    )


def _pack_linear(c: SoftenedLinearPriorConfig) -> npt.NDArray[np.float64]:
    """Parameters and norms of the softened linear prior."""
    _check_order(
        logRadiusMinOuter=c.logRadiusMinOuter,
        logRadiusMinInner=c.logRadiusMinInner,
        logRadiusMaxInner=c.logRadiusMaxInner,
        logRadiusMaxOuter=c.logRadiusMaxOuter,
    )
    _check_order(
        zero=0.0, ellipticityMaxInner=c.ellipticityMaxInner, ellipticityMaxOuter=c.ellipticityMaxOuter
    )
    inner, ramp = c.ellipticityMaxInner, c.ellipticityMaxOuter - c.ellipticityMaxInner
    plane = 2 * math.pi * (0.5 * inner**2 + ramp * (0.5 * inner + 0.15 * ramp))
    ratio = c.logRadiusMinMaxRatio
    span = c.logRadiusMaxInner - c.logRadiusMinInner
    slope = (1 - ratio) / span
    low, high = c.logRadiusMinInner - c.logRadiusMinOuter, c.logRadiusMaxOuter - c.logRadiusMaxInner
    # Cubics a t² + b t³ with value and slope of the line at the inner edge.
    low_cubic = 3 * ratio - slope * low, slope * low - 2 * ratio
    high_cubic = 3 + slope * high, -slope * high - 2
    integral = (
        0.5 * (1 + ratio) * span
        + low * (low_cubic[0] / 3 + low_cubic[1] / 4)
        + high * (high_cubic[0] / 3 + high_cubic[1] / 4)
    )
    return np.array(
        [
            1.0 / (plane * integral),
            c.ellipticityMaxInner,
            c.ellipticityMaxOuter,
            c.logRadiusMinOuter,
            c.logRadiusMinInner,
            c.logRadiusMaxInner,
            c.logRadiusMaxOuter,
            ratio,
            slope,
            *low_cubic,
            *high_cubic,
        ]
    )
