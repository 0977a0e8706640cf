# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Fields with and without heights, averaged where either is better known."""

from __future__ import annotations

__all__ = ("average_with_heights",)

import dataclasses

import numpy as np
import numpy.typing as npt

from ...focal_plane import FieldBasis, FieldModel
from ._height_model import N_LEADING, HeightModel

type _Array = npt.NDArray[np.float64]

_NODES = 10
"""Places per axis of a detector where models are averaged."""

_SOFTNESS = 5.0
"""Divisor of the logarithm of the evidence, which is approximate."""


def average_with_heights(base: FieldModel, found: list[HeightModel]) -> FieldModel:
    """Average size and ellipticity of a fit of the fields and of heights.

    The weights at a place are the inverse posterior variances.  A height far
    from stars is uncertain, and its square even more.

    Parameters
    ----------
    base
        The fields without heights.
    found
        Solutions with heights.

    Returns
    -------
    model
        Fields whose polynomials over the detectors have the larger of the
        two degrees.  What is uncertain of size and ellipticity is all in the
        covariances of the detectors, that of the polynomials over the focal
        plane, too.
    """
    evidence = np.array([f.evidence for f in found])
    weight = np.exp((evidence - evidence.max()) / _SOFTNESS)
    weight /= weight.sum()
    wide = _widened(base, max(base.basis.detector_order, found[0].basis.detector_order))
    basis, k = wide.basis, slice(N_LEADING)
    wide.coupling[k], wide.focal_covariance[k] = 0.0, 0.0
    node = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    scaled = np.stack([c.ravel() for c in np.meshgrid(node, node)], axis=1)
    project = np.linalg.pinv(basis.detector_terms(scaled))
    # One detector at a time.
    for d, frame in enumerate(basis.frames):
        x0, x1, y0, y1 = frame.bounds
        x, y = 0.5 * (x0 + x1 + scaled[:, 0] * (x1 - x0)), 0.5 * (y0 + y1 + scaled[:, 1] * (y1 - y0))
        with_heights = _mixture(weight, [f.posterior(d, x, y) for f in found])
        values, covariance = _average(_posterior(base, d, x, y), with_heights)
        focal = wide.focal[k] @ basis.focal_terms(frame.focal(x, y)).T
        wide.own[k, d] = (values - focal) @ project.T
        wide.own_covariance[k, d] = project @ covariance @ project.T
    return wide


def _widened(base: FieldModel, order: int) -> FieldModel:
    """Copy fields, with polynomials of the detectors of a larger degree."""
    basis = FieldBasis(base.basis.frames, base.basis.focal_order, order)
    terms = len(basis.detector_degrees())
    more = terms - base.own.shape[2]
    prior = dataclasses.replace(
        base.prior, detector=np.pad(base.prior.detector, ((0, 0), (0, order - base.basis.detector_order)))
    )
    return FieldModel(
        basis,
        base.focal.copy(),
        np.pad(base.own, ((0, 0), (0, 0), (0, more))),
        base.focal_covariance.copy(),
        np.pad(base.own_covariance, ((0, 0), (0, 0), (0, more), (0, more))),
        np.pad(base.coupling, ((0, 0), (0, 0), (0, more), (0, 0))),
        prior,
    )


def _posterior(base: FieldModel, d: int, x: _Array, y: _Array) -> tuple[_Array, _Array]:
    """Return size and ellipticity [3, N] and covariances between places."""
    frame, k = base.basis.frames[d], slice(N_LEADING)
    focal_terms = base.basis.focal_terms(frame.focal(x, y))
    terms = base.basis.detector_terms(frame.scaled(x, y))
    left = focal_terms - terms @ base.coupling[k, d]
    covariance = left @ base.focal_covariance[k] @ left.swapaxes(1, 2)
    covariance += terms @ base.own_covariance[k, d] @ terms.T
    return base.values(d, x, y)[:, k].T, covariance


def _mixture(weight: _Array, parts: list[tuple[_Array, _Array]]) -> tuple[_Array, _Array]:
    """Return moments of a mixture of Gaussians."""
    mean = sum(w * v for w, (v, _) in zip(weight, parts, strict=True))
    covariance = np.zeros_like(parts[0][1])
    for w, (v, c) in zip(weight, parts, strict=True):
        off = v - mean
        covariance += w * (c + off[:, :, np.newaxis] * off[:, np.newaxis])
    return np.asarray(mean), covariance


def _average(first: tuple[_Array, _Array], second: tuple[_Array, _Array]) -> tuple[_Array, _Array]:
    """Average by inverse variances at each place.

    Both are of the same stars, so the variance of the average is the
    average of the variances, and the scatter of the two.  Where the second
    isn't known it has no weight.
    """
    variances = [np.einsum("knn->kn", c) for _, c in (first, second)]
    # Heights of which nothing is known have variances lost in rounding.
    is_known = (variances[1] > 0.0) & np.isfinite(variances[1]) & np.isfinite(second[0])
    known = np.maximum(variances[0], 0.0)
    weight = known / (known + np.where(is_known, variances[1], np.inf))
    change = np.where(is_known, second[0] - first[0], 0.0)
    mean = first[0] + weight * change
    covariance = np.zeros_like(first[1])
    for w, c in ((1.0 - weight, first[1]), (weight, np.where(np.isfinite(second[1]), second[1], 0.0))):
        root = np.sqrt(w)
        covariance += root[:, :, np.newaxis] * c * root[:, np.newaxis]
    off = np.sqrt(weight * (1.0 - weight)) * change
    return mean, covariance + off[:, :, np.newaxis] * off[:, np.newaxis]
