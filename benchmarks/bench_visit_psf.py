# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The PSF of a visit against the best fit of each detector on its own.

Simulates focal planes, fits their stars together and, by the structured
fit, each detector with Piff's model of several orders, and compares both
with the noise-free truth at reserved stars and on a grid.  A ratio below 1
means that the common model is better than the best of the orders, which is
chosen for each metric after averaging over the seeds.  Options spoil the
visits or take the stars from some of their detectors.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from visit_psf_judge import METRICS, Visit, fit_per_detector, judge, make_visit, summarize
from visit_psf_trouble import few_stars, robustness

from lsst.meas.finalize.focal_plane import DetectorFrame, nearest_orientation
from lsst.meas.finalize.psf._weights import sky_variance
from lsst.meas.finalize.psf.hierarchical import (
    HierarchicalOptions,
    VisitStars,
    fit_visit,
)

__all__ = ("main", "visit_stars")


def visit_stars(visit: Visit, count: int) -> VisitStars:
    """Join the usable stars of all detectors."""
    simulation = visit.simulation
    parts = [visit.usable(d, count) for d in range(simulation.n_detectors)]
    last = simulation.size - 1.0
    frames = []
    for d in range(simulation.n_detectors):
        jacobian = simulation.rotation(d) * simulation.pixel_size
        offset = simulation.focal_position(d, [0.0], [0.0])[0]
        orientation = nearest_orientation(jacobian).tolist()
        as_tuples = (tuple(map(tuple, m)) for m in (jacobian.tolist(), orientation))
        frames.append(DetectorFrame((0.0, last, 0.0, last), (offset[0], offset[1]), *as_tuples))

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(p, name) for p in parts])

    image, good = joined("image"), ~joined("bad")
    return VisitStars(
        frames,
        np.repeat(np.arange(len(parts)), [len(p.x) for p in parts]),
        joined("x_measured"),
        joined("y_measured"),
        joined("x0"),
        joined("y0"),
        image,
        good,
        sky_variance(image, joined("variance"), good),
        1.0,
    )


def _fit_together(visit: Visit, count: int, options: HierarchicalOptions) -> dict[str, Any]:
    stars = visit_stars(visit, count)
    start = time.process_time()
    model = fit_visit(stars, options)
    cpu = time.process_time() - start
    detectors = range(visit.simulation.n_detectors)
    images = np.stack([model.draw(d, visit.x[d], visit.y[d]) for d in detectors])
    return {**summarize(judge(visit, images)), "cpu": cpu}


def _table(results: dict[str, list[dict[str, Any]]], seeds: list[int]) -> None:
    """Print the means over seeds, and the ratios, of each seed, too."""
    means = {
        name: {m: np.mean([r[m] for r in runs]) for m in (*METRICS, "cpu")} for name, runs in results.items()
    }
    print(f"{'':>12}" + "".join(f"{m:>12}" for m in (*METRICS, "CPU s")))
    for name, values in means.items():
        print(f"{name:>12}" + "".join(f"{values[m]:12.3g}" for m in (*METRICS, "cpu")))
    together = means.pop("together")
    if means:
        ratios = [together[m] / min(values[m] for values in means.values()) for m in METRICS]
        print(f"{'ratio':>12}" + "".join(f"{ratio:12.2f}" for ratio in ratios), flush=True)
        # The order of each metric is that of the mean over all seeds.
        best = {m: min(means, key=lambda name, m=m: means[name][m]) for m in METRICS}
        for i, seed in enumerate(seeds):
            own = (results["together"][i][m] / results[best[m]][i][m] for m in METRICS)
            print(f"{'seed ' + str(seed):>12}" + "".join(f"{ratio:12.2f}" for ratio in own), flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104, 105])
    parser.add_argument("--stars", type=int, nargs="+", default=[12, 40, 100], help="per detector")
    parser.add_argument("--orders", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--detectors", type=int, choices=[21, 189], default=21)
    parser.add_argument("--cache", type=Path, help="directory of simulated visits")
    parser.add_argument("--robustness", action="store_true", help="spoil the visits instead")
    parser.add_argument("--few-stars", action="store_true", help="take the stars from some detectors instead")
    arguments = parser.parse_args()
    if arguments.robustness or arguments.few_stars:
        visits = [make_visit(s, 21, max(arguments.stars), arguments.cache) for s in arguments.seeds]
        for count in arguments.stars:
            if arguments.few_stars:
                few_stars(visits, count, visit_stars)
            for visit in visits if arguments.robustness else []:
                robustness(visit, count, visit_stars)
        return
    options = HierarchicalOptions()
    for count in arguments.stars:
        results: dict[str, list[dict[str, Any]]] = {"together": []}
        for seed in arguments.seeds:
            visit = make_visit(seed, arguments.detectors, max(arguments.stars), arguments.cache)
            results["together"].append(_fit_together(visit, count, options))
            for order in arguments.orders:
                # More unknowns than a detector has stars is no fit.
                if (order + 1) * (order + 2) // 2 <= count:
                    images, cpu = fit_per_detector(visit, count, order)
                    row = {**summarize(judge(visit, images)), "cpu": cpu}
                    results.setdefault(f"order {order}", []).append(row)
        print(f"\n{count} stars on each of {arguments.detectors} detectors, {len(arguments.seeds)} visits")
        _table(results, arguments.seeds)
    print(f"\nPeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
