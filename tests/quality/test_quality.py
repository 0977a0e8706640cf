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
import pytest

from lsst.meas.finalize.catalogs import ExposureRecord
from lsst.meas.finalize.quality import (
    demo,
    distortion,
    format_summary,
    measure_quality,
    plot_focal_plane,
    plot_residuals,
    summarize_stars,
    trace_radius,
)
from lsst.meas.finalize.quality._metrics import pixel_scale

N_STARS = 40


@pytest.fixture
def stars() -> astropy.table.Table:
    """Make a star table whose model is 1 % too large and flat in e."""
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 1000, (2, N_STARS))
    scale = np.deg2rad(0.2 / 3600)
    truth = np.stack([np.full(N_STARS, 4.0), np.full(N_STARS, 3.0), np.full(N_STARS, 0.25)], axis=1)
    table = astropy.table.Table(
        {
            "id": np.arange(N_STARS) + 100,
            "detector": np.full(N_STARS, 2, dtype=np.int32),
            "coord_ra": 1.0 - (x - 500) * scale / np.cos(0.3),
            "coord_dec": 0.3 + (y - 500) * scale,
            "slot_Centroid_x": x,
            "slot_Centroid_y": y,
            "base_FPPosition_x": x * 0.01,
            "base_FPPosition_y": y * 0.01,
            "calib_psf_candidate": np.ones(N_STARS, dtype=bool),
            "calib_psf_reserved": np.arange(N_STARS) % 4 == 0,
            "calib_psf_used": np.arange(N_STARS) % 4 != 0,
            "slot_PsfFlux_instFlux": np.full(N_STARS, 1e5),
            "slot_PsfFlux_instFluxErr": np.full(N_STARS, 100.0),
            "slot_PsfFlux_flag": np.zeros(N_STARS, dtype=bool),
            "slot_CalibFlux_instFlux": 1e5 * (1 + 0.003 * rng.normal(size=N_STARS)),
        }
    )
    for i, moment in enumerate(("xx", "yy", "xy")):
        table[f"slot_PsfShape_{moment}"] = truth[:, i] * 1.01**2
        table[f"slot_Shape_{moment}"] = truth[:, i]
        table[f"psf_{moment}"] = truth[:, i]
    table["source_id"] = table["id"]
    return table


def test_distortion_and_trace_radius_of_known_ellipse() -> None:
    """Evaluate the definitions of spec 07 §1."""
    moments = np.array([[4.0, 2.0, 1.0]])
    np.testing.assert_allclose(distortion(moments), [[2 / 6, 2 / 6]])
    np.testing.assert_allclose(trace_radius(moments), [np.sqrt(3.0)])


def test_pixel_scale_comes_from_positions(stars: astropy.table.Table) -> None:
    """Recover the scale from coordinates; curvature is 1e-6 here."""
    assert pixel_scale(stars) == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize("with_truth", [True, False])
def test_metrics_of_known_residuals(stars: astropy.table.Table, with_truth: bool) -> None:
    """Find the residuals that were put in, with and without truth."""
    truth = stars["source_id", "psf_xx", "psf_yy", "psf_xy"][::-1] if with_truth else None
    quality = measure_quality(ExposureRecord({"id": 2}), stars, truth)
    assert (quality.n_candidates, quality.used.n_stars, quality.reserved.n_stars) == (40, 30, 10)
    for residuals in (quality.used, quality.reserved):
        assert residuals.size == pytest.approx(0.01, rel=1e-9)
        assert residuals.size_scatter == pytest.approx(0.0, abs=1e-12)
        assert residuals.e1 == pytest.approx(0.0, abs=1e-12)
    # 40 stars determine a scatter to 11 %, its MAD to some 18 %.
    assert quality.ap_corr_scatter == pytest.approx(0.003, rel=0.5)
    assert np.isnan(quality.fwhm)


def test_stars_the_truth_lacks_do_not_count(stars: astropy.table.Table) -> None:
    """Leave out stars without a true counterpart."""
    truth = stars["source_id", "psf_xx", "psf_yy", "psf_xy"][:20]
    truth["psf_xx"] *= 2
    quality = measure_quality(ExposureRecord({"id": 2}), stars, truth)
    assert quality.reserved.size < -0.1


def test_summary_has_a_line_per_detector(stars: astropy.table.Table) -> None:
    """Print one line of metrics per detector under a heading."""
    quality = measure_quality(ExposureRecord({"id": 2}), stars)
    lines = format_summary([quality, quality]).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert [lines[2].split()[i] for i in (0, 1, 4, 10)] == ["2", "40", "10", "30"]


def test_no_stars_give_nan_and_no_error(stars: astropy.table.Table, tmp_path: Path) -> None:
    """Judge and plot a detector without measured stars."""
    quality = measure_quality(ExposureRecord({"id": 2}), stars[:0])
    assert np.isnan(quality.reserved.size)
    plot_focal_plane(stars[:0], tmp_path / "a.png")
    plot_residuals(stars[:0], tmp_path / "b.png")


def test_plots_are_png_files(stars: astropy.table.Table, tmp_path: Path) -> None:
    """Write both plots."""
    plot_focal_plane(stars, tmp_path / "a.png", title="visit")
    plot_residuals(stars, tmp_path / "b.png", truth=stars, title="visit")
    for name in "ab":
        content = (tmp_path / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000


def _spec_stars() -> astropy.table.Table:
    """Make the stars of spec 07 §11."""
    i = np.arange(8)
    columns = {
        "slot_Shape_xx": 4 + 0.02 * np.sin(i),
        "slot_Shape_yy": 3.9 + 0.03 * np.cos(2 * i),
        "slot_Shape_xy": 0.05 * np.sin(3 * i),
        "slot_PsfShape_xx": 3.99 + 0.015 * np.sin(i),
        "slot_PsfShape_yy": 3.91 + 0.028 * np.cos(2 * i),
        "slot_PsfShape_xy": 0.048 * np.sin(3 * i),
        "slot_Shape_flag": np.zeros(8, dtype=bool),
        "slot_PsfFlux_flag": np.zeros(8, dtype=bool),
        "slot_PsfFlux_instFlux": np.full(8, 100.0),
        "slot_PsfFlux_instFluxErr": np.ones(8),
        "detector": np.zeros(8, dtype=np.int32),
        "calib_psf_used": np.ones(8, dtype=bool),
        "calib_psf_reserved": np.zeros(8, dtype=bool),
    }
    return astropy.table.Table(columns)


SPEC_VALUES = {
    "psfStarDeltaE1Median": 2.317149983e-3,
    "psfStarDeltaE1Scatter": 2.959842370e-4,
    "psfStarDeltaE2Median": 3.534087455e-5,
    "psfStarDeltaE2Scatter": 3.541710560e-4,
    "psfStarDeltaSizeMedian": 2.903992045e-4,
    "psfStarDeltaSizeScatter": 2.156033314e-4,
    "psfStarScaledDeltaSizeScatter": 1.084077870e-4,
    "starEMedian": 1.452096942e-2,
    "starUnNormalizedEMedian": 1.142358046e-1,
}


@pytest.mark.parametrize("sample", ["used", "reserved"])
def test_summary_statistics_of_the_spec(sample: str) -> None:
    """Reproduce upstream's values; some stars in the table do not count."""
    good = _spec_stars()
    bad = good[:5].copy()
    bad["slot_Shape_xx"] *= 2
    bad["slot_PsfFlux_instFlux"] = [50.0, 1000.0, np.nan, 100.0, 100.0]
    bad["slot_PsfFlux_flag"][3] = True
    bad["slot_PsfShape_xy"][4] = np.nan
    stars = astropy.table.vstack([good, bad])
    stars["calib_psf_used"] = sample == "used"
    stars["calib_psf_reserved"] = sample == "reserved"
    summary = summarize_stars(stars, sample)
    assert summary["nPsfStar"] == 13
    for name, value in SPEC_VALUES.items():
        assert summary[name] == pytest.approx(value, rel=1e-9), name
    assert np.isnan(summary["starKurtosisMedian"])


def test_higher_moments_are_combined() -> None:
    """Evaluate the combinations of spec 07 §2."""
    stars = _spec_stars()
    moments = {"03": 1, "12": 2, "21": 3, "30": 5, "04": 7, "13": 11, "22": 13, "31": 17, "40": 19}
    for order, value in moments.items():
        stars[f"ext_shapeHSM_HigherOrderMomentsSource_{order}"] = np.full(8, float(value))
    summary = summarize_stars(stars)
    assert [summary[f"star{n}Median"] for n in ("Coma1", "Coma2", "Trefoil1", "Trefoil2")] == [7, 4, -1, 8]
    assert [summary[f"star{n}Median"] for n in ("Kurtosis", "E41", "E42")] == [52, 12, 56]


def test_pixel_scale_across_right_ascension_zero(stars: astropy.table.Table) -> None:
    """Find the scale where right ascensions jump, and where some are NaN."""
    stars["coord_ra"] = (stars["coord_ra"] - 1.0) % (2 * np.pi)
    stars["coord_dec"][3] = np.nan
    assert pixel_scale(stars) == pytest.approx(0.2, rel=1e-5)


def test_nothing_measured_gives_nan_and_no_error(stars: astropy.table.Table, tmp_path: Path) -> None:
    """Judge and plot stars of a detector whose PSF could not be determined."""
    for name in stars.colnames:
        if stars[name].dtype.kind == "f":
            stars[name] = np.nan
    for flag in ("used", "reserved"):
        stars[f"calib_psf_{flag}"] = flag == "reserved"
    stars["slot_Shape_flag"] = True
    empty = stars[:0]["source_id", "psf_xx", "psf_yy", "psf_xy"]
    for truth in (None, empty):
        quality = measure_quality(ExposureRecord({"id": 2}), stars, truth)
        assert (quality.n_candidates, quality.used.n_stars, quality.reserved.n_stars) == (40, 0, 40)
        assert np.isnan([quality.fwhm, quality.ap_corr_scatter, quality.reserved.size]).all()
        assert "nan" in format_summary([quality])
    assert np.isnan(summarize_stars(stars, "reserved")["starEMedian"])
    plot_focal_plane(stars, tmp_path / "a.png")
    plot_residuals(stars, tmp_path / "b.png")


def test_demo_leaves_repositories_of_others_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refuse to replace a repository that the demonstration hasn't made."""
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "butler.yaml").touch()
    assert demo.main([str(tmp_path)]) == 2
    assert "wasn't made by this demonstration" in capsys.readouterr().err
    assert (tmp_path / "repo" / "butler.yaml").exists()


def test_demo_tells_of_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tell in one line of a bad number and of a folder that can't be made."""
    with pytest.raises(SystemExit):
        demo.main(["-j", "0"])
    assert "invalid number of processes value: '0'" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert demo.main([str(tmp_path / "file")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
