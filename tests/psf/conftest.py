# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import astropy.units as u
import astropy.wcs
import galsim
import numpy as np
import piff
import pytest
from astro_metadata_translator import ObservationInfo

from lsst.images import (
    Box,
    DetectorFrame,
    Image,
    Mask,
    MaskSchema,
    SkyProjection,
    VisitImage,
    get_legacy_visit_image_mask_planes,
)
from lsst.images.psfs import GaussianPointSpreadFunction
from lsst.meas.finalize.catalogs import PsfCandidates

_SCALE = 0.2


@pytest.fixture
def make_grid_psf() -> Callable[..., piff.SimplePSF]:
    """Make PixelGrid models without a fit."""

    def make(
        wcs: galsim.BaseWCS | None = None,
        *,
        keys: tuple[str, ...] = ("x", "y"),
        order: int = 2,
        size: int = 15,
        sampling: float = 1.0,
        interp: galsim.Interpolant | None = None,
        pointing: galsim.CelestialCoord | None = None,
    ) -> piff.SimplePSF:
        rng = np.random.default_rng(12)
        model = piff.PixelGrid(_SCALE * sampling, size, interp=interp or galsim.Lanczos(5))
        interpolation = piff.BasisPolynomial([order] * len(keys), keys=keys)
        n_terms = np.count_nonzero(interpolation._mask)
        axis = (np.arange(size) - size // 2) * sampling
        profile = np.exp(-(axis[:, None] ** 2 + axis**2) / 8.0).ravel()
        q = 0.01 * rng.normal(size=(size**2, n_terms)) * profile[:, None]
        q[:, 0] = profile
        # Powers of positions up to 500 and colours stay of order one.
        typical = np.array([1.0 if key == "colorValue" else 500.0 for key in keys])
        powers = np.indices(interpolation._mask.shape)[:, interpolation._mask]
        interpolation.q = q / np.prod(typical[:, None] ** powers, axis=0)
        psf = piff.SimplePSF(model, interpolation)
        psf.set_context({0: wcs or galsim.PixelScale(_SCALE)}, pointing)
        return psf

    return make


def _planes(
    x: np.ndarray, y: np.ndarray, flux: np.ndarray, box: Box, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render stars; return image, variance and which pixels are bright."""
    rows, columns = np.mgrid[box.y.start : box.y.stop, box.x.start : box.x.stop]
    signal = np.zeros(rows.shape)
    for xi, yi, fi in zip(x, y, flux, strict=True):
        sigma = 1.8 + 0.001 * (xi - box.x.start)
        profile = np.exp(-((columns - xi) ** 2 + (rows - yi) ** 2) / (2 * sigma**2))
        signal += fi * profile / (2 * np.pi * sigma**2)
    variance = 100.0 + np.maximum(signal, 0.0)
    image = signal + rng.normal(size=signal.shape) * np.sqrt(variance)
    return image.astype(np.float32), variance.astype(np.float32), signal > 50.0


def _obs_info() -> ObservationInfo:
    return ObservationInfo(instrument="Test", physical_filter="r_test", visit_id=1, exposure_id=1)


@pytest.fixture
def make_field() -> Callable[..., tuple[VisitImage, PsfCandidates]]:
    """Make an image of a grid of stars with their candidates.

    Stars are Gaussians whose sigma grows from 1.8 pixels by 0.001 per column.
    """

    def make(
        n: int = 4, *, width: int = 19, spacing: int = 32, flux: float = 5e4, **columns: Any
    ) -> tuple[VisitImage, PsfCandidates]:
        rng = np.random.default_rng(5)
        box = Box.factory[200 : 200 + n * spacing, 100 : 100 + n * spacing]
        centers = (np.arange(n) + 0.5) * spacing
        x = (100 + np.tile(centers, n)) + rng.uniform(-0.5, 0.5, n * n)
        y = (200 + np.repeat(centers, n)) + rng.uniform(-0.5, 0.5, n * n)
        image, variance, detected = _planes(x, y, np.full(n * n, flux), box, rng)
        schema = MaskSchema(get_legacy_visit_image_mask_planes().values())
        mask = Mask(0, schema=schema, bbox=box)
        mask.set("DETECTED", detected)
        wcs = astropy.wcs.WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [53.0, -28.0]
        wcs.wcs.crpix = [150.0, 250.0]
        wcs.wcs.cd = np.array([[-0.8, 0.6], [0.6, 0.8]]) * _SCALE / 3600.0
        frame = DetectorFrame(instrument="Test", visit=1, detector=1, bbox=box)
        exposure = VisitImage(
            Image(image, yx0=(200, 100), unit=u.adu),
            mask=mask,
            variance=Image(variance, yx0=(200, 100), unit=u.adu**2),
            sky_projection=SkyProjection.from_fits_wcs(wcs, frame, x0=0, y0=0),
            obs_info=_obs_info(),
            psf=GaussianPointSpreadFunction(2.0, bounds=box, stamp_size=19),
            detector=None,  # type: ignore[arg-type]
            band="r",
        )
        table: dict[str, Any] = {
            "id": np.arange(1, n * n + 1) * 10,
            "x": x,
            "y": y,
            "color": np.full(n * n, np.nan),
            "color_type": np.full(n * n, ""),
        }
        return exposure, PsfCandidates(exposure=exposure, width=width, **{**table, **columns})

    return make
