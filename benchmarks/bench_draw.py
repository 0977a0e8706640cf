# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Time drawing PSF images in batches against Piff, and compare the images.

Usage: python benchmarks/bench_draw.py [--stars N] [--golden PATH]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from pathlib import Path

import numpy as np
from common import GOLDEN, best_of, print_table

from lsst.meas.finalize.afw import read_exposure_catalog
from lsst.meas.finalize.psf import as_batch_psf

N_PIFF = 50


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=400)
    parser.add_argument("--golden", type=Path, default=GOLDEN / "visit")
    args = parser.parse_args()
    path = args.golden / "expected/default/detector_0/finalized_psf_ap_corr_detector_catalog.fits"
    psf = as_batch_psf(read_exposure_catalog(path).psfs[0])
    rng = np.random.default_rng(1)
    x, y = rng.uniform(50, 1950, (2, args.stars))
    rows = [("images", "Piff, us each", "batch, us each", "ratio", "difference/peak")]
    for kind, center, draw in (
        ("kernel", True, lambda: psf.draw_kernel_images(x, y)),
        ("star", None, lambda: psf.draw_star_images(x, y)[0]),
    ):

        def draw_by_piff(center: bool | None = center) -> np.ndarray:
            images = [
                psf.piff_psf.draw(x[i], y[i], stamp_size=psf.stamp_size, center=center).array
                for i in range(N_PIFF)
            ]
            return np.array([image / image.sum() for image in images])

        expected, images = draw_by_piff(), draw()
        difference = np.abs(images[:N_PIFF] - expected).max() / expected.max()
        piff_time = best_of(draw_by_piff, 10) / N_PIFF
        batch_time = best_of(draw, 50) / args.stars
        rows.append(
            (
                kind,
                f"{1e6 * piff_time:.0f}",
                f"{1e6 * batch_time:.2f}",
                f"{piff_time / batch_time:.0f}",
                f"{difference:.0e}",
            )
        )
    print_table(rows)


if __name__ == "__main__":
    main()
