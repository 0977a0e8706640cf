# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Fluxes, centres and chi-squares of all stars for a given model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._design import Design

__all__ = ("Reflux", "center_shifts", "initial_flux_center", "reflux")

_CENTER_STEP = 1e-5
"""Step of Piff's forward differences, in the units of (u, v)."""

_MIN_DETERMINANT = 1e-12
"""Least determinant of the 3 x 3 systems, with unit diagonal."""


@dataclasses.dataclass
class Reflux:
    """State of all stars after their fluxes and centres were refitted."""

    flux: npt.NDArray[np.float64]
    """Fluxes [N]."""

    center: npt.NDArray[np.float64]
    """Centres (u, v) relative to the stars' positions [N, 2]."""

    chisq: npt.NDArray[np.float64]
    """Chi-squares of all pixels of the stamps [N]."""

    dof: npt.NDArray[np.int64]
    """Degrees of freedom [N]."""

    singular: npt.NDArray[np.bool_]
    """Stars whose flux and centre can't be told; their values are void."""

    unstable: npt.NDArray[np.bool_]
    """Stars whose flux and centre depend on rounding errors."""

    @classmethod
    def join(cls, blocks: Iterable[Reflux]) -> Reflux:
        """Join the results of blocks of stars.

        Parameters
        ----------
        blocks
            Results, at least one.

        Returns
        -------
        result
            All stars in order.
        """
        results = list(blocks)
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(r, name) for r in results]) for name in names})


def initial_flux_center(
    design: Design, center: npt.NDArray[np.float64], recenter: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sum the good pixels, and take their centroids.

    Parameters
    ----------
    design
        The stars.
    center
        Centres of stars that aren't to be centred [N, 2].
    recenter
        Stars to be centred [N].

    Returns
    -------
    flux
        Fluxes [N]; 1 instead of 0 for stars to be centred.
    center
        Centres [N, 2].
    """
    stars = design.stars
    good = np.where(stars.weight != 0.0, stars.image, 0.0)
    flux = good.sum(axis=(1, 2))
    flux = np.where(recenter & (flux == 0.0), 1.0, flux)
    with np.errstate(divide="ignore", invalid="ignore"):
        centroid = np.stack(
            [(good * stars.pixel_uv(axis)).sum(axis=(1, 2)) / flux for axis in range(2)], axis=1
        )
    return flux, np.where(recenter[:, np.newaxis], centroid, center)


def _solve_each(
    matrix: npt.NDArray[np.float64], vector: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Solve small systems, telling which are exactly singular."""
    singular = np.zeros(len(matrix), dtype=bool)
    try:
        return np.linalg.solve(matrix, vector[:, :, np.newaxis])[:, :, 0], singular
    except np.linalg.LinAlgError:
        solution = np.zeros_like(vector)
    # LAPACK tells singular matrices only one at a time.
    for i in range(len(matrix)):
        try:
            solution[i] = np.linalg.solve(matrix[i], vector[i])
        except np.linalg.LinAlgError:
            singular[i] = True
    return solution, singular


def _scaled_determinant(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return determinants after scaling rows and columns alike."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1.0 / np.sqrt(np.diagonal(matrix, axis1=1, axis2=2))
        return np.linalg.det(matrix * scale[:, :, np.newaxis] * scale[:, np.newaxis, :])


def _flat(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return images [N, h, w] as rows [N, h*w]."""
    return image.reshape(len(image), -1)


def center_shifts(design: Design, center: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Return what `reflux` has to know of the centres, for all stars at once.

    Parameters
    ----------
    design
        The stars.
    center
        Current centres [N, 2].

    Returns
    -------
    shifts
        Arrays of N stars.
    """
    return design.shifts(center, _CENTER_STEP)


def reflux(
    design: Design,
    profile: npt.NDArray[np.float64],
    flux: npt.NDArray[np.float64],
    center: npt.NDArray[np.float64],
    recenter: npt.NDArray[np.bool_],
    shifts: tuple[npt.NDArray[np.float64], ...],
) -> Reflux:
    """Refit the flux of every star, and the centre of those to be centred.

    One linear step, weighted with the model so that the edge of a stamp has
    little influence, as Piff takes it.  A centred star also moves by the
    centroid of its model, so that the model itself becomes centred.

    Parameters
    ----------
    design
        The stars.
    profile
        Model grids, each of sum 1 [N, n, n].
    flux
        Current fluxes [N].
    center
        Current centres [N, 2].
    recenter
        Stars to be centred [N].
    shifts
        What `center_shifts` returns for the centres.

    Returns
    -------
    result
        New values.
    """
    stars = design.stars
    data, pixel_weight = stars.image, stars.weight
    used_pixels = np.count_nonzero(pixel_weight, axis=(1, 2))
    gradient = np.empty((len(flux), 3, *data.shape[1:]))
    design.draw_shifted(profile, shifts, _CENTER_STEP, gradient)
    unit = gradient[:, 0]
    model = unit * flux[:, np.newaxis, np.newaxis]
    weight = pixel_weight * model
    model_power = np.vecdot(_flat(weight), _flat(model))
    # Piff divides by 1 where the model has no power.
    model_power = np.where(model_power == 0.0, 1.0, model_power)
    new_flux = flux * np.vecdot(_flat(weight), _flat(data)) / model_power
    resid = data - unit * new_flux[:, np.newaxis, np.newaxis]

    gradient[:, 1:] -= unit[:, np.newaxis]
    gradient[:, 1:] *= (new_flux / _CENTER_STEP)[:, np.newaxis, np.newaxis, np.newaxis]
    gradient = gradient.reshape(len(flux), 3, -1)
    weighted = gradient * np.abs(_flat(weight))[:, np.newaxis]
    matrix = weighted @ gradient.swapaxes(1, 2)
    vector = (weighted @ resid.reshape(len(flux), -1, 1))[:, :, 0]
    matrix[~recenter] = np.eye(3)
    vector[~recenter] = 0.0
    step, singular = _solve_each(matrix, vector)
    # Only a matrix with a row of zeros is singular whatever the rounding.
    void = (np.diagonal(matrix, axis1=1, axis2=2) == 0.0).any(axis=1)
    unstable = ~void & ~(_scaled_determinant(matrix) > _MIN_DETERMINANT)

    resid -= (step[:, np.newaxis, :] @ gradient).reshape(resid.shape)
    model *= weight
    centroid = stars.first_moments(model) / model_power[:, np.newaxis] - center
    return Reflux(
        flux=new_flux + step[:, 0],
        center=np.where(recenter[:, np.newaxis], center + (step[:, 1:] + centroid), center),
        chisq=np.vecdot(_flat(resid * pixel_weight), _flat(resid)),
        dof=used_pixels - np.where(recenter, 3, 1),
        singular=singular,
        unstable=unstable,
    )
