# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The cameras that can be simulated."""

from __future__ import annotations

__all__ = ("CAMERAS", "SimulatedCamera", "camera_of", "true_psf")

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ._cells import make_cell
from ._config import SimulatedVisit, VisitSimulation
from ._psf import VisitPsf
from ._true_psf import TruePsf
from .focal_plane import FocalPlaneVisit, FocalPlaneVisitPsf, make_focal_plane_cell


@dataclass(frozen=True)
class SimulatedCamera:
    """What tells a camera from others.

    Parameters
    ----------
    visit
        Class of its visits: options, and where detectors are.
    psf
        Makes the true PSF of a visit.
    make_cell
        Makes the objects in a cell of the sky, given a visit and numbers of
        the cell to the west and to the north: columns of `Scene` without
        ``is_isolated``, and ``kind``, which is 1 for objects that aren't
        taken as stars.
    """

    visit: type[SimulatedVisit]
    psf: Callable[[Any], TruePsf]
    make_cell: Callable[[Any, int, int], dict[str, np.ndarray]]


CAMERAS: Mapping[str, SimulatedCamera] = MappingProxyType(
    {
        "simple": SimulatedCamera(VisitSimulation, VisitPsf, make_cell),
        "focal-plane": SimulatedCamera(FocalPlaneVisit, FocalPlaneVisitPsf, make_focal_plane_cell),
    }
)
"""Cameras by name, as for the option ``--camera``."""


def camera_of(simulation: SimulatedVisit) -> SimulatedCamera:
    """Return the camera of a visit.

    Parameters
    ----------
    simulation
        The visit.
    """
    return next(camera for camera in CAMERAS.values() if isinstance(simulation, camera.visit))


@functools.lru_cache(maxsize=2)
def true_psf(simulation: SimulatedVisit) -> TruePsf:
    """Return the true PSF of a visit; those of the last two are kept.

    Parameters
    ----------
    simulation
        The visit.
    """
    return camera_of(simulation).psf(simulation)
