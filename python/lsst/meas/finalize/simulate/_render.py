# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Pixels of simulated images."""

from __future__ import annotations

__all__ = ("Planes", "render")

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from ._config import SimulatedVisit
from ._objects import Scene
from ._true_psf import TruePsf


@dataclass
class Planes:
    """Pixels of one detector.

    Parameters
    ----------
    image, variance
        float32 arrays of shape (size, size), in electrons and electrons^2.
    masks
        bool arrays by name of the mask plane in lsst.images.
    """

    image: np.ndarray
    variance: np.ndarray
    masks: dict[str, np.ndarray]


def render(simulation: SimulatedVisit, detector: int, scene: Scene, psf: TruePsf) -> Planes:
    """Draw a detector with noise and defects, and repair the defects.

    Parameters
    ----------
    simulation
        The visit.
    detector
        Detector number.
    scene
        Objects to draw.
    psf
        True PSF.

    Returns
    -------
    `Planes`
        Sky-subtracted pixels with their masks.
    """
    rng = np.random.default_rng([simulation.seed, simulation.visit, detector, 1])
    signal = _draw_objects(simulation, detector, scene, psf)
    variance = simulation.sky + signal
    # In place, since images of real detectors are large.
    image = rng.normal(size=signal.shape)
    image *= np.sqrt(variance)
    image += signal
    names = ("BAD", "COSMIC_RAY", "INTERPOLATED", "NO_DATA", "SATURATED")
    masks = {name: np.zeros(signal.shape, dtype=bool) for name in names}

    masks["SATURATED"] = signal > simulation.saturation
    if masks["SATURATED"].any():
        masks["SATURATED"] = scipy.ndimage.binary_dilation(masks["SATURATED"])
    del signal
    np.minimum(image, simulation.saturation, out=image)
    for column in rng.integers(30, simulation.size - 30, simulation.n_bad_columns):
        masks["BAD"][:, column] = True
    for track in _cosmic_rays(rng, simulation):
        masks["COSMIC_RAY"][track] = True
        image[track] += rng.uniform(2000, 20000)

    masks["INTERPOLATED"] = masks["BAD"] | masks["COSMIC_RAY"] | masks["SATURATED"]
    _interpolate(image, masks["BAD"] | masks["COSMIC_RAY"])
    inner = simulation.size - simulation.blank_corner
    masks["NO_DATA"][inner:, inner:] = True
    image[masks["NO_DATA"]] = 0.0
    if simulation.whole_electrons:
        np.rint(image, out=image)
    return Planes(image.astype(np.float32), variance.astype(np.float32), masks)


def _draw_objects(
    simulation: SimulatedVisit, detector: int, scene: Scene, psf: TruePsf
) -> npt.NDArray[np.float64]:
    image = np.zeros((simulation.size, simulation.size))
    for x0, y0, stamp in psf.object_stamps(detector, scene):
        left, bottom = max(-x0, 0), max(-y0, 0)
        inside = stamp[bottom : max(simulation.size - y0, 0), left : max(simulation.size - x0, 0)]
        x, y = x0 + left, y0 + bottom
        image[y : y + inside.shape[0], x : x + inside.shape[1]] += inside
    return np.maximum(image, 0.0, out=image)


def _cosmic_rays(rng: np.random.Generator, simulation: SimulatedVisit) -> Iterator[tuple]:
    for _ in range(simulation.n_tracks):
        x, y = rng.uniform(20, simulation.size - 20, 2)
        length = rng.integers(3, 15)
        angle = rng.uniform(0, np.pi)
        steps = np.arange(length)
        yield (
            np.round(y + steps * np.sin(angle)).astype(int),
            np.round(x + steps * np.cos(angle)).astype(int),
        )


def _interpolate(image: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_]) -> None:
    """Replace bad pixels by linear interpolation along their rows, in place.

    At the edges the nearest good pixel is repeated; a row without any stays.
    """
    y, x = np.nonzero(bad & ~bad.all(axis=1, keepdims=True))
    if not len(y):
        return
    # Each run of bad pixels in a row, and the good pixels before and after.
    begins = np.append(True, (np.diff(x) != 1) | (np.diff(y) != 0))
    ends = np.append(begins[1:], True)
    run = np.cumsum(begins) - 1
    left, right, width = x[begins][run] - 1, x[ends][run] + 1, bad.shape[1]
    low = image[y, np.where(left < 0, right, left)]
    high = image[y, np.where(right >= width, left, right)]
    image[y, x] = low + (high - low) * (x - left) / (right - left)
