# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Coefficient fields: smooth over the focal plane, with detectors' own."""

from __future__ import annotations

__all__ = ("FieldBasis", "FieldModel", "Scores", "fit_fields")

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ._frames import DetectorFrame, StarPlaces

_FLOOR = 1e-4
"""Least prior variance, in units of a typical star's noise variance."""

_CEILING = 1e4
"""Largest prior variance in the same units."""

_SWEEPS, _LAST_SWEEPS = 3, 8
"""Iterations over the coefficients, per update of the prior and at the end."""


@dataclass
class Scores:
    """Normal equations of the coefficients of each star.

    Flux and centre have been eliminated; the least-squares estimate of a
    star's coefficients would be ``solve(matrix, vector)``.
    """

    matrix: npt.NDArray[np.float64]
    """Normal matrices [N, K, K], the inverse covariances."""

    vector: npt.NDArray[np.float64]
    """Right-hand sides [N, K]."""


@dataclass(frozen=True)
class FieldBasis:
    """Polynomials that the fields are made of.

    Parameters
    ----------
    frames
        The detectors.
    focal_order
        Degree of the Zernike polynomials over the focal plane.
    detector_order
        Degree of the Legendre polynomials over a detector.
    """

    frames: tuple[DetectorFrame, ...]
    focal_order: int
    detector_order: int

    # Cached, since the time of a call is that of all detectors.
    @functools.cached_property
    def _disc(self) -> tuple[npt.NDArray[np.float64], float]:
        """Return centre and radius of a disc with all detectors on it."""
        corners = [
            f.focal(np.array(f.bounds)[[0, 0, 1, 1]], np.array(f.bounds)[[2, 3, 2, 3]]) for f in self.frames
        ]
        points = np.concatenate(corners)
        centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
        return centre, float(np.hypot(*(points - centre).T).max())

    def focal_terms(self, position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return Zernike polynomials [N, M] at focal-plane positions."""
        import galsim.zernike

        centre, radius = self._disc
        number = (self.focal_order + 1) * (self.focal_order + 2) // 2
        u, v = ((position - centre) / radius).T
        return np.ascontiguousarray(galsim.zernike.zernikeBasis(number, u, v)[1:].T)

    def focal_degrees(self) -> npt.NDArray[np.int64]:
        """Return the degree of each Zernike polynomial [M]."""
        return np.repeat(np.arange(self.focal_order + 1), np.arange(1, self.focal_order + 2))

    def detector_terms(self, scaled: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return products of Legendre polynomials [N, L], of unit variance."""
        order = self.detector_order
        norm = np.sqrt(2.0 * np.arange(order + 1) + 1.0)
        in_u, in_v = (np.polynomial.legendre.legvander(c, order) * norm for c in scaled.T)
        pairs = [(n - i, i) for n in range(order + 1) for i in range(n + 1)]
        return np.stack([in_u[:, i] * in_v[:, j] for i, j in pairs], axis=1)

    def detector_degrees(self) -> npt.NDArray[np.int64]:
        """Return the degree of each product [L]."""
        return np.repeat(np.arange(self.detector_order + 1), np.arange(1, self.detector_order + 2))


@dataclass
class _Prior:
    """Variances of the fields' coefficients, learnt from the visit."""

    focal: npt.NDArray[np.float64]
    """By degree over the focal plane [K, orders]."""

    detector: npt.NDArray[np.float64]
    """By degree over a detector [K, orders]."""

    star: npt.NDArray[np.float64]
    """Scatter of stars about the fields [K]."""


@dataclass
class FieldModel:
    """Posterior of the fields of K coefficients.

    Given the focal-plane part g, that of detector d has the mean
    ``own[k, d] - coupling[k, d] @ (g - focal[k])`` and covariance
    ``own_covariance[k, d]``.
    """

    basis: FieldBasis
    focal: npt.NDArray[np.float64]
    """Coefficients over the focal plane [K, M]."""

    own: npt.NDArray[np.float64]
    """Coefficients of the detectors [K, D, L]."""

    focal_covariance: npt.NDArray[np.float64]
    """Covariance [K, M, M]."""

    own_covariance: npt.NDArray[np.float64]
    """Covariance given the focal-plane part [K, D, L, L]."""

    coupling: npt.NDArray[np.float64]
    """Regression on the focal-plane part [K, D, L, M]."""

    prior: _Prior

    def values(self, detector: int, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the coefficients [N, K] at pixel positions of a detector."""
        focal, own = self._terms(detector, x, y)
        return focal @ self.focal.T + own @ self.own[:, detector].T

    def variances(self, detector: int, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the posterior variances [N, K] of the coefficients."""
        return self._variances(detector, *self._terms(detector, x, y))

    def _terms(
        self, detector: int, x: npt.ArrayLike, y: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        frame = self.basis.frames[detector]
        return self.basis.focal_terms(frame.focal(x, y)), self.basis.detector_terms(frame.scaled(x, y))

    def _variances(
        self, detector: int, focal: npt.NDArray[np.float64], own: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        left = focal - own @ self.coupling[:, detector]
        result = ((left @ self.focal_covariance) * left).sum(axis=2)
        result += ((own @ self.own_covariance[:, detector]) * own).sum(axis=2)
        return result.T


def fit_fields(
    scores: Scores, stars: StarPlaces, use: npt.NDArray[np.bool_], basis: FieldBasis, iterations: int
) -> FieldModel:
    """Fit the fields, and the strength of their priors (empirical Bayes).

    Parameters
    ----------
    scores
        Normal equations of the stars.
    stars
        Where the stars are.
    use
        Stars to use [N].
    basis
        Polynomials.
    iterations
        Number of updates of the prior.

    Returns
    -------
    model
        The posterior.
    """
    fit = _Fit(scores, stars, use, basis)
    # A single coefficient has no others to be solved with in turn.
    sweeps, last_sweeps = (1, 1) if scores.vector.shape[1] == 1 else (_SWEEPS, _LAST_SWEEPS)
    # Each update needs the posterior before it.
    for i in range(iterations):
        fit.prepare()
        fit.solve(sweeps if i < iterations - 1 else last_sweeps)
        if i < iterations - 1:
            fit.update_prior()
    return fit.model()


class _Fit:
    """State of a fit of the fields.

    The coefficients are solved for one by one: what the others contribute to
    a star's equations through off-diagonal elements, which are small since
    the vectors are orthonormal, is taken from the sweep before.
    """

    def __init__(
        self, scores: Scores, stars: StarPlaces, use: npt.NDArray[np.bool_], basis: FieldBasis
    ) -> None:
        diagonal = np.einsum("nkk->nk", scores.matrix)
        chosen = np.flatnonzero(use & (diagonal > 0.0).all(axis=1))
        chosen = chosen[np.argsort(stars.detector[chosen], kind="stable")]
        self.basis = basis
        self.matrix, self.vector = scores.matrix[chosen], scores.vector[chosen]
        self.diagonal = diagonal[chosen]
        self.detector = stars.detector[chosen]
        self.focal_terms = basis.focal_terms(stars.focal()[chosen])
        self.own_terms = basis.detector_terms(stars.scaled()[chosen])
        self.parts = [slice(*np.searchsorted(self.detector, [d, d + 1])) for d in range(len(basis.frames))]
        self.noise = 1.0 / np.median(self.diagonal, axis=0)
        self.values = np.zeros_like(self.vector)
        raw = self.vector / self.diagonal
        signal = np.average(raw**2, axis=0, weights=self.diagonal[:, 0]) - 1.0 / self.diagonal.mean(axis=0)
        signal = np.maximum(signal, 0.02 * self.noise)
        orders = basis.focal_order + 1, basis.detector_order + 1
        self.prior = _Prior(
            np.outer(signal, np.full(orders[0], 0.2)),
            np.outer(signal, 0.1 * 0.5 ** np.arange(orders[1])),
            0.01 * self.noise,
        )

    def prepare(self) -> None:
        """Invert the normal matrices for the current prior."""
        n_values, n_detectors = self.vector.shape[1], len(self.parts)
        n_own, n_focal = self.own_terms.shape[1], self.focal_terms.shape[1]
        self.weight = 1.0 / (1.0 / self.diagonal + self.prior.star)
        own = np.zeros((n_values, n_detectors, n_own, n_own))
        cross = np.zeros((n_values, n_detectors, n_own, n_focal))
        focal = np.zeros((n_values, n_focal, n_focal))
        # One detector at a time.
        for d, part in enumerate(self.parts):
            weight = self.weight[part].T[:, np.newaxis]
            weighted = self.own_terms[part].T * weight
            own[:, d], cross[:, d] = weighted @ self.own_terms[part], weighted @ self.focal_terms[part]
            focal += (self.focal_terms[part].T * weight) @ self.focal_terms[part]
        diagonal = np.arange(n_own)
        own[:, :, diagonal, diagonal] += (1.0 / self.prior.detector[:, self.basis.detector_degrees()])[
            :, np.newaxis
        ]
        self.own_covariance = np.linalg.inv(own)
        self.coupling = self.own_covariance @ cross
        diagonal = np.arange(n_focal)
        focal[:, diagonal, diagonal] += 1.0 / self.prior.focal[:, self.basis.focal_degrees()]
        # Sum over the detectors of cross^T coupling, by one product each.
        for d in range(n_detectors):
            focal -= cross[:, d].swapaxes(1, 2) @ self.coupling[:, d]
        self.focal_covariance = np.linalg.inv(focal)

    def solve(self, sweeps: int) -> None:
        """Improve the coefficients of the fields."""
        n_values = self.vector.shape[1]
        side = np.empty((n_values, len(self.parts), self.own_terms.shape[1]))
        # Each sweep needs the one before it.
        for _ in range(sweeps):
            rest = self.vector - np.einsum("nab,nb->na", self.matrix, self.values)
            self.raw = self.values + rest / self.diagonal
            weighted = self.weight * self.raw
            for d, part in enumerate(self.parts):
                side[:, d] = (self.own_terms[part].T @ weighted[part]).T
            total = (self.focal_terms.T @ weighted).T
            total = total - np.einsum("kdlm,kdl->km", self.coupling, side)
            self.focal = (self.focal_covariance @ total[:, :, np.newaxis])[:, :, 0]
            self.own = np.einsum("kdlm,kdm->kdl", self.own_covariance, side)
            self.own -= np.einsum("kdlm,km->kdl", self.coupling, self.focal)
            self.values = self.focal_terms @ self.focal.T
            for d, part in enumerate(self.parts):
                self.values[part] += self.own_terms[part] @ self.own[:, d].T

    def update_prior(self) -> None:
        """Take a fixed-point step to the maximum of the evidence.

        The variance of a group of coefficients is the sum of their squares
        over the number of them that the data determine (MacKay 1992).
        """
        floor, ceiling = _FLOOR * self.noise[:, np.newaxis], _CEILING * self.noise[:, np.newaxis]
        spread = self.coupling @ self.focal_covariance[:, np.newaxis]
        own_variance = np.einsum("kdll->kdl", self.own_covariance) + (spread * self.coupling).sum(axis=3)
        focal_variance = np.einsum("kmm->km", self.focal_covariance)
        degrees = self.basis.focal_degrees()
        known = 1.0 - focal_variance / self.prior.focal[:, degrees]
        new_focal = _grouped(self.focal**2, known, degrees, 0.05)
        degrees = self.basis.detector_degrees()
        known = (1.0 - own_variance / self.prior.detector[:, degrees][:, np.newaxis]).sum(axis=1)
        new_own = _grouped((self.own**2).sum(axis=1), known, degrees, 0.05 * len(self.parts))
        self.prior = _Prior(
            np.clip(new_focal, floor, ceiling), np.clip(new_own, floor, ceiling), self._star_variance()
        )

    def _star_variance(self) -> npt.NDArray[np.float64]:
        """Return the scatter of stars about the fields beyond their noise."""
        model = self.model()
        variance = np.empty_like(self.values)
        for d, part in enumerate(self.parts):
            variance[part] = model._variances(d, self.focal_terms[part], self.own_terms[part])
        weight = self.diagonal**2
        excess = (self.raw - self.values) ** 2 + variance - 1.0 / self.diagonal
        # Stars far off don't tell what the others scatter; most are usual,
        # however wrong their errors are.
        pull = np.abs(self.raw - self.values) * np.sqrt(self.weight)
        usual = pull < np.maximum(4.0, 2.0 * np.median(pull, axis=0))
        mean = (weight * excess * usual).sum(axis=0) / (weight * usual).sum(axis=0)
        return np.clip(mean, 1e-6 * self.noise, self.noise)

    def model(self) -> FieldModel:
        """Return the current posterior."""
        return FieldModel(
            self.basis,
            self.focal,
            self.own,
            self.focal_covariance,
            self.own_covariance,
            self.coupling,
            dataclasses.replace(self.prior),
        )


def _grouped(
    power: npt.NDArray[np.float64],
    known: npt.NDArray[np.float64],
    degrees: npt.NDArray[np.int64],
    least: float,
) -> npt.NDArray[np.float64]:
    """Sum [K, terms] over the terms of each degree and divide [K, orders]."""
    member = (degrees[:, np.newaxis] == np.arange(degrees.max() + 1)).astype(np.float64)
    return (power @ member) / np.maximum(known @ member, least)
