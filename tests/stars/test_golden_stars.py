# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Choose the stars of the golden sets and compare with the real stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.meas.finalize.afw import read_exposure, read_source_catalog
from lsst.meas.finalize.catalogs import SourceCatalog
from lsst.meas.finalize.stars import (
    MakePsfCandidatesTask,
    ReserveIsolatedStarsTask,
    add_colors,
    add_fgcm_photometry,
    add_sky_moments,
    concat_isolated_star_cats,
    match_ids,
    read_fgcm_standard_stars,
    sourceSelectorRegistry,
)

BAD_FLAGS = [
    f"base_PixelFlags_flag_{name}"
    for name in (
        "edge",
        "nodata",
        "interpolatedCenter",
        "saturatedCenter",
        "crCenter",
        "bad",
        "interpolated",
        "saturated",
    )
] + ["slot_Centroid_flag", "base_GaussianFlux_flag"]

MOMENTS = ("Iuu", "Ivv", "Iuv", "Ialtalt", "Iazaz", "Ialtaz")


def read_tracts(root: Path, name: str) -> dict[int, Any]:
    """Read the tables of all tracts."""
    paths = sorted((root / "export/golden/inputs" / name).glob("*/*.parq"), key=lambda p: int(p.parent.name))
    return {int(path.parent.name): arrow_to_astropy(pq.read_table(path)) for path in paths}


def read_file(root: Path, name: str, detector: int) -> str:
    """Find the file of a detector; their names sort as their numbers."""
    return str(sorted(root.glob(f"export/golden/inputs/{name}/**/*.fits"))[detector])


def expected_table(root: Path, variant: str, detector: int) -> dict[str, np.ndarray]:
    """Read the stack's table of stars."""
    path = root / f"expected/{variant}/detector_{detector}/finalized_src_detector_table.parquet"
    table = arrow_to_astropy(pq.read_table(path))
    return {name: np.asarray(table[name]) for name in table.colnames}


def make_selector() -> Any:
    """Make the selector as the finalising task configures it."""
    selector = sourceSelectorRegistry["science"]
    config = selector.ConfigClass()
    config.doFlags = config.doSignalToNoise = True
    config.flags.bad = BAD_FLAGS
    config.signalToNoise.minimum, config.signalToNoise.maximum = 50.0, 1000.0
    config.signalToNoise.fluxField = "base_GaussianFlux_instFlux"
    config.signalToNoise.errField = "base_GaussianFlux_instFluxErr"
    return selector(config=config)


def check_stars(root: Path, band: str, variant: str, detector: int) -> None:
    """Compare candidates, reserves and maxima."""
    expected = expected_table(root, variant, detector)
    _, sources = concat_isolated_star_cats(
        band,
        read_tracts(root, "isolated_star_presource_associations"),
        read_tracts(root, "isolated_star_presources"),
        id_column="sourceId",
        reserve=ReserveIsolatedStarsTask(),
        visit=int(expected["visit"][0]),
        detector=detector,
    )
    assert sources is not None
    src = read_source_catalog(read_file(root, "src", detector))
    selected = make_selector().selectSources(src).selected
    rows = np.flatnonzero(selected)
    a, b = match_ids(src["id"][rows], np.asarray(sources["sourceId"]))
    reserved = np.zeros(len(src), dtype=bool)
    reserved[rows[a]] = sources["reserved"][b]
    rows = np.unique(rows[a])
    np.testing.assert_array_equal(src["id"][rows], expected["id"])
    np.testing.assert_array_equal(reserved[rows], expected["calib_psf_reserved"])

    stars = src[rows]
    stars["psf_max_value"] = np.nan  # the input has its own
    exposure = read_exposure(read_file(root, "calexp", detector))
    result = MakePsfCandidatesTask().run(stars, exposure)
    np.testing.assert_array_equal(stars["psf_max_value"], expected["psf_max_value"])
    assert result.good[expected["calib_psf_used"]].all()


@pytest.mark.parametrize("detector", [0, 1])
def test_tiny_stars_are_the_stacks(tiny: Path, detector: int) -> None:
    """Choose the stars of the small golden set."""
    check_stars(tiny, "r", "default", detector)


@pytest.mark.parametrize("detector", [0, 1, 2])
def test_visit_stars_are_the_stacks(golden_visit: Path, detector: int) -> None:
    """Choose the stars of the large golden set."""
    check_stars(golden_visit, "i", "default", detector)


def check_sky(root: Path, band: str, detector: int) -> None:
    """Compare colours, magnitudes and sky moments."""
    expected = expected_table(root, "color", detector)
    src = read_source_catalog(read_file(root, "src", detector))
    schema = src.schema.copy()
    added = ["psf_color_value", *(f"fgcm_mag_{b}" for b in "grizy")]
    added += [f"{shape}_{m}" for shape in ("shape", "psfShape") for m in MOMENTS]
    for name in added:
        schema.add_field(name, "F")
    schema.add_field("psf_color_type", "String", size=10)
    catalog = SourceCatalog(schema, len(expected["id"]))
    for name in ("coord_ra", "coord_dec", "slot_Centroid_x", "slot_Centroid_y"):
        catalog[name] = expected[name]
    for name in (f"{slot}_{m}" for slot in ("slot_Shape", "slot_PsfShape") for m in ("xx", "yy", "xy")):
        catalog[name] = expected[name]
    fgcm = read_fgcm_standard_stars(read_tracts(root, "fgcm_standard_star"))
    add_colors(catalog, fgcm, band=band, color={band: "g-i"})
    add_fgcm_photometry(catalog, fgcm, bands=list("grizy"))
    add_sky_moments(catalog, read_exposure(read_file(root, "calexp", detector)))
    assert catalog["psf_color_type"].tolist() == expected["psf_color_type"].tolist()
    for name in added[:6]:
        np.testing.assert_array_equal(catalog[name], expected[name], err_msg=name)
    for name in added[6:]:
        # One unit in the last place of float32 of the larger moments.
        np.testing.assert_allclose(catalog[name], expected[name], rtol=3e-7, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("detector", [0, 1])
def test_tiny_colours_and_moments_are_the_stacks(tiny: Path, detector: int) -> None:
    """Reproduce colours and moments of the small golden set."""
    check_sky(tiny, "r", detector)


def test_visit_colours_and_moments_are_the_stacks(golden_visit: Path) -> None:
    """Reproduce colours and moments of the large golden set."""
    check_sky(golden_visit, "i", 1)
