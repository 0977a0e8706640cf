# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""How small the errors of any PSF model of a simulated focal plane can be.

The optics are taken as known exactly, galaxies as recognized, and the laws
by which heights and atmosphere vary over a detector as those of the
simulation.  What is left unknown is the height of the surface and the size
and distortion of the atmosphere at each place, of which the stars of that
detector tell with their noise.  The posterior variance of these Gaussian
fields (kriging; images are taken as linear in them) gives the least errors
that a model can have on average, but for what other detectors tell of the
atmosphere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.special
from visit_psf_judge import Visit, make_visit

from lsst.meas.finalize.psf._shapes import kernel_shapes
from lsst.meas.finalize.simulate.focal_plane import FocalPlanePsf, FocalPlaneStars, _atmosphere, _optics

__all__ = ("atmosphere_correlation", "least_errors", "main")

type _Array = npt.NDArray[np.float64]

_STEPS = (0.1, 1e-3, 1e-3, 1e-3)  # height in micrometers; T, e1 and e2 of the atmosphere
_ARCSEC = 0.2  # per pixel


def atmosphere_correlation() -> tuple[_Array, _Array]:
    """Return the correlation of the atmosphere's fields by separation in
    degrees, on average over the winds.
    """
    k = np.logspace(-3, 1.5, 3000)
    power = (k**2 + (2 * np.pi / _atmosphere._OUTER_SCALE) ** 2) ** (-11 / 6) * k * np.gradient(k)
    speed, angle = np.meshgrid(np.linspace(0.25, 19.75, 40), np.pi * (np.arange(24) + 0.5) / 48)
    path = np.multiply.outer(k, 0.5 * _atmosphere._EXPOSURE * (speed * np.cos(angle)).ravel())
    power *= (np.sinc(path / np.pi) ** 2).mean(axis=1)
    power /= power.sum()
    separation = np.linspace(0.0, 0.4, 200)
    layers = _atmosphere._LAYERS[1:]
    shares = layers[:, 1] / layers[:, 1].sum()
    parts = [
        scipy.special.j0(np.multiply.outer(np.deg2rad(separation) * height * 1e3, k)) @ power
        for height in layers[:, 0]
    ]
    return separation, shares @ np.array(parts)


def _height_covariance(first: _Array, second: _Array, rms: float) -> _Array:
    """Return covariances of heights at positions from -1 to 1."""

    def shapes(p: _Array) -> _Array:
        u, v = p.T
        square = u**2 + v**2
        terms = [1.5 * (square - 2 / 3), 1.5 * (u**2 - v**2), 2 * u * v, u * (square - 1), v * (square - 1)]
        return np.stack(terms, axis=1)

    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-1, 1, 15)), axis=-1).reshape(-1, 2)
    result = 0.8 * rms**2 * (shapes(first) @ shapes(second).T) / shapes(grid).var(axis=0).sum()
    result += _optics._PISTON**2 + _optics._TILT**2 * (first @ second.T)
    # Waves of normally distributed wave numbers have a Gaussian correlation.
    square = ((first[:, np.newaxis] - second) ** 2).sum(axis=-1)
    return result + 0.2 * rms**2 * np.exp(-0.5 * 9.0 * square)


class _Prior:
    """Covariances of height, T, e1 and e2 over one detector."""

    def __init__(self, visit: Visit, detector: int) -> None:
        self._half = 0.5 * visit.simulation.size
        self._rms = _optics._HEIGHT_RMS[visit.simulation.vendor(detector)]
        self._table = atmosphere_correlation()

    def __call__(self, first: _Array, second: _Array) -> _Array:
        """Return covariances [4, N, M] between pixel positions."""
        separation = np.linalg.norm(first[:, np.newaxis] - second, axis=-1) * _ARCSEC / 3600.0
        correlation = np.interp(separation, *self._table)
        scaled = (first / self._half - 1.0, second / self._half - 1.0)
        size, shape = _atmosphere._SIZE_RMS, _atmosphere._ELLIPTICITY_RMS
        return np.stack(
            [
                _height_covariance(*scaled, self._rms),
                size**2 * correlation,
                *(shape**2 * correlation,) * 2,
            ]
        )


class _ChangedAtmosphere:
    def __init__(self, atmosphere: _atmosphere.Atmosphere) -> None:
        self._atmosphere = atmosphere
        self.change = np.zeros(3)

    def parameters(self, position: _Array) -> _Array:
        return self._atmosphere.parameters(position) + self.change


def _images_and_slopes(psf: FocalPlanePsf, detector: int, x: _Array, y: _Array, shift: _Array) -> _Array:
    """Draw the PSF, with derivatives by x, y and the four unknowns [7, N]."""
    atmosphere = _ChangedAtmosphere(psf.atmosphere)
    changed = FocalPlanePsf.__new__(FocalPlanePsf)
    changed.__dict__ = {**psf.__dict__, "atmosphere": atmosphere}
    place = {"dx": shift[:, 0], "dy": shift[:, 1]}
    images = list(changed.images(detector, x, y, derivatives=True, **place))
    for i, step in enumerate(_STEPS):
        psf.optics.focus_shift[detector] = step if i == 0 else 0.0
        atmosphere.change = step * np.eye(4)[i, 1:]
        images.append((changed.images(detector, x, y, **place) - images[0]) / step)
    psf.optics.focus_shift[detector] = 0.0
    return np.stack(images)


def _information(drawn: _Array, stars: FocalPlaneStars) -> _Array:
    """Return what each star tells of the unknowns, as matrices [N, 4, 4]."""
    jacobian = (drawn * stars.flux[:, np.newaxis, np.newaxis]).reshape(7, len(stars.x), -1).swapaxes(0, 1)
    weight = np.where(stars.bad, 0.0, 1.0 / stars.variance).reshape(len(stars.x), 1, -1)
    full = (jacobian * weight) @ jacobian.swapaxes(1, 2)
    cross = np.linalg.solve(full[:, :3, :3], full[:, :3, 3:])
    return full[:, 3:, 3:] - full[:, 3:, :3] @ cross


def _shape_slopes(drawn: _Array) -> _Array:
    """Return derivatives of log T, e1 and e2 by the unknowns [N, 3, 4]."""

    def shapes(images: _Array) -> _Array:
        xx, yy, xy = kernel_shapes(images).T
        return np.stack([np.log(xx + yy), (xx - yy) / (xx + yy), 2.0 * xy / (xx + yy)], axis=1)

    start = shapes(drawn[0])
    changed = [shapes(drawn[0] + s * drawn[3 + i]) - start for i, s in enumerate(_STEPS)]
    return np.stack([c / s for c, s in zip(changed, _STEPS, strict=True)], axis=2)


def least_errors(visit: Visit, counts: list[int]) -> _Array:
    """Return the least rms errors of T and e [counts, 2]."""
    psf = FocalPlanePsf(visit.simulation)
    totals = np.zeros((len(counts), 3))
    for d in range(visit.simulation.n_detectors):
        stars = visit.usable(d, max(counts))
        half = visit.simulation.stamp_size // 2
        shift = np.stack([stars.x - stars.x0 - half, stars.y - stars.y0 - half], axis=1)
        information = _information(_images_and_slopes(psf, d, stars.x, stars.y, shift), stars)
        x, y = visit.x[d], visit.y[d]
        slopes = _shape_slopes(_images_and_slopes(psf, d, x, y, np.zeros((len(x), 2))))
        prior, at = _Prior(visit, d), np.stack([x, y], axis=1)
        for i, count in enumerate(counts):
            chosen = np.flatnonzero(~stars.is_galaxy[:count])
            places = np.stack([stars.x, stars.y], axis=1)[chosen]
            left = _posterior(prior, at, places, information[chosen])
            totals[i] += np.einsum("nsa,nab,nsb->ns", slopes, left, slopes).mean(axis=0)
    totals /= visit.simulation.n_detectors
    return np.sqrt(np.stack([totals[:, 0], totals[:, 1:].mean(axis=1)], axis=1))


def _posterior(prior: _Prior, at: _Array, places: _Array, information: _Array) -> _Array:
    """Return the posterior covariances of the unknowns [N, 4, 4]."""
    n, m = len(at), len(places)
    own, to_stars = np.zeros((4 * m, 4 * m)), np.zeros((4 * n, 4 * m))
    between, across = prior(places, places), prior(at, places)
    known = np.zeros((4, m, 4, m))
    known[:, np.arange(m), :, np.arange(m)] = information
    known = known.reshape(4 * m, 4 * m)
    for i in range(4):
        own[i * m : (i + 1) * m, i * m : (i + 1) * m] = between[i]
        to_stars[i * n : (i + 1) * n, i * m : (i + 1) * m] = across[i]
    gain = np.linalg.solve(np.eye(4 * m) + known @ own, known)
    rows = to_stars.reshape(4, n, 4 * m)
    learnt = np.einsum("ans,st,bnt->nab", rows, gain, rows, optimize=True)
    before = np.stack([np.diag(p) for p in prior(at, at)], axis=1)
    return before[:, :, np.newaxis] * np.eye(4) - learnt


def main() -> None:
    """Print the least errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104, 105])
    parser.add_argument("--stars", type=int, nargs="+", default=[12, 40, 100], help="per detector")
    parser.add_argument("--cache", type=Path, help="directory of simulated visits")
    arguments = parser.parse_args()
    results = [
        least_errors(make_visit(seed, n_stars=max(arguments.stars), cache=arguments.cache), arguments.stars)
        for seed in arguments.seeds
    ]
    print(f"Least rms errors, mean of {len(results)} visits\n{'stars':>8}{'size':>12}{'e':>12}")
    for count, (size, e) in zip(arguments.stars, np.mean(results, axis=0), strict=True):
        print(f"{count:8}{size:12.3g}{e:12.3g}")


if __name__ == "__main__":
    main()
