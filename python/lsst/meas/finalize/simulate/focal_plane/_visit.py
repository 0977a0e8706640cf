# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Visits of a focal plane, to be put into a repository."""

from __future__ import annotations

__all__ = ("FocalPlaneVisit",)

import functools
from dataclasses import dataclass

from .._config import SimulatedVisit
from ._config import FocalPlaneSimulation

_VENDORS = ("A", "B")
_FULL_SIZE = 4000


@dataclass(frozen=True)
class FocalPlaneVisit(SimulatedVisit):
    """What a visit of the focal plane looks like.

    Parameters
    ----------
    seed, visit, band, n_bad_columns, sky, saturation, dither
        As for `SimulatedVisit`.
    n_cosmic_rays
        Cosmic rays on 4000 x 4000 pixels; smaller detectors have fewer.
    n_detectors
        21 (the central one of each raft) or fewer, or all 189.
    size
        Width and height of a detector in pixels, at most 4200.
    n_stars
        Stars per detector, on average.
    fwhm
        FWHM of the atmosphere without its outer scale, in arcsec.
    galaxy_fraction
        Fraction of the stars that are small galaxies.
    refraction
        Length in arcsec per magnitude of colour of chromatic refraction,
        along the y axis of the focal plane; 0 switches it off.

    Notes
    -----
    Visits of one seed have the same detectors; those of equal ``size``,
    ``n_stars``, ``fwhm``, ``sky`` and ``galaxy_fraction`` see the same
    objects in the sky, too.  Aberrations and atmosphere are a visit's own.

    Raises
    ------
    ValueError
        Raised if an option is out of its range.
    """

    n_detectors: int = 21
    size: int = _FULL_SIZE
    n_stars: int = 100
    n_cosmic_rays: int = 100
    galaxy_fraction: float = 0.015
    refraction: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.focal_plane  # which checks the options

    @functools.cached_property
    def focal_plane(self) -> FocalPlaneSimulation:
        """Options of the focal plane's PSF."""
        return FocalPlaneSimulation(
            seed=self.seed,
            exposure=self.visit,
            n_detectors=self.n_detectors,
            n_stars=self.n_stars,
            n_reserved=0,
            size=self.size,
            seeing=self.fwhm,
            galaxy_fraction=self.galaxy_fraction,
            masked_fraction=0.0,
            max_zenith_refraction=self.refraction,
            sky=self.sky,
        )

    @property
    def n_tracks(self) -> int:
        """Cosmic rays on one detector."""
        return round(self.n_cosmic_rays * (self.size / _FULL_SIZE) ** 2)

    @property
    def whole_electrons(self) -> bool:
        """Whether pixels are rounded to electrons, which makes small files."""
        return True

    def detector_offset(self, detector: int) -> tuple[float, float]:
        """Return the focal-plane position of a detector's centre in mm.

        Parameters
        ----------
        detector
            Detector number.
        """
        return self.focal_plane.centre(detector)

    def quarter_turns(self, detector: int) -> int:
        """Return how often a detector is turned by 90 degrees.

        Parameters
        ----------
        detector
            Detector number.
        """
        return self.focal_plane.quarter_turns(detector)

    def sensor_type(self, detector: int) -> str:
        """Return which of the two types, ``A`` or ``B``, a detector is of.

        Parameters
        ----------
        detector
            Detector number.
        """
        return _VENDORS[self.focal_plane.vendor(detector)]
