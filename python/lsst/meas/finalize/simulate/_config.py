# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Options of simulated visits, and where their detectors are."""

from __future__ import annotations

__all__ = ("SimulatedVisit", "VisitSimulation", "survey")

import datetime
import math
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_BANDS = "ugrizy"
_MOST_DETECTORS = 189
_LARGEST_DITHER = 3600.0
_YEARS = range(1970, 2100)  # those that a butler can store


@dataclass(frozen=True)
class SimulatedVisit(ABC):
    """What all simulated visits have, whatever their camera.

    Parameters
    ----------
    seed
        Seed of all random numbers.
    visit
        Visit number; its first eight digits are the observing day.
    band
        Band, one of ``ugrizy``.
    n_detectors
        Number of detectors.
    size
        Width and height of a detector in pixels.
    n_stars
        Stars per detector, on average.
    n_cosmic_rays, n_bad_columns
        Defects per detector.
    fwhm
        Seeing in arcsec.
    sky
        Sky level in electrons per pixel.
    saturation
        Level in electrons at which pixels saturate.
    dither
        Largest distance of the boresight from the centre of the field in
        arcsec; where in that circle it is depends on seed and visit.

    Raises
    ------
    ValueError
        Raised if an option is out of its range.
    """

    seed: int = 1
    visit: int = 20260304001
    band: str = "r"
    n_detectors: int = 4
    size: int = 1000
    n_stars: int = 160
    n_cosmic_rays: int = 12
    n_bad_columns: int = 3
    fwhm: float = 0.75
    sky: float = 900.0
    saturation: float = 150_000.0
    dither: float = 0.0

    pixel_scale = 0.2
    """Pixel scale in arcsec."""
    pixel_size = 0.01
    """Size of a pixel in mm."""
    field_center = (150.1, 2.2)
    """Right ascension and declination of the field in degrees."""
    tracts = (4, 7)
    """Tracts of the sky map; stars belong to the western or the eastern."""

    def __post_init__(self) -> None:
        if self.band not in _BANDS or len(self.band) != 1:
            raise ValueError(f"Band {self.band!r} is not one of {_BANDS!r}.")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} is negative.")
        if self.size < 200:
            raise ValueError(f"size={self.size} is smaller than 200 pixels.")
        if min(self.n_stars, self.n_cosmic_rays, self.n_bad_columns) < 0:
            raise ValueError("Numbers of objects and defects must not be negative.")
        if not all(math.isfinite(v) and v > 0 for v in (self.fwhm, self.sky, self.saturation)):
            raise ValueError("fwhm, sky and saturation must be positive numbers.")
        if not 0 <= self.dither <= _LARGEST_DITHER:
            raise ValueError(f"dither={self.dither} is not in the range 0 to {_LARGEST_DITHER:g} arcsec.")
        self._check_visit()

    def _check_visit(self) -> None:
        if len(str(self.visit)) != 11:
            raise ValueError(f"visit={self.visit} does not have the 11 digits of YYYYMMDDnnn.")
        try:
            day = datetime.datetime.strptime(str(self.day_obs), "%Y%m%d")
        except ValueError:
            raise ValueError(f"visit={self.visit} does not begin with a date YYYYMMDD.") from None
        if day.year not in _YEARS:
            raise ValueError(f"visit={self.visit} is not between {_YEARS[0]} and {_YEARS[-1]}.")

    @property
    def day_obs(self) -> int:
        """Observing day, YYYYMMDD."""
        return self.visit // 1000

    @property
    def boresight(self) -> tuple[float, float]:
        """Right ascension and declination of the boresight in degrees."""
        ra, dec = self.field_center
        if self.dither == 0:
            return ra, dec
        rng = random.Random(f"dither {self.seed} {self.visit}")
        radius, angle = self.dither / 3600 * math.sqrt(rng.random()), 2 * math.pi * rng.random()
        return ra + radius * math.cos(angle) / math.cos(math.radians(dec)), dec + radius * math.sin(angle)

    @property
    def tract_boundary(self) -> float:
        """Right ascension in degrees where the eastern tract begins.

        It runs through a column of detectors, which have stars of both.
        """
        ra, dec = self.field_center
        return ra + self.size / 3 * self.pixel_scale / 3600 / math.cos(math.radians(dec))

    @property
    def n_objects(self) -> int:
        """Objects per detector, on average."""
        return self.n_stars

    @property
    def n_tracks(self) -> int:
        """Cosmic rays on one detector."""
        return self.n_cosmic_rays

    @property
    def blank_corner(self) -> int:
        """Side in pixels of the corner of a detector without data."""
        return 0

    @property
    def whole_electrons(self) -> bool:
        """Whether pixels are rounded to electrons, which makes small files."""
        return False

    @abstractmethod
    def detector_offset(self, detector: int) -> tuple[float, float]:
        """Return the focal-plane position of a detector's centre in mm.

        Parameters
        ----------
        detector
            Detector number.
        """

    def quarter_turns(self, detector: int) -> int:
        """Return how often a detector is turned by 90 degrees.

        Parameters
        ----------
        detector
            Detector number.
        """
        return 0

    def rotation(self, detector: int) -> npt.NDArray[np.float64]:
        """Return the matrix [2, 2] from pixel axes to focal-plane axes.

        Parameters
        ----------
        detector
            Detector number.
        """
        return np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), self.quarter_turns(detector))

    def sensor_type(self, detector: int) -> str:
        """Return what kind of sensor a detector is.

        Parameters
        ----------
        detector
            Detector number.
        """
        return "simulated"

    def pixel_to_plane(
        self, detector: int, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Transform pixels of a detector to the focal plane.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            Pixel positions.

        Returns
        -------
        `tuple` [`numpy.ndarray`, `numpy.ndarray`]
            Pixels from the middle of the focal plane, to the west and north.
        """
        ((xx, xy), (yx, yy)), (x0, y0) = self.rotation(detector), self.detector_offset(detector)
        half = (self.size - 1) / 2
        u, v = x - half, y - half
        return xx * u + xy * v + x0 / self.pixel_size, yx * u + yy * v + y0 / self.pixel_size

    def plane_to_pixel(
        self, detector: int, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Transform the focal plane to pixels of a detector.

        Parameters
        ----------
        detector
            Detector number.
        x, y
            What `pixel_to_plane` returns.

        Returns
        -------
        `tuple` [`numpy.ndarray`, `numpy.ndarray`]
            Pixel positions.
        """
        ((xx, xy), (yx, yy)), (x0, y0) = self.rotation(detector), self.detector_offset(detector)
        half = (self.size - 1) / 2
        u, v = x - x0 / self.pixel_size, y - y0 / self.pixel_size
        return xx * u + yx * v + half, xy * u + yy * v + half


@dataclass(frozen=True)
class VisitSimulation(SimulatedVisit):
    """What a visit of the simple camera looks like.

    Parameters
    ----------
    seed, visit, band, size, n_cosmic_rays, n_bad_columns
        As for `SimulatedVisit`.
    fwhm, sky, saturation, dither
        As for `SimulatedVisit`.
    n_detectors
        Number of detectors, at most 189; up to ten form rows of two, more
        fill a square.
    n_stars, n_galaxies
        Objects per detector, on average; a few of the stars are saturated.
    n_blends
        Pairs of close stars per detector, besides the above.

    Notes
    -----
    Visits of one seed and of equal ``size``, ``n_stars``, ``n_galaxies`` and
    ``n_blends`` see the same objects in the sky, whatever their band.

    Raises
    ------
    ValueError
        Raised if an option is out of its range.
    """

    n_galaxies: int = 60
    n_blends: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.n_galaxies, self.n_blends) < 0:
            raise ValueError("Numbers of objects and defects must not be negative.")
        if not 1 <= self.n_detectors <= _MOST_DETECTORS:
            raise ValueError(f"n_detectors={self.n_detectors} is not in the range 1 to {_MOST_DETECTORS}.")

    @property
    def n_objects(self) -> int:
        """Objects per detector, on average."""
        return self.n_stars + self.n_galaxies + 3 * self.n_blends

    @property
    def blank_corner(self) -> int:
        """Side in pixels of the corner of a detector without data."""
        return self.size // 16

    def detector_offset(self, detector: int) -> tuple[float, float]:
        """Return the focal-plane position of a detector's centre in mm.

        Parameters
        ----------
        detector
            Detector number.
        """
        n_columns = 2 if self.n_detectors <= 10 else math.ceil(math.sqrt(self.n_detectors))
        row, column = divmod(detector, n_columns)
        pitch = (self.size + 50) * self.pixel_size
        n_rows = -(-self.n_detectors // n_columns)
        return (column - (n_columns - 1) / 2) * pitch, (row - (n_rows - 1) / 2) * pitch


def survey(
    n_visits: int, *, visit: int, bands: str, kind: type[SimulatedVisit] = VisitSimulation, **options: Any
) -> list[SimulatedVisit]:
    """Return several visits of one field.

    Parameters
    ----------
    n_visits
        Number of visits.
    visit
        Number of the first; the others follow it.
    bands
        Bands that the visits take in turn, one letter each.
    kind
        Class of the visits, which stands for their camera.
    **options
        Other options of that class.

    Returns
    -------
    `list` [`SimulatedVisit`]
        The visits.

    Raises
    ------
    ValueError
        Raised if there is no band, or an option is out of its range.
    """
    if not bands:
        raise ValueError(f"Bands are missing; they are among {_BANDS!r}.")
    return [kind(visit=visit + i, band=bands[i % len(bands)], **options) for i in range(n_visits)]
