# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The fit of the PSF of a visit, from stars to a model."""

from __future__ import annotations

__all__ = ("HierarchicalOptions", "TooFewStarsError", "fit_visit")

import logging
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..._robust import MAD_TO_SIGMA
from ...focal_plane import FieldBasis, FieldModel, Scores, StarPlaces, fit_fields
from .._interpolant import taps_of
from ..structured import GridWeights
from ._basis import Basis, make_basis, n_directions, smooth
from ._height_fields import average_with_heights
from ._height_search import find_heights
from ._model import VisitPsfModel
from ._scores import (
    Shifter,
    StarStates,
    chisq_of_directions,
    mean_image,
    measure_scores,
    refit_stars,
)
from ._stars import VisitStars

_LOG = logging.getLogger(__name__)

_FIRST_SIGMA = 1.7
"""Width in pixels of the Gaussian that stars are first centred with."""

_LEADING = 3
"""Coefficients by which outliers are recognised: size and ellipticity."""

_MIN_STARS = 30
"""Least number of stars of a visit."""

_REJECTIONS = 3
"""How often stars are rejected or taken back."""


class TooFewStarsError(RuntimeError):
    """Raised if a visit has too few stars for a common model."""


@dataclass(frozen=True)
class HierarchicalOptions:
    """Settings of the fit.

    Parameters
    ----------
    derivative_order
        Largest order of derivatives of the mean PSF, 2 to 6.
    focal_order
        Degree of polynomials over the focal plane.
    detector_order
        Degree of polynomials over a detector.
    prior_iterations
        Updates of the strength of the prior.
    max_snr
        Stars of higher signal-to-noise ratio get the weight of this one.
    outlier_sigma
        Stars whose size or ellipticity is further off are rejected.
    max_removed
        Largest fraction of the stars rejected for that.
    min_unmasked
        Least fraction of a star's pixels that are to be used.
    interpolant
        Name of GalSim's interpolant between the nodes of the model.
    height_order
        Degree of the polynomials of each detector's height.
    height_starts
        Random starts of the search for heights; none without it.
    """

    derivative_order: int = 4
    focal_order: int = 6
    detector_order: int = 5
    prior_iterations: int = 8
    max_snr: float = 1000.0
    outlier_sigma: float = 4.0
    max_removed: float = 0.1
    min_unmasked: float = 0.5
    interpolant: str = "Lanczos(11)"
    height_order: int = 7
    height_starts: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.derivative_order <= 6:
            raise ValueError(f"derivative_order={self.derivative_order} is not between 2 and 6.")
        if not (0 <= self.focal_order <= 12 and 0 <= self.detector_order <= 8):
            raise ValueError("Orders must not be negative, nor above 12 (focal) and 8 (detector).")
        if self.prior_iterations < 2:
            raise ValueError(f"prior_iterations={self.prior_iterations} is less than 2.")
        if not 0 <= self.height_order <= 8 or self.height_starts < 0:
            raise ValueError(
                f"height_order={self.height_order} is not between 0 and 8, or "
                f"height_starts={self.height_starts} is negative."
            )

    @property
    def least_size(self) -> int:
        """Least odd size of stamps that tell all directions of change, the
        flux and the position apart.
        """
        number = n_directions(self.derivative_order) + 3
        side = math.isqrt(number - 1) + 1
        return side + 1 - side % 2


def fit_visit(stars: VisitStars, options: HierarchicalOptions | None = None) -> VisitPsfModel:
    """Fit one PSF model to the stars of all detectors of a visit.

    Parameters
    ----------
    stars
        Stars of all detectors, without reserved ones.
    options
        Settings.

    Returns
    -------
    model
        The fitted model.

    Raises
    ------
    TooFewStarsError
        Raised if there are too few good stars.
    ValueError
        Raised for an interpolant that cannot be used.
    """
    options = options or HierarchicalOptions()
    shifter = Shifter(_interpolant(options.interpolant), stars.size)
    basis, states, use = _mean(stars, shifter, options)
    basis = make_basis(basis.mean, options.derivative_order)
    fields_basis = FieldBasis(tuple(stars.frames), options.focal_order, options.detector_order)
    scores = measure_scores(stars, basis, None, states, shifter, options.max_snr)
    like_others = _acceptable(chisq_of_directions(stars, scores, states))
    model, use = _fit_robustly(scores, stars, use & like_others, like_others, fields_basis, options)
    if options.height_starts:
        found = find_heights(scores, stars, use, model, options.height_order, options.height_starts)
        model = average_with_heights(model, found) if found else model
    _LOG.info("Used %d of %d stars on %d detectors.", use.sum(), len(stars), len(stars.frames))
    return VisitPsfModel(basis, model, states, use)


def _interpolant(name: str) -> GridWeights:
    """Return the weights of an interpolant given by name."""
    import galsim

    base, _, order = name.removeprefix("galsim.").partition("(")
    known = getattr(galsim, base, None)
    if not (isinstance(known, type) and issubclass(known, galsim.Interpolant)):
        raise ValueError(f"There is no interpolant {name!r}.")
    return GridWeights(taps_of(known(int(order.rstrip(")"))) if order.rstrip(")") else known()))


def _check_number(use: npt.NDArray[np.bool_]) -> None:
    if np.count_nonzero(use) < _MIN_STARS:
        raise TooFewStarsError(
            f"A visit's PSF needs at least {_MIN_STARS} good stars; there are {np.count_nonzero(use)}."
        )


def _mean(
    stars: VisitStars, shifter: Shifter, options: HierarchicalOptions
) -> tuple[Basis, StarStates, npt.NDArray[np.bool_]]:
    """Find fluxes, centres and the mean PSF together."""
    axis = np.exp(-0.5 * ((np.arange(stars.size) - stars.size // 2) / _FIRST_SIGMA) ** 2)
    nothing = np.zeros((0, stars.size, stars.size))
    basis = Basis(np.outer(axis, axis) / axis.sum() ** 2, nothing)
    start = np.where(stars.good, stars.image, 0.0).sum(axis=(1, 2), dtype=np.float64)
    states = StarStates(np.maximum(start, 1.0), stars.offsets(), np.full(len(stars), np.inf))
    usable = stars.good.mean(axis=(1, 2)) >= options.min_unmasked
    # Gaussian first, then means of the stars themselves.
    for i in range(3):
        for _ in range(2):
            states = refit_stars(stars, basis, None, states, shifter, options.max_snr)
        states.chisq[~usable] = np.inf
        good = np.isfinite(states.chisq)
        _check_number(good)
        if i == 2:
            break
        # The half that fits best is the mean; a Gaussian fits none well.
        limit = np.inf if i == 0 else 3.0 * max(1.0, float(np.median(states.chisq[good])))
        good &= states.chisq < limit
        _check_number(good)
        mean = mean_image(stars, basis, states, good, shifter, options.max_snr)
        basis = Basis(_centred(smooth(mean)), nothing)
    return basis, states, _acceptable(states.chisq)


def _acceptable(chisq: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which chi-squares per degree of freedom aren't bad [N]."""
    return chisq < 1.5 * max(1.0, float(np.median(chisq[np.isfinite(chisq)])))


def _centred(mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Shift an image to have no centroid weighted with itself.

    The shift is a few thousandths of a pixel.
    """
    axis = np.arange(len(mean)) - len(mean) // 2
    slope_y, slope_x = np.gradient(mean)
    for _ in range(3):
        square = mean**2
        shift_x, shift_y = (square.sum(axis=i) @ axis / square.sum() for i in (0, 1))
        mean = mean + shift_x * slope_x + shift_y * slope_y
    return mean / mean.sum()


def _fit_robustly(
    scores: Scores,
    stars: VisitStars,
    first: npt.NDArray[np.bool_],
    candidates: npt.NDArray[np.bool_],
    basis: FieldBasis,
    options: HierarchicalOptions,
) -> tuple[FieldModel, npt.NDArray[np.bool_]]:
    """Fit the fields, reject what has another size or shape, fit again.

    The ``first`` stars are those near the mean.  Other ``candidates`` are
    either stars of a detector whose PSF is unusual, or unusual themselves.
    """
    measured = (np.einsum("nkk->nk", scores.matrix) > 0.0).all(axis=1)
    first, candidates = first & measured, candidates & measured
    use = first
    # Galaxies among the stars hide each other at first.
    for _ in range(_REJECTIONS):
        _check_number(use)
        model = fit_fields(scores, stars, use, basis, options.prior_iterations)
        distance = _distances(model, scores, stars, use)
        limit = max(
            options.outlier_sigma, float(np.quantile(distance[candidates], 1.0 - options.max_removed))
        )
        near = candidates & (distance <= limit)
        kept = near & (first | _confirmed(stars.detector, candidates & ~first, near))
        if (kept == use).all():
            return model, use
        use = kept
    _check_number(use)
    return fit_fields(scores, stars, use, basis, options.prior_iterations), use


def _confirmed(
    detector: npt.NDArray[np.int64], unusual: npt.NDArray[np.bool_], near: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Tell which stars are on detectors that most unusual stars agree with.

    Bright stars out of focus are far from the mean, but have the size that
    the faint ones tell; galaxies have a size each.
    """
    count = np.bincount(detector[unusual], minlength=detector.max() + 1)
    agree = np.bincount(detector[unusual & near], minlength=len(count))
    return (2 * agree > count)[detector]


def _distances(
    model: FieldModel, scores: Scores, stars: StarPlaces, use: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return how far stars are from the fields of the others, in standard
    deviations [N].

    A star pulls the fields towards itself, the more the fewer others are
    near: of a galaxy in a corner nearly nothing is left as its residual.
    """
    number = min(_LEADING, scores.vector.shape[1])
    values, variances = np.zeros_like(scores.vector), np.zeros_like(scores.vector)
    # One pass per detector.
    for i in range(len(stars.frames)):
        mine = stars.detector == i
        values[mine] = model.values(i, stars.x[mine], stars.y[mine])
        variances[mine] = model.variances(i, stars.x[mine], stars.y[mine])
    diagonal = np.einsum("nkk->nk", scores.matrix)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = (scores.vector - np.einsum("nab,nb->na", scores.matrix, values)) / diagonal
        noise = 1.0 / diagonal + model.prior.star
        # Residuals of used stars scatter less than their noise, those of
        # others more; either way this is the residual without the star.
        scatter = np.where(use[:, np.newaxis], np.maximum(noise - variances, 0.01 * noise), noise + variances)
        pull = difference / np.sqrt(scatter)
    pull = np.abs(pull[:, :number])
    scale = np.maximum(1.0, MAD_TO_SIGMA * np.median(pull[use], axis=0))
    return np.nan_to_num((pull / scale).max(axis=1), nan=np.inf)
