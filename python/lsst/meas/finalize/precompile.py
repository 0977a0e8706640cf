# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compile the measurement plugins before they are needed.

Numba compiles a plugin where it is first used, which takes about a minute for
the default ones, and the result is kept (see `_jit_numba`).  Run this
once after installing, for instance into a container, so that no quantum has
to.

Usage: python -m lsst.meas.finalize.precompile [-j PROCESSES]
"""

from __future__ import annotations

__all__ = ("compile_plugins", "main", "portions")

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence

from lsst.pipe.tasks.finalizeCharacterization import FinalizeCharacterizationDetectorConfig

from .afw import compile_reading

# These take as long as all others together.
_MODELS = ("modelfit_DoubleShapeletPsfApprox", "modelfit_CModel")
# These fill the slots that others need.
_SHAPES = ("ext_shapeHSM_HsmSourceMoments", "ext_shapeHSM_HsmPsfMoments")


def portions() -> list[list[str]]:
    """Return the default plugins in two parts that take equally long."""
    names = FinalizeCharacterizationDetectorConfig().measurement.plugins.names
    return [list(_MODELS), [name for name in names if name not in _MODELS]]


def compile_plugins(names: Sequence[str]) -> None:
    """Run measurement plugins on a few simulated stars.

    Parameters
    ----------
    names
        Names of the plugins.
    """
    from .measure import SingleFrameMeasurementTask
    from .psf import as_batch_psf, kernel_shapes
    from .simulate import VisitSimulation, simulate_detector
    from .tasks import OutputSchema

    made = simulate_detector(VisitSimulation(n_detectors=1, size=256, n_stars=12, n_galaxies=2), 0)
    psf = as_batch_psf(made.calexp.psf)
    # The PSF of this simulation measures itself in another way.
    kernel_shapes(psf.draw_kernel_images([128.0], [128.0]))
    config = FinalizeCharacterizationDetectorConfig().measurement.value
    config.plugins.names = [*_SHAPES, *names]
    for slot in ("modelFlux", "psfFlux", "gaussianFlux"):
        if getattr(config.slots, slot) not in config.plugins.names:
            setattr(config.slots, slot, None)
    output = OutputSchema(made.src.schema, selection_fields=None)
    task = SingleFrameMeasurementTask(config=config, schema=output.schema)
    task.run(output.make_catalog(made.src), made.calexp, footprints=made.src, psf=psf)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile the default plugins.

    Parameters
    ----------
    arguments
        Command-line arguments; those of the process if not given.

    Returns
    -------
    `int`
        Exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lsst.meas.finalize.precompile",
        description="Compile the measurement plugins, so that nothing has to later.",
    )
    parser.add_argument(
        "-j", "--jobs", type=int, default=2, choices=(1, 2), help="number of processes (default: 2)"
    )
    jobs = parser.parse_args(arguments).jobs
    print("Compiling the measurement plugins: this takes minutes the first time.", flush=True)
    start = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        pool.apply(compile_reading)
        for number, _ in enumerate(pool.imap_unordered(compile_plugins, portions()), start=1):
            print(
                f"Part {number} of {len(portions())} is done ({time.monotonic() - start:.0f} s).", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
