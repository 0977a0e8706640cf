# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
from __future__ import annotations

from pathlib import Path

import astropy.table
import numpy as np
import pyarrow.parquet
import pytest

from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.images import Box, VisitImage
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import GaussianPointSpreadFunction
from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog
from lsst.meas.finalize.catalogs import ExposureCatalog, ExposureRecord, Schema
from lsst.meas.finalize.quality import star_table_columns

SIZE = 2000
SCALE = np.deg2rad(0.2 / 3600)


def read_golden(path: Path) -> tuple[astropy.table.Table, ExposureCatalog]:
    """Read the consolidated outputs of the stack's default run."""
    folder = path / "expected" / "default"
    file = pyarrow.parquet.ParquetFile(folder / "finalized_src_table.parquet")
    # Only what is of use: most of the time goes into text about 774 columns.
    arrow = file.read(columns=star_table_columns(file.schema_arrow.names))
    table = arrow_to_astropy(arrow.replace_schema_metadata(None))
    return table, read_exposure_catalog(folder / "finalized_psf_ap_corr_catalog.fits")


def tiny_exposure(path: Path) -> VisitImage:
    """Read the calibrated image of the first detector."""
    (file,) = path.glob("export/**/calexp_*_S00_*.fits")
    return read_exposure(file)


def make_stars(
    rng: np.random.Generator,
    *,
    n_detectors: int = 4,
    n_stars: int = 100,
    ra: float = 150.0,
    dec: float = 2.0,
    noise: float = 1.0,
) -> astropy.table.Table:
    """Make a star table whose model is right but for the stars' noise.

    Detectors are in a row along right ascension; the field is around
    ``ra`` and ``dec`` in degrees.
    """
    n = n_detectors * n_stars
    detector = np.repeat(np.arange(n_detectors, dtype=np.int32), n_stars)
    x, y = rng.uniform(0, SIZE, (2, n))
    focal_x = 0.01 * (x + detector * (SIZE + 50) - n_detectors * (SIZE + 50) / 2)
    focal_y = 0.01 * (y - SIZE / 2)
    magnitude = rng.uniform(16, 19, n)
    flux = 10 ** (-0.4 * (magnitude - 31))
    signal_to_noise = 900 * 10 ** (-0.4 * (magnitude - 16))
    psf = np.stack([np.full(n, 3.0) + 1e-4 * x, np.full(n, 2.8), np.full(n, 0.1)], axis=1)
    star = psf * (1 + noise * 2 / signal_to_noise * rng.normal(size=n))[:, None]
    trace = star[:, 0] + star[:, 1]
    de = noise * 2 / signal_to_noise * rng.normal(size=(2, n))
    star[:, 0] += de[0] * trace / 2
    star[:, 1] -= de[0] * trace / 2
    star[:, 2] += de[1] * trace / 2
    coord = tangent_to_sky(-focal_x * 100 * SCALE, focal_y * 100 * SCALE, ra, dec)
    table = astropy.table.Table(
        {
            "id": np.arange(n) + 1000,
            "visit": np.full(n, 77),
            "detector": detector,
            "coord_ra": coord[0],
            "coord_dec": coord[1],
            "slot_Centroid_x": x,
            "slot_Centroid_y": y,
            "base_FPPosition_x": focal_x,
            "base_FPPosition_y": focal_y,
            "calib_psf_candidate": np.ones(n, dtype=bool),
            "calib_psf_reserved": np.arange(n) % 5 == 0,
            "calib_psf_used": np.arange(n) % 5 != 0,
            "psf_color_value": rng.uniform(0.2, 2.5, n).astype(np.float32),
            "slot_PsfFlux_instFlux": flux,
            "slot_PsfFlux_instFluxErr": flux / signal_to_noise,
            "slot_PsfFlux_flag": np.zeros(n, dtype=bool),
            "slot_Shape_flag": np.zeros(n, dtype=bool),
            "slot_CalibFlux_instFlux": flux * (1 + 0.003 * rng.normal(size=n)),
            "fgcm_mag_r": magnitude,
        }
    )
    for i, moment in enumerate(("xx", "yy", "xy")):
        table[f"slot_Shape_{moment}"] = star[:, i]
        table[f"slot_PsfShape_{moment}"] = psf[:, i]
    gaussian = {"22": 0.5, "40": 0.75, "04": 0.75}
    for order in ("03", "12", "21", "30", "04", "13", "22", "31", "40"):
        for what in ("Source", "PSF"):
            name = f"ext_shapeHSM_HigherOrderMoments{what}_{order}"
            table[name] = gaussian.get(order, 0.0) + 0.01 * rng.normal(size=n)
    table["coord_ra"].unit = table["coord_dec"].unit = "rad"
    return table


def tangent_to_sky(xi: np.ndarray, eta: np.ndarray, ra: float, dec: float) -> tuple[np.ndarray, np.ndarray]:
    """Deproject gnomonic coordinates (radians) about a point in degrees."""
    ra, dec = np.deg2rad(ra), np.deg2rad(dec)
    z = np.sin(dec) + eta * np.cos(dec)
    towards = np.cos(dec) - eta * np.sin(dec)
    return (ra + np.arctan2(xi, towards)) % (2 * np.pi), np.arctan2(z, np.hypot(xi, towards))


def make_catalog(n_detectors: int = 4, sigma: float = 1.7) -> ExposureCatalog:
    """Make the models of such detectors: Gaussians."""
    schema = Schema()
    schema.add_field("id", "L", doc="detector")
    for name in ("min_x", "min_y", "max_x", "max_y"):
        schema.add_field(f"bbox_{name}", "I", doc="box")
    catalog = ExposureCatalog(schema)
    box = Box.factory[0:SIZE, 0:SIZE]
    for detector in range(n_detectors):
        psf = GaussianPointSpreadFunction(sigma=sigma, stamp_size=25, bounds=box)
        field = ChebyshevField(box, np.array([[1.0, 0.01], [0.02, 0.0]]))
        catalog.append(ExposureRecord({"id": detector}, psf, {"base_PsfFlux_instFlux": field}))
    return catalog


@pytest.fixture
def visit_stars() -> astropy.table.Table:
    """Return a star table of four detectors."""
    return make_stars(np.random.default_rng(5))


@pytest.fixture
def visit_catalog() -> ExposureCatalog:
    """Return the models of four detectors."""
    return make_catalog()
