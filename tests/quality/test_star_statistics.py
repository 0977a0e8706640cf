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
from types import SimpleNamespace

import astropy.table
import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from lsst.meas.finalize.quality import (
    HIGHER_MOMENTS,
    Groups,
    StarColumns,
    aperture_correction_statistics,
    higher_moment_statistics,
    star_statistics,
)
from lsst.meas.finalize.quality._detector_models import reduced_chi2

from .conftest import read_golden


def test_aperture_corrections_of_each_group(visit_stars: astropy.table.Table) -> None:
    """Compare with NumPy, for unflagged stars above 200 of some sample."""
    visit_stars["slot_PsfFlux_flag"][::7] = True
    visit_stars["slot_CalibFlux_instFlux"][5::9] = np.nan
    visit_stars["slot_CalibFlux_instFlux"] /= 1.02
    columns = StarColumns.from_table(visit_stars)
    rows = np.flatnonzero(columns.samples["used"])
    found = aperture_correction_statistics(columns, rows, Groups(columns.detector[rows], 4))
    flux, error = (np.asarray(visit_stars[f"slot_PsfFlux_instFlux{e}"]) for e in ("", "Err"))
    ratio = flux / np.asarray(visit_stars["slot_CalibFlux_instFlux"])
    good = columns.samples["used"] & (flux / error > 200) & ~np.asarray(visit_stars["slot_PsfFlux_flag"])
    assert 40 < good.sum() < len(good) / 2
    for detector in range(4):
        values = ratio[good & (columns.detector == detector) & np.isfinite(ratio)]
        assert found["apCorrResidualMedian"][detector] == pytest.approx(np.median(values) - 1)
        scatter = median_abs_deviation(values, scale="normal")
        assert found["apCorrResidualScatter"][detector] == pytest.approx(scatter)
    assert np.median(found["apCorrResidualMedian"]) == pytest.approx(0.02, abs=0.002)


def test_errors_of_medians_and_scatters_are_their_scatter() -> None:
    """Have errors that tell by how much groups of 60 stars differ."""
    rng = np.random.default_rng(4)
    psf = np.tile([3.0, 2.8, 0.1], (12000, 1))
    star = psf + 0.05 * rng.normal(size=psf.shape)
    found = star_statistics(star, psf, Groups(np.repeat(np.arange(200), 60), 200))
    for name in ("DeltaE1", "DeltaE2", "DeltaSize", "DeltaTOverT"):
        for kind in ("Median", "Scatter"):
            values, errors = found[f"psfStar{name}{kind}"], found[f"psfStar{name}{kind}Err"]
            # Those of 200 are known to 5 %.
            assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.25), (name, kind)


def test_higher_moments_of_star_and_model() -> None:
    """Keep stars, models and their differences apart."""
    rng = np.random.default_rng(2)
    star, psf = rng.normal(size=(2, 31, 9))
    found = higher_moment_statistics(star, psf, Groups(np.zeros(31, dtype=int), 1))

    def coma(moments: np.ndarray) -> np.ndarray:
        return moments[:, HIGHER_MOMENTS.index("30")] + moments[:, HIGHER_MOMENTS.index("12")]

    expected = {"star": coma(star), "psf": coma(psf), "psfStarDelta": coma(star) - coma(psf)}
    for name, values in expected.items():
        assert found[f"{name}Coma1Median"][0] == np.median(values)


def test_reduced_chi2_is_of_the_stars_of_the_fit(tiny: Path) -> None:
    """Sum over stars that are neither flagged nor reserved."""

    def star(chisq: float, dof: int, **kinds: bool) -> SimpleNamespace:
        fit = SimpleNamespace(chisq=chisq, dof=dof)
        return SimpleNamespace(**({"is_flagged": False, "is_reserve": False} | kinds), fit=fit)

    stars = [star(30.0, 10), star(50.0, 30), star(1e9, 1, is_flagged=True), star(1e9, 1, is_reserve=True)]
    psf = SimpleNamespace(piff_psf=SimpleNamespace(stars=[*stars, star(1.0, 0)]))
    assert reduced_chi2(psf) == 2.0
    assert np.isnan(reduced_chi2(SimpleNamespace(piff_psf=SimpleNamespace(stars=[]))))
    assert 0.3 < reduced_chi2(read_golden(tiny)[1][0].psf) < 0.6
