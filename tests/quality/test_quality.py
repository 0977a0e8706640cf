# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
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
    distortion,
    format_summary,
    measure_quality,
    plot_focal_plane,
    plot_residuals,
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
    assert (quality.n_candidates, quality.n_used, quality.n_reserved) == (40, 30, 10)
    assert quality.size_residual == pytest.approx(0.01, rel=1e-9)
    assert quality.size_scatter == pytest.approx(0.0, abs=1e-12)
    assert quality.e1_residual == pytest.approx(0.0, abs=1e-12)
    # 40 stars determine a scatter to 11 %, its MAD to some 18 %.
    assert quality.ap_corr_scatter == pytest.approx(0.003, rel=0.5)
    assert np.isnan(quality.fwhm)


def test_stars_the_truth_lacks_do_not_count(stars: astropy.table.Table) -> None:
    """Leave out stars without a true counterpart."""
    truth = stars["source_id", "psf_xx", "psf_yy", "psf_xy"][:20]
    truth["psf_xx"] *= 2
    quality = measure_quality(ExposureRecord({"id": 2}), stars, truth)
    assert quality.size_residual < -0.1


def test_summary_has_a_line_per_detector(stars: astropy.table.Table) -> None:
    """Print one line of metrics per detector under a heading."""
    quality = measure_quality(ExposureRecord({"id": 2}), stars)
    lines = format_summary([quality, quality]).splitlines()
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split()[:4] == ["2", "40", "30", "10"]


def test_no_stars_give_nan_and_no_error(stars: astropy.table.Table, tmp_path: Path) -> None:
    """Judge and plot a detector without measured stars."""
    quality = measure_quality(ExposureRecord({"id": 2}), stars[:0])
    assert np.isnan(quality.size_residual)
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
