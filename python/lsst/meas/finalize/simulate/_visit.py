# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""One detector of a simulated visit, from sky to catalogue."""

from __future__ import annotations

__all__ = ("SimulatedDetector", "simulate_detector")

from dataclasses import dataclass

import astropy.coordinates
import astropy.table
import astropy.units as u
import numpy as np
from astro_metadata_translator import ObservationInfo
from scipy.spatial import cKDTree

from lsst.images import Box, Image, Mask, MaskSchema, VisitImage, get_legacy_visit_image_mask_planes
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import GaussianPointSpreadFunction

from ..arrays import Detections, detect, measure_sources, sky_positions
from ..catalogs import SourceCatalog
from ._camera import EXPOSURE_TIME, exposure_times, make_detector, make_sky_projection
from ._cameras import true_psf
from ._config import SimulatedVisit
from ._objects import Scene
from ._render import Planes, render
from ._scene import make_scene
from ._true_psf import TruePsf

_SOURCE_BITS = 20  # with them, the largest visit's ids fit into 63 bits
_MATCH_RADIUS = 1.0  # pixels between an object and the source it was found as
_SITE = astropy.coordinates.EarthLocation.from_geodetic(-70.749417, -30.244639, 2663.0)


@dataclass
class SimulatedDetector:
    """One detector of a simulated visit.

    Parameters
    ----------
    calexp
        Image, with a Gaussian for a preliminary PSF.
    src
        Detected and measured sources.
    truth
        True objects: ``x``, ``y``, ``flux``, ``color``, ``is_star``,
        ``is_isolated``, ``ra``, ``dec``, the true PSF ``psf_xx``, ``psf_yy``,
        ``psf_xy`` (stars only) and ``source_id`` (0 if not found).
    """

    calexp: VisitImage
    src: SourceCatalog
    truth: astropy.table.Table


def simulate_detector(
    simulation: SimulatedVisit, detector: int, *, scene: Scene | None = None
) -> SimulatedDetector:
    """Simulate one detector of a visit.

    Parameters
    ----------
    simulation
        The visit.
    detector
        Detector number.
    scene
        Objects to draw; random ones if not given.

    Returns
    -------
    `SimulatedDetector`
        Image, sources and truth.
    """
    psf = true_psf(simulation)
    if scene is None:
        scene = make_scene(simulation, detector)
    planes = render(simulation, detector, scene, psf)
    sigma = simulation.fwhm / simulation.pixel_scale / 2.355
    found = detect(planes.image, planes.variance, sigma, ~planes.masks["NO_DATA"])
    calexp = _make_image(simulation, detector, planes, found, sigma)
    src = measure_sources(calexp, found, first_id=_detector_visit(simulation, detector) << _SOURCE_BITS)
    return SimulatedDetector(calexp, src, _make_truth(detector, scene, psf, calexp, src))


def _detector_visit(simulation: SimulatedVisit, detector: int) -> int:
    return simulation.visit * 256 + detector


def _make_image(
    simulation: SimulatedVisit, detector: int, planes: Planes, found: Detections, sigma: float
) -> VisitImage:
    camera_detector = make_detector(simulation, detector)
    box = Box.from_shape(planes.image.shape)
    mask = Mask(0, schema=MaskSchema(get_legacy_visit_image_mask_planes().values()), bbox=box)
    for name, pixels in planes.masks.items():
        mask.set(name, pixels)
    mask.set("DETECTED", found.detected)
    return VisitImage(
        Image(planes.image, unit=u.electron),
        mask=mask,
        variance=Image(planes.variance, unit=u.electron**2),
        sky_projection=make_sky_projection(simulation, camera_detector, camera_detector.frame),
        obs_info=_make_obs_info(simulation, camera_detector.name, detector),
        # One electron is one nJy, as in the magnitudes of the standard stars.
        photometric_scaling=ChebyshevField(box, np.ones((1, 1)), unit=u.nJy / u.electron),
        psf=GaussianPointSpreadFunction(sigma, bounds=box, stamp_size=25),
        detector=camera_detector,
        band=simulation.band,
    )


def _make_obs_info(simulation: SimulatedVisit, name: str, detector: int) -> ObservationInfo:
    begin, end = exposure_times(simulation)
    ra, dec = simulation.boresight
    return ObservationInfo(
        instrument="SynthCam",
        physical_filter=f"{simulation.band}_sim",
        visit_id=simulation.visit,
        exposure_id=simulation.visit,
        observing_day=simulation.day_obs,
        observation_type="science",
        datetime_begin=begin,
        datetime_end=end,
        exposure_time=EXPOSURE_TIME,
        location=_SITE,
        tracking_radec=astropy.coordinates.SkyCoord(ra, dec, unit="deg"),
        detector_num=detector,
        detector_unique_name=name,
        detector_exposure_id=_detector_visit(simulation, detector),
    )


def _make_truth(
    detector: int, scene: Scene, psf: TruePsf, calexp: VisitImage, src: SourceCatalog
) -> astropy.table.Table:
    moments = np.full((len(scene), 3), np.nan)
    stars = scene.is_star & scene.is_isolated
    moments[stars] = psf.shapes(detector, scene.x[stars], scene.y[stars], color=scene.color[stars])
    ra, dec = sky_positions(calexp, scene.x, scene.y)
    # Parents are no objects: their children are.
    single = np.flatnonzero(src["deblend_nChild"] == 0)
    centroids = np.stack([src["slot_Centroid_x"], src["slot_Centroid_y"]], axis=1)[single]
    good = np.isfinite(centroids).all(axis=1)
    distance, nearest = cKDTree(centroids[good]).query(np.stack([scene.x, scene.y], axis=1))
    ids = np.append(src["id"][single[good]], 0)
    return astropy.table.Table(
        {
            "x": scene.x,
            "y": scene.y,
            "flux": scene.flux,
            "color": scene.color,
            "is_star": scene.is_star,
            "is_isolated": scene.is_isolated,
            "ra": np.rad2deg(ra),
            "dec": np.rad2deg(dec),
            "psf_xx": moments[:, 0],
            "psf_yy": moments[:, 1],
            "psf_xy": moments[:, 2],
            "source_id": ids[np.where(distance < _MATCH_RADIUS, nearest, -1)],
        }
    )
