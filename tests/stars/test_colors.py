# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.stars import (
    add_colors,
    add_fgcm_photometry,
    fgcm_magnitudes,
    match_radius,
    psf_colors,
    read_fgcm_standard_stars,
)
from lsst.pipe.base import InMemoryDatasetHandle

ARCSEC = 1 / 3600


def make_fgcm(ra: list[float], dec: list[float]) -> Table:
    """Make standard stars whose colour g - i is their row number."""
    n = np.arange(len(ra), dtype=np.float64)
    return Table({"ra": ra, "dec": dec, "mag_g": 20 + n, "mag_i": np.full(len(ra), 20.0), "ngood_g": n})


def test_pairs_are_those_of_astropy() -> None:
    """Find the pairs astropy finds, in order."""
    rng = np.random.default_rng(2)
    ra1, ra2 = rng.uniform(359.999, 360.001, (2, 300)) % 360
    dec1, dec2 = rng.uniform(-60.001, -59.999, (2, 300))
    i, j = match_radius(ra1, dec1, ra2, dec2, 1.0)
    one, two = SkyCoord(ra1, dec1, unit="deg"), SkyCoord(ra2, dec2, unit="deg")
    expected = np.argwhere(one[:, None].separation(two).arcsec <= 1.0)
    assert len(expected) > 20
    np.testing.assert_array_equal(np.stack([i, j], axis=1), expected)


def test_last_match_wins() -> None:
    """Take the standard star of the largest row, not the nearest."""
    fgcm = make_fgcm([10.0, 10.0, 10.0, 20.0], [0.0, 0.5 * ARCSEC, 2 * ARCSEC, 0.0])
    coord_ra, coord_dec = np.deg2rad([10.0, 15.0, 20.0]), np.zeros(3)
    value, kind = psf_colors(coord_ra, coord_dec, fgcm, "g-i")
    np.testing.assert_array_equal(value, np.array([1, np.nan, 3], np.float32))
    assert value.dtype == np.float32
    assert kind.tolist() == ["g-i", "", "g-i"]


def test_magnitudes_without_match_band_or_catalogue() -> None:
    """Leave NaN where there is nothing."""
    fgcm = make_fgcm([10.0], [0.0])
    ra, dec = np.deg2rad([10.0, 11.0]), np.zeros(2)
    magnitudes = fgcm_magnitudes(ra, dec, fgcm.as_array(), ["g", "z"])
    np.testing.assert_array_equal(magnitudes["g"], [20, np.nan])
    assert np.isnan(magnitudes["z"]).all()
    assert np.isnan(fgcm_magnitudes(ra, dec, None, ["g"])["g"]).all()
    assert np.isnan(fgcm_magnitudes(ra, dec, fgcm[:0], ["g"])["g"]).all()
    assert fgcm_magnitudes(ra[:0], dec[:0], fgcm, ["g"])["g"].shape == (0,)


def test_nan_coordinates_match_nothing() -> None:
    """Skip NaN coordinates on either side, where upstream would raise."""
    fgcm = make_fgcm([np.nan, 10.0], [0.0, 0.0])
    value, _ = psf_colors(np.deg2rad([np.nan, 10.0]), np.zeros(2), fgcm, "g-i")
    np.testing.assert_array_equal(value, np.array([np.nan, 1], np.float32))


def test_wrong_colours_are_named() -> None:
    """Name the missing magnitude, the missing band, or the bad colour."""
    fgcm = make_fgcm([10.0], [0.0])
    with pytest.raises(KeyError, match=r"mag_z.*g-z"):
        psf_colors(np.zeros(1), np.zeros(1), fgcm, "g-z")
    with pytest.raises(ValueError, match="'g'"):
        psf_colors(np.zeros(1), np.zeros(1), fgcm, "g")
    catalog = SourceCatalog(Schema.source_minimal(), 1)
    for band in ("y", None):
        with pytest.raises(KeyError, match=f"band {band!r}"):
            add_colors(catalog, fgcm, band=band, color={"g": "g-i"})


def test_catalogue_columns_are_filled() -> None:
    """Fill the columns of a source catalogue."""
    schema = Schema.source_minimal()
    schema.add_field("psf_color_value", "F")
    schema.add_field("psf_color_type", "String", size=10)
    schema.add_field("fgcm_mag_g", "F")
    catalog = SourceCatalog(schema, 2)
    catalog["coord_ra"] = np.deg2rad([10.0, 12.0])
    catalog["coord_dec"] = 0.0
    fgcm = make_fgcm([5.0, 10.0], [0.0, 0.0])
    add_colors(catalog, fgcm, band="r", color={"r": "g-i"})
    add_fgcm_photometry(catalog, fgcm, bands=["g"])
    np.testing.assert_array_equal(catalog["psf_color_value"], [1, np.nan])
    assert catalog["psf_color_type"].tolist() == ["g-i", ""]
    np.testing.assert_array_equal(catalog["fgcm_mag_g"], [21, np.nan])


def test_reading_takes_only_needed_columns() -> None:
    """Concatenate positions and magnitudes of all tracts."""
    handles = {t: InMemoryDatasetHandle(make_fgcm([t], [0.0]), storageClass="ArrowAstropy") for t in (4, 7)}
    table = read_fgcm_standard_stars(handles)
    assert table is not None
    assert table.colnames == ["ra", "dec", "mag_g", "mag_i"]
    assert table["ra"].tolist() == [4, 7]
    assert read_fgcm_standard_stars({}) is None


def test_bands_that_a_tract_lacks_are_nan() -> None:
    """Give no colour, not one of zeros, to stars of a tract without band."""
    tables = {4: make_fgcm([10.0], [0.0]), 7: make_fgcm([20.0], [0.0]), 8: make_fgcm([30.0], [0.0])}
    tables[7].remove_column("mag_i")
    tables[8] = Table(tables[8], masked=True)
    tables[8]["mag_i"].mask[0] = True
    fgcm = read_fgcm_standard_stars(tables)
    assert fgcm is not None
    assert not fgcm.has_masked_columns
    value, _ = psf_colors(np.deg2rad([10.0, 20.0, 30.0]), np.zeros(3), fgcm, "g-i")
    np.testing.assert_array_equal(value, np.array([0, np.nan, np.nan], np.float32))
    assert read_fgcm_standard_stars(tables, ["g"]).colnames == ["ra", "dec", "mag_g"]


def test_masked_catalogues_in_memory_give_nan() -> None:
    """Pass masks of a catalogue that the caller has stacked, too."""
    fgcm = Table(make_fgcm([10.0, 20.0], [0.0, 0.0]), masked=True)
    fgcm["mag_i"].mask[0] = True
    for catalog in (fgcm, fgcm.as_array()):
        value, _ = psf_colors(np.deg2rad([10.0, 20.0]), np.zeros(2), catalog, "g-i")
        np.testing.assert_array_equal(value, np.array([np.nan, 1], np.float32))
        np.testing.assert_array_equal(
            fgcm_magnitudes(np.deg2rad([10.0]), np.zeros(1), catalog, ["i"])["i"], [np.nan]
        )


def test_bad_columns_of_standard_stars_are_named() -> None:
    """Name tract and column of what aren't numbers, if they are needed."""
    fgcm = make_fgcm([10.0], [0.0])
    fgcm["mag_i"] = ["20.0"]
    with pytest.raises(ValueError, match="'mag_i' of fgcm_standard_star of tract 4"):
        read_fgcm_standard_stars({4: fgcm})
    assert read_fgcm_standard_stars({4: fgcm}, ["g"]) is not None
    fgcm.remove_column("dec")
    with pytest.raises(KeyError, match=r"fgcm_standard_star of tract 4 has no columns \['dec'\]"):
        read_fgcm_standard_stars({4: fgcm}, ["g"])
