# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""The PSF of a visit where something is wrong, detector by detector.

``robustness`` spoils a simulated visit and compares each detector's errors
with those of its own fit, of the order that is best on average over the
detectors, and of the order that is best for this detector, which only the
truth can tell.  ``few_stars`` takes nearly all stars from some detectors and
compares their errors with those of their neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from visit_psf_judge import Visit, fit_per_detector, judge

from lsst.meas.finalize.psf.hierarchical import VisitPsfModel, VisitStars, fit_visit
from lsst.meas.finalize.simulate.focal_plane import FocalPlanePsf, FocalPlaneStars, simulate_stars

__all__ = ("few_stars", "robustness")

ORDERS = (0, 1, 2)
METRICS = ("pixel", "size", "e")
_SPOILT = 5
_DEFOCUS = 20.0  # micrometres
_NEAR = 1.5  # detector distances

type Join = Callable[[Visit, int], VisitStars]


def robustness(plain: Visit, count: int, join: Join) -> None:
    """Print how many detectors are worse than their own fit."""
    print(f"\nSeed {plain.simulation.seed}, {count} stars: errors over those of each detector's own fit")
    print(f"{'':>12}{'':>8}{'usual order':>24}{'best in hindsight':>24}{'spoilt':>9}")
    print(f"{'case':>12}{'metric':>8}" + f"{'above 1.1':>14}{'worst':>10}" * 2)
    for name, visit, kept in _cases(plain):
        stars = _only(join(visit, count), kept)
        model = fit_visit(stars)
        images = visit.truth[0].astype(np.float64)
        for i, d in enumerate(kept):
            images[d] = model.draw(i, visit.x[d], visit.y[d])
        ours = judge(visit, images)
        own = [judge(visit, fit_per_detector(visit, count, order)[0]) for order in ORDERS]
        for metric in METRICS:
            _row(name, metric, ours[metric], np.array([o[metric] for o in own]), kept)


def _row(
    name: str,
    metric: str,
    ours: npt.NDArray[np.float64],
    own: npt.NDArray[np.float64],
    kept: npt.NDArray[np.int64],
) -> None:
    usual = own[own[:, kept].mean(axis=1).argmin()]
    # Pixel errors are compared as the issue does, squared.
    power = 1.0 if metric == "pixel" else 0.5
    line = f"{name:>12}{metric:>8}"
    for reference in (usual, own.min(axis=0)):
        ratio = (ours[kept] / reference[kept]) ** power
        worst = kept[ratio.argmax()]
        line += f"{np.count_nonzero(ratio > 1.1):6d} of {len(kept):2d}{ratio.max():7.2f} (d{worst:02d})"
    spoilt = (ours / usual)[_SPOILT] ** power if _SPOILT in kept else np.nan
    print(f"{line}{spoilt:9.2f}", flush=True)


def _cases(plain: Visit) -> Iterable[tuple[str, Visit, npt.NDArray[np.int64]]]:
    """Yield names, visits and the detectors that are there."""
    simulation = plain.simulation
    everything = np.arange(simulation.n_detectors)
    yield "nothing", plain, everything
    psf = FocalPlanePsf(simulation)
    psf.optics.focus_shift[_SPOILT] = _DEFOCUS
    x, y = plain.x[_SPOILT], plain.y[_SPOILT]
    yield (
        "focus",
        _with(plain, simulate_stars(psf, _SPOILT), psf.images(_SPOILT, x, y, derivatives=True)),
        everything,
    )
    psf = FocalPlanePsf(dataclasses.replace(simulation, galaxy_fraction=1.0))
    yield "galaxies", _with(plain, simulate_stars(psf, _SPOILT)), everything
    yield "half", plain, np.array([d for d in everything if simulation.centre(d)[0] < 0.0])
    yield "outliers", _edited(plain, _contaminate), everything
    yield "masked", _edited(plain, _mask), everything


def _with(visit: Visit, stars: FocalPlaneStars, truth: npt.NDArray[np.float64] | None = None) -> Visit:
    """Return the visit with other stars on the spoilt detector."""
    changed = list(visit.stars)
    changed[_SPOILT] = stars
    images = visit.truth.copy()
    if truth is not None:
        images[:, _SPOILT] = truth
    return dataclasses.replace(visit, stars=changed, truth=images)


def _edited(visit: Visit, edit: Callable[[FocalPlaneStars, np.random.Generator], FocalPlaneStars]) -> Visit:
    seed = visit.simulation.seed
    stars = [edit(s, np.random.default_rng([seed, d])) for d, s in enumerate(visit.stars)]
    return dataclasses.replace(visit, stars=stars)


def _contaminate(stars: FocalPlaneStars, rng: np.random.Generator) -> FocalPlaneStars:
    """Add neighbours to a twentieth of the stars, and a satellite's trail."""
    image = stars.image.copy()
    count, side = len(image), image.shape[-1]
    y, x = np.indices((side, side)) - side // 2
    for i in np.flatnonzero(rng.uniform(size=count) < 0.05):
        dx, dy = rng.uniform(-6.0, 6.0, 2)
        blend = np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / (2.0 * 1.8**2))
        image[i] += (rng.uniform(0.1, 0.6) * stars.flux[i] * blend / blend.sum()).astype(np.float32)
    angle, (x0, y0) = rng.uniform(0.0, np.pi), rng.uniform(1000.0, 3000.0, 2)
    columns = np.arange(side) + stars.x0[:, np.newaxis, np.newaxis]
    rows = np.arange(side)[:, np.newaxis] + stars.y0[:, np.newaxis, np.newaxis]
    distance = (columns - x0) * np.sin(angle) - (rows - y0) * np.cos(angle)
    image += (2000.0 * np.exp(-(distance**2) / (2.0 * 2.5**2))).astype(np.float32)
    return dataclasses.replace(stars, image=image)


def _mask(stars: FocalPlaneStars, rng: np.random.Generator) -> FocalPlaneStars:
    """Mask a column and a square of every star."""
    count, side = len(stars.image), stars.image.shape[-1]
    column, x, y = rng.integers(0, side, (3, count, 1, 1))
    index = np.arange(side)
    square = (np.abs(index - x) < 2) & (np.abs(index[:, np.newaxis] - y) < 2)
    return dataclasses.replace(stars, bad=(index == column) | square)


def _only(stars: VisitStars, kept: npt.NDArray[np.int64]) -> VisitStars:
    """Return the stars of some detectors."""
    mine = np.isin(stars.detector, kept)
    return _take(stars, mine, [stars.frames[d] for d in kept], np.searchsorted(kept, stars.detector[mine]))


def _take(
    stars: VisitStars, mine: npt.NDArray[np.bool_], frames: list[Any], detector: npt.NDArray[np.int64]
) -> VisitStars:
    names = ("x", "y", "x0", "y0", "image", "good", "sky_variance")
    return VisitStars(frames, detector, *(getattr(stars, n)[mine] for n in names), stars.slope)


def few_stars(visits: list[Visit], count: int, join: Join) -> None:
    """Print errors of detectors of 0 to 4 stars over their neighbours'."""
    ratios: dict[int, list[list[float]]] = {n: [] for n in range(5)}
    for visit in visits:
        stars = join(visit, count)
        for number in ratios:
            chosen = np.random.default_rng([visit.simulation.seed, number]).choice(21, 4, replace=False)
            order = np.arange(len(stars)) % count
            mine = ~np.isin(stars.detector, chosen) | (order < number)
            model = fit_visit(_take(stars, mine, stars.frames, stars.detector[mine]))
            ratios[number] += _against_neighbours(visit, model, chosen)
    print(f"\n{count} stars but on 4 of 21 detectors, {len(visits)} visits: errors over the neighbours'")
    print(
        f"{'stars':>6}{'cases':>7}" + "".join(f"{m + ' < 1.5':>13}{'median':>8}{'worst':>7}" for m in METRICS)
    )
    for number, values in [*ratios.items(), (-1, sum(ratios.values(), []))]:
        array = np.array(values)
        line = f"{number if number >= 0 else 'all':>6}{len(array):7d}"
        for column in array.T:
            line += f"{(column < 1.5).mean():13.2f}{np.median(column):8.2f}{column.max():7.2f}"
        print(line, flush=True)


def _against_neighbours(
    visit: Visit, model: VisitPsfModel, chosen: npt.NDArray[np.int64]
) -> list[list[float]]:
    """Return per chosen detector the ratios of errors to the neighbours'."""
    images = np.stack([model.draw(d, visit.x[d], visit.y[d]) for d in range(21)])
    errors = judge(visit, images)
    centre = np.array([visit.simulation.centre(d) for d in range(21)])
    result = []
    for d in chosen:
        distance = np.hypot(*(centre - centre[d]).T) / visit.simulation.raft_pitch
        near = np.flatnonzero((distance < _NEAR) & ~np.isin(np.arange(21), chosen))
        # Errors are compared as rms, pixels too.
        result.append([float(np.sqrt(errors[m][d] / errors[m][near].mean())) for m in METRICS])
    return result
