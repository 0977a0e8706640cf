# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Judge PSF models of simulated focal planes against the noise-free truth."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lsst.meas.finalize.catalogs import StampSet
from lsst.meas.finalize.psf._shapes import kernel_shapes
from lsst.meas.finalize.psf._weights import star_weights
from lsst.meas.finalize.simulate.focal_plane import (
    FocalPlanePsf,
    FocalPlaneSimulation,
    FocalPlaneStars,
    simulate_stars,
)

__all__ = ("METRICS", "Visit", "fit_per_detector", "judge", "make_visit", "weights_of")

METRICS = ("pixel", "size", "e", "TE1", "TE2")
_GRID = 6
_MAX_STARS = 250
_MAX_SNR = 200.0
_ARCMIN = 300.0  # pixels
_SEPARATIONS = {"TE1": (0.0, 1.0), "TE2": (4.0, 6.0)}  # arcmin


@dataclass
class Visit:
    """A simulated visit, and the truth where models are judged."""

    simulation: FocalPlaneSimulation
    stars: list[FocalPlaneStars]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    truth: npt.NDArray[np.float64]  # [3, D, M, h, w]: images, derivatives

    def usable(self, detector: int, count: int) -> FocalPlaneStars:
        """Return the first usable stars of a detector."""
        stars = self.stars[detector]
        return stars.take(np.flatnonzero(~stars.is_reserved)[:count])


def make_visit(
    seed: int, n_detectors: int = 21, n_stars: int = _MAX_STARS, cache: Path | None = None, **options: Any
) -> Visit:
    """Simulate a visit, or take it from a directory of earlier ones."""
    simulation = FocalPlaneSimulation(seed=seed, n_detectors=n_detectors, n_stars=n_stars, **options)
    key = hashlib.sha1(repr(simulation).encode()).hexdigest()[:12]
    name = f"visit-{seed}-{key}.npz"
    if cache is not None and (cache / name).exists():
        with np.load(cache / name) as data:
            arrays = dict(data)
    else:
        arrays = _simulate(simulation)
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            np.savez(cache / name, **arrays)
    names = [f.name for f in dataclasses.fields(FocalPlaneStars)]
    stars = [FocalPlaneStars(**{n: arrays[n][d] for n in names}) for d in range(n_detectors)]
    return Visit(simulation, stars, arrays["at_x"], arrays["at_y"], arrays["truth"])


def _simulate(simulation: FocalPlaneSimulation) -> dict[str, npt.NDArray[Any]]:
    psf = FocalPlanePsf(simulation)
    stars = [simulate_stars(psf, d) for d in range(simulation.n_detectors)]
    names = [f.name for f in dataclasses.fields(FocalPlaneStars)]
    arrays = {n: np.stack([getattr(s, n) for s in stars]) for n in names}
    axis = np.linspace(40.0, simulation.size - 41.0, _GRID)
    grid_x, grid_y = (c.ravel() for c in np.meshgrid(axis, axis))
    arrays["at_x"] = np.stack([np.append(s.x[s.is_reserved], grid_x) for s in stars])
    arrays["at_y"] = np.stack([np.append(s.y[s.is_reserved], grid_y) for s in stars])
    arrays["truth"] = np.stack(
        [
            psf.images(d, arrays["at_x"][d], arrays["at_y"][d], derivatives=True)
            for d in range(simulation.n_detectors)
        ],
        axis=1,
    ).astype(np.float32)
    return arrays


def weights_of(stars: FocalPlaneStars) -> npt.NDArray[np.float64]:
    """Weight pixels as the Piff determiner does."""
    mask = np.zeros(stars.image.shape, dtype=np.uint32)
    stamps = StampSet(stars.image, stars.variance, mask, stars.x0, stars.y0, {})
    return star_weights(stamps, ~stars.bad, _MAX_SNR)


def _piff_config(order: int, side: int) -> dict[str, Any]:
    return {
        "type": "Simple",
        "model": {
            "type": "PixelGrid",
            "scale": float(np.nextafter(FocalPlaneSimulation.pixel_scale, 0.0)),
            "size": side,
            "interp": "Lanczos(11)",
            "centered": True,
        },
        "interp": {
            "type": "BasisPolynomial",
            "order": [order, order],
            "keys": ["x", "y"],
            "solver": "scipy",
        },
        "outliers": {"type": "Chisq", "nsigma": 4.0, "max_remove": 0.05},
        "max_iter": 15,
    }


def make_piff_stars(stars: FocalPlaneStars) -> list[Any]:
    """Make Piff's stars with the determiner's weights."""
    import galsim
    import piff

    wcs = galsim.PixelScale(FocalPlaneSimulation.pixel_scale)
    weight = weights_of(stars)
    result = []
    for i in range(len(stars.x)):
        place = {"xmin": int(stars.x0[i]), "ymin": int(stars.y0[i]), "wcs": wcs}
        data = piff.StarData(
            galsim.Image(stars.image[i].astype(np.float64), **place),
            galsim.PositionD(stars.x_measured[i], stars.y_measured[i]),
            weight=galsim.Image(weight[i], **place),
        )
        result.append(piff.Star(data, None))
    return result


def fit_per_detector(visit: Visit, count: int, order: int) -> tuple[npt.NDArray[np.float64], float]:
    """Fit each detector on its own, with the structured solver.

    Returns the model's images [D, M, h, w] and the CPU time.  A detector
    whose fit fails gets the next lower order.
    """
    import galsim

    from lsst.meas.finalize.psf.structured import fit_structured

    side = visit.simulation.stamp_size
    wcs = {0: galsim.PixelScale(visit.simulation.pixel_scale)}
    images = np.empty(visit.truth.shape[1:])
    cpu = 0.0
    for d in range(visit.simulation.n_detectors):
        stars = make_piff_stars(visit.usable(d, count))
        start = time.process_time()
        psf, at_order = None, order
        while psf is None and at_order >= 0:
            psf = fit_structured(stars, _piff_config(at_order, side), wcs, None)
            at_order -= 1
        cpu += time.process_time() - start
        if psf is None:
            raise RuntimeError(f"No fit of detector {d}.")
        x, y = visit.x[d], visit.y[d]
        fitted = psf.interp._orders[0]
        powers = np.array([x**i * y**j for i in range(fitted + 1) for j in range(fitted + 1)])
        terms = powers[psf.interp._mask.ravel()]
        images[d] = (terms.T @ psf.interp.q.T).reshape(len(x), side, side)
    return images, cpu


def judge(visit: Visit, images: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Compare a model with the truth.

    Parameters
    ----------
    visit
        The visit.
    images
        The model at the visit's positions [D, M, h, w], any flux.

    Returns
    -------
    errors
        Per metric an array by detector [D], to be averaged (rms for "size"
        and "e"): mean squared pixel error (flux 1, centroid fitted), mean
        square of delta T / T and of a component of delta e, and the mean
        product of residual ellipticities of pairs (TE1, TE2).
    """
    truth = visit.truth.astype(np.float64)
    truth /= truth[0].sum(axis=(-2, -1), keepdims=True)
    model = images / images.sum(axis=(-2, -1), keepdims=True)
    residual = (model - truth[0]).reshape(*truth.shape[1:3], -1)
    slopes = np.moveaxis(truth[1:].reshape(2, *residual.shape), 0, -2)
    # Where a star's centre is, is a convention of the model.
    gram = slopes @ slopes.swapaxes(-1, -2)
    shift = np.linalg.solve(gram, (slopes @ residual[..., np.newaxis]))
    residual = residual - (slopes.swapaxes(-1, -2) @ shift)[..., 0]
    pixel = (residual**2).mean(axis=-1).mean(axis=1)
    shapes = [kernel_shapes(i.reshape(-1, *i.shape[2:])).reshape(*i.shape[:2], 3) for i in (model, truth[0])]
    # What has no shape is taken as a star of no size.
    shapes[0][~np.isfinite(shapes[0]).all(axis=-1)] = [1e-9, 1e-9, 0.0]
    size = [s[..., 0] + s[..., 1] for s in shapes]
    e = [
        np.stack([s[..., 0] - s[..., 1], 2.0 * s[..., 2]], -1) / t[..., np.newaxis]
        for s, t in zip(shapes, size, strict=True)
    ]
    delta = e[0] - e[1]
    result = {
        "pixel": pixel,
        "size": ((size[0] / size[1] - 1.0) ** 2).mean(axis=1),
        "e": (delta**2).mean(axis=(1, 2)),
    }
    for name, limits in _SEPARATIONS.items():
        result[name] = np.array(
            [_correlation(x, y, v, limits) for x, y, v in zip(visit.x, visit.y, delta, strict=True)]
        )
    return result


def _correlation(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    e: npt.NDArray[np.float64],
    limits: tuple[float, float],
) -> float:
    first, second = np.triu_indices(len(x), 1)
    distance = np.hypot(x[first] - x[second], y[first] - y[second]) / _ARCMIN
    chosen = (distance > limits[0]) & (distance <= limits[1])
    return float((e[first] * e[second]).sum(axis=1)[chosen].sum() / max(chosen.sum(), 1))


def summarize(errors: dict[str, npt.NDArray[np.float64]]) -> dict[str, float]:
    """Return one number per metric for the visit."""
    result = {name: float(values.mean()) for name, values in errors.items()}
    for name in ("size", "e"):
        result[name] = float(np.sqrt(result[name]))
    for name in _SEPARATIONS:
        result[name] = abs(result[name])
    return result
