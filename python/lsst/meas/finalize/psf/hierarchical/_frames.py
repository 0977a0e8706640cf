# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Axes of detectors that are turned or mirrored in the focal plane."""

from __future__ import annotations

__all__ = ("from_focal", "to_focal")

import numpy as np
import numpy.typing as npt


def to_focal(images: npt.NDArray[np.float64], orientation: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Turn images from pixel axes to axes of the focal plane.

    Parameters
    ----------
    images
        Square images centred on their middle pixels [..., n, n].
    orientation
        Signed permutation matrix [2, 2].

    Returns
    -------
    turned
        View of the images.
    """
    swapped = orientation[0, 0] == 0
    turned = images.swapaxes(-1, -2) if swapped else images
    if orientation[0].sum() < 0:
        turned = turned[..., :, ::-1]
    if orientation[1].sum() < 0:
        turned = turned[..., ::-1, :]
    return turned


def from_focal(
    images: npt.NDArray[np.float64], orientation: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Turn images from axes of the focal plane to pixel axes.

    Parameters
    ----------
    images
        Square images centred on their middle pixels [..., n, n].
    orientation
        Signed permutation matrix [2, 2].

    Returns
    -------
    turned
        View of the images.
    """
    return to_focal(images, orientation.T)
