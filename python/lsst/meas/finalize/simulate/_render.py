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
import scipy.ndimage

from ._config import VisitSimulation
from ._psf import VisitPsf
from ._scene import Scene


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


def render(simulation: VisitSimulation, detector: int, scene: Scene, psf: VisitPsf) -> Planes:
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
    image = signal + rng.normal(size=signal.shape) * np.sqrt(variance)
    names = ("BAD", "COSMIC_RAY", "INTERPOLATED", "NO_DATA", "SATURATED")
    masks = {name: np.zeros(signal.shape, dtype=bool) for name in names}

    masks["SATURATED"] = scipy.ndimage.binary_dilation(signal > simulation.saturation)
    image = np.minimum(image, simulation.saturation)
    for column in rng.integers(30, simulation.size - 30, simulation.n_bad_columns):
        masks["BAD"][:, column] = True
    for track in _cosmic_rays(rng, simulation):
        masks["COSMIC_RAY"][track] = True
        image[track] += rng.uniform(2000, 20000)

    masks["INTERPOLATED"] = masks["BAD"] | masks["COSMIC_RAY"] | masks["SATURATED"]
    image = _interpolate(image, masks["BAD"] | masks["COSMIC_RAY"])
    corner = simulation.size // 16
    masks["NO_DATA"][-corner:, -corner:] = True
    image[masks["NO_DATA"]] = 0.0
    return Planes(image.astype(np.float32), variance.astype(np.float32), masks)


def _draw_objects(simulation: VisitSimulation, detector: int, scene: Scene, psf: VisitPsf) -> np.ndarray:
    import galsim

    image = galsim.ImageD(simulation.size, simulation.size, scale=simulation.pixel_scale)
    image.setOrigin(0, 0)
    # GalSim draws one object at a time.
    for i in range(len(scene)):
        profile = psf.profile(detector, scene.x[i], scene.y[i])
        if not scene.is_star[i]:
            galaxy = galsim.Exponential(half_light_radius=scene.radius[i])
            profile = galsim.Convolve(galaxy.shear(g1=scene.g1[i], g2=scene.g2[i]), profile)
        stamp_size = 129 if scene.flux[i] > 1e5 else 65
        stamp = profile.withFlux(scene.flux[i]).drawImage(
            nx=stamp_size,
            ny=stamp_size,
            center=galsim.PositionD(scene.x[i], scene.y[i]),
            scale=simulation.pixel_scale,
            dtype=float,
        )
        bounds = stamp.bounds & image.bounds
        image[bounds] += stamp[bounds]
    return np.maximum(image.array, 0.0)


def _cosmic_rays(rng: np.random.Generator, simulation: VisitSimulation) -> Iterator[tuple]:
    for _ in range(simulation.n_cosmic_rays):
        x, y = rng.uniform(20, simulation.size - 20, 2)
        length = rng.integers(3, 15)
        angle = rng.uniform(0, np.pi)
        steps = np.arange(length)
        yield (
            np.round(y + steps * np.sin(angle)).astype(int),
            np.round(x + steps * np.cos(angle)).astype(int),
        )


def _interpolate(image: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Replace bad pixels by linear interpolation along their rows."""
    result = image.copy()
    columns = np.arange(image.shape[1])
    for row in np.flatnonzero(bad.any(axis=1)):
        good = ~bad[row]
        result[row, ~good] = np.interp(columns[~good], columns[good], image[row, good])
    return result
