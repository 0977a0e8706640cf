# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The true PSF of a visit as a dataset."""

from __future__ import annotations

__all__ = ("describe_psf_truth", "read_psf_truth")

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._cameras import CAMERAS, camera_of, true_psf
from ._config import SimulatedVisit
from ._true_psf import TruePsf

_VERSION = 1
_TOLERANCE = 1e-6
_PROBE_COLOR = 2.0  # one that refraction changes


def describe_psf_truth(simulation: SimulatedVisit) -> dict[str, Any]:
    """Describe the true PSF of a visit by plain values.

    Parameters
    ----------
    simulation
        The visit.

    Returns
    -------
    `dict`
        ``format_version``, ``camera``, ``options`` of the visit, and a
        ``probe``: the middle row of the PSF near a corner of the last
        detector.
    """
    camera = camera_of(simulation)
    return {
        "format_version": _VERSION,
        "camera": next(name for name, known in CAMERAS.items() if known is camera),
        "options": dataclasses.asdict(simulation),
        "probe": _probe(simulation).tolist(),
    }


def read_psf_truth(content: Mapping[str, Any]) -> TruePsf:
    """Return the true PSF that a dataset ``simulated_psf_truth`` describes.

    Parameters
    ----------
    content
        What ``butler.get("simulated_psf_truth", ...)`` returns.

    Returns
    -------
    `TruePsf`
        Draws the PSF at any position.

    Raises
    ------
    ValueError
        Raised if the content is incomplete, was written by a version whose
        PSFs aren't those of this one, or has an option out of its range.
    """
    missing = {"format_version", "camera", "options", "probe"} - set(content)
    if missing:
        raise ValueError(f"simulated_psf_truth lacks {sorted(missing)}.")
    if content["format_version"] != _VERSION:
        raise ValueError(
            f"simulated_psf_truth has format_version {content['format_version']!r}, not {_VERSION}."
        )
    camera = CAMERAS.get(content["camera"])
    if camera is None:
        raise ValueError(f"simulated_psf_truth is of the unknown camera {content['camera']!r}.")
    try:
        simulation = camera.visit(**content["options"])
    except TypeError as error:
        raise ValueError(f"simulated_psf_truth has other options than this version: {error}.") from error
    stored, drawn = np.asarray(content["probe"], dtype=float), _probe(simulation)
    if stored.shape != drawn.shape or not np.allclose(stored, drawn, rtol=0.0, atol=_TOLERANCE * drawn.max()):
        raise ValueError("simulated_psf_truth was written by a version that draws other PSFs than this one.")
    return true_psf(simulation)


def _probe(simulation: SimulatedVisit) -> np.ndarray:
    """Draw a few pixels by which to recognise the PSF."""
    at = [simulation.size / 8.0]
    image = true_psf(simulation).images(simulation.n_detectors - 1, at, at, color=_PROBE_COLOR)[0]
    return image[len(image) // 2]
