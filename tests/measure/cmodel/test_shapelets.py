# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Shapelets and mixtures of Gaussians against formulae and GalSim."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from lsst.meas.finalize.measure.cmodel._model_numba import ellipse_to_pixels, model_column
from lsst.meas.finalize.measure.cmodel._region import parameters_from_quadrupole
from lsst.meas.finalize.measure.cmodel._shapelets import (
    FLUX_FACTOR,
    convolve_with_gaussian,
    radial_mixture,
    shapelet_basis,
    shapelet_moments,
    shapelet_size,
)

# PSF "T" of spec 05 §8.
ELLIPSE = np.array([[2.1, 1.7, 0.3], [7.0, 6.0, -0.5]])
CENTRE = np.array([[0.1, -0.2], [0.1, -0.2]])
COEFFICIENTS = np.array([[0.3, 0.02, -0.03, 0.015, 0.01, -0.02], [0.05, 0.01, -0.004, 0.0, 0.0, 0.0]])


def _grid(half: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(-half, half + step / 2, step)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _evaluate(
    x: np.ndarray, y: np.ndarray, ellipse: np.ndarray, centre: np.ndarray, k: np.ndarray
) -> np.ndarray:
    """Sum shapelet functions, with a matrix root from NumPy."""
    total = np.zeros(np.shape(x))
    for (xx, yy, xy), c, coefficients in zip(ellipse, centre, k, strict=True):
        values, vectors = np.linalg.eigh(np.array([[xx, xy], [xy, yy]]))
        inverse = vectors @ np.diag(values**-0.5) @ vectors.T
        u, v = np.einsum("ij,j...->i...", inverse, np.stack([x - c[0], y - c[1]]))
        total = total + np.linalg.det(inverse) * (shapelet_basis(u, v) @ coefficients)
    return total


def test_basis() -> None:
    """Values of the specification; orthonormal."""
    expected = [
        0.475986901529408,
        -0.3365735658274178,
        0.20194413949645068,
        -0.1682867829137089,
        -0.1427960704588224,
        -0.27599032397848267,
    ]
    np.testing.assert_allclose(shapelet_basis(0.3, -0.5), expected, rtol=1e-14)
    assert len(expected) == shapelet_size(2)
    x, y = _grid(8.0, 0.1)
    basis = shapelet_basis(x, y, order=4).reshape(-1, shapelet_size(4))
    # The trapezoidal rule is exact to rounding for such functions.
    np.testing.assert_allclose(0.01 * basis.T @ basis, np.eye(shapelet_size(4)), atol=1e-12)


def test_moments() -> None:
    """Moments are those of numerical integrals."""
    quadrupole, centroid = shapelet_moments(ELLIPSE, CENTRE, COEFFICIENTS)
    np.testing.assert_allclose(quadrupole, [2.439609047659838, 2.504002865894654, 0.3270043599818595])
    np.testing.assert_allclose(centroid, [-0.11520137819144406, -0.00581270797781923])
    x, y = _grid(30.0, 0.2)
    values = _evaluate(x, y, ELLIPSE, CENTRE, COEFFICIENTS)
    weights = values / values.sum()
    cx, cy = (weights * x).sum(), (weights * y).sum()
    second = [(weights * a * b).sum() for a, b in ((x - cx, x - cx), (y - cy, y - cy), (x - cx, y - cy))]
    np.testing.assert_allclose(centroid, [cx, cy], rtol=1e-9)
    np.testing.assert_allclose(quadrupole, second, rtol=1e-9)


def test_convolution_values() -> None:
    """Coefficients of the specification."""
    ellipse, k = convolve_with_gaussian([1.3, 0.9, -0.4], ELLIPSE, COEFFICIENTS)
    np.testing.assert_allclose(ellipse, ELLIPSE + [1.3, 0.9, -0.4])
    expected = [
        [
            1.0531337099349931,
            0.048518055524473504,
            -0.07838564321004635,
            0.037483424257222245,
            0.020593780460275383,
            -0.04058697357003774,
        ],
        [0.1772453850905516, 0.03285266476438381, -0.012374611010362932, 0.0, 0.0, 0.0],
    ]
    np.testing.assert_allclose(k, expected, rtol=1e-13, atol=1e-16)


def test_convolution_by_quadrature() -> None:
    """A convolved function equals a numerical integral."""
    q = np.array([1.3, 0.9, -0.4])
    ellipse, k = convolve_with_gaussian(q, ELLIPSE, COEFFICIENTS)
    x, y = _grid(20.0, 0.2)
    gaussian = np.array([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    for px, py in ((0.0, 0.0), (1.5, -0.7), (-3.0, 2.0)):
        integrand = _evaluate(x, y, ELLIPSE, CENTRE, COEFFICIENTS)
        integrand = integrand * _evaluate(px - x, py - y, q[None], np.zeros((1, 2)), gaussian)
        direct = _evaluate(np.array(px), np.array(py), ellipse, CENTRE, k)
        np.testing.assert_allclose(direct, 0.04 * integrand.sum(), rtol=1e-10)


@pytest.mark.parametrize(
    ("profile", "components", "values"),
    [
        ("lux", 3, (0.4070659607, 0.1962424789, 0.0854672966, 0.0167880947, 0.0001361729)),
        ("lux", 6, (0.4458058098, 0.1965131384, 0.0849172995, 0.0159156958, 0.0002622005)),
        ("luv", 8, (5.6173235248, 0.1609246468, 0.0477239837, 0.0112932963, 0.0020215446)),
    ],
)
def test_mixtures(profile: str, components: int, values: tuple[float, ...]) -> None:
    """Surface brightnesses of the specification; half the light within 1."""
    mixture = radial_mixture(profile, components)
    r = np.array([0.0, 0.5, 1.0, 2.0, 4.0])[:, None]
    a, v = mixture.amplitudes, mixture.variances
    brightness = (a / (2 * np.pi * v) * np.exp(-0.5 * r**2 / v)).sum(axis=1)
    np.testing.assert_allclose(brightness, values, atol=6e-11)
    assert a.sum() == pytest.approx(1.0, abs=1e-9)
    # The light beyond the truncation, up to 6 %, is not there.
    assert (a * (1 - np.exp(-0.5 / v))).sum() == pytest.approx(0.5, abs=0.03)


def test_exponential_profile() -> None:
    """The lux mixture follows GalSim's exponential in between."""
    mixture = radial_mixture("lux", 6)
    r = np.linspace(0.2, 2.5, 24)
    a, v = mixture.amplitudes, mixture.variances
    brightness = (a / (2 * np.pi * v) * np.exp(-0.5 * r[:, None] ** 2 / v)).sum(axis=1)
    exponential = galsim.Exponential(half_light_radius=1.0)
    truth = np.array([exponential.xValue(float(radius), 0.0) for radius in r])
    # Up to a factor, because lux has no light beyond 4 half-light radii.
    ratio = brightness / truth
    np.testing.assert_allclose(ratio / ratio.mean(), 1.0, atol=0.02)


@pytest.mark.parametrize(
    ("profile", "components", "max_radius", "message"),
    [
        ("lux", 4, 0, "profileName='lux' by nComponents=4"),
        ("dev", 8, 0, "profileName='dev'"),
        ("luv", 8, 3, "maxRadius=3"),
    ],
)
def test_unknown_mixture(profile: str, components: int, max_radius: int, message: str) -> None:
    """An approximation that isn't there is named."""
    with pytest.raises(ValueError, match=message):
        radial_mixture(profile, components, max_radius)


def _column(
    x: np.ndarray, y: np.ndarray, q: np.ndarray, centre: np.ndarray, psf: np.ndarray, profile: tuple[str, int]
) -> np.ndarray:
    mixture = radial_mixture(*profile)
    out = np.empty(x.size, dtype=np.float32)
    orders = np.array([2, 1] if len(psf) == 2 else [0], dtype=np.int64)
    model_column(
        x.astype(np.float32).ravel(),
        y.astype(np.float32).ravel(),
        q,
        centre,
        psf,
        orders,
        (mixture.amplitudes / FLUX_FACTOR).astype(np.float32),
        mixture.variances,
        out,
    )
    return out.reshape(x.shape)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (("lux", 6), (0.06508433956937706, 0.025542410644796364)),
        (("luv", 8), (0.060647269907552794, 0.02338492591504412)),
    ],
)
def test_model_values(profile: tuple[str, int], expected: tuple[float, float]) -> None:
    """Convolved galaxies of the specification, in float32."""
    psf = np.concatenate([ELLIPSE, CENTRE, COEFFICIENTS], axis=1)
    values = _column(
        np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([1.3, 0.9, -0.4]), np.zeros(2), psf, profile
    )
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_model_against_galsim() -> None:
    """A galaxy convolved with a Gaussian PSF is drawn as GalSim does."""
    mixture = radial_mixture("luv", 8)
    q, p = np.array([3.0, 2.0, 0.6]), np.array([2.2, 1.6, -0.3])
    parts = []
    for a, v in zip(mixture.amplitudes, mixture.variances, strict=True):
        xx, yy, xy = v * q + p
        size = (xx * yy - xy**2) ** 0.25
        shape = galsim.Shear(e1=(xx - yy) / (xx + yy), e2=2 * xy / (xx + yy))
        parts.append(galsim.Gaussian(flux=a, sigma=size).shear(shape))
    drawn = galsim.Sum(parts).shift(0.3, -0.2).drawImage(nx=31, ny=31, scale=1.0, method="no_pixel").array
    axis = np.arange(31) - 15.0
    x, y = np.meshgrid(axis, axis)
    psf = np.array([[*p, 0.0, 0.0, 1.0 / FLUX_FACTOR, 0.0, 0.0, 0.0, 0.0, 0.0]])
    ours = _column(x, y, q, np.array([0.3, -0.2]), psf, ("luv", 8))
    # float32, of the peak; GalSim's folding adds a little.
    np.testing.assert_allclose(ours, drawn, atol=2e-5 * drawn.max())


def test_parametrisation() -> None:
    """Conformal shears and trace radii, there and back."""
    q = np.array([[2.0, 1.0, 0.5], [3.0, 3.0, 0.0], [0.1, 4.0, -0.2]])
    parameters = parameters_from_quadrupole(q)
    np.testing.assert_allclose(
        parameters[0], [0.36195001144999056, 0.36195001144999056, 0.2027325540540822], rtol=1e-14
    )
    back = np.empty(3)
    for p, expected in zip(parameters, q, strict=True):
        ellipse_to_pixels(p, np.array([1.0, 0.0, 0.0, 1.0]), back)
        np.testing.assert_allclose(back, expected, rtol=1e-13, atol=1e-15)
    ellipse_to_pixels(np.array([0.3, -0.2, -1.0]), np.array([1.0, 0.0, 0.0, 1.0]), back)
    np.testing.assert_allclose(back, [0.17426342314129162, 0.09640714333193379, -0.025952093269785943])
