# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What the benchmarks share: calibration of the machine, golden inputs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import galsim
import numpy as np

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
DETECTOR_NAMES = {0: "S00", 1: "S01", 2: "S10"}


def best_of(function: Callable[[], Any], repeats: int = 5) -> float:
    """Return the shortest time of some calls in seconds.

    Time of this process, so that others on the machine matter less.
    """
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def calibrate() -> dict[str, float]:
    """Measure the four figures of a golden set's ``timings.json`` here."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(700, 700))
    image = galsim.Gaussian(sigma=2).shear(g1=0.05, g2=-0.03).drawImage(nx=41, ny=41, scale=1.0)
    grid = rng.normal(size=(512, 512))
    return {
        "dgemm_700_s": best_of(lambda: matrix @ matrix),
        "galsim_adaptive_moments_s": best_of(lambda: galsim.hsm.FindAdaptiveMom(image), 50),
        "numpy_fft2_512_s": best_of(lambda: np.fft.fft2(grid)),
        "python_loop_1e6_s": best_of(lambda: sum(range(10**6))),
    }


@dataclass
class StackTimes:
    """Times of the real stack, scaled to this machine.

    Parameters
    ----------
    times
        Seconds per stage and ``plugin:NAME``, unscaled.
    factors
        Speed of that machine over this one's, by calibration figure; above 1
        means that this machine is slower.
    """

    times: dict[str, float]
    factors: dict[str, float]

    def scaled(self, stage: str) -> float:
        """Return the time of a stage by the calibration nearest in kind."""
        kind = {"psf": "dgemm_700_s", "isolated": "python_loop_1e6_s"}.get(stage, "galsim_adaptive_moments_s")
        return self.times[stage] * self.factors[kind]


def read_stack_times(golden: Path, key: str) -> StackTimes:
    """Read the stack's times of one run and scale them.

    Parameters
    ----------
    golden
        Path of a golden set.
    key
        Variant and detector, ``default/0``.
    """
    timings = json.loads((golden / "expected" / "timings.json").read_text())
    here = calibrate()
    factors = {name: here[name] / there for name, there in timings["calibration"].items()}
    return StackTimes(timings[key], factors)


def find_input(golden: Path, dataset: str, detector: int) -> Path:
    """Return the file of a detector's dataset in a golden export."""
    folder = golden / "export/golden/inputs" / dataset
    return next(folder.glob(f"**/*_{DETECTOR_NAMES[detector]}_*.fits"))


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Print rows with aligned columns, the first to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first, *rest = (f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join([f"{row[0]:<{widths[0]}}", *rest]) if first else "")
