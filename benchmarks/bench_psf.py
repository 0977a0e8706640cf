# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Time and memory of the structured PSF fit against Piff's solvers.

Every fit runs in a process of its own, with one thread.  Piff's fits get a
common budget of time; what doesn't fit into it isn't run, and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ("main", "psf_config", "simulate_stars")

_SCALE = 0.2
_SIZE = 25
_DETECTOR = 4000.0
_PIFF_SOLVERS = ("cpp", "scipy")
# Exit status of a fit that the structured solver hands to Piff.
_LEFT_TO_PIFF = 3


def simulate_stars(count: int, *, seed: int = 1, stamp: int = _SIZE) -> list[Any]:
    """Simulate the stars of a detector.

    Noisy stars of a varying PSF, with masked pixels and columns, 3 % galaxies,
    3 % blends and 5 % flagged stars, weighted as the determiner does.

    Parameters
    ----------
    count
        Number of stars.
    seed
        Seed of all random numbers.
    stamp
        Side of the stamps in pixels.

    Returns
    -------
    stars
        List of `piff.Star`.
    """
    import galsim
    import piff

    rng = np.random.default_rng(seed)
    wcs = galsim.PixelScale(_SCALE)
    stars = []
    # GalSim draws one star at a time.
    for i in range(count):
        x, y = rng.uniform(20.0, _DETECTOR - 20.0, 2)
        kind = rng.uniform()
        fwhm = 0.7 * (1.0 + 0.1 * x / _DETECTOR + 0.05 * (y / _DETECTOR) ** 2)
        profile = galsim.Moffat(beta=3, fwhm=fwhm).shear(g1=0.03 * x / _DETECTOR, g2=-0.02 * y / _DETECTOR)
        profile *= 10 ** rng.uniform(3.5, 5.0)
        if kind < 0.03:
            profile = galsim.Convolve(profile, galsim.Exponential(half_light_radius=0.3))
        image = galsim.ImageD(stamp, stamp, wcs=wcs)
        image.setCenter(int(np.floor(x + 0.5)), int(np.floor(y + 0.5)))
        center = galsim.PositionD(x, y) + galsim.PositionD(*rng.normal(scale=0.05, size=2))
        profile.drawImage(image, center=center)
        if kind > 0.97:
            neighbour = center + galsim.PositionD(6.0, -4.0)
            (0.2 * profile).drawImage(image, center=neighbour, add_to_image=True)
        image.array[:] += rng.normal(scale=10.0, size=image.array.shape)
        weight = galsim.Image(_weights(image.array, rng), wcs=wcs, bounds=image.bounds)
        properties: dict[str, Any] = {"starId": i}
        if rng.uniform() < 0.05:
            properties["is_flagged"] = True
        data = piff.StarData(image, galsim.PositionD(x, y), weight=weight, properties=properties)
        stars.append(piff.Star(data, None))
    return stars


def _weights(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weight good pixels alike, with the signal-to-noise limited to 200."""
    good = rng.uniform(size=image.shape) >= 0.01 * (rng.uniform() < 0.5)
    if rng.uniform() < 0.1:
        good[:, rng.integers(image.shape[1])] = False
    weight = np.where(good, 0.01, 0.0)
    power = (weight * image**2).sum()
    signal_to_noise = max(power - good.sum(), 0.0) / np.sqrt(power)
    return weight * min(1.0, (200.0 / max(signal_to_noise, 1.0)) ** 2)


def psf_config(order: int, solver: str = "cpp") -> dict[str, Any]:
    """Write the Piff configuration of the determiner.

    Parameters
    ----------
    order
        Order of the polynomial in x and y.
    solver
        Piff's solver.

    Returns
    -------
    config
        What Piff calls the ``psf`` field.
    """
    return {
        "type": "Simple",
        "model": {
            "type": "PixelGrid",
            "scale": float(np.nextafter(_SCALE, 0.0)),
            "size": _SIZE,
            "interp": "Lanczos(11)",
            "centered": True,
        },
        "interp": {
            "type": "BasisPolynomial",
            "order": [order, order],
            "keys": ["x", "y"],
            "solver": solver,
        },
        "outliers": {"type": "Chisq", "nsigma": 4.0, "max_remove": 0.05},
        "max_iter": 15,
    }


def _peak_megabytes() -> float:
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def _run_child(fitter: str, count: int, order: int, output: str) -> None:
    """Fit once; write timing and drawn images."""
    import galsim
    import piff

    from lsst.meas.finalize.psf.structured import fit_structured

    wcs = {0: galsim.PixelScale(_SCALE)}
    # Imports and caches aren't what is compared.
    warm_up = simulate_stars(8, seed=2)
    fit_structured(warm_up, psf_config(0), wcs, None)
    stars = simulate_stars(count)
    before = _peak_megabytes()
    cpu, wall = time.process_time(), time.perf_counter()
    if fitter == "structured":
        psf = fit_structured(stars, psf_config(order), wcs, None)
        if psf is None:
            sys.exit(_LEFT_TO_PIFF)
    else:
        psf = piff.PSF.process(psf_config(order, fitter))
        psf.set_context(wcs)
        psf.fit(stars)
    result = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "memory": _peak_megabytes() - before,
        "iterations": psf.niter,
        "chisq": float(psf.chisq),
        "used": [not s.is_flagged for s in psf.stars],
    }
    axis = np.linspace(0.0, _DETECTOR, 5)
    images = np.array([psf.draw(x, y, stamp_size=_SIZE).array for x in axis for y in axis])
    np.savez(output, images=images, result=json.dumps(result))


def _measure(
    fitter: str, count: int, order: int, timeout: float | None
) -> tuple[dict[str, Any], np.ndarray] | None:
    """Run a fit in a process of its own.

    None if it takes too long or is left to Piff.
    """
    threads = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    environment = os.environ | {f"{name}_NUM_THREADS": "1" for name in threads}
    with tempfile.TemporaryDirectory() as directory:
        output = str(Path(directory) / "result.npz")
        command = [sys.executable, __file__, "--child", fitter, str(count), str(order), output]
        try:
            status = subprocess.run(command, env=environment, timeout=timeout).returncode
        except subprocess.TimeoutExpired:
            return None
        if status == _LEFT_TO_PIFF:
            return None
        if status:
            sys.exit(f"The {fitter} fit of {count} stars at order {order} failed (see above).")
        with np.load(output) as data:
            return json.loads(str(data["result"])), data["images"]


def _agreement(
    structured: tuple[dict[str, Any], np.ndarray], piff_fit: tuple[dict[str, Any], np.ndarray]
) -> str:
    """Compare stars, images and chi-square of two fits."""
    (ours, images), (theirs, expected) = structured, piff_fit
    image = np.abs(images - expected).max() / expected.max()
    chisq = abs(ours["chisq"] / theirs["chisq"] - 1.0)
    stars = "same stars" if ours["used"] == theirs["used"] else "OTHER STARS"
    return f"{image:9.1e} {chisq:9.1e}  {stars}"


def _growth(label: str, sizes: list[int], seconds: list[float | None]) -> None:
    """Print the slopes of log time against log size."""
    known = [(size, time) for size, time in zip(sizes, seconds, strict=True) if time is not None]
    if len(known) < 2:
        return
    sizes, times = zip(*known, strict=True)
    slopes = np.diff(np.log(times)) / np.diff(np.log(sizes))
    steps = zip(sizes, sizes[1:], slopes, strict=False)
    print(f"{label}: " + ", ".join(f"{a}->{b}: {slope:.2f}" for a, b, slope in steps))


def _compare(count: int, order: int, solvers: list[str], budget: float) -> tuple[float | None, float]:
    """Print one block of the table.

    Parameters
    ----------
    count
        Number of stars.
    order
        Order of the polynomial.
    solvers
        Piff's solvers to compare with.
    budget
        Seconds left for Piff.

    Returns
    -------
    seconds
        CPU time of the structured fit; None if it is left to Piff.
    budget
        Seconds left for Piff now.
    """
    structured = _measure("structured", count, order, None)
    row = f"{count:5d} {order:5d}"
    if structured is None:
        print(f"{row} structured left to Piff", flush=True)
        return None, budget
    ours = structured[0]
    print(f"{row} {'structured':10s} {ours['cpu']:9.2f}         {ours['memory']:9.0f}", flush=True)
    for solver in solvers:
        start = time.perf_counter()
        reference = _measure(solver, count, order, budget) if budget > 1.0 else None
        budget -= time.perf_counter() - start
        if reference is None:
            print(f"{row} {solver:10s} doesn't fit into the budget", flush=True)
            continue
        theirs = reference[0]
        time_ratio = theirs["cpu"] / ours["cpu"]
        memory_ratio = theirs["memory"] / max(ours["memory"], 1.0)
        print(
            f"{row} {solver:10s} {theirs['cpu']:9.2f} {time_ratio:6.0f}x {theirs['memory']:9.0f} "
            f"{memory_ratio:5.0f}x {_agreement(structured, reference)}",
            flush=True,
        )
    return ours["cpu"], budget


def main() -> None:
    """Run all fits and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stars", type=int, nargs="+", default=[50, 150, 400, 800])
    parser.add_argument("--orders", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--solvers", nargs="*", default=list(_PIFF_SOLVERS), choices=_PIFF_SOLVERS)
    parser.add_argument("--budget", type=float, default=1800.0, help="Seconds for all fits of Piff.")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        fitter, count, order, output = arguments.child
        _run_child(fitter, int(count), int(order), output)
        return
    budget = arguments.budget
    seconds: dict[tuple[int, int], float | None] = {}
    print(f"Times are CPU seconds of one thread; budget of Piff: {budget:.0f} s of wall time.")
    print("stars order fitter       seconds   ratio memory/MB  ratio image/peak   chisq")
    for order in arguments.orders:
        for count in arguments.stars:
            seconds[count, order], budget = _compare(count, order, arguments.solvers, budget)
    for order in arguments.orders:
        times = [seconds[count, order] for count in arguments.stars]
        _growth(f"Power of the number of stars at order {order}", arguments.stars, times)
    terms = [(order + 1) * (order + 2) // 2 for order in arguments.orders]
    for count in arguments.stars:
        times = [seconds[count, order] for order in arguments.orders]
        _growth(f"Power of the number of terms with {count} stars", terms, times)


if __name__ == "__main__":
    main()
