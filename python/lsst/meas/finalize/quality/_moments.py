# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Sizes and ellipticities of second moments."""

from __future__ import annotations

__all__ = ("determinant_radius", "distortion", "trace_radius")

import numpy as np
import numpy.typing as npt

type Floats = npt.NDArray[np.float64]


def trace_radius(moments: Floats) -> Floats:
    """Return sqrt((xx + yy)/2) (spec 07 §1).

    Parameters
    ----------
    moments
        Moments xx, yy, xy; shape (N, 3).

    Returns
    -------
    `numpy.ndarray`
        Radii, shape (N,), in the root of the moments' unit; NaN where the
        sum is negative.
    """
    with np.errstate(invalid="ignore"):
        return np.sqrt((moments[:, 0] + moments[:, 1]) / 2)


def determinant_radius(moments: Floats) -> Floats:
    """Return (xx yy - xy^2)^(1/4) (spec 07 §1).

    Parameters
    ----------
    moments
        Moments xx, yy, xy; shape (N, 3).

    Returns
    -------
    `numpy.ndarray`
        Radii, shape (N,), in the root of the moments' unit; NaN where the
        determinant is negative.
    """
    with np.errstate(invalid="ignore"):
        return (moments[:, 0] * moments[:, 1] - moments[:, 2] ** 2) ** 0.25


def distortion(moments: Floats) -> Floats:
    """Return e1 = (xx - yy)/(xx + yy) and e2 = 2 xy/(xx + yy) (spec 07 §1).

    Parameters
    ----------
    moments
        Moments xx, yy, xy; shape (N, 3).

    Returns
    -------
    `numpy.ndarray`
        Shape (N, 2); NaN where a moment is.
    """
    size = moments[:, 0] + moments[:, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([(moments[:, 0] - moments[:, 1]) / size, 2 * moments[:, 2] / size], axis=1)
