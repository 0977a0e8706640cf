# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The PSF of a simulated focal plane, without noise, anywhere."""

from __future__ import annotations

__all__ = ("LARGEST_STAMP", "FocalPlanePsf")

import functools

import numpy as np
import numpy.typing as npt

from ._atmosphere import Atmosphere
from ._config import FocalPlaneSimulation
from ._optics import Optics

_PERIOD = 44
"""Period of the Fourier series of a PSF in pixels."""

LARGEST_STAMP = _PERIOD - 1
"""Largest width of stamps in pixels; larger ones would repeat the PSF."""

_HIGHEST = 36
"""Highest frequency of the series; 1.6 times that which pixels resolve."""

_BLOCK = 128
"""Stars computed at once, to bound the work space."""

_WAVELENGTH, _OUTER_SCALE = 620.0, 25.0
"""Of the atmospheric PSF, in nm and m."""


class FocalPlanePsf:
    """The true PSF: optics, heights, atmosphere, pixels and refraction.

    Parameters
    ----------
    simulation
        The visit.
    """

    def __init__(self, simulation: FocalPlaneSimulation) -> None:
        self.simulation = simulation
        self.optics = Optics(simulation)
        self.atmosphere = Atmosphere(simulation)

    def images(
        self,
        detector: int,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        dx: npt.ArrayLike = 0.0,
        dy: npt.ArrayLike = 0.0,
        color: npt.ArrayLike = 1.0,
        blur: npt.ArrayLike | None = None,
        side: int | None = None,
        derivatives: bool = False,
    ) -> npt.NDArray[np.float64]:
        """Draw the PSF.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            Pixel positions [N].
        dx, dy
            Offsets of the centres from the middles of the stamps in pixels,
            scalar or [N].
        color
            Colours g - i; refraction vanishes for 1.
        blur
            Moments xx, yy, xy in arcsec^2 of Gaussians to convolve with
            [N, 3]; for galaxies.
        side
            Width and height of the stamps in pixels, odd; that of the
            simulation's stamps if not given.
        derivatives
            Whether to draw the derivatives by ``dx`` and ``dy``, too.

        Returns
        -------
        images
            float64 [N, side, side] of total flux 1 (a little of it outside
            of the stamps); [3, N, side, side] with derivatives.

        Raises
        ------
        ValueError
            Raised if there is no such detector, or if ``side`` isn't an odd
            number of at most 43.
        """
        side = self.simulation.stamp_size if side is None else side
        if not (0 < side <= LARGEST_STAMP and side % 2):
            raise ValueError(f"side={side} is not an odd number of at most {LARGEST_STAMP}.")
        x, y = np.atleast_1d(np.asarray(x, dtype=np.float64)), np.atleast_1d(np.asarray(y, dtype=np.float64))
        shifts = np.stack(np.broadcast_arrays(dx, dy, np.zeros(len(x)))[:2], axis=1).astype(np.float64)
        colors = np.broadcast_to(np.asarray(color, dtype=np.float64), len(x))
        images = np.empty((3 if derivatives else 1, len(x), side, side))
        # One block of stars at a time.
        for start in range(0, len(x), _BLOCK):
            part = slice(start, start + _BLOCK)
            transfer = self._transfer(detector, x[part], y[part], colors[part])
            if blur is not None:
                transfer *= _gaussian(np.asarray(blur)[part], self.simulation.pixel_scale)
            images[:, part] = _draw(transfer, shifts[part], side, derivatives)
        return images if derivatives else images[0]

    def _transfer(
        self,
        detector: int,
        x: npt.NDArray[np.float64],
        y: npt.NDArray[np.float64],
        color: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.complex128]:
        """Return transfer functions [N, 2 H + 1, H + 1] (ky, kx)."""
        simulation = self.simulation
        rotation = simulation.rotation(detector)
        rays = self.optics.rays(detector, x, y) / simulation.pixel_scale
        ky, kx = _frequencies()
        along_y = np.exp(-1j * ky[:, 0] * rays[:, :, 1, np.newaxis])
        along_x = np.exp(-1j * kx * rays[:, :, 0, np.newaxis])
        transfer = along_y.swapaxes(1, 2) @ along_x / rays.shape[1]
        size, e1, e2 = self.atmosphere.parameters(simulation.focal_position(detector, x, y)).T
        # Shapes turn twice as fast as axes.
        sign = 1.0 if simulation.quarter_turns(detector) % 2 == 0 else -1.0
        transfer *= _atmospheric(size, sign * e1, sign * e2, simulation.seeing, simulation.pixel_scale)
        refraction = simulation.max_zenith_refraction
        if refraction:
            elongation = (refraction * (color - 1.0)) ** 2
            axis = rotation[1]
            moments = np.multiply.outer(elongation, [axis[0] ** 2, axis[1] ** 2, axis[0] * axis[1]])
            transfer *= _gaussian(moments, simulation.pixel_scale)
        return transfer * (np.sinc(kx / (2 * np.pi)) * np.sinc(ky / (2 * np.pi)))


@functools.lru_cache(maxsize=1)
def _frequencies() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return ky [2 H + 1, 1] and kx [H + 1] in radians per pixel."""
    step: float = 2.0 * np.pi / _PERIOD
    numbers = np.arange(-_HIGHEST, _HIGHEST + 1, dtype=np.float64)
    return step * numbers[:, np.newaxis], step * numbers[_HIGHEST:]


@functools.lru_cache(maxsize=4)
def _profile(seeing: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Tabulate the transfer function of a von Karman atmosphere."""
    import galsim

    # The FWHM of a Kolmogorov PSF is 0.976 lambda / r0.
    r0 = 0.976 * _WAVELENGTH * 1e-9 / np.deg2rad(seeing / 3600.0)
    profile = galsim.VonKarman(lam=_WAVELENGTH, r0=r0, L0=_OUTER_SCALE, scale_unit=galsim.arcsec)
    k = np.linspace(0.0, 60.0, 3001)
    return k, np.array([profile.kValue(value, 0.0).real for value in k])


def _atmospheric(
    size: npt.NDArray[np.float64],
    e1: npt.NDArray[np.float64],
    e2: npt.NDArray[np.float64],
    seeing: float,
    scale: float,
) -> npt.NDArray[np.float64]:
    ky, kx = _frequencies()
    xx, yy, xy = ((1.0 + size) * m for m in (1.0 + e1, 1.0 - e1, e2))
    shape = (slice(None), np.newaxis, np.newaxis)
    square = xx[shape] * kx**2 + yy[shape] * ky**2 + 2.0 * xy[shape] * kx * ky
    return np.interp(np.sqrt(square) / scale, *_profile(seeing))


def _gaussian(moments: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.float64]:
    ky, kx = _frequencies()
    xx, yy, xy = (moments / scale**2).T[:, :, np.newaxis, np.newaxis]
    return np.exp(-0.5 * (xx * kx**2 + yy * ky**2 + 2.0 * xy * kx * ky))


def _draw(
    transfer: npt.NDArray[np.complex128], shift: npt.NDArray[np.float64], side: int, derivatives: bool
) -> npt.NDArray[np.float64]:
    """Sum the Fourier series at the pixels of stamps."""
    ky, kx = _frequencies()
    pixels = np.arange(side) - side // 2
    # The half plane kx > 0 stands for its mirror image, too.
    half = np.where(np.arange(_HIGHEST + 1) == 0, 1.0, 2.0) / _PERIOD**2
    rows = np.exp(1j * ky[:, 0] * (pixels[:, np.newaxis] - shift[:, 1, np.newaxis, np.newaxis]))
    columns = half * np.exp(1j * kx * (pixels[:, np.newaxis] - shift[:, 0, np.newaxis, np.newaxis]))
    images = [((rows @ transfer) @ columns.swapaxes(1, 2)).real]
    if derivatives:
        images.append(((rows @ transfer) @ (-1j * kx * columns).swapaxes(1, 2)).real)
        images.append((((-1j * ky[:, 0] * rows) @ transfer) @ columns.swapaxes(1, 2)).real)
    return np.array(images)
