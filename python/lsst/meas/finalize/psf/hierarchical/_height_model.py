# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Size and ellipticity by the height of each detector's surface.

The first three coefficients are taken as ::

    c_k(x) = g_k(X) + s_k(X) h_d(x) + t_k(X) h_d(x)^2 + a_kd(x) + noise

with Zernike polynomials g, s and t over the focal plane, one height h_d of
each detector (a sum of Legendre polynomials, whose variances by degree sum
to 1), and what heights don't explain, a_kd, also a sum of Legendre
polynomials.  Given the others, h_d is taken as Gaussian.
"""

from __future__ import annotations

__all__ = ("N_LEADING", "HeightModel", "Precision", "StarsOfDetector", "derivatives")

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...focal_plane import FieldBasis, FieldModel

type _Array = npt.NDArray[np.float64]

N_LEADING = 3
"""Coefficients that a height changes: size and ellipticity."""

_SLOPE_DEGREE = 3
"""Degree of s over the focal plane."""

_FIRST_LAW = np.array([0.21, 0.1, 0.08, 0.015, 0.005, 0.003, 0.002, 0.0015, 0.001])
"""Variances of heights by degree to start from."""

_UNEXPLAINED = 0.15
"""Part of the detectors' variances that heights don't explain, at first."""


@dataclass
class StarsOfDetector:
    """What is known of the stars of one detector."""

    focal_terms: _Array
    """Polynomials over the focal plane [n, M]."""

    terms: _Array
    """Polynomials over the detector [n, L]."""

    matrix: _Array
    """Normal matrices [n, K, K]."""

    vector: _Array
    """Right-hand sides [n, K]."""

    values: _Array
    """Current coefficients [n, K]."""

    scatter: _Array
    """Variances of stars about the fields [3]."""

    raw: _Array = field(init=False)
    """Each of the first coefficients given the others' values [n, 3]."""

    weight: _Array = field(init=False)
    """Inverse variances of ``raw`` [n, 3]."""

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Solve for each coefficient with the others' current values."""
        diagonal = np.einsum("nkk->nk", self.matrix)
        rest = self.vector - np.einsum("nab,nb->na", self.matrix, self.values)
        self.raw = (self.values + rest / diagonal)[:, :N_LEADING]
        self.weight = 1.0 / (1.0 / diagonal[:, :N_LEADING] + self.scatter)


class Precision:
    """Inverse covariance ``diag(w) - U U^T`` of ``a_kd + noise`` at stars.

    Parameters
    ----------
    stars
        Stars of a detector.
    variance
        Prior variances of the polynomials of a_kd [3, L].
    """

    def __init__(self, stars: StarsOfDetector, variance: _Array) -> None:
        self.weight = np.ascontiguousarray(stars.weight.T)
        self.weighted = stars.terms * self.weight[:, :, np.newaxis]
        normal = stars.terms.T @ self.weighted
        i = np.arange(normal.shape[1])
        normal[:, i, i] += 1.0 / variance
        lower = np.linalg.cholesky(normal)
        root = np.linalg.inv(lower).swapaxes(1, 2)
        self.covariance = root @ root.swapaxes(1, 2)
        """Of the polynomials of a_kd given all else [3, L, L]."""
        self.factor = self.weighted @ root
        log_normal = 2.0 * np.log(np.einsum("kii->ki", lower)).sum()
        self.log_determinant = float(log_normal + np.log(variance).sum() - np.log(self.weight).sum())
        """Of the covariance of all that is measured."""

    def __matmul__(self, columns: _Array) -> _Array:
        """Multiply columns [3 or 1, n, any]."""
        product = self.weight[:, :, np.newaxis] * columns
        return product - self.factor @ (self.factor.swapaxes(1, 2) @ columns)

    def dense(self) -> _Array:
        """Return the matrices [3, n, n]."""
        result = -(self.factor @ self.factor.swapaxes(1, 2))
        i = np.arange(result.shape[1])
        result[:, i, i] += self.weight
        return result

    def regression(self) -> _Array:
        """Return what a_kd follows from residuals by [3, L, n]."""
        return self.covariance @ self.weighted.swapaxes(1, 2)


class HeightModel:
    """Heights of the detectors and what they change.

    Parameters
    ----------
    stars
        Stars of each detector.
    base
        Fit of the fields without heights.
    basis
        Polynomials of a_kd; over the focal plane those of ``base``.
    bend_degree
        Degree of t over the focal plane.
    height_degree
        Degree of the heights; default that of a_kd.
    """

    def __init__(
        self,
        stars: list[StarsOfDetector],
        base: FieldModel,
        basis: FieldBasis,
        bend_degree: int,
        height_degree: int | None = None,
    ) -> None:
        self.stars, self.base, self.basis = stars, base, basis
        self.focal_degrees, self.degrees = basis.focal_degrees(), basis.detector_degrees()
        self.in_slope = self.focal_degrees <= _SLOPE_DEGREE
        self.in_bend = self.focal_degrees <= bend_degree
        n_focal, n_slope = len(self.focal_degrees), int(self.in_slope.sum())
        self.slope = slice(n_focal, n_focal + n_slope)
        self.bend = slice(n_focal + n_slope, n_focal + n_slope + int(self.in_bend.sum()))
        # The terms of a degree of g, s or t share a prior variance.
        kinds = (self.focal_degrees, 100 + self.focal_degrees[self.in_slope])
        self.group = np.concatenate([*kinds, 200 + self.focal_degrees[self.in_bend]])
        number = len(self.group)
        # Coefficients of g, s and t.
        self.effects = np.zeros((N_LEADING, number))
        self.effect_variance = np.ones((N_LEADING, number))
        self.effect_covariance = np.zeros((N_LEADING, number, number))
        # Variances by degree, of a and of the heights.
        self.own_variance = _UNEXPLAINED * _extended(base.prior.detector[:N_LEADING], basis.detector_order)
        # The first of the polynomials of a are those of the heights.
        highest = basis.detector_order if height_degree is None else height_degree
        self.height_degrees = self.degrees[self.degrees <= highest]
        self.law = _FIRST_LAW[: highest + 1].copy()
        self.law /= self.law[self.height_degrees].sum()
        self.height = np.zeros((len(stars), len(self.height_degrees)))
        self.height_covariance = np.zeros((*self.height.shape, len(self.height_degrees)))
        self.evidence = -np.inf
        """Logarithm but for a constant, of the last `learn`."""
        self.refresh()

    def refresh(self) -> None:
        """Take the stars' current values, and invert covariances."""
        variance = self.own_variance[:, self.degrees]
        self.precision = [Precision(s, variance) for s in self.stars]

    def noise(self) -> _Array:
        """Return the variance of a typical star [3]."""
        return 1.0 / np.median(np.concatenate([s.weight for s in self.stars]), axis=0)

    def split(self, focal_terms: _Array) -> tuple[_Array, _Array, _Array]:
        """Return g, s and t [n, 3] at places."""
        return (
            focal_terms @ self.effects[:, : self.slope.start].T,
            focal_terms[:, self.in_slope] @ self.effects[:, self.slope].T,
            focal_terms[:, self.in_bend] @ self.effects[:, self.bend].T,
        )

    def height_terms(self, terms: _Array) -> _Array:
        """Return those polynomials [n, H] of a_kd that heights have, too."""
        return terms[:, : self.height.shape[1]]

    def design(self, d: int, focal_terms: _Array, terms: _Array) -> tuple[_Array, _Array]:
        """Return heights [n] and what multiplies ``effects`` [n, any]."""
        terms = self.height_terms(terms)
        height = terms @ self.height[d]
        square = height**2 + ((terms @ self.height_covariance[d]) * terms).sum(axis=1)
        columns = (
            focal_terms,
            focal_terms[:, self.in_slope] * height[:, np.newaxis],
            focal_terms[:, self.in_bend] * square[:, np.newaxis],
        )
        return height, np.concatenate(columns, axis=1)

    def update_values(self) -> None:
        """Evaluate the model at the stars."""
        for d, (stars, precision) in enumerate(zip(self.stars, self.precision, strict=True)):
            _, design = self.design(d, stars.focal_terms, stars.terms)
            explained = design @ self.effects.T
            own = precision.regression() @ (stars.raw - explained).T[:, :, np.newaxis]
            stars.values[:, :N_LEADING] = explained + (stars.terms @ own)[:, :, 0].T
            stars.refresh()

    def posterior(self, d: int, x: _Array, y: _Array) -> tuple[_Array, _Array]:
        """Return the coefficients and their covariances at places.

        Parameters
        ----------
        d
            Index of the detector.
        x, y
            Positions in its pixels [N].

        Returns
        -------
        values
            Size and ellipticity [3, N].
        covariances
            Between the places [3, N, N].
        """
        frame, stars, precision = self.basis.frames[d], self.stars[d], self.precision[d]
        focal_terms = self.basis.focal_terms(frame.focal(x, y))
        terms = self.basis.detector_terms(frame.scaled(x, y))
        height, design = self.design(d, focal_terms, terms)
        star_height, star_design = self.design(d, stars.focal_terms, stars.terms)
        residual = stars.raw - star_design @ self.effects.T
        to_own = terms @ precision.regression()
        values = self.effects @ design.T + (to_own @ residual.T[:, :, np.newaxis])[:, :, 0]
        # By the heights, by g, s and t, and what is left of a.
        of_height, of_star_height = self.height_terms(terms), self.height_terms(stars.terms)
        by_height = derivatives(self.split(focal_terms), height, of_height)
        by_height -= to_own @ derivatives(self.split(stars.focal_terms), star_height, of_star_height)
        by_effects = design - to_own @ star_design
        covariance = by_height @ self.height_covariance[d] @ by_height.swapaxes(1, 2)
        covariance += by_effects @ self.effect_covariance @ by_effects.swapaxes(1, 2)
        covariance += terms @ precision.covariance @ terms.T
        bend = self.split(focal_terms)[2].T
        spread = of_height @ self.height_covariance[d] @ of_height.T
        covariance += 2.0 * bend[:, :, np.newaxis] * bend[:, np.newaxis] * spread**2
        return values, covariance


def derivatives(split: tuple[_Array, _Array, _Array], height: _Array, terms: _Array) -> _Array:
    """Differentiate by the coefficients of a height.

    Parameters
    ----------
    split
        g, s and t at places [n, 3].
    height
        Heights there [n].
    terms
        Polynomials of the height [n, L].

    Returns
    -------
    derivatives
        Those of size and ellipticity [3, n, L].
    """
    _, slope, bend = split
    return (slope + 2.0 * bend * height[:, np.newaxis]).T[:, :, np.newaxis] * terms


def _extended(variance: _Array, order: int) -> _Array:
    """Halve the last of the variances [3, orders] for each further degree."""
    more = variance[:, -1:] * 0.5 ** np.arange(1, max(order + 2 - variance.shape[1], 1))
    return np.concatenate([variance, more], axis=1)[:, : order + 1]
