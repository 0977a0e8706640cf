# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import check_truth

GAAP_APERTURES = ("0_5", "0_7", "1_0", "1_5", "2_5", "3_0", "PsfFlux", "Optimal")
FLUXES = [
    "base_GaussianFlux",
    "base_PsfFlux",
    *(f"ext_convolved_ConvolvedFlux_{i}_{r}" for i in range(4) for r in ("3_3", "4_5", "6_0", "kron")),
    *(f"ext_gaap_GaapFlux_1_15x_{s}" for s in GAAP_APERTURES),
    "ext_photometryKron_KronFlux",
    *(f"modelfit_CModel{stage}" for stage in ("", "_dev", "_exp", "_initial")),
]


@pytest.fixture(scope="module")
def sample() -> check_truth.Sample:
    """Finalize a detector of background-limited stars of known flux."""
    return check_truth.run_task(1600, seed=1)


def test_all_fluxes_are_checked(sample: check_truth.Sample) -> None:
    """Judge every flux of the default table that is aperture-corrected."""
    assert sorted(check_truth.flux_names(sample.stars)) == sorted(FLUXES)


@pytest.mark.parametrize("name", FLUXES)
def test_pulls_of_known_fluxes(sample: check_truth.Sample, name: str) -> None:
    """Find true fluxes within their errors, S/N 50 to 1000.

    Noise that upstream's errors leave out is accounted for as the benchmark
    tells. The mean of 1500 pulls has an error of 0.026, their width one of
    1.9 %.
    """
    pulls = check_truth.complete_pulls(sample, name)
    assert np.isfinite(pulls).sum() > 1400
    mean, width = check_truth.mean_and_width(pulls)
    assert abs(mean) < 0.1
    assert width == pytest.approx(1.0, abs=0.1)


def test_most_errors_leave_nothing_out() -> None:
    """Account for noise only where upstream's errors do not."""
    complete = [name for name in FLUXES if not check_truth.what_errors_leave_out(name)]
    assert complete == [
        "base_PsfFlux",
        "ext_convolved_ConvolvedFlux_0_4_5",
        "ext_convolved_ConvolvedFlux_0_6_0",
        *(f"ext_gaap_GaapFlux_1_15x_{s}" for s in GAAP_APERTURES),
    ]


def test_psf_model_is_the_true_psf(sample: check_truth.Sample) -> None:
    """Predict the true PSF at stars that were held back, without bias.

    Scatter is 0.2 % in size; 150 reserved stars average to a tenth of it.
    """
    reserved = np.asarray(sample.stars["calib_psf_reserved"])
    model = np.asarray(sample.stars["slot_PsfShape_xx"] + sample.stars["slot_PsfShape_yy"])[reserved]
    true = np.asarray(sample.truth["psf_xx"] + sample.truth["psf_yy"])[reserved]
    assert reserved.sum() > 100
    assert abs(np.mean(model / true - 1)) < 2e-3
    assert np.std(model / true - 1) < 1e-2


def test_noisy_shapes_raise_the_scatter_as_upstream(sample: check_truth.Sample) -> None:
    """Scatter a little more than upstream's errors tell with own shapes."""
    for name, limit in (
        ("base_GaussianFlux", 1.8),
        ("ext_photometryKron_KronFlux", 1.4),
        ("modelfit_CModel", 1.4),
    ):
        mean, width = check_truth.mean_and_width(check_truth.flux_pulls(sample.stars, sample.flux, name))
        assert 1.1 < width < limit, name
        assert abs(mean) < 0.35, name
