# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What a simulated focal plane is like, and where its detectors are."""

from __future__ import annotations

__all__ = ("FocalPlaneSimulation",)

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RAFTS = [(column, row) for row in range(5) for column in range(5) if (column % 4, row % 4) != (0, 0)]
"""Rafts on a square of 5 x 5 without its corners."""

_ALL = 9 * len(_RAFTS)

_CENTRE_OF_RAFT = 4
"""Number within a raft of the only detector of small focal planes."""


@dataclass(frozen=True)
class FocalPlaneSimulation:
    """What a simulated visit of a focal plane looks like.

    The geometry is that of LSSTCam's science rafts: 21 rafts 127 mm apart,
    each of 3 x 3 detectors 42.25 mm apart.

    Parameters
    ----------
    seed
        Seed of all random numbers.
    exposure
        Number of the exposure: those of one seed have the same detectors,
        but aberrations and an atmosphere of their own.
    n_detectors
        21 (the central one of each raft) or fewer, or all 189.
    n_stars, n_reserved
        Usable stars per detector, and more that are reserved.
    size
        Width and height of a detector in pixels.
    stamp_size
        Width and height of star stamps in pixels, odd.
    seeing
        FWHM of the atmosphere without its outer scale, in arcsec.
    galaxy_fraction
        Fraction of the stars that are small galaxies.
    masked_fraction
        Fraction of the stars with a masked column and masked pixels.
    max_zenith_refraction
        Length in arcsec per magnitude of colour of chromatic refraction,
        along the y axis of the focal plane; 0 switches it off.
    sky
        Sky level in electrons per pixel.

    Raises
    ------
    ValueError
        Raised if an option is out of its range.
    """

    seed: int = 1
    exposure: int = 0
    n_detectors: int = 21
    n_stars: int = 100
    n_reserved: int = 20
    size: int = 4000
    stamp_size: int = 25
    seeing: float = 0.75
    galaxy_fraction: float = 0.015
    masked_fraction: float = 0.1
    max_zenith_refraction: float = 0.0
    sky: float = 900.0

    pixel_scale = 0.2
    """Pixel scale in arcsec."""
    pixel_size = 0.01
    """Size of a pixel in mm."""
    raft_pitch = 127.0
    """Distance of rafts in mm."""
    detector_pitch = 42.25
    """Distance of the detectors of a raft in mm."""
    radius = 317.0
    """Radius of the field in mm."""

    def __post_init__(self) -> None:
        if not (1 <= self.n_detectors <= len(_RAFTS) or self.n_detectors == _ALL):
            raise ValueError(f"n_detectors={self.n_detectors} is neither 1 to {len(_RAFTS)} nor {_ALL}.")
        if min(self.n_stars, self.n_reserved) < 0 or min(self.seed, self.exposure) < 0:
            raise ValueError("seed, exposure and numbers of stars must not be negative.")
        if not 200 <= self.size <= 4200:
            raise ValueError(f"size={self.size} is not in the range 200 to 4200.")
        if self.stamp_size < 9 or self.stamp_size % 2 == 0:
            raise ValueError(f"stamp_size={self.stamp_size} is not an odd number of at least 9.")
        if not 0.3 <= self.seeing <= 2.0:
            raise ValueError(f"The seeing of {self.seeing} arcsec is not in the range 0.3 to 2.0.")
        if not 0.0 <= self.max_zenith_refraction <= 1.0:
            raise ValueError(
                f"The refraction of {self.max_zenith_refraction} arcsec per magnitude is not between 0 and 1."
            )
        if not (0.0 <= self.galaxy_fraction <= 1.0 and 0.0 <= self.masked_fraction <= 1.0):
            raise ValueError("Fractions of galaxies and masked stars must be between 0 and 1.")
        if not self.sky > 0.0:
            raise ValueError(f"sky={self.sky} is not positive.")

    def raft_and_slot(self, detector: int) -> tuple[int, int]:
        """Return number of the raft, and of the detector within it."""
        if not 0 <= detector < self.n_detectors:
            raise ValueError(f"There is no detector {detector}, only 0 to {self.n_detectors - 1}.")
        return divmod(detector, 9) if self.n_detectors == _ALL else (detector, _CENTRE_OF_RAFT)

    def centre(self, detector: int) -> tuple[float, float]:
        """Return the position of a detector's centre in mm."""
        raft, slot = self.raft_and_slot(detector)
        column, row = _RAFTS[raft]
        x = (column - 2) * self.raft_pitch + (slot % 3 - 1) * self.detector_pitch
        y = (row - 2) * self.raft_pitch + (slot // 3 - 1) * self.detector_pitch
        return x, y

    def vendor(self, detector: int) -> int:
        """Return which of the two types (0 or 1) a detector is of."""
        column, row = _RAFTS[self.raft_and_slot(detector)[0]]
        return int(column in (0, 4) or row in (0, 4))

    def quarter_turns(self, detector: int) -> int:
        """Return how often a detector is turned by 90 degrees."""
        column, row = _RAFTS[self.raft_and_slot(detector)[0]]
        return (column + 2 * row) % 4

    def rotation(self, detector: int) -> npt.NDArray[np.float64]:
        """Return the matrix [2, 2] from pixel axes to focal-plane axes."""
        turns = self.quarter_turns(detector)
        return np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), turns)

    def focal_position(self, detector: int, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return positions in the focal plane.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            Pixel positions [N].

        Returns
        -------
        position
            float64 array [N, 2] in mm.
        """
        half = (self.size - 1) / 2
        offset = (np.stack([x, y], axis=-1).astype(np.float64) - half) * self.pixel_size
        return np.array(self.centre(detector)) + offset @ self.rotation(detector).T
