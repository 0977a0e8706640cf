# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Judge fluxes against the truth of simulated stars.

Background-limited stars of known flux, S/N 50 to 1000, go through the detector
task.  For every flux the pull (flux - truth)/error after aperture correction
is printed, its mean and width.  The true flux is the reference flux, so that
noise of the corrections doesn't count.

Upstream's errors, which are kept, leave out some noise.  The columns "all"
show pulls with that accounted for:

covariance
    Blurring correlates the noise.  The errors are multiplied by what Fourier
    transforms of kernel and aperture give for white noise.
shape, radius
    The flux is measured in a shape or radius that is noisy itself.  It is
    measured again with these given: moments of the PSF, a fixed Kron radius,
    models that are almost points.
phase
    Coefficients of small sinc apertures aren't shifted to the centroid at
    their border.  A function of the position within the pixel is fitted to
    flux/truth, and taken off.

Beside it stand the pulls of the stack's own outputs for a golden visit, where
photon noise of the stars and of the reference flux enters, too.

The exit code is 1 if a mean is beyond 0.1 or a width beyond 1 +- 0.1 with all
noise accounted for.

Usage: python benchmarks/check_truth.py [--stars N] [--runs N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import astropy.table
import numpy as np
import pyarrow.parquet
from common import GOLDEN, print_table
from scipy.spatial import cKDTree
from scipy.special import j1

from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.meas.finalize.simulate import VisitSimulation, make_grid_scene, simulate_detector
from lsst.meas.finalize.simulate._associations import associate_stars
from lsst.pipe.base import InMemoryDatasetHandle
from lsst.pipe.tasks.finalizeCharacterization import (
    FinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationDetectorTask,
)

SKY = 1e8  # so high that the stars' own photons don't matter


CONVOLVED = re.compile(r"ext_convolved_ConvolvedFlux_(\d)_(kron|\d_\d)")
KRON_RADIUS = 3.5  # pixels, larger than that of all stars
N_GRID = 128  # of the Fourier transforms; the kernels are smaller
SIGMA_TO_FWHM = np.sqrt(8 * np.log(2))
LIMIT = 0.1


@dataclass
class Sample:
    """Stars of known flux that went through the task.

    Parameters
    ----------
    stars
        Star table by the default configuration.
    given
        Star table of the same stars, measured in given shapes.
    truth
        True objects, in the order of the stars.
    """

    stars: astropy.table.Table
    given: astropy.table.Table
    truth: astropy.table.Table

    @property
    def flux(self) -> np.ndarray:
        """True fluxes."""
        return np.asarray(self.truth["flux"])


def make_given_config() -> FinalizeCharacterizationDetectorConfig:
    """Make the configuration in which no flux has a noisy shape."""
    config = FinalizeCharacterizationDetectorConfig()
    config.measurement.slots.shape = "ext_shapeHSM_HsmPsfMoments"
    config.measurement.plugins["ext_photometryKron_KronFlux"].minimumRadius = KRON_RADIUS
    cmodel = config.measurement.plugins["modelfit_CModel"]
    cmodel.minInitialRadius = 0.02
    for stage in (cmodel.initial, cmodel.exp, cmodel.dev):
        stage.priorSource = "LINEAR"
        # Radii below exp(-3) = 0.05 pixels, and round.
        stage.linearPriorConfig.logRadiusMaxInner, stage.linearPriorConfig.logRadiusMaxOuter = -3.0, -2.9
        stage.linearPriorConfig.ellipticityMaxInner, stage.linearPriorConfig.ellipticityMaxOuter = 0.1, 0.11
    return config


def run_task(n_stars: int, seed: int) -> Sample:
    """Simulate stars of known flux and measure them twice."""
    size = int(np.ceil(np.sqrt(n_stars))) * 64
    simulation = VisitSimulation(
        seed=seed, n_detectors=1, size=size, n_cosmic_rays=0, n_bad_columns=0, sky=SKY, saturation=1e12
    )
    made = simulate_detector(simulation, 0, scene=make_grid_scene(simulation))
    src, truth = made.src, made.truth[made.truth["source_id"] > 0]
    src["slot_CalibFlux_instFlux"][np.searchsorted(src["id"], truth["source_id"])] = truth["flux"]
    tables = associate_stars(simulation, {0: made.truth})
    cats, sources = (
        {tract: InMemoryDatasetHandle(pair[i], storageClass="ArrowAstropy") for tract, pair in tables.items()}
        for i in (0, 1)
    )
    stars, given = (
        FinalizeCharacterizationDetectorTask(config=config)
        .run(simulation.visit, simulation.band, 0, cats, sources, src.copy(), made.calexp)
        .output_table
        for config in (FinalizeCharacterizationDetectorConfig(), make_given_config())
    )
    order = np.argsort(truth["source_id"])
    row = order[np.searchsorted(truth["source_id"][order], stars["id"])]
    return Sample(stars, given, truth[row])


def read_stack(golden: Path, detector: int) -> tuple[astropy.table.Table, np.ndarray]:
    """Return the stack's star table and the true fluxes on its scale."""
    path = golden / f"expected/default/detector_{detector}/finalized_src_detector_table.parquet"
    stars = arrow_to_astropy(pyarrow.parquet.read_table(path))
    truth = np.load(golden / "truth.npz", allow_pickle=False)[f"detector_{detector}"]
    tree = cKDTree(np.stack([truth["x"], truth["y"]], axis=1))
    distance, row = tree.query(np.stack([stars["slot_Centroid_x"], stars["slot_Centroid_y"]], axis=1))
    good = (distance < 1) & truth["star"][row]
    stars, flux = stars[good], truth["flux"][row[good]]
    bright = flux > np.median(flux)
    return stars, flux * np.mean(np.asarray(stars["slot_CalibFlux_instFlux"])[bright] / flux[bright])


def flux_names(stars: astropy.table.Table) -> list[str]:
    """Return the names of all aperture-corrected fluxes."""
    names = (column.removesuffix("_apCorr") for column in stars.colnames if column.endswith("_apCorr"))
    return [name for name in names if f"{name}_instFlux" in stars.colnames and not name.startswith("slot_")]


def flux_pulls(stars: astropy.table.Table, flux: np.ndarray, name: str) -> np.ndarray:
    """Return (flux - truth)/error; NaN for flagged stars."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (np.asarray(stars[f"{name}_instFlux"]) - flux) / np.asarray(stars[f"{name}_instFluxErr"])
    return np.where(np.asarray(stars[f"{name}_flag"]), np.nan, values)


def what_errors_leave_out(name: str) -> list[str]:
    """Return which noise upstream's error of a flux doesn't contain."""
    left_out = []
    if match := CONVOLVED.fullmatch(name):
        left_out += ["covariance"] if match[1] != "0" else []
        left_out += ["phase"] if match[2] == "3_3" else []
    if name.endswith("_kron") or name == "ext_photometryKron_KronFlux":
        left_out.append("radius")
    if name == "base_GaussianFlux" or name.startswith("modelfit_CModel"):
        left_out.append("shape")
    return left_out


def complete_pulls(sample: Sample, name: str) -> np.ndarray:
    """Return the pulls with all noise accounted for; NaN for flagged stars."""
    left_out = what_errors_leave_out(name)
    stars = sample.given if {"shape", "radius"} & set(left_out) else sample.stars
    pulls, signal_to_noise = (
        flux_pulls(stars, sample.flux, name),
        sample.flux / np.asarray(stars[f"{name}_instFluxErr"]),
    )
    if "covariance" in left_out:
        factors = covariance_factors(stars, name)
        pulls, signal_to_noise = pulls / factors, signal_to_noise / factors
    return remove_phase(stars, pulls, signal_to_noise) if "phase" in left_out else pulls


def covariance_factors(stars: astropy.table.Table, name: str) -> np.ndarray:
    """Return by how much the covariance of blurred noise raises errors."""
    match = CONVOLVED.fullmatch(name)
    assert match is not None
    plugin = FinalizeCharacterizationDetectorConfig().measurement.plugins["ext_convolved_ConvolvedFlux"]
    target = plugin.seeing[int(match[1])] / SIGMA_TO_FWHM
    radius = plugin.kronRadiusForFlux * KRON_RADIUS
    if match[2] != "kron":
        radius = float(match[2].replace("_", "."))
    sigma = np.sqrt(target**2 - np.asarray(stars["ext_convolved_ConvolvedFlux_seeing"], dtype=float) ** 2)
    grid = np.linspace(sigma.min(), sigma.max(), 12)
    return np.interp(sigma, grid, [_covariance_factor(s, radius) for s in grid])


def _covariance_factor(sigma: float, radius: float) -> float:
    """Return it for one Gaussian kernel and one circular sinc aperture.

    The error has sum(K^2) sum(c^2) for sum((K*c)^2), where K is the kernel and
    c the coefficients; Parseval's theorem turns sums into means over Fourier
    space.  There c is the transform of a disc, cut at the Nyquist frequency.
    """
    frequency = 2 * np.pi * np.fft.fftfreq(N_GRID)
    kr = radius * np.hypot(frequency, frequency[:, None])
    aperture = np.divide(2 * j1(kr), kr, out=np.ones_like(kr), where=kr > 0)
    offset = np.arange(-np.ceil(4 * sigma), np.ceil(4 * sigma) + 1).astype(int)
    profile = np.zeros(N_GRID)
    profile[offset] = np.exp(-(offset**2) / (2 * sigma**2))
    transform = np.abs(np.fft.fft(profile / profile.sum()))
    kernel = np.outer(transform, transform)
    return np.sqrt(np.mean((kernel * aperture) ** 2) / np.mean(kernel**2) / np.mean(aperture**2))


def remove_phase(stars: astropy.table.Table, pulls: np.ndarray, signal_to_noise: np.ndarray) -> np.ndarray:
    """Take off the relative error that depends on the sub-pixel position."""
    good = np.isfinite(pulls)
    x, y = (np.asarray(stars[f"slot_Centroid_{axis}"])[good] for axis in "xy")
    waves = [
        [np.ones_like(v), *(f(2 * np.pi * n * v) for n in (1, 2, 3) for f in (np.cos, np.sin))]
        for v in (x, y)
    ]
    design = np.stack([a * b for a in waves[0] for b in waves[1]], axis=1) * signal_to_noise[good, None]
    fit = design @ np.linalg.lstsq(design, pulls[good], rcond=None)[0]
    result = np.full(len(pulls), np.nan)
    n, n_terms = design.shape
    result[good] = (pulls[good] - fit) * np.sqrt(n / (n - n_terms))
    return result


def mean_and_width(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and half of the central 68 % range."""
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, [15.87, 84.13])
    return float(values.mean()), float(high - low) / 2


def is_within_limits(mean: float, width: float) -> bool:
    """Return whether pulls are as they should be."""
    return abs(mean) < LIMIT and abs(width - 1) < LIMIT


def main() -> int:
    """Print the table."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stars", type=int, default=900, help="stars per run")
    parser.add_argument("--runs", type=int, default=3, help="number of simulated detectors")
    parser.add_argument("--golden", type=Path, default=GOLDEN / "visit", help="golden set of the stack")
    args = parser.parse_args()
    samples = [run_task(args.stars, seed) for seed in range(args.runs)]
    stack = [read_stack(args.golden, d) for d in (0, 1, 2)] if args.golden.exists() else []
    rows = [
        ("flux", "stars", "mean", "width", "", "all: mean", "width", "", "left out", "stack: mean", "width")
    ]
    passed = True
    for name in flux_names(samples[0].stars):
        pulls = np.concatenate([flux_pulls(s.stars, s.flux, name) for s in samples])
        complete = np.concatenate([complete_pulls(s, name) for s in samples])
        plain, full = mean_and_width(pulls), mean_and_width(complete)
        passed &= is_within_limits(*full)
        cells = [name, str(np.isfinite(pulls).sum())]
        for values in (plain, full):
            cells += [f"{values[0]:.3f}", f"{values[1]:.3f}", "" if is_within_limits(*values) else "*"]
        cells.append(", ".join(what_errors_leave_out(name)))
        theirs = [flux_pulls(*detector, name) for detector in stack]
        cells += [f"{v:.2f}" for v in mean_and_width(np.concatenate(theirs))] if theirs else ["", ""]
        rows.append(tuple(cells))
    print_table(rows)
    print(f"\n* mean beyond {LIMIT} or width beyond 1 +- {LIMIT}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
