# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Aperture corrections of a visit against those of each detector alone.

Simulates focal planes, measures fluxes on the stamps of their stars with the
PSF of the visit's fit, and fits the ratios to the flux in a large aperture,
detector by detector and all together.  The truth at reserved stars and on a
grid is the ratio of the same fluxes of noise-free images.  The scatter is
the rms of the relative error over detectors and positions; detectors whose
own fit fails for lack of stars are left out of the ratio.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from bench_visit_psf import visit_stars
from visit_psf_judge import Visit, make_visit

from lsst.images import Box
from lsst.meas.finalize.apcorr import DetectorFluxes, MeasureApCorrConfig, MeasureApCorrTask
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.psf._interpolant import taps_of
from lsst.meas.finalize.psf._shapes import kernel_shapes
from lsst.meas.finalize.psf.hierarchical import fit_visit
from lsst.meas.finalize.psf.structured import GridWeights

__all__ = ("main",)

FLUXES = ("psf", "gaussian", "aperture")
_REFERENCE_RADIUS, _RADIUS = 11.0, 4.5  # pixels


def _fluxes(
    image: npt.NDArray[np.float64],
    variance: npt.NDArray[np.float64],
    psf: npt.NDArray[np.float64],
    dx: npt.NDArray[np.float64],
    dy: npt.NDArray[np.float64],
) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Measure fluxes and errors on stamps [N, n, n] about offset centres."""
    import galsim

    size = image.shape[-1]
    axis = np.arange(size) - size // 2
    x = axis - dx[:, np.newaxis, np.newaxis]
    y = axis[:, np.newaxis] - dy[:, np.newaxis, np.newaxis]
    radius = np.hypot(x, y)
    xx, yy, xy = kernel_shapes(psf).T[:, :, np.newaxis, np.newaxis]
    gaussian = np.exp(-0.5 * (yy * x**2 + xx * y**2 - 2.0 * xy * x * y) / (xx * yy - xy**2))
    interpolant = GridWeights(taps_of(galsim.Lanczos(11)))
    rows, columns = (interpolant(axis - c[:, np.newaxis], size) for c in (dy, dx))
    weights = {"psf": rows @ psf @ columns.swapaxes(1, 2), "gaussian": gaussian}
    weights = {n: w / (w**2).sum(axis=(1, 2), keepdims=True) for n, w in weights.items()}
    for name, limit in (("aperture", _RADIUS), ("reference", _REFERENCE_RADIUS)):
        weights[name] = np.clip(limit + 0.5 - radius, 0.0, 1.0)
    return {
        name: ((w * image).sum(axis=(1, 2)), np.sqrt((w**2 * variance).sum(axis=(1, 2))))
        for name, w in weights.items()
    }


def _task(fit_visit: bool, least_snr: float) -> tuple[MeasureApCorrTask, Schema]:
    """Make the task, and the schema of the catalogues it takes."""
    schema = Schema.source_minimal()
    for name in ("center_x", "center_y"):
        schema.add_field(name, "D")
    for name in (*FLUXES, "reference"):
        schema.add_field(f"{name}_instFlux", "D")
        schema.add_field(f"{name}_instFluxErr", "D")
        schema.add_flag(f"{name}_flag")
    schema.set_alias("slot_Centroid", "center")
    schema.set_alias("slot_CalibFlux", "reference")
    config = MeasureApCorrConfig(fitVisit=fit_visit)
    selector = config.sourceSelector["science"]
    selector.doFlags = selector.doUnresolved = False
    selector.signalToNoise.fluxField, selector.signalToNoise.errField = "psf_instFlux", "psf_instFluxErr"
    selector.signalToNoise.minimum = least_snr
    task = MeasureApCorrTask(config, schema=schema, namesToCorrect=FLUXES)
    task.log.setLevel(logging.ERROR)
    task.sourceSelector.log.setLevel(logging.ERROR)
    return task, schema


class _Measured:
    """Fluxes of a visit's stars, and true ratios at its positions."""

    def __init__(self, visit: Visit, count: int) -> None:
        stars = visit_stars(visit, count)
        self.visit, self.frames = visit, stars.frames
        model = fit_visit(stars)
        size = visit.simulation.size
        self.bbox = Box.factory[0:size, 0:size]
        self.stars, self.truth = [], []
        # One detector at a time.
        for d in range(visit.simulation.n_detectors):
            mine = visit.usable(d, count)
            # What the pipeline would interpolate isn't measured here.
            mine = mine.take(~mine.bad.any(axis=(1, 2)))
            half = visit.simulation.stamp_size // 2
            x, y = mine.x_measured, mine.y_measured
            images = mine.image.astype(np.float64), mine.variance.astype(np.float64)
            offsets = x - mine.x0 - half, y - mine.y0 - half
            self.stars.append((x, y, _fluxes(*images, model.draw(d, x, y), *offsets)))
            true = visit.truth[0, d].astype(np.float64)
            at = visit.x[d], visit.y[d]
            zero = np.zeros(len(true))
            fluxes = _fluxes(true, np.ones_like(true), model.draw(d, *at), zero, zero)
            self.truth.append({name: fluxes["reference"][0] / fluxes[name][0] for name in FLUXES})

    def detectors(self, schema: Schema) -> dict[int, DetectorFluxes]:
        """Return the stars as catalogues."""
        result = {}
        for d, (x, y, fluxes) in enumerate(self.stars):
            catalog = SourceCatalog(schema, len(x))
            catalog["center_x"], catalog["center_y"] = x, y
            for name, (flux, error) in fluxes.items():
                catalog[f"{name}_instFlux"], catalog[f"{name}_instFluxErr"] = flux, error
            result[d] = DetectorFluxes(self.bbox, self.frames[d], catalog)
        return result

    def errors(self, maps: dict[int, dict | None]) -> dict[str, npt.NDArray[np.float64]]:
        """Return mean squared relative errors by detector, NaN without map."""
        result = {name: np.full(len(self.stars), np.nan) for name in FLUXES}
        for d, corrections in maps.items():
            for name in FLUXES:
                field = (corrections or {}).get(f"{name}_instFlux")
                if field is not None:
                    value = field(x=self.visit.x[d], y=self.visit.y[d])
                    result[name][d] = ((value / self.truth[d][name] - 1.0) ** 2).mean()
        return result


def _alone(task: MeasureApCorrTask, detectors: dict[int, DetectorFluxes]) -> dict[int, dict | None]:
    """Fit each detector, as far as that is possible."""
    # A flux that fails must not hide the others.
    task.config.allowFailure = list(FLUXES)
    return {d: dict(task.run(item, item.catalog).apCorrMap) for d, item in detectors.items()}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104, 105])
    parser.add_argument("--stars", type=int, nargs="+", default=[12, 40, 100], help="per detector")
    parser.add_argument(
        "--snr", type=float, nargs="+", default=[0.0, 200.0], help="least signal-to-noise ratio (task: 200)"
    )
    parser.add_argument("--detectors", type=int, choices=[21, 189], default=21)
    parser.add_argument("--cache", type=Path, help="directory of simulated visits")
    arguments = parser.parse_args()
    for count in arguments.stars:
        visits = [
            make_visit(s, arguments.detectors, max(arguments.stars), arguments.cache) for s in arguments.seeds
        ]
        measured = [_Measured(visit, count) for visit in visits]
        for snr in arguments.snr:
            _compare(measured, count, snr)


def _compare(measured: list[_Measured], count: int, snr: float) -> None:
    """Print the scatter of both, and its ratio."""
    cpu = {False: 0.0, True: 0.0}
    scatter: dict[bool, list[dict[str, npt.NDArray[np.float64]]]] = {False: [], True: []}
    for visit in measured:
        for together in cpu:
            task, schema = _task(together, snr)
            detectors = visit.detectors(schema)
            start = time.process_time()
            maps = task.run_visit(detectors) if together else _alone(task, detectors)
            cpu[together] += time.process_time() - start
            scatter[together].append(visit.errors(maps))
    usual = np.mean(
        [np.count_nonzero(f["psf"][0] > snr * f["psf"][1]) for v in measured for _, _, f in v.stars]
    )
    print(f"\n{count} stars per detector, {usual:.1f} usable (S/N above {snr:g}), {len(measured)} visits")
    print(f"{'':>10}{'alone':>10}{'together':>10}{'ratio':>8}{'worst visit':>13}{'failed alone':>14}")
    for name in FLUXES:
        alone, both = (np.array([s[name] for s in scatter[t]]) for t in (False, True))
        fitted = np.isfinite(alone)
        ratio = [
            np.sqrt(b[f].mean() / a[f].mean()) for a, b, f in zip(alone, both, fitted, strict=True) if f.any()
        ]
        values = np.sqrt(alone[fitted].mean()), np.sqrt(both[fitted].mean())
        print(
            f"{name:>10}{values[0]:10.4f}{values[1]:10.4f}{values[1] / values[0]:8.2f}{max(ratio):13.2f}"
            f"{np.count_nonzero(~fitted):9d} of {fitted.size}"
        )
        without = both[~fitted]
        if len(without):
            print(f"{'':>20}{np.sqrt(without.mean()):10.4f}  (detectors that fail alone)")
    print(
        f"CPU s per visit: {cpu[False] / len(measured):.2f} alone, {cpu[True] / len(measured):.2f} together",
        flush=True,
    )


if __name__ == "__main__":
    main()
