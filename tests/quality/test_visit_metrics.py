# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
from __future__ import annotations

import json
from pathlib import Path

import astropy.table
import numpy as np
import pytest

from lsst.meas.finalize.catalogs import ExposureCatalog
from lsst.meas.finalize.quality import MissingColumnsError, PsfLimits, StarColumns, measure_visit

from .conftest import make_catalog, make_stars, read_golden

SUMMARIES = Path(__file__).parents[3] / "shared" / "golden" / "summary" / "psf_summary.json"

GAUSSIAN = "no psfReducedChi2: the PSF model keeps none of its stars"


def get_row(metrics: astropy.table.Table, detector: int, sample: str) -> astropy.table.Row:
    """Return the row of a detector (-1: the visit) and sample."""
    found = metrics[(metrics["detector"] == detector) & (metrics["sample"] == sample)]
    assert len(found) == 1
    return found[0]


def check_against_upstream(path: Path, summaries: dict) -> None:
    """Compare all fields of the exposure summary."""
    stars, catalog = read_golden(path)
    metrics = measure_visit(stars, catalog, visit=1)
    assert len(metrics) == 3 * (len(catalog) + 1)
    for detector in np.asarray(catalog["id"]).tolist():
        for sample in ("used", "reserved"):
            expected = summaries[f"{path.name}/{detector}/{sample}/empty_mask"]
            row = get_row(metrics, detector, sample)
            for name in expected.keys() - {"TEX"}:
                assert row[name] == pytest.approx(expected[name], rel=1e-6), (detector, sample, name)


def test_metrics_equal_upstream(tiny: Path) -> None:
    """Give what upstream's code gives for the same star table."""
    check_against_upstream(tiny, json.loads((tiny / "psf_summary.json").read_text()))


def test_metrics_of_large_detectors_equal_upstream(golden_visit: Path) -> None:
    """The same for three detectors of 2036 x 2000 pixels."""
    check_against_upstream(golden_visit, json.loads(SUMMARIES.read_text()))


def test_visit_rows_and_order(visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog) -> None:
    """Have the visit first, then detectors, each with three samples."""
    metrics = measure_visit(visit_stars, visit_catalog, visit=77, instrument="Cam", band="r")
    assert metrics["detector"].tolist() == np.repeat([-1, 0, 1, 2, 3], 3).tolist()
    assert metrics["sample"].tolist() == ["used", "reserved", "candidate"] * 5
    assert set(metrics["reasons"]) == {GAUSSIAN}
    assert get_row(metrics, -1, "used")["nPsfStar"] == 320
    assert get_row(metrics, -1, "used")["psfSigma"] == pytest.approx(1.7)
    assert all(metrics[name].description for name in metrics.colnames)
    floats = [name for name in metrics.colnames if metrics[name].dtype.kind == "f"]
    unknown = {name for name in floats if not np.isfinite(metrics[name]).all()}
    assert unknown == {"psfReducedChi2"}  # of a Gaussian
    errors = np.abs(metrics["psfStarDeltaE1Median"]) / metrics["psfStarDeltaE1MedianErr"]
    assert np.all(errors < 5)


def test_order_of_rows_does_not_matter(
    visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog
) -> None:
    """Give the same for shuffled stars."""
    shuffled = visit_stars[np.random.default_rng(1).permutation(len(visit_stars))]
    a, b = (measure_visit(t, visit_catalog, visit=1) for t in (visit_stars, shuffled))
    for name in a.colnames:
        if a[name].dtype.kind == "f":
            np.testing.assert_allclose(a[name], b[name], rtol=1e-9, atol=1e-15, err_msg=name)
        else:
            assert a[name].tolist() == b[name].tolist()


@pytest.mark.parametrize("sample", ["used", "reserved"])
def test_no_stars_of_a_sample(
    visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog, sample: str
) -> None:
    """Tell that there are no such stars, and measure the model."""
    visit_stars[f"calib_psf_{sample}"] = False
    metrics = measure_visit(visit_stars, visit_catalog, visit=1)
    for detector in (-1, 2):
        row = get_row(metrics, detector, sample)
        assert row["nPsfStar"] == 0
        assert np.isnan(row["psfStarDeltaE1Median"])
        assert row["psfSigma"] == pytest.approx(1.7)
        assert f"no {sample} stars" in row["reasons"]
        assert row["verdict"] == "fail"
        other = get_row(metrics, detector, {"used": "reserved", "reserved": "used"}[sample])
        assert np.isfinite(other["psfStarDeltaE1Median"])


def test_empty_table(visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog) -> None:
    """Judge models without any star, and nothing at all."""
    metrics = measure_visit(visit_stars[:0], visit_catalog, visit=1)
    assert len(metrics) == 15
    assert np.isfinite(metrics["psfTraceRadiusDelta"]).all()
    nothing = measure_visit(visit_stars[:0], make_catalog(0), visit=1)
    assert nothing["reasons"].tolist()[0] == "no detectors; no used stars"


def test_detector_without_model(visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog) -> None:
    """Tell of missing models, corrections, and rows of the catalog."""
    visit_catalog.psfs[1] = None
    visit_catalog.ap_corr_maps[2] = None
    visit_stars["detector"][visit_stars["detector"] == 0] = 9
    metrics = measure_visit(visit_stars, visit_catalog, visit=1)
    assert get_row(metrics, 1, "used")["reasons"] == "no PSF model"
    assert np.isnan(get_row(metrics, 1, "used")["psfSigma"])
    assert np.isfinite(get_row(metrics, 1, "used")["psfStarDeltaE1Median"])
    assert "no aperture correction base_PsfFlux_instFlux" in get_row(metrics, 2, "used")["reasons"]
    assert "box is taken from its stars" in get_row(metrics, 2, "used")["reasons"]
    assert "no row in the catalog" in get_row(metrics, 9, "used")["reasons"]
    assert "no used stars" in get_row(metrics, 0, "used")["reasons"]
    assert "models of 3 of 5 detectors are incomplete: 1, 2, 9" in get_row(metrics, -1, "used")["reasons"]
    assert np.isfinite(get_row(metrics, -1, "used")["psfSigma"])


def test_moments_that_are_nan(visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog) -> None:
    """Tell that no star has finite moments."""
    for name in ("slot_Shape_xx", "slot_Shape_yy", "slot_Shape_xy"):
        visit_stars[name][visit_stars["detector"] == 3] = np.nan
    metrics = measure_visit(visit_stars, visit_catalog, visit=1)
    row = get_row(metrics, 3, "used")
    assert row["nPsfStar"] == 80
    assert "none of the 80 used stars is unflagged, has finite moments" in row["reasons"]
    assert np.isfinite(get_row(metrics, -1, "used")["psfStarDeltaE1Median"])


def test_one_star(visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog) -> None:
    """Have a median but no scatter of one star."""
    used = visit_stars[visit_stars["calib_psf_used"]][:1]
    row = get_row(measure_visit(used, visit_catalog, visit=1), 0, "used")
    assert np.isfinite(row["psfStarDeltaE1Median"])
    assert np.isnan([row["psfStarDeltaE1Scatter"], row["psfStarDeltaE1MedianErr"]]).all()
    assert "one star has no scatter" in row["reasons"]


@pytest.mark.parametrize(
    ("pattern", "lost"),
    [
        ("HigherOrderMoments", "starKurtosisMedian"),
        ("fgcm", ""),
        ("slot_Shape", "psfStarDeltaE1Median"),
        ("slot_PsfFlux", "psfStarDeltaE1Median"),
        ("coord", ""),
        ("base_FPPosition", ""),
        ("psf_color", ""),
        ("slot_CalibFlux", "apCorrResidualMedian"),
        ("calib_psf_candidate", ""),
        ("slot_Centroid", "maxDistToNearestPsf"),
    ],
)
def test_columns_missing(
    visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog, pattern: str, lost: str
) -> None:
    """Measure what the columns of an older table allow, naming the others."""
    gone = [name for name in visit_stars.colnames if pattern in name]
    assert gone
    visit_stars.remove_columns(gone)
    metrics = measure_visit(visit_stars, visit_catalog, visit=1, band="r")
    row = get_row(metrics, -1, "reserved")
    assert np.isfinite(row["psfSigma"])
    if lost:
        assert np.isnan(row[lost])
        assert gone[0] in row["reasons"]


@pytest.mark.parametrize("name", ["detector", "calib_psf_used", "calib_psf_reserved"])
def test_columns_nothing_works_without(
    visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog, name: str
) -> None:
    """Refuse a table that doesn't tell detectors and samples, by name."""
    visit_stars.remove_column(name)
    with pytest.raises(MissingColumnsError, match=f"lacks the columns {name}"):
        measure_visit(visit_stars, visit_catalog, visit=1)


def test_columns_of_odd_types(visit_stars: astropy.table.Table) -> None:
    """Take masked, integer and degree columns; refuse text by name."""
    visit_stars["coord_ra"] = visit_stars["coord_ra"].to("deg")
    masked = astropy.table.Table(visit_stars, masked=True)
    masked["slot_Shape_xx"].mask[0] = True
    masked["calib_psf_used"].mask[1] = True
    masked["slot_Shape_flag"] = np.zeros(len(masked), dtype=np.uint8)
    columns = StarColumns.from_table(masked)
    assert np.isnan(columns.star[0, 0])
    assert not columns.samples["used"][1]
    np.testing.assert_allclose(np.rad2deg(columns.ra), visit_stars["coord_ra"])
    visit_stars["slot_Shape_yy"] = ["text"] * len(visit_stars)
    with pytest.raises(TypeError, match="Column slot_Shape_yy"):
        StarColumns.from_table(visit_stars)


def test_stars_anywhere_on_the_sky() -> None:
    """Judge visits across right ascension 0 and over the pole."""
    reference = None
    for ra, dec in ((150.0, 2.0), (0.0, -30.0), (10.0, 90.0), (200.0, -89.95)):
        stars = make_stars(np.random.default_rng(3), ra=ra, dec=dec)
        metrics = measure_visit(stars, make_catalog(), visit=1)
        assert set(metrics["reasons"]) == {GAUSSIAN}
        reference = reference or metrics
        np.testing.assert_array_equal(metrics["psfStarDeltaE1Median"], reference["psfStarDeltaE1Median"])


def test_verdict(visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog) -> None:
    """Fail detectors by name of the limit, and tell what is unknown."""
    visit_stars["slot_Shape_xx"][visit_stars["detector"] == 1] *= 1.2
    visit_catalog.psfs[2] = None
    metrics = measure_visit(visit_stars, visit_catalog, visit=1)
    assert get_row(metrics, 0, "used")["verdict"] == "pass"
    row = get_row(metrics, 1, "used")
    assert (row["verdict"], row["failedLimits"]) == ("fail", 1)
    assert row["verdictText"].startswith("ellipticity residual 0.09")
    row = get_row(metrics, 2, "used")
    assert (row["verdict"], row["failedLimits"]) == ("unknown", 0b111000)
    lenient = PsfLimits(maxEllipResidual=None)
    assert get_row(measure_visit(visit_stars, visit_catalog, visit=1, limits=lenient), 1, "used")[
        "verdict"
    ] == ("pass")
