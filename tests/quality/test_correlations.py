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

import numpy as np
import pytest
from scipy.special import j0

from lsst.meas.finalize.quality import (
    RHO_NAMES,
    StarColumns,
    distortion,
    make_patches,
    measure_visit_rho,
    moments_on_focal_plane,
    project_stars,
    rho_statistics,
    select_stars,
    te_statistics,
    te_statistics_in_plane,
)

from .conftest import make_stars, read_golden

SUMMARIES = Path(__file__).parents[3] / "shared" / "golden" / "summary" / "psf_summary.json"

# Bin: mean separation, pairs and the statistics, in spec 07 §11.
SPEC = {
    11: (1.61908, 45, 1.591332e-6, 8.271199e-6, -2.289049e-12, -3.637556e-11, 4.440040e-10, -4.559910e-8),
    14: (5.82454, 586, 1.638477e-6, 8.201000e-6, 3.930423e-15, 2.399050e-10, 1.187101e-9, 6.928920e-10),
    15: (8.19021, 292, 1.581608e-6, 7.866775e-6, -1.597467e-13, 7.999984e-11, 4.722664e-10, -5.169164e-9),
}


def spec_positions() -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of spec 07 §11 in radians."""
    k = np.arange(60)
    ra, dec = (0.15 * (f * k % 1) for f in (0.61803398875, 0.41421356237))
    return np.deg2rad(150 + ra), np.deg2rad(2 + dec)


@pytest.mark.parametrize("bin_slop", [None, 0])
def test_rho_of_the_spec(bin_slop: float | None) -> None:
    """Reproduce the values of spec 07 §11."""
    k = np.arange(60)
    star = [4 + 0.02 * np.sin(0.9 * k), 3.9 + 0.03 * np.cos(1.7 * k), 0.05 * np.sin(0.3 * k)]
    psf = [3.99 + 0.015 * np.sin(0.9 * k), 3.91 + 0.028 * np.cos(1.7 * k), 0.048 * np.sin(0.3 * k)]
    moments = np.stack(star, axis=1), np.stack(psf, axis=1)
    rho = rho_statistics(*spec_positions(), *moments, bin_slop=bin_slop, spherical=True)
    assert rho.error_method == "shot"
    for i, (mean_r, n_pairs, *values) in SPEC.items():
        assert rho.mean_r[i] == pytest.approx(mean_r, rel=1e-5)
        assert rho.n_pairs[i] == n_pairs
        assert [rho.values[name][i] for name in RHO_NAMES] == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("n_patches", [0, 8])
def test_rho_equals_sums_over_pairs(n_patches: int) -> None:
    """Compare with direct sums over all pairs of 300 stars."""
    rng = np.random.default_rng(8)
    x, y = rng.uniform(-30, 30, (2, 300))
    star, psf = (np.array([3.0, 2.8, 0.1]) + 0.1 * rng.normal(size=(300, 3)) for _ in range(2))
    rho = rho_statistics(x, y, star, psf, bin_slop=0, n_patches=n_patches)
    (e1, e2), (p1, p2) = distortion(star).T / 2, distortion(psf).T / 2
    e, de = e1 + 1j * e2, e1 - p1 + 1j * (e2 - p2)
    size = [np.sqrt((m[:, 0] + m[:, 1]) / 2) for m in (star, psf)]
    t = 1 - size[1] / size[0]
    i, j = np.triu_indices(300, 1)
    bins = np.digitize(np.hypot(x[i] - x[j], y[i] - y[j]), np.append(rho.r_min, rho.r_max[-1])) - 1
    pairs = {"rho1": (de, de), "rho2": (e, de), "rho3": (e * t, e * t), "rho4": (de, e * t)}
    pairs |= {"rho5": (e, e * t), "rho3alt": (t + 0j, t + 0j)}
    for k in range(len(rho.r_min)):
        inside = bins == k
        assert rho.n_pairs[k] == inside.sum()
        for name, (a, b) in pairs.items():
            both = np.concatenate([a[i[inside]].conj() * b[j[inside]], a[j[inside]].conj() * b[i[inside]]])
            if not len(both):
                assert np.isnan(rho.values[name][k])
                continue
            scale = np.abs(both).max()
            assert rho.values[name][k] == pytest.approx(both.real.mean(), rel=1e-12, abs=1e-12 * scale)


def test_known_residual_field_is_recovered() -> None:
    """Find the correlation of waves of residuals in 20 seeds.

    Four waves of wavelength 40 and random directions and phases, of mean
    square a², have <δe* δe> = a² J0(2π r/40) in the mean.
    """
    found, errors = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(-60, 60, (2, 500))
        angle, phase = rng.uniform(0, 2 * np.pi, (2, 4))
        waves = np.cos(2 * np.pi / 40 * (np.outer(x, np.cos(angle)) + np.outer(y, np.sin(angle))) + phase)
        de = 0.02 * waves.sum(axis=1) / np.sqrt(2)
        distortions = 2 * de + rng.normal(0, 0.02, 500)
        star = 3 + 3 * np.stack([distortions, -distortions, np.full(500, -1)], axis=1)
        rho = rho_statistics(x, y, star, np.tile([3.0, 3.0, 0.0], (500, 1)))
        found.append(rho.values["rho1"])
        errors.append(rho.errors["rho1"])
        # Beyond, bins are too wide for such waves.
        mean_r, good = rho.mean_r, (rho.n_pairs > 100) & (rho.mean_r < 15)
    expected = 0.02**2 * j0(2 * np.pi * mean_r / 40)
    mean, scatter = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
    assert good.sum() >= 5
    # Of the mean of 20, whose scatter is known to 16 %; some 8 bins.
    assert np.all(np.abs(mean - expected)[good] < 3.5 * scatter[good] / np.sqrt(20))
    # The jackknife's errors are the seeds' scatter, within a factor.
    ratio = np.sqrt(np.mean(np.square(errors), axis=0))[good] / scatter[good]
    assert 0.5 < np.median(ratio) < 2


def test_te_of_the_spec() -> None:
    """Reproduce TE1 to TE4 of spec 07 §11."""
    k = np.arange(60)
    residuals = 1e-3 * np.sin(0.9 * k), 1e-3 * np.cos(1.7 * k)
    detector = np.zeros(60, dtype=np.int64)
    found = te_statistics(*spec_positions(), *residuals, detector)
    expected = {
        "TE1": (3.04669559e-7, 2.12662223e-7, -1.46410798e-8),
        "TE2": (-1.281729e-8, 8.502817e-9, 1.372211e-8),
        "TE3": (-1.09179193e-8, -2.65644364e-8, 4.63923322e-9),
        "TE4": (-1.582245e-8, 7.744605e-9, -7.092738e-9),
    }
    for name, values in expected.items():
        assert [found[f"psf{name}{c}"] for c in ("e1", "e2", "ex")] == pytest.approx(values, rel=1e-6)
    exact = te_statistics(*spec_positions(), *residuals, detector, bin_slop=0)
    assert exact["psfTE2e1"] == pytest.approx(-2.80501490e-9, rel=1e-6)
    assert exact["psfTE4ex"] == pytest.approx(-3.40370577e-9, rel=1e-6)


def check_te(path: Path, summaries: dict) -> None:
    """Compare TE of each detector with upstream's."""
    columns = StarColumns.from_table(read_golden(path)[0])
    selected = select_stars(columns) & columns.samples["used"]
    for detector in np.unique(columns.detector):
        rows = np.flatnonzero(selected & (columns.detector == detector))
        de = (distortion(columns.star) - distortion(columns.psf))[rows]
        found = te_statistics(columns.ra[rows], columns.dec[rows], *de.T, columns.detector[rows])
        for name, value in summaries[f"{path.name}/{detector}/used/empty_mask"]["TEX"].items():
            assert found[name] == pytest.approx(value, rel=1e-6), (detector, name)


def test_te_equals_upstream(tiny: Path) -> None:
    """Give what upstream's code gives."""
    check_te(tiny, json.loads((tiny / "psf_summary.json").read_text()))


def test_te_of_large_detectors_equals_upstream(golden_visit: Path) -> None:
    """The same for detectors across which all four are measured."""
    check_te(golden_visit, json.loads(SUMMARIES.read_text()))


def test_te_in_plane_equals_sums_over_pairs() -> None:
    """Compare with direct sums; TE3 and TE4 are within detectors."""
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 12, (2, 400))
    detector = (x > 6).astype(np.int64)
    star = np.array([3.0, 2.8, 0.1]) + 0.1 * rng.normal(size=(400, 3))
    psf = np.tile([3.0, 2.8, 0.1], (400, 1))
    found = te_statistics_in_plane(x, y, star, psf, detector)
    de = distortion(star) - distortion(psf)
    r = np.hypot(x[:, None] - x, y[:, None] - y)
    pairs = {"e1": (0, 0), "e2": (1, 1), "ex": (0, 1)}
    for component, (a, b) in pairs.items():
        products = np.outer(de[:, a], de[:, b])
        assert found[f"TE1{component}"][0] == pytest.approx(products[(r > 0) & (r < 1)].mean())
        assert found[f"TE2{component}"][0] == pytest.approx(products[r > 5].mean())
        inside = [(detector[:, None] == d) & (detector == d) & (r > 0) & (r < 5) for d in (0, 1)]
        each = [products[i].mean() for i in inside]
        assert found[f"TE3{component}"][0] == pytest.approx(np.median(each))
        # Medians of normal values scatter more than means do.
        error = np.sqrt(np.pi / 2) * np.std(each, ddof=1) / np.sqrt(2)
        assert found[f"TE3{component}"][1] == pytest.approx(error, rel=1e-3)


def test_moments_are_rotated_to_the_sky() -> None:
    """Undo the orientation of detectors and the handedness of their axes."""
    stars = make_stars(np.random.default_rng(3), noise=0)
    x, y = np.array(stars["slot_Centroid_x"]), np.array(stars["slot_Centroid_y"])
    turned = stars["detector"] == 2  # by 90 degrees: x' = y, y' = -x
    for name, plain, other in (("xx", 4.0, 3.0), ("yy", 3.0, 4.0), ("xy", 0.2, -0.2)):
        stars[f"slot_Shape_{name}"] = np.where(turned, other, plain)
    stars["slot_Centroid_x"], stars["slot_Centroid_y"] = np.where(turned, y, x), np.where(turned, -x, y)
    frame = project_stars(StarColumns.from_table(stars))
    # x is to the west here, and a pixel is 0.2 arcsec.
    expected = np.tile([4.0, 3.0, -0.2], (len(stars), 1)) * 0.04
    np.testing.assert_allclose(frame.star, expected, rtol=5e-4, atol=5e-5)
    spacing = np.hypot(frame.x[0] - frame.x[1], frame.y[0] - frame.y[1])
    assert spacing == pytest.approx(np.hypot(x[0] - x[1], y[0] - y[1]) * 0.2 / 60, rel=1e-3)


def test_moments_are_rotated_to_the_focal_plane() -> None:
    """Undo the orientation of a detector that is turned by 90 degrees."""
    stars = make_stars(np.random.default_rng(3), noise=0)
    x, y = np.array(stars["slot_Centroid_x"]), np.array(stars["slot_Centroid_y"])
    turned = stars["detector"] == 2  # x' = y, y' = -x
    for name, plain, other in (("xx", 4.0, 3.0), ("yy", 3.0, 4.0), ("xy", 0.2, -0.2)):
        stars[f"slot_PsfShape_{name}"] = np.where(turned, other, plain)
    stars["slot_Centroid_x"], stars["slot_Centroid_y"] = np.where(turned, y, x), np.where(turned, -x, y)
    stars["base_FPPosition_x"][stars["detector"] == 3] = np.nan
    psf = moments_on_focal_plane(StarColumns.from_table(stars))[1]
    known = np.asarray(stars["detector"] != 3)
    np.testing.assert_allclose(psf[known] / 0.01**2, np.tile([4.0, 3.0, 0.2], (known.sum(), 1)), rtol=1e-9)
    assert np.isnan(psf[~known]).all()


def test_moments_follow_distortion() -> None:
    """Transform by derivatives that vary over the detector."""
    stars = make_stars(np.random.default_rng(3), n_detectors=1)
    x, y = np.array(stars["slot_Centroid_x"]), np.array(stars["slot_Centroid_y"])
    stars["base_FPPosition_x"] = x + 1e-5 * x**2 - 2e-5 * y**2 + 3e-5 * x * y
    stars["base_FPPosition_y"] = y + 2e-5 * x**2 + 3e-5 * y**2 - 1e-5 * x * y
    jacobian = np.array(
        [
            [1 + 2e-5 * x + 3e-5 * y, -4e-5 * y + 3e-5 * x],
            [4e-5 * x - 1e-5 * y, 1 + 6e-5 * y - 1e-5 * x],
        ]
    )
    xx, yy, xy = (np.array(stars[f"slot_Shape_{name}"]) for name in ("xx", "yy", "xy"))
    rotated = np.einsum("ijn,jkn,lkn->iln", jacobian, np.array([[xx, xy], [xy, yy]]), jacobian)
    star = moments_on_focal_plane(StarColumns.from_table(stars))[0]
    np.testing.assert_allclose(star.T, [rotated[0, 0], rotated[1, 1], rotated[0, 1]], rtol=1e-8)


def test_rho_is_the_same_all_over_the_sky() -> None:
    """Correlate alike across right ascension 0 and over the pole."""
    reference = None
    for ra, dec in ((150.0, 2.0), (0.0, -30.0), (10.0, 90.0)):
        columns = StarColumns.from_table(make_stars(np.random.default_rng(3), ra=ra, dec=dec))
        rho = measure_visit_rho(columns, visit=1, bin_slop=0)
        reference = reference or rho
        # TE has components along axes, which turn at the pole.
        known = (reference["n_pairs"] > 100) & [name.startswith("rho") for name in rho["statistic"]]
        assert known.sum() > 40
        # Some pairs cross edges of bins.
        difference = np.abs(rho["value"] - reference["value"])[known]
        assert np.median(difference / reference["error"][known]) < 0.02
        assert np.all(difference < 0.5 * reference["error"][known])


def test_patches_are_of_equal_size() -> None:
    """Divide evenly; too few stars make no patches."""
    rng = np.random.default_rng(1)
    patch = make_patches(*rng.normal(size=(2, 700)))
    assert np.bincount(patch).tolist() == pytest.approx([700 / 16] * 16, abs=1)
    assert make_patches(*rng.normal(size=(2, 130))).max() == 3
    assert make_patches(*rng.normal(size=(2, 79))) is None


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("none reserved", "0 of 0 reserved stars"),
        ("one star", "reserved stars can be used"),
        ("nan", "0 of 20 reserved stars can be used"),
        ("coord", "lacks coord_ra, coord_dec"),
        ("two stars", "orientation of detectors 0 isn't known"),
        ("line", "orientation of detectors 0 isn't known"),
    ],
)
def test_what_cannot_be_correlated_is_nan(problem: str, reason: str) -> None:
    """Tell why there are no correlations."""
    stars = make_stars(np.random.default_rng(3), n_detectors=1)
    if problem == "none reserved":
        stars["calib_psf_reserved"] = False
    elif problem.endswith(("star", "stars")):
        stars = stars[[0, 5]][: 1 + (problem == "two stars")]
    elif problem == "nan":
        stars["slot_Shape_xx"] = np.nan
    elif problem == "line":
        stars["slot_Centroid_x"] = stars["slot_Centroid_y"]
    else:
        stars.remove_columns(["coord_ra", "coord_dec"])
    rho = measure_visit_rho(StarColumns.from_table(stars), visit=1)
    assert len(rho) == 2 * (6 * 21 + 12)
    reserved = rho[rho["sample"] == "reserved"]
    assert np.isnan(reserved["value"]).all()
    assert all(reason in text for text in reserved["reasons"])
