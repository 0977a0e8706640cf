# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Shapelet functions and mixtures of Gaussians (spec 05 §2, §3).

Coefficients belong to the HERMITE basis, orthonormal products of Hermite
functions in the coordinates in which the ellipse is the unit circle, packed
by total order and then by the order in x: (0,0); (0,1), (1,0); (0,2), ....
"""

from __future__ import annotations

__all__ = (
    "FLUX_FACTOR",
    "MAX_ORDER",
    "RadialMixture",
    "convolve_with_gaussian",
    "radial_mixture",
    "shapelet_basis",
    "shapelet_moments",
    "shapelet_size",
)

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

type FloatArray = npt.NDArray[np.float64]

FLUX_FACTOR = 2.0 * math.sqrt(math.pi)
"""Flux of a unit zeroth coefficient."""

MAX_ORDER = 2
"""Largest order of shapelets that are supported."""

# Orders in x and y of the packed coefficients, and the moments of the 1-d
# functions in units of (4 pi)^(1/4) (J_m of spec 05 §2.2).
_ORDERS = ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0))
_J = np.array([[1.0, 0.0, math.sqrt(0.5)], [0.0, math.sqrt(2.0), 0.0], [1.0, 0.0, 5.0 * math.sqrt(0.5)]])
_ROOT2 = math.sqrt(2.0)


class RadialMixture(NamedTuple):
    """A radial profile as a sum of Gaussians.

    The unit of radius is the half-light radius, the flux is 1.
    """

    amplitudes: FloatArray
    """Fluxes of the components, (K,)."""
    variances: FloatArray
    """Squared radii of the components, (K,)."""
    moments_factor: float
    """Second-moment radius of the profile in half-light radii."""


_MIXTURES: dict[tuple[str, int], tuple[tuple[float, float], ...]] = {
    ("lux", 3): (
        (0.033459119920004991, 0.037570672708708647),
        (0.31817194642479601, 0.27722263692563381),
        (0.64836893365519888, 1.2483197636843673),
    ),
    ("lux", 6): (
        (0.00019948545687663801, 0.0012007879450750007),
        (0.0026161244489197252, 0.0088452539528722698),
        (0.018972690901575429, 0.039146325060775741),
        (0.10018654117509906, 0.13997686821235952),
        (0.36853439929877851, 0.46096246054949025),
        (0.5094907587187506, 1.5015954880773934),
    ),
    ("luv", 8): (
        (0.0020183778173954261, 0.00022375926294028074),
        (0.011367886258145004, 0.0010022010934505137),
        (0.032471606505983762, 0.0041873097786331937),
        (0.07192874261669166, 0.01694324010074813),
        (0.13427209625725284, 0.068484909418847925),
        (0.21136244122683259, 0.28720625345899653),
        (0.27099987713751222, 1.3331981768264765),
        (0.26557897218018645, 8.4021301265645363),
    ),
}
_MOMENTS_FACTORS = {"lux": 0.95473, "luv": 1.57016}
_MAX_RADII = {"lux": 4, "luv": 8}


def radial_mixture(profile: str, components: int, max_radius: int = 0) -> RadialMixture:
    """Return the mixture of Gaussians that stands for a profile.

    Parameters
    ----------
    profile : `str`
        "lux", a softened exponential, or "luv", a softened de Vaucouleurs
        profile.
    components : `int`
        Number of Gaussians.
    max_radius : `int`, optional
        Radius up to which the profile was approximated; 0 for its default.

    Returns
    -------
    mixture : `RadialMixture`
        The mixture.

    Raises
    ------
    ValueError
        Raised if there is no such mixture.
    """
    if (profile, components) not in _MIXTURES or max_radius not in (0, _MAX_RADII[profile]):
        known = ", ".join(f"{name} with {k} (maxRadius {_MAX_RADII[name]})" for name, k in sorted(_MIXTURES))
        raise ValueError(
            f"There is no approximation of profileName={profile!r} by nComponents={components} Gaussians "
            f"with maxRadius={max_radius}; there are {known}."
        )
    table = np.array(_MIXTURES[profile, components])
    return RadialMixture(table[:, 0].copy(), table[:, 1].copy(), _MOMENTS_FACTORS[profile])


def shapelet_size(order: int) -> int:
    """Return the number of coefficients up to an order."""
    return (order + 1) * (order + 2) // 2


def shapelet_basis(u: npt.ArrayLike, v: npt.ArrayLike, order: int = MAX_ORDER) -> FloatArray:
    """Evaluate the basis functions.

    Parameters
    ----------
    u, v : `numpy.ndarray`
        Positions where the ellipse is the unit circle, shape (...).
    order : `int`, optional
        Largest total order.

    Returns
    -------
    basis : `numpy.ndarray`
        Functions in packed order, shape (..., size).
    """
    powers = []
    for value in (np.asarray(u, dtype=np.float64), np.asarray(v, dtype=np.float64)):
        h = [np.pi**-0.25 * np.exp(-0.5 * value**2)]
        h.append(_ROOT2 * value * h[0])
        for n in range(2, order + 1):
            h.append(math.sqrt(2 / n) * value * h[n - 1] - math.sqrt((n - 1) / n) * h[n - 2])
        powers.append(h)
    return np.stack(
        [powers[0][a] * powers[1][n - a] for n in range(order + 1) for a in range(n + 1)], axis=-1
    )


def shapelet_moments(
    ellipse: npt.ArrayLike, centre: npt.ArrayLike, coefficients: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Compute moments of sums of shapelet functions.

    Parameters
    ----------
    ellipse : `numpy.ndarray`
        Quadrupoles xx, yy, xy of the components in pixel², (..., K, 3).
    centre : `numpy.ndarray`
        Their centres in pixels, (..., K, 2).
    coefficients : `numpy.ndarray`
        Coefficients up to order 2, zero if absent, (..., K, 6).

    Returns
    -------
    quadrupole : `numpy.ndarray`
        Central second moments xx, yy, xy in pixel², (..., 3).
    centroid : `numpy.ndarray`
        Centroid in pixels, (..., 2).
    """
    ellipse, centre, coefficients = (np.asarray(v, dtype=np.float64) for v in (ellipse, centre, coefficients))
    m: dict[tuple[int, int], FloatArray] = {}
    for i, j in ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)):
        m[i, j] = coefficients @ np.array([_J[i, a] * _J[j, b] for a, b in _ORDERS])
    root = _matrix_root(ellipse)
    first = np.stack([m[1, 0], m[0, 1]], axis=-1)
    second = np.stack([np.stack([m[2, 0], m[1, 1]], axis=-1), np.stack([m[1, 1], m[0, 2]], axis=-1)], axis=-2)
    dipole = np.einsum("...ij,...j->...i", root, first)
    q0 = m[0, 0].sum(axis=-1)
    q1 = (dipole + m[0, 0][..., None] * centre).sum(axis=-2)
    mixed = dipole[..., :, None] * centre[..., None, :]
    q2 = (
        root @ second @ root
        + m[0, 0][..., None, None] * centre[..., :, None] * centre[..., None, :]
        + mixed
        + np.swapaxes(mixed, -1, -2)
    ).sum(axis=-3)
    with np.errstate(divide="ignore", invalid="ignore"):
        centroid = q1 / q0[..., None]
        q2 = q2 / q0[..., None, None] - centroid[..., :, None] * centroid[..., None, :]
    return np.stack([q2[..., 0, 0], q2[..., 1, 1], q2[..., 0, 1]], axis=-1), centroid


def convolve_with_gaussian(
    quadrupole: npt.ArrayLike, ellipse: npt.ArrayLike, coefficients: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Convolve shapelet functions with a Gaussian of unit coefficient.

    Parameters
    ----------
    quadrupole : `numpy.ndarray`
        Quadrupole xx, yy, xy of the Gaussian in pixel², (..., 3).
    ellipse, coefficients : `numpy.ndarray`
        Shapelet functions as in `shapelet_moments`, (..., 3) and (..., 6).

    Returns
    -------
    ellipse : `numpy.ndarray`
        Quadrupole of the result, (..., 3).
    coefficients : `numpy.ndarray`
        Its coefficients, (..., 6).

    Notes
    -----
    Spec 05 §2.3; the compiled code of CModel does the same.
    """
    ellipse, k = np.asarray(ellipse, dtype=np.float64), np.asarray(coefficients, dtype=np.float64)
    result = ellipse + np.asarray(quadrupole, dtype=np.float64)
    x = np.swapaxes(np.linalg.solve(_matrix_root(result), _matrix_root(ellipse)), -1, -2)
    xx, xy, yx, yy = x[..., 0, 0], x[..., 0, 1], x[..., 1, 0], x[..., 1, 1]
    k00, k01, k10, k02, k11, k20 = np.moveaxis(k, -1, 0)
    out = (
        k00
        - (xx**2 + xy**2 - 1) * k20 / _ROOT2
        - (xx * yx + xy * yy) * k11
        - (yx**2 + yy**2 - 1) * k02 / _ROOT2,
        yy * k01 + xy * k10,
        yx * k01 + xx * k10,
        xy**2 * k20 + _ROOT2 * xy * yy * k11 + yy**2 * k02,
        _ROOT2 * xx * xy * k20 + (xx * yy + xy * yx) * k11 + _ROOT2 * yx * yy * k02,
        xx**2 * k20 + _ROOT2 * xx * yx * k11 + yx**2 * k02,
    )
    return result, FLUX_FACTOR * np.stack(out, axis=-1)


def _matrix_root(quadrupole: FloatArray) -> FloatArray:
    """Return positive square roots of quadrupole matrices, (..., 2, 2)."""
    xx, yy, xy = np.moveaxis(quadrupole, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        s = np.sqrt(xx * yy - xy * xy)
        t = np.sqrt(xx + yy + 2 * s)
        return np.stack(
            [np.stack([(xx + s) / t, xy / t], axis=-1), np.stack([xy / t, (yy + s) / t], axis=-1)], axis=-2
        )
